"""Sums over the micro-batches, updates and ranks of a step, and the means that come of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from tutelage.data.batch import TokenBatch, Unit
from tutelage.ops.shapes import wide
from tutelage.parallel import World
from tutelage.train.algorithm import Loss, Sum, Term

Counts = Mapping[tuple[str, Unit], float]
"""How many units of each kind the batches of each objective have."""


def counts_of(batches: Sequence[TokenBatch], world: World) -> Counts:
    """The counts of an update, from every rank's part of its batches."""
    found: dict[tuple[str, Unit], float] = {}
    for batch in batches:
        for unit, count in batch.units().items():
            found[batch.objective, unit] = found.get((batch.objective, unit), 0) + count
    return dict(zip(found, world.sum_of(list(found.values())), strict=True))


class Key(NamedTuple):
    """What is summed up: `name` of an objective, over its units `per`; `weight` in the loss, None where only reported."""

    objective: str
    name: str
    per: Unit
    weight: float | None

    @property
    def shown(self) -> str:
        """The name under which the mean is logged."""
        name = self.name if self.weight is None else f"loss/{self.name}_avg"
        return f"{self.objective}/{name}" if self.objective else name


class Totals:
    """Sums by key, with the counts that they are to be divided by."""

    def __init__(self) -> None:
        self._sums: dict[Key, float] = {}
        self._counts: dict[Key, float] = {}

    def add(self, key: Key, value: float, count: float) -> None:
        self._sums[key] = self._sums.get(key, 0.0) + value
        self._counts[key] = self._counts.get(key, 0.0) + count

    def include(self, other: Totals) -> None:
        """Add those of another update."""
        for key, value in other._sums.items():
            self.add(key, value, other._counts[key])

    def means(self) -> dict[str, float]:
        """`loss`, its terms where there are several, and the metrics."""
        means = {key: value / max(self._counts[key], 1.0) for key, value in self._sums.items()}
        terms = {key: mean for key, mean in means.items() if key.weight is not None}
        reported = {key.shown: mean for key, mean in means.items() if key.weight is None}
        if len(terms) > 1:
            reported |= {key.shown: mean for key, mean in terms.items()}
        return {"loss": sum(key.weight * mean for key, mean in terms.items() if key.weight), **reported}


class Sums:
    """Sums of losses over micro-batches, kept as tensors so that an accelerator need not be waited for."""

    def __init__(self) -> None:
        self._sums: dict[Key, Tensor] = {}

    def add(self, objective: str, loss: Loss, counts: bool = True) -> None:
        """`counts`: whether the sums count, or only say which there are."""
        parts: dict[str, Sum] = {**loss.terms, **loss.metrics}
        assert len(parts) == len(loss.terms) + len(loss.metrics), "terms and metrics have different names"
        for name, part in parts.items():
            key = Key(objective, name, part.per, part.weight if isinstance(part, Term) else None)
            value = wide(part.sum.detach()) * counts
            self._sums[key] = self._sums[key] + value if key in self._sums else value

    def totals(self, counts: Counts, world: World) -> Totals:
        """Over all ranks; waits for the accelerator once."""
        totals = Totals()
        keys = list(self._sums)
        values = torch.stack(list(self._sums.values())).tolist() if keys else []
        for key, value in zip(keys, world.sum_of(values), strict=True):
            totals.add(key, value, counts[key.objective, key.per])
        return totals
