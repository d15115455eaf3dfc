"""Models beside each other: each measure of each, overall and per task, and the paired differences to one of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from tutelage.evals.overlap import sums
from tutelage.evals.overlap.sums import Sums
from tutelage.evals.rows import OVERALL, Row

Part = tuple[Sums, list[int]]
"""The sums of one metric, and the numbers of the outputs that they are of."""


class Measured(NamedTuple):
    """What a model's outputs gave: the prompt and the task of each output, and what was measured."""

    prompts: Sequence[str]
    tasks: Sequence[str]
    parts: Sequence[Part]


def rows(models: Mapping[str, Measured], first: str, *, seed: int, resamples: int) -> list[Row]:
    """The rows of every model; of each but `first` also METRIC_difference, where both have the metric."""
    found: list[Row] = []
    seeded = {"seed": seed, "resamples": resamples}
    for task in tasks_of(models[first].tasks):
        base = {part[0].measures[0].name: part for part in _within(task, models[first])}
        for name, model in models.items():
            for one, prompts in _within(task, model):
                found += sums.rows(name, task, one, prompts, **seeded)
                theirs = base.get(one.measures[0].name)
                if name != first and theirs:
                    found += sums.difference_rows(name, task, (one, prompts), theirs, **seeded)
    return sorted(found, key=lambda row: list(models).index(row.model))


def tasks_of(tasks: Sequence[str]) -> list[str]:
    """All together, then each task by name, where there are several."""
    names = sorted({task for task in tasks if task})
    return [OVERALL, *(names if len(names) > 1 else ())]


def _within(task: str, model: Measured) -> list[tuple[Sums, list[str]]]:
    """The sums of one task's outputs, with the prompt of each."""
    found = []
    for whole, members in model.parts:
        kept = [k for k, i in enumerate(members) if task in (OVERALL, model.tasks[i])]
        if kept:
            found.append((whole.only(kept), [model.prompts[members[k]] for k in kept]))
    return found
