"""The cells of a study over their repetitions: every metric as mean, interval and all values.  No torch.

Where the evaluation left its answers (samples.jsonl), what can be told of each prompt is a table of repetitions x prompts, and
the interval counts both as drawn (`statistics.crossed_mean`).  Of anything else there is one number for each repetition.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tutelage.evals.findings import JUDGED, display
from tutelage.evals.overlap.sums import DIFFERENCE
from tutelage.evals.rows import OVERALL, Row, row
from tutelage.statistics import Interval, crossed_mean
from tutelage.study.cells import Result
from tutelage.study.grid import Cell

Floats = NDArray[np.float64]
OVERLAP = ("rouge", "bleu", "meteor", "bertscore")
# What one share is more than another has their unit, and is no share.
_SIGNED = (
    "gain@",
    "over_longer_wins",
    "over_shorter_wins",
    "over_bag_of_words",
    "help_",
    "fit/r2",
    "rating_explained",
)
_SIGNED_ENDS = ("_change", DIFFERENCE, "_gap", "explained_variance")
SPENT = ("cost", "time", "votes", "demonstrations", "cost/tokens_generated", "cost/tokens_trained")
"""What these runs have cost, which says little of others."""


def _won(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> float:
    return 0.5 + 0.5 * float(np.sign(ours["score"] - theirs["score"]))


OF_PROMPTS: dict[str, Callable[[Mapping[str, Any], Mapping[str, Any]], float]] = {
    "win_rate": _won,
    **{metric: lambda ours, theirs: float(ours["score"]) for metric in JUDGED},
    "length": lambda ours, theirs: float(ours["tokens"]),
    "missing_eos": lambda ours, theirs: float(ours["finish"] == "length"),
}
"""What is known of every prompt: from the answer of the model and that of the baseline."""


@dataclass(frozen=True)
class Measured:
    """A metric over the repetitions: its mean with an interval, and each value by the label of its repetition."""

    row: Row
    each: dict[str, float]


@dataclass(frozen=True)
class Group:
    """A line of the tables: a model of a cell, in all its repetitions (label -> result)."""

    cell: Cell
    model: str
    repetitions: dict[str, Result]
    alone: bool  # whether it is the only model of its cell

    @property
    def name(self) -> str:
        parts = list(self.cell.values()) if self.alone else [*self.cell.values(), self.model]
        return " · ".join(map(display, parts)) or self.model

    @cached_property
    def metrics(self) -> list[tuple[str, str, str]]:
        """(metric, task, unit) of all that every repetition has measured, in order."""
        each = [
            {(r.metric, r.task): r.unit for r in result.rows if r.model == self.model and r.value is not None}
            for result in self.repetitions.values()
        ]
        return [(*key, unit) for key, unit in each[0].items() if all(key in other for other in each)]

    def values(self, metric: str, task: str = OVERALL) -> dict[str, float]:
        """The metric in each repetition that has it."""
        found = {}
        for label, result in self.repetitions.items():
            if (one := self._row(result, metric, task)) is not None and one.value is not None:
                found[label] = one.value
        return found

    def of_prompts(self, metric: str, task: str = OVERALL) -> dict[str, dict[str, float]]:
        """Repetition -> prompt -> value, of the repetitions whose answers are there; empty for what no prompt has."""
        if metric not in OF_PROMPTS:
            return {}
        found = {}
        for label, result in self.repetitions.items():
            if self._row(result, metric, task) is not None and (each := self._answers(result, metric, task)):
                found[label] = each
        return found

    def measured(self, metric: str, task: str, unit: str) -> Measured:
        """Mean and interval over the repetitions, and over the prompts where they are known."""
        each = self.values(metric, task)
        table = table_of(list(self.of_prompts(metric, task).values()))
        own = self._row(next(iter(self.repetitions.values())), metric, task)
        if metric in SPENT:
            found = Interval(float(np.mean(list(each.values()))), math.nan, math.nan, len(each))
        elif table is not None and len(table) == len(each):
            found = crossed_mean(table, rate=unit == "share")
        elif len(each) == 1 and own is not None:  # what its evaluation says of it
            return Measured(Row(**{**vars(own), "model": self.name}), each)
        else:
            found = _within(crossed_mean(list(each.values())), metric, unit)
        return Measured(row(self.name, metric, task, found, unit), each)

    def gain(self, metric: str, unit: str) -> Row | None:
        """What it has more than the baseline of its evaluations, on the same prompts; None where that is not known."""
        if metric not in JUDGED:
            return None
        each = [self._gains(result) for result in self.repetitions.values()]
        table = table_of(each)
        return None if table is None else row(self.name, metric, OVERALL, crossed_mean(table), unit)

    def _gains(self, result: Result) -> dict[str, float]:
        baseline = str(result.run.lineage.get("baseline", ""))
        try:
            return {
                str(line["id"]): line["responses"][self.model]["score"] - line["responses"][baseline]["score"]
                for line in result.run.samples
            }
        except KeyError:
            return {}

    def _row(self, result: Result, metric: str, task: str) -> Row | None:
        return next(
            (r for r in result.rows if (r.model, r.metric, r.task) == (self.model, metric, task)), None
        )

    def _answers(self, result: Result, metric: str, task: str) -> dict[str, float]:
        """Prompt -> value; empty where some answer does not tell."""
        baseline = str(result.run.lineage.get("baseline", ""))
        found = {}
        for line in result.run.samples:
            if task not in (OVERALL, line.get("task")):
                continue
            answers = line.get("responses", {})
            try:
                found[str(line["id"])] = OF_PROMPTS[metric](answers[self.model], answers.get(baseline, {}))
            except KeyError:
                return {}
        return found


def _within(found: Interval, metric: str, unit: str) -> Interval:
    """Bounds of a share of something, or of an overlap, are from 0 to 1, too, and a KL is none below 0; what one share is more
    than another may be below nothing."""
    if metric == "kl":
        return Interval(found.value, max(found.low, min(found.value, 0.0)), found.high, found.n)
    bounded = unit == "share" or metric.startswith(OVERLAP)
    if not bounded or metric.endswith(_SIGNED_ENDS) or metric.startswith(_SIGNED):
        return found
    return Interval(found.value, max(found.low, 0.0), min(found.high, 1.0), found.n)


def table_of(each: Sequence[Mapping[str, float]]) -> Floats | None:
    """Values [repetitions, prompts] where all have the same prompts; None where they have not, or there are none."""
    if not each or not each[0] or any(set(other) != set(each[0]) for other in each):
        return None
    return np.array([[values[prompt] for prompt in each[0]] for values in each])


def groups(results: Sequence[Result], repeats: str) -> list[Group]:
    """The lines of the tables, in the order of the cells."""
    found: dict[tuple[tuple[tuple[str, str], ...], str], dict[str, Result]] = {}
    models: dict[tuple[tuple[str, str], ...], set[str]] = {}
    for result in results:
        cell = {axis: label for axis, label in result.cell.items() if axis != repeats}
        for model in result.models:
            found.setdefault((tuple(cell.items()), model), {})[result.cell.get(repeats, "")] = result
            models.setdefault(tuple(cell.items()), set()).add(model)
    return [
        Group(dict(cell), model, each, alone=len(models[cell]) == 1) for (cell, model), each in found.items()
    ]


def rows(group: Group) -> Iterator[Measured]:
    """Everything that is known of a group."""
    for metric, task, unit in group.metrics:
        yield group.measured(metric, task, unit)
