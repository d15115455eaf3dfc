"""What came out of the cells: the rows of their results, with the labels of the cell.  No torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from tutelage import cost
from tutelage.evals.folders import RunFolder
from tutelage.evals.rows import OVERALL, Row
from tutelage.settings.describe import plain
from tutelage.study.grid import Cell, said, substitute
from tutelage.study.plan import Instance, Study


@dataclass(frozen=True)
class Result:
    """One cell, repetition included, whose results are there."""

    cell: Cell
    run: RunFolder
    spent: tuple[Row, ...]

    @cached_property
    def models(self) -> list[str]:
        """The models that were measured, without the one they are compared with where there is one."""
        names = list(dict.fromkeys(row.model for row in self.run.results))
        others = [name for name in names if name != self.run.lineage.get("baseline")]
        return others or names

    @property
    def rows(self) -> list[Row]:
        return [
            *self.run.results,
            *(Row(**{**vars(row), "model": model}) for model in self.models for row in self.spent),
        ]


def read(study: Study, prices: Mapping[str, Any] | None = None) -> list[Result]:
    """The results of all cells that have some, in the order of the axes.  prices: as `prices` of a study.

    Raises ValueError for a price of what no cell has spent.
    """
    found = []
    for one in study.results:
        run = RunFolder(one.stage.folder, one.name)
        if (one.stage.folder / "lineage.json").exists() and run.state == "done" and run.results:
            found.append(Result(one.cell, run, tuple(_spent(one, study))))
    return [_priced(result, study, prices, found) for result in found] if prices else found


def _priced(result: Result, study: Study, prices: Mapping[str, Any], every: Sequence[Result]) -> Result:
    """With what it has cost; what a cell has not spent costs nothing."""
    known = {row.metric for other in every for row in other.spent}
    spent = {row.metric: row.value or 0.0 for row in result.spent}
    total = 0.0
    for metric, price in substitute(dict(prices), result.cell, study.axes).items():
        if metric not in known and len(every) == len(
            study.results
        ):  # else one that is missing may have spent it
            raise ValueError(
                f"prices: no cell has spent '{metric}': there are {', '.join(sorted(known)) or 'none'}."
            )
        if isinstance(price, bool) or not isinstance(price, int | float) or price < 0:
            raise ValueError(
                f"prices: {metric} costs {plain(price)} at {said(result.cell)}: give a number from 0 on."
            )
        total += price * spent.get(metric, 0.0)
    return replace(result, spent=(*result.spent, Row("", "cost", OVERALL, total, n=1, unit="price")))


def tidy(results: list[Result]) -> list[dict[str, Any]]:
    """The rows of results.json: {axes, model, metric, task, value, low, high, n, unit}."""
    return [{"axes": result.cell, **vars(row)} for result in results for row in result.rows]


def _spent(one: Instance, study: Study) -> Iterator[Row]:
    """What the stages have cost that this cell needs: without those that all cells share, and without the measuring itself."""
    own = [other for other in study.behind(one.name) if other.cell and other is not one]
    runs = [RunFolder(other.stage.folder, other.name) for other in own]
    totals: dict[str, tuple[float, str]] = {}

    def add(metric: str, value: float, unit: str) -> None:
        totals[metric] = totals.get(metric, (0.0, unit))[0] + value, unit

    for run in runs:
        if run.seconds is not None:
            add("time", run.seconds, "s")
        for name, (value, unit) in cost.of_run(run.lineage, run.metrics).items():
            if name in ("tokens_trained", "tokens_generated"):
                add(f"cost/{name}", value, unit)
        if run.command == "label" and run.metrics:
            add("votes", float(run.metrics[-1].get("votes", 0)), "votes")
        if run.command == "sft" and "rows" in run.lineage:
            add("demonstrations", float(run.lineage["rows"]), "rows")
    for metric, (value, unit) in totals.items():
        yield Row("", metric, OVERALL, value, n=1, unit=unit)
