"""The report of a study, drawn and said: the same numbers as HTML, as Markdown, on a terminal, and as figures.  No torch."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from rich.console import Group as Lines

from tutelage.evals import figures
from tutelage.evals.figures import standalone as standalone
from tutelage.evals.findings import METRICS, Number, display, number
from tutelage.evals.overlap.sums import DIFFERENCE
from tutelage.evals.rows import OVERALL, Row
from tutelage.evals.shown import columns_table
from tutelage.evals.table import duration
from tutelage.settings.pipeline import StudySettings
from tutelage.study.differences import Difference, called, conclusion, p_text, shown
from tutelage.study.grid import said
from tutelage.study.summary import Group, Measured

SHOWN = (
    "gold",
    "score",
    "accuracy",
    "win_rate",
    "kl",
    "length",
    "missing_eos",
    "copy_rate",
    "votes",
    "time",
    "cost/tokens_generated",
    "cost/tokens_trained",
)
"""The columns of the wide table, before whatever measures of overlap there are."""
OVERLAP = ("rouge", "bleu", "meteor", "bertscore")
SINGLE = "bleu_precision"
IN_CELL = "At "  # how a sentence about some cells begins
DRAWN = ("gold", "score", "accuracy", "win_rate", "kl", "length")
HALF = {"win_rate": 50.0}


@dataclass(frozen=True)
class Told:
    """All that the report says.  missing: cells, repetitions counted, that have no results."""

    settings: StudySettings
    groups: Sequence[Group]
    differences: Sequence[Difference]
    measures: Sequence[str]
    missing: int


def columns(told: Told) -> list[tuple[str, str]]:
    """(metric, unit) of the wide table: what some cell has."""
    there = {metric: unit for group in told.groups for metric, task, unit in group.metrics if task == OVERALL}
    overlap = [name for name in there if name.startswith(OVERLAP) and not name.endswith(DIFFERENCE)]
    known = [*told.measures, *SHOWN, *(name for name in overlap if not name.startswith(SINGLE))]
    return [(name, there[name]) for name in dict.fromkeys(known) if name in there]


def measured(group: Group, metric: str, unit: str) -> Measured | None:
    """A cell of a table; None where there is nothing."""
    return group.measured(metric, OVERALL, unit) if group.values(metric) else None


def printed(found: Measured | None) -> Number | None:
    """As it is written: durations in words, votes as whole numbers."""
    if found is None:
        return None
    value, unit = found.row.value, found.row.unit
    if unit == "votes" and value is not None:
        return number(found.row, f"{value:,.0f}")
    return number(found.row, duration(value) if unit == "s" else None)


def sentences(told: Told) -> list[str]:
    """The conclusion, and what it should be read with."""
    found = conclusion(told.differences, told.settings.repeats)
    if told.missing:
        whose = "1 cell has" if told.missing == 1 else f"{told.missing} cells have"
        found.append(f"{whose} no results yet; what is said is about the others.")
    return found


def labels_of(told: Told) -> list[str]:
    """The labels of the repetitions."""
    return list(dict.fromkeys(label for group in told.groups for label in group.repetitions))


def figures_of(told: Told) -> dict[str, str]:
    """Metric -> figure: a line for each cell, its mean with the interval, and a small mark for each repetition."""
    drawn = {}
    for metric, unit in columns(told):
        if metric not in (*told.measures, *DRAWN):
            continue
        scale, name = (100, f"{called(metric)} (%)") if unit == "share" else (1, called(metric))
        dots = [dot for group in told.groups for dot in _dots(told, group, metric, unit, scale)]
        if dots:
            title = f"{called(metric)} of each cell"
            drawn[metric.replace("/", "_")] = figures.panels(
                title, [(name, dots, HALF.get(metric))], width=figures.WIDE
            )
    return drawn


def _dots(told: Told, group: Group, metric: str, unit: str, scale: int) -> Iterator[figures.Dot]:
    found = measured(group, metric, unit)
    if found is None or found.row.value is None:
        return
    nothing = math.nan
    for value in found.each.values():
        yield figures.Dot("", group.name, scale * value, nothing, nothing, 0, 3.5)
    low, high = (nothing if bound is None else scale * bound for bound in (found.row.low, found.row.high))
    yield figures.Dot("", group.name, scale * found.row.value, low, high, _slot(told, group))


def _slot(told: Told, group: Group) -> int:
    """A colour for each label of the first axis that is compared."""
    axis = next(iter(told.settings.compare), None)
    labels = list(dict.fromkeys(other.cell.get(axis, "") for other in told.groups)) if axis else [""]
    return 1 + labels.index(group.cell.get(axis, "") if axis else "") % figures.SERIES


def terminal(told: Told, width: int) -> Lines:
    """The wide table on a terminal."""
    cells = {
        called(metric): [_short(printed(measured(group, metric, unit))) for group in told.groups]
        for metric, unit in columns(told)
    }
    title = f"{told.settings.title}: means over {told.settings.repeats}s (95 % intervals)"
    return columns_table(title, "cell", [group.name for group in told.groups], cells, width)


def _short(found: Number | None) -> str:
    return f"{found.text}\n{found.interval or '–'}" if found else "–"


# ---- Markdown --------------------------------------------------------------------------------------------------------


def markdown(told: Told) -> str:
    """The conclusion and all tables."""
    parts = [f"# {told.settings.title}", *(f"- {sentence}" for sentence in sentences(told))]
    names = [metric for metric, _ in columns(told)]
    lines = [
        [group.name, *(_cell(printed(measured(group, metric, unit))) for metric, unit in columns(told))]
        for group in told.groups
    ]
    parts += ["## Cells", _table(["cell", *map(called, names)], lines)]
    if told.differences:
        parts += ["## Differences", _table(list(TESTED), [list(line) for line in tested(told)])]
    for metric, unit in columns(told):
        parts += [f"## {called(metric)}", _table(*_each(told, metric, unit))]
    return "\n\n".join(parts) + "\n"


TESTED = ("difference", "at", "measure", "first less second", "repetitions", "p", "p, corrected")


def tested(told: Told) -> Iterator[tuple[str, ...]]:
    """The lines of the table of differences."""
    for one in told.differences:
        at = said(one.at) or "all cells"
        yield (
            f"{display(one.first)} – {display(one.second)}",
            at,
            called(one.metric),
            _cell(shown(one)),
            str(one.row.n),
            p_text(one.p),
            p_text(one.p_holm),
        )


def _each(told: Told, metric: str, unit: str) -> tuple[list[str], list[list[str]]]:
    """The table of one metric: mean, interval, and every repetition."""
    labels = labels_of(told)
    named = [f"{told.settings.repeats} {label}" if label else "run" for label in labels]
    lines = []
    for group in told.groups:
        found = measured(group, metric, unit)
        values = [found.each.get(label) if found else None for label in labels]
        single = [None if v is None or found is None else number(_row(found, v)).text for v in values]
        lines.append([group.name, _cell(printed(found)), *(text or "–" for text in single)])
    return ["cell", "mean", *named], lines


def _row(found: Measured, value: float) -> Row:
    """One repetition's value, as its mean is written."""
    return replace(found.row, value=value, low=None, high=None, n=0)


