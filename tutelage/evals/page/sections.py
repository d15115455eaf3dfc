"""A section of a report: figures, one table with intervals, and how to get the numbers again.  No torch."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from markupsafe import Markup

from tutelage.evals import figures
from tutelage.evals.findings import Number, Sentence, display, number, one
from tutelage.evals.folders import RunFolder
from tutelage.evals.rows import OVERALL, Row

MOST = 30  # rows of a figure: beyond it nobody reads it
Line = tuple[str, str, list[Number | None]]
Figure = tuple[Markup, str]


@dataclass(frozen=True)
class Table:
    """corner: what the first column holds.  columns: (name, colour slot).  parts: a heading, "" for none, and its lines: (name,
    what it is, a cell for each column).  marked: the columns are models, with their colours."""

    corner: str
    columns: list[tuple[str, int]]
    parts: list[tuple[str, list[Line]]]
    marked: bool = True


@dataclass(frozen=True)
class Section:
    """One run: figures with captions, a table (and `more` below it), and the signatures of its numbers."""

    title: str
    run: str
    lead: str
    figures: list[Figure]
    table: Table
    signatures: list[str]
    headline: Sentence = field(default_factory=list)
    more: Sequence[Table] = ()

    @property
    def tables(self) -> list[Table]:
        return [self.table, *self.more]


def signature(run: RunFolder) -> str:
    """What the numbers of a run come from, in the manner of sacreBLEU: command, version, resamples, seed, and the first digits of
    the SHA-256 of each input."""
    code = run.lineage.get("code")
    version = code.get("version", "") if isinstance(code, Mapping) else ""
    parts = [run.command, f"tutelage:{version}"] if version else [run.command]
    parts += [
        f"{short}:{run.settings[name]}"
        for name, short in (("resamples", "bs"), ("seed", "rs"))
        if name in run.settings
    ]
    for entry in run.lineage.get("inputs", []):
        digest = str(entry.get("sha256") or "")[:10]
        parts.append(f"{entry.get('name', 'input')}:{digest or entry.get('path', '')}".replace(" ", "_"))
    return "|".join(parts)


# ---- rows as lines and dots --------------------------------------------------------------------------------------------


def models_of(run: RunFolder) -> list[str]:
    return list(dict.fromkeys(row.model for row in run.results))


def tasks_of(rows: Sequence[Row], metric: str) -> list[str]:
    """Subsets or sections that the metric is of, in their order."""
    return list(dict.fromkeys(r.task for r in rows if r.metric == metric and r.task != OVERALL))


def by_task(rows: Sequence[Row], models: Sequence[str], metrics: Sequence[str]) -> list[Line]:
    return [
        (task, count_of(rows, models[0], metric, task), cells_of(rows, models, metric, task))
        for metric in metrics
        for task in tasks_of(rows, metric)
    ]


def count_of(rows: Sequence[Row], model: str, metric: str, task: str) -> str:
    found = one(rows, model, metric, task)
    return f"n = {found.n:,}" if found else ""


def cells_of(
    rows: Sequence[Row], models: Iterable[str], metric: str, task: str = OVERALL
) -> list[Number | None]:
    return [cell_of(rows, model, metric, task) for model in models]


def cell_of(rows: Sequence[Row], model: str, metric: str, task: str = OVERALL) -> Number | None:
    found = one(rows, model, metric, task)
    return number(found) if found is not None else None


def filled(lines: Iterable[Line]) -> list[Line]:
    return [line for line in lines if any(line[2])]


def dots_of(
    rows: Sequence[Row], metric: str, tasks: Mapping[str, str], slots: Mapping[str, int]
) -> list[figures.Dot]:
    """A row of the figure for each task, under its name."""
    return [
        figures.Dot(display(model), name, found.value, *bounds_of(found), slot)
        for task, name in tasks.items()
        for model, slot in slots.items()
        if (found := one(rows, model, metric, task)) is not None and found.value is not None
    ]


def bounds_of(found: Row) -> tuple[float, float]:
    low, high = (math.nan if bound is None else bound for bound in (found.low, found.high))
    return low, high
