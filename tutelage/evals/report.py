"""The command `report`: one self-contained HTML page about a set of runs, and beside it every number that it shows.

report.html    figures (inline SVG), tables, samples, lineage; no external resource; light and dark
results.json   rows {model, metric, task, value, low, high, n, unit, signature}; points of curves are "METRIC@STEP"
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from tutelage import cost
from tutelage.diagnosis.diagnosis import COMMANDS, ON_POLICY, Finding, diagnose
from tutelage.evals import figures, findings, rounds
from tutelage.evals.card import page as card_page
from tutelage.evals.card.findings import doubts, warning
from tutelage.evals.findings import JUDGED, Number, Sentence, display, number, one
from tutelage.evals.folders import RunFolder, find
from tutelage.evals.honesty import page as honesty_page
from tutelage.evals.page import comparison, curves, graph
from tutelage.evals.page import files as files_page
from tutelage.evals.page import methods as methods_page
from tutelage.evals.page import overopt as overopt_page
from tutelage.evals.page import process as process_page
from tutelage.evals.page.habits import Habits, habits_of
from tutelage.evals.page.lineage import facts, machine_of
from tutelage.evals.page.slots import SLOTS, slots_of
from tutelage.evals.rows import OVERALL, Row, to_json
from tutelage.evals.samples import Example, choose
from tutelage.evals.table import duration
from tutelage.files import write_json_atomic, write_text_atomic
from tutelage.runs import Run
from tutelage.settings.evals import ReportSettings as Settings
from tutelage.settings.ways import way_of

NO_FIGURE = Markup("")
OVEROPT, METHODS, HONESTY = "eval overopt", "eval methods", "eval honesty"


@dataclass
class Page:
    """What the template prints. `rows` collects every number on the page."""

    title: str
    written: str
    headline: list[Sentence] = field(default_factory=list)
    warnings: list[Sentence] = field(default_factory=list)
    evaluations: list[Evaluation] = field(default_factory=list)
    reward_models: list[RewardModel] = field(default_factory=list)
    process_models: list[RewardModel] = field(default_factory=list)
    habits: list[Habits] = field(default_factory=list)
    rounds: Rounds | None = None
    methods: list[Methods] = field(default_factory=list)
    honesty: list[Honesty] = field(default_factory=list)
    files: list[files_page.Section] = field(default_factory=list)
    overoptimisation: list[tuple[str, Markup, list[str]]] = field(
        default_factory=list
    )  # run, figure, findings
    frontier: Markup = NO_FIGURE
    training: list[Markup] = field(default_factory=list)
    diagnosis: list[tuple[str, list[Finding]]] = field(default_factory=list)  # (run, what was found in it)
    graph: Markup = NO_FIGURE
    lineage: list[dict[str, Any]] = field(default_factory=list)
    machines: list[str] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)


@dataclass(frozen=True)
class Evaluation:
    """One evaluation run: its models side by side."""

    name: str
    models: list[tuple[str, int]]  # (name, colour slot)
    baseline: str
    setup: str
    figures: list[tuple[Markup, str]]  # with captions
    table: list[tuple[str, str, list[Number | None]]]
    tasks: list[tuple[str, list[tuple[str, list[Number | None]]]]]
    examples: list[Example]


@dataclass(frozen=True)
class Honesty:
    """Models that were asked what they may know or not: figures with captions, a line for each measure, and for each group."""

    name: str
    asked: str  # how, in a sentence
    models: list[tuple[str, int]]  # (name, colour slot)
    figures: list[tuple[Markup, str]]
    table: list[tuple[str, str, list[Number | None]]]
    groups: list[tuple[str, list[tuple[str, list[Number | None]]]]]


@dataclass(frozen=True)
class RewardModel:
    """One reward model on held-out pairs, or process reward model on held-out solutions."""

    name: str
    figures: list[tuple[Markup, str]]  # with captions
    tables: list[tuple[str, list[tuple[str, str, Number]]]]
    probes: list[
        tuple[str, str, Number, Number]
    ]  # what was done, what the score should do, change, share that gains


@dataclass(frozen=True)
class Methods:
    """Methods side by side: a line for each, a cell for each measure."""

    name: str
    figure: Markup
    measures: list[tuple[str, str]]  # name, what it is
    table: list[tuple[str, list[Number | None]]]
    said: list[str]


@dataclass(frozen=True)
class Rounds:
    """How things changed from round to round: figures, the rounds' numbers, and per quantity one cell per round."""

    figures: list[Markup]
    numbers: list[int]
    table: list[tuple[str, str, list[Number | None]]]


