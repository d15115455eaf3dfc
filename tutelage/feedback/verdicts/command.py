"""The command `eval verdicts`: a judge's verdicts on pairs, stored by AlpacaEval or FastChat, as win rates and a leaderboard.

results.json, results.csv   rows {model = generator, metric, task, value, low, high, n, unit}
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from tutelage.evals.findings import one
from tutelage.evals.rows import Row, write
from tutelage.evals.shown import columns_table
from tutelage.feedback.statistics import Overturned
from tutelage.feedback.verdicts import difficulty, measures, reading
from tutelage.feedback.verdicts.reading import Verdict
from tutelage.runs import Run
from tutelage.settings.evals import VerdictsSettings as Settings

LENGTHS, RATE = "win_rate_length_controlled", "win_rate"
COLUMNS = {
    "length-controlled": LENGTHS,
    "win rate": RATE,
    "standard error": "win_rate_error",
    "n": "wins",
    "ties": "ties",
    "failed": "failed_verdicts",
    "characters": "length_chars",
}
SHARES = (LENGTHS, RATE, "win_rate_error")


def main(settings: Settings, world: None, run: Run) -> Path:
    """Write results.json and results.csv.  Raises ValueError for verdicts that cannot be put into one table."""
    for number, path in enumerate(settings.files, 1):
        run.input(f"file {number}", path)
    verdicts = _of_others(_of_one_judge(reading.read(settings.files), settings.judge), run)
    baseline = settings.baseline or _common(verdicts)
    models = against(verdicts, baseline)
    given = difficulty.read(settings.difficulty) if settings.difficulty else None
    if given is not None:
        run.input("difficulty", settings.difficulty)
    hard, anchors = measures.hardness(models, given)
    rows = [
        row
        for name, own in models.items()
        for row in measures.rates(name, own, hard[name], anchors, settings.seed, settings.resamples)
    ]
    ranked = sorted(models, key=lambda name: -_rank(rows, name))
    strong, few = measures.strengths(verdicts, settings.seed, settings.resamples)
    order = [*ranked, *dict.fromkeys(row.model for row in strong if row.model not in models)]
    rows = sorted([*rows, *strong], key=lambda row: order.index(row.model))
    write(run.folder, rows)
    run.note(baseline=baseline, judge=verdicts[0].judge, length_control=_control(models, given))
    _show(rows, ranked, baseline, few, run)
    run.console.print(_control(models, given), highlight=False)
    return run.folder


def against(verdicts: Sequence[Verdict], baseline: str) -> dict[str, list[Verdict]]:
    """The verdicts on each generator against the baseline, turned so that the baseline is first.  Raises ValueError where nobody
    was set against it."""
    models: dict[str, list[Verdict]] = {}
    for one_verdict in verdicts:
        if one_verdict.first == baseline:
            models.setdefault(one_verdict.second, []).append(one_verdict)
        elif one_verdict.second == baseline:
            models.setdefault(one_verdict.first, []).append(_turned(one_verdict))
    if not models:
        names = dict.fromkeys(name for v in verdicts for name in (v.first, v.second))
        raise ValueError(
            f"baseline={baseline}: nobody was set against it, the generators are {', '.join(names)}"
        )
    for name, own in models.items():
        if all(v.outcome is None for v in own):
            raise ValueError(
                f"{own[0].place}: no verdict on {name} could be read, all {len(own)} failed: leave it out"
            )
    return models


def _turned(verdict: Verdict) -> Verdict:
    outcome = None if verdict.outcome is None else 1 - verdict.outcome
    lengths = None if verdict.lengths is None else (verdict.lengths[1], verdict.lengths[0])
    return replace(verdict, first=verdict.second, second=verdict.first, outcome=outcome, lengths=lengths)


def _of_one_judge(verdicts: list[Verdict], judge: str) -> list[Verdict]:
    names = list(dict.fromkeys(verdict.judge for verdict in verdicts))
    if judge and judge not in names:
        raise ValueError(f"judge={judge}: there are no verdicts of it, the judges are {', '.join(names)}")
    if not judge and len(names) > 1:
        raise ValueError(f"the files hold verdicts of {', '.join(names)}: say judge={names[0]}, for example")
    return [verdict for verdict in verdicts if not judge or verdict.judge == judge]


def _of_others(verdicts: list[Verdict], run: Run) -> list[Verdict]:
    """Without comparisons of a generator with itself, which say nothing."""
    kept = [verdict for verdict in verdicts if verdict.first != verdict.second]
    if not kept:
        raise ValueError(f"{verdicts[0].place}: every comparison is of a generator with itself")
    if left := len(verdicts) - len(kept):
        run.console.print(f"{left} comparisons of a generator with itself: left out.", highlight=False)
    return kept


def _common(verdicts: Sequence[Verdict]) -> str:
    """Who is in every comparison; of two, the one that is first, as AlpacaEval's baseline is."""
    pairs = {frozenset((verdict.first, verdict.second)) for verdict in verdicts}
    common = frozenset.intersection(*pairs)
    if not common:
        raise ValueError(
            "no generator is in every comparison: say baseline=NAME, which the others are compared with"
        )
    first = verdicts[0].first
    return first if first in common else verdicts[0].second


def _rank(rows: Sequence[Row], name: str) -> float:
    found = one(rows, name, LENGTHS) or one(rows, name, RATE)
    return float(found.value or 0) if found else 0.0


def _control(models: dict[str, list[Verdict]], given: difficulty.Difficulty | None) -> str:
    """How lengths were controlled for, in a sentence."""
    if any(verdict.lengths is None for own in models.values() for verdict in own):
        return "No length-controlled win rate: the files do not hold the answers."
    if given is not None:
        also = " and its gamed baselines" if given.anchors is not None else ""
        return (
            f"Length-controlled with the difficulty of the instructions{also} from {Path(given.source).name}."
        )
    if len(models) > 1:
        return "Length-controlled with the difficulty of the instructions as the other generators show it."
    return "Length-controlled without the difficulty of the instructions, which one generator cannot show."


def _show(
    rows: Sequence[Row], ranked: Sequence[str], baseline: str, few: Overturned | None, run: Run
) -> None:
    """The leaderboard, in per cent with two decimals as AlpacaEval prints it."""
    shown = {head: [_cell(rows, name, head, metric) for name in ranked] for head, metric in COLUMNS.items()}
    shown = {head: cells for head, cells in shown.items() if any(cell != "–" for cell in cells)}
    title = f"Against {baseline}, in per cent (95 % intervals)"
    run.console.print(columns_table(title, "generator", ranked, shown, run.console.width))
    if few is not None:
        run.console.print(
            f"By win rates alone, without {few.votes} of the {few.n:,} verdicts, those that help it most, {few.second} would be "
            f"first instead of {few.first}.",
            markup=False,
            highlight=False,
        )


def _cell(rows: Sequence[Row], name: str, head: str, metric: str) -> str:
    row = one(rows, name, metric)
    if row is None or row.value is None:
        return "–"
    if head == "n":
        return str(row.n)
    if metric not in SHARES:
        return f"{row.value:.0f}"
    interval = "" if row.low is None or row.high is None else f"\n[{100 * row.low:.2f}, {100 * row.high:.2f}]"
    return f"{100 * row.value:.2f}{interval}"