def _cell(found: Number | None) -> str:
    return f"{found.text} {found.interval}".strip() if found else "–"


def _table(heading: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    rows = [heading, ["---"] * len(heading), *lines]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows)


# ---- HTML ------------------------------------------------------------------------------------------------------------


def html(told: Told) -> str:
    """One self-contained page; everything that comes from settings and runs is escaped."""
    environment = Environment(
        loader=ChoiceLoader([PackageLoader("tutelage.study"), PackageLoader("tutelage.evals")]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    shown_columns = columns(told)
    return environment.get_template("study.html").render(
        title=told.settings.title,
        written=datetime.now(UTC).strftime("%d %B %Y, %H:%M UTC"),
        sentences=[one for one in sentences(told) if not one.startswith(IN_CELL)],
        in_cells=[one for one in sentences(told) if one.startswith(IN_CELL)],
        repeats=told.settings.repeats,
        columns=[(called(metric), METRICS.get(metric, ("", ""))[1]) for metric, _ in shown_columns],
        lines=[
            (group.name, [printed(measured(group, metric, unit)) for metric, unit in shown_columns])
            for group in told.groups
        ],
        figures=[Markup(svg) for svg in figures_of(told).values()],
        tested_heading=TESTED,
        tested=[(one.passed, line) for one, line in zip(told.differences, tested(told), strict=True)],
        each=[
            (called(metric), heading, [(False, line) for line in lines])
            for metric, unit in shown_columns
            for heading, lines in (_each(told, metric, unit),)
        ],
    )