def main(settings: Settings, world: None, run: Run) -> Path:
    """Write the page into the run folder. Raises ValueError when there is no run to report on."""
    found = [r for r in find(settings.runs) if r.path.resolve() != run.folder.resolve()]
    for one_run in found:
        run.input(one_run.name, one_run.path / "lineage.json")
    path = write(found, run.folder, title=settings.title, samples=settings.samples, seed=settings.seed)
    run.console.print(f"Report: {path}")
    return run.folder


def write(runs: Sequence[RunFolder], out: Path, *, title: str, samples: int = 6, seed: int = 0) -> Path:
    """Write report.html and results.json into `out`; returns the path of the page."""
    runs = [run for run in runs if run.command not in ("report", "run") and not _set_aside(run)]
    page = build(runs, title=title, samples=samples, seed=seed)
    write_json_atomic(out / "results.json", to_json(page.rows))
    return write_text_atomic(out / "report.html", render(page))


def build(runs: Sequence[RunFolder], *, title: str, samples: int = 6, seed: int = 0) -> Page:
    """Read the runs and decide all that the page says. Raises ValueError when no run is left to report on."""
    if not runs:
        raise ValueError(
            "None of the runs found can be reported on; give the folder of a training or evaluation run."
        )
    page = Page(title, datetime.now(UTC).strftime("%d %B %Y, %H:%M UTC"))
    evaluations = [run for run in runs if run.command == "eval" and run.results]
    several = len(evaluations) > 1
    for run in evaluations:
        _add_evaluation(page, run, f"{run.name}/" if several else "", samples, seed)
    reward_models = [run for run in runs if run.command == "reward" and run.results]
    for run in reward_models:
        _add_reward_model(page, run, among=len(reward_models) > 1)
    process_models = [run for run in runs if run.command == "process" and run.results]
    for run in process_models:
        _add_process_model(page, run, among=len(process_models) > 1)
    page.habits = habits_of(runs)
    for run in runs:
        if run.command == METHODS and run.results:
            _add_methods(page, run)
        if run.command == OVEROPT and run.results:
            _add_overoptimisation(page, run)
        if run.command == HONESTY and run.results:
            _add_honesty(page, run)
    page.files = files_page.sections(runs)
    page.rows += files_page.rows_of(runs)
    page.headline += [section.headline for section in page.files if section.headline]
    _add_rounds(page, runs)
    _add_training(page, runs)
    _add_lineage(page, runs)
    return page


