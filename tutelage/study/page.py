"""The report of a study, drawn and said: the same numbers as HTML, as Markdown, on a terminal, and as figures.  No torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from rich.console import Group as Lines

from tutelage.evals.figures import standalone as standalone
from tutelage.evals.findings import METRICS, Number, display, number
from tutelage.evals.frontier import CAPTION
from tutelage.evals.rows import Row
from tutelage.evals.shown import columns_table
from tutelage.evals.table import duration
from tutelage.study.differences import called, compared, conclusion, p_text, shown, side
from tutelage.study.drawing import FRONTIER
from tutelage.study.grid import said
from tutelage.study.summary import Measured
from tutelage.study.told import Told, columns, measured
from tutelage.study.tuning import Tuned

IN_CELL = "At "  # how a sentence about some cells begins


def printed(found: Measured | None) -> Number | None:
    """As it is written: durations in words, votes and rows as whole numbers."""
    if found is None:
        return None
    value, unit = found.row.value, found.row.unit
    if unit in ("votes", "rows") and value is not None:
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
    if told.tuned:
        heading = [*TUNED, *(f"best of {k}" for k in tried(told))]
        parts += ["## Settings to choose among", _table(heading, [list(line) for line in tuning(told)])]
    for metric, unit in columns(told):
        parts += [f"## {called(metric)}", _table(*_each(told, metric, unit))]
    return "\n\n".join(parts) + "\n"


TESTED = (
    "difference",
    "at",
    "measure",
    "first less second",
    "first has more",
    "repetitions",
    "p",
    "p, corrected",
)


def tested(told: Told) -> Iterator[tuple[str, ...]]:
    """The lines of the table of differences."""
    for one in told.differences:
        at = said(one.at) or "all cells"
        yield (
            f"{side(one.first)} – {side(one.second)}",
            at,
            compared(one),
            _cell(shown(one)),
            _cell(None if one.won is None else number(one.won)),
            str(one.row.n),
            p_text(one.p),
            p_text(one.p_holm),
        )


TUNED = ("cell", "settings", "lowest", "median", "highest", "above the start", "surely above", "surely below")
TRIED = (1, 2, 4, 8, 16, 32)


def tried(told: Told) -> list[int]:
    """Numbers of settings that the table of the best of them shows."""
    most = max((len(one.best_of) for one in told.tuned), default=0)
    return [k for k in TRIED if k <= most]


def tuning(told: Told) -> Iterator[tuple[str, ...]]:
    """The lines of the table of settings to choose among."""
    for one in told.tuned:
        start = [str(one.better), str(one.surely), str(one.surely_worse)] if one.gains else ["–"] * 3
        values = [one.quantile(share) for share in (0, 0.5, 1)] + [
            one.best_of[k - 1] if k <= len(one.best_of) else None for k in tried(told)
        ]
        texts = ["–" if v is None else number(replace(_any(one), value=float(v))).text for v in values]
        yield (_cell_of(one), str(len(one.settings)), *texts[:3], *start, *texts[3:])


def _any(one: Tuned) -> Row:
    return replace(one.settings[0][1], low=None, high=None, n=0)


def _cell_of(one: Tuned) -> str:
    return side(one.cell) or display(one.model)


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


def html(told: Told, drawn: Mapping[str, str]) -> str:
    """One self-contained page with these figures (name -> SVG); all that comes from settings and runs is escaped."""
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
        figures=[(Markup(svg), CAPTION if name == FRONTIER else "") for name, svg in drawn.items()],
        tested_heading=TESTED,
        tested=[(one.passed, line) for one, line in zip(told.differences, tested(told), strict=True)],
        tuned_heading=[*TUNED, *(f"best of {k}" for k in tried(told))],
        tuned=[(False, line) for line in tuning(told)],
        repetitions=max((one.repetitions for one in told.tuned), default=0),
        each=[
            (called(metric), heading, [(False, line) for line in lines])
            for metric, unit in shown_columns
            for heading, lines in (_each(told, metric, unit),)
        ],
    )