def render(page: Page) -> str:
    """The page as HTML. Everything that comes from a run is escaped; only this package's own SVG is not."""
    environment = Environment(
        loader=PackageLoader("tutelage.evals"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["display"] = display
    environment.tests["number"] = lambda piece: isinstance(piece, Number)
    return environment.get_template("report.html").render(page=page)


# ---- evaluations -----------------------------------------------------------------------------------------------------


def _add_evaluation(page: Page, run: RunFolder, prefix: str, samples: int, seed: int) -> None:
    rows = [Row(**{**vars(r), "model": prefix + r.model}) for r in run.results]
    models = list(dict.fromkeys(r.model for r in rows))
    slots = slots_of(models)
    baseline = prefix + str(
        run.lineage.get("baseline") or run.settings.get("baseline") or models[0].removeprefix(prefix)
    )
    page.rows += rows
    page.headline += findings.headline(rows, baseline)
    page.warnings += findings.warnings(rows, models, baseline)
    tokenizers = [[prefix + str(name) for name in group] for group in run.lineage.get("tokenizers", ())]
    if said := findings.other_tokenizers(tokenizers):
        page.warnings.append([said])
    page.warnings += findings.without_kl([prefix + str(name) for name in run.lineage.get("without_kl", ())])
    examples, shown = choose(run.samples, baseline, prefix, slots, samples, seed)
    page.rows += shown
    judge = str(run.lineage.get("judge", "the gold standard"))
    page.evaluations.append(
        Evaluation(
            run.name,
            [(model, slots[model]) for model in models],
            baseline,
            _setup(run),
            [(Markup(svg), caption) for svg, caption in comparison.draw(rows, slots, baseline, judge)],
            _table(rows, models, tokenizers),
            _tasks(rows, models),
            examples,
        )
    )


def _table(
    rows: Sequence[Row], models: Sequence[str], tokenizers: Sequence[Sequence[str]]
) -> list[tuple[str, str, list[Number | None]]]:
    """(name, what it is, one cell per model) for every metric that some model has; what is counted by token has a line for each
    of the groups with a tokenizer of their own, so that nobody compares across them."""
    lines = []
    for metric, (name, what) in findings.METRICS.items():
        several = metric in findings.PER_TOKEN and len(tokenizers) > 1
        for group in tokenizers if several else [models]:
            found = zip(models, _cells(rows, models, metric, OVERALL), strict=True)
            cells = [cell if model in group else None for model, cell in found]
            signatures = dict.fromkeys(cell.row.signature for cell in cells if cell and cell.row.signature)
            of = [f"tokens of {', '.join(map(display, group))}"] if several else []
            if any(cells):
                lines.append((name, "; ".join([what, *of, *signatures]), cells))
    return lines


def _tasks(
    rows: Sequence[Row], models: Sequence[str]
) -> list[tuple[str, list[tuple[str, list[Number | None]]]]]:
    """(metric's name, [(task, one cell per model)]) for the metrics that differ by task, and the score's parts."""
    tasks = list(dict.fromkeys(r.task for r in rows if r.task != OVERALL))
    tables = []
    for metric in ("win_rate", *JUDGED, "kl", "length", "missing_eos"):
        lines = [(task, _cells(rows, models, metric, task)) for task in tasks]
        if any(any(cells) for _, cells in lines):
            tables.append((findings.METRICS[metric][0], lines))
    parts = dict.fromkeys(
        (r.task, r.metric) for r in rows if r.metric.startswith(tuple(f"{m}/" for m in JUDGED))
    )
    lines = []
    for task, metric in parts:
        if task != OVERALL or not tasks:  # parts of different tasks have no meaningful mean
            name = metric.partition("/")[2].replace("_", " ")
            lines.append((f"{task}: {name}" if tasks else name, _cells(rows, models, metric, task)))
    return [*tables, ("Parts of the score", lines)] if lines else tables


def _cells(rows: Sequence[Row], models: Sequence[str], metric: str, task: str) -> list[Number | None]:
    found = [one(rows, model, metric, task) for model in models]
    return [number(r) if r is not None else None for r in found]


def _setup(run: RunFolder) -> str:
    """How the responses were drawn, in one sentence; empty when the settings are not known."""
    s = run.settings
    if not {"temperature", "max_new_tokens"} <= set(s):
        return ""
    said = (
        f"Every model answered the same held-out prompts once, at temperature {s['temperature']:g}, with at most "
        f"{s['max_new_tokens']} tokens (seed {s.get('seed', 0)})."
    )
    return " ".join([said, *_ways(s.get("models", ()))])


def _ways(models: Sequence[str]) -> Iterator[str]:
    """A sentence about every model that did not answer as it is."""
    for given in models:
        name, _, path = str(given).rpartition("=")
        way = way_of(path)
        if way.shots:
            yield f"{display(name or way.name)} was shown {way.shots} examples before each prompt."
        elif way.untrained:
            yield f"{display(name or way.name)} has fresh weights, as before any training."


# ---- reward model, training, lineage ---------------------------------------------------------------------------------


def _add_reward_model(page: Page, run: RunFolder, among: bool) -> None:
    rows = [Row(**{**vars(r), "model": run.name}) for r in run.results]
    page.rows += rows
    sentence = findings.reward_sentence(rows, run.name, among)
    if sentence:
        page.headline.append(sentence)
    called = f"Reward model {run.name}" if among else "Reward model"
    page.warnings += [warning(doubt, called) for doubt in doubts(rows, run.name)]
    drawn = [(Markup(svg), caption) for svg, caption in card_page.draw(rows, run.name)]
    tables, probes = card_page.tables(rows, run.name), card_page.probed(rows, run.name)
    page.reward_models.append(RewardModel(run.name, drawn, tables, probes))


def _add_process_model(page: Page, run: RunFolder, among: bool) -> None:
    rows = [Row(**{**vars(r), "model": run.name}) for r in run.results]
    page.rows += rows
    sentence = findings.process_sentence(rows, run.name, among)
    if sentence:
        page.headline.append(sentence)
    drawn = [(Markup(svg), caption) for svg, caption in process_page.draw(rows, run.name)]
    page.process_models.append(RewardModel(run.name, drawn, [("", process_page.lines(rows, run.name))], []))


def _add_rounds(page: Page, runs: Sequence[RunFolder]) -> None:
    lines = rounds.drifts(runs)
    if not lines:
        return
    numbers = sorted({n for line in lines for n in line.rounds})
    table = [
        (
            line.quantity,
            line.of,
            [number(line.rounds[n]) if n in line.rounds else None for n in numbers],
        )
        for line in lines
    ]
    page.rows += [row for line in lines for row in line.rounds.values() if row.metric == rounds.POOLED]
    page.rounds = Rounds([Markup(figure) for figure in rounds.draw(lines)], numbers, table)


def _add_methods(page: Page, run: RunFolder) -> None:
    baseline = str(run.lineage["baseline"])
    names = methods_page.ordered(run.results, baseline)
    shown = methods_page.shown(run.results, names)
    table = [
        (display(name), [None if (r := one(run.results, name, m)) is None else number(r) for m in shown])
        for name in names
    ]
    page.rows += [Row(**{**vars(r), "model": f"{run.name}/{r.model}"}) for r in run.results]
    page.headline += findings.headline(run.results, baseline)
    page.methods.append(
        Methods(
            run.name,
            Markup(methods_page.draw(run.results, baseline)),
            [findings.METRICS[metric] for metric in shown],
            table,
            methods_page.compared(run.results, names),
        )
    )


def _add_overoptimisation(page: Page, run: RunFolder) -> None:
    page.rows += [Row(**{**vars(r), "model": f"{run.name}/{r.model}"}) for r in run.results]
    said = [str(sentence) for sentence in run.lineage.get("findings", ())]
    page.overoptimisation.append((run.name, Markup(overopt_page.draw(run.results)), said))


def _add_honesty(page: Page, run: RunFolder) -> None:
    rows = run.results
    models = list(dict.fromkeys(r.model for r in rows))
    slots = slots_of(models)
    page.rows += [Row(**{**vars(r), "model": f"{run.name}/{r.model}"}) for r in rows]
    page.headline += honesty_page.headline(rows, models)
    table = [
        (name, what, _cells(rows, models, metric, OVERALL))
        for metric, name, what in honesty_page.measures(rows)
    ]
    groups = [
        (
            group,
            [(honesty_page.MEASURES[m][0], _cells(rows, models, m, group)) for m in honesty_page.IN_GROUPS],
        )
        for group in honesty_page.groups_of(rows)
    ]
    drawn = [(Markup(svg), caption) for _, svg, caption in honesty_page.draw(rows, slots)]
    page.honesty.append(Honesty(run.name, _setup(run), list(slots.items()), drawn, table, groups))


def _slot(run: RunFolder) -> int:
    return SLOTS.get(run.command, figures.SERIES)


def _add_training(page: Page, runs: Sequence[RunFolder]) -> None:
    for run in runs:
        drawn, rows = curves.draw(run, _slot(run))
        page.training += [Markup(svg) for svg in drawn]
        page.rows += rows
    same = [run for run in runs if run.command in ON_POLICY]
    slots = slots_of([run.name for run in same])
    figure, rows = curves.draw_frontier([(run, slots[run.name]) for run in same])
    page.frontier = Markup(figure)
    page.rows += rows
    for run in runs:
        if run.command not in COMMANDS:
            continue
        found = diagnose(run.metrics, run.settings)
        page.diagnosis.append((run.name, found))
        for one_found in found:
            page.rows += _numbers(run, one_found)


def _numbers(run: RunFolder, found: Finding) -> list[Row]:
    """The numbers of a finding as rows."""
    numbers = {"step": found.step, "last_step": found.last, **found.numbers}
    return [
        Row(run.name, f"finding/{found.name}/{key}", OVERALL, float(value), n=1)
        for key, value in numbers.items()
    ]


def _add_lineage(page: Page, runs: Sequence[RunFolder]) -> None:
    page.graph = Markup(graph.draw(runs, {run.name: _slot(run) for run in runs if run.command in SLOTS}))
    for run in runs:
        cells: dict[str, Number | None] = {"time": None, "steps": None}
        if run.seconds is not None:
            r = Row(run.name, "time", OVERALL, run.seconds, n=1, unit="s")
            cells["time"] = number(r, duration(run.seconds))
            page.rows.append(r)
        if run.steps:
            r = Row(run.name, "steps", OVERALL, float(run.steps), n=1, unit="steps")
            cells["steps"] = number(r)
            page.rows.append(r)
        costs: dict[str, Number] = {}
        for name, (value, unit) in cost.of_run(run.lineage, run.metrics).items():
            r = Row(run.name, f"cost/{name}", OVERALL, value, n=1, unit=unit)
            costs[name] = number(r, findings.amount(value, unit))
            page.rows.append(r)
        page.lineage.append({**cells, "costs": costs, **facts(run, runs)})
        machine = machine_of(run.lineage.get("machine"))
        if machine and machine not in page.machines:
            page.machines.append(machine)


def _set_aside(run: RunFolder) -> bool:
    """Whether the pipeline put this run aside (NAME.1 beside NAME) for a newer one."""
    base = re.sub(r"\.\d+$", "", run.path.name)
    return base != run.path.name and (run.path.parent / base / "lineage.json").exists()
