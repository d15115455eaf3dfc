"""What an algorithm is: what to learn from at a step, and how.  Everything else is in `fit`."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from torch import Tensor, nn

from tutelage.data.batch import TokenBatch, Unit

Update = Sequence[TokenBatch]
"""What one optimizer update learns from: one batch, or several, of one objective or of several."""

Metrics = Mapping[str, float]
"""Means by name."""

Updates = Generator[Update, Metrics, None]
"""Updates one after the other; each `yield` gives back the metrics of the update that it asked for."""


@dataclass(frozen=True)
class Sum:
    """A sum over units of a batch: `fit` divides it by how many the whole update has, on all ranks.

    sum: scalar.  per: what was summed over.
    """

    sum: Tensor
    per: Unit


@dataclass(frozen=True)
class Term(Sum):
    """A sum with a gradient, and its weight in the loss."""

    weight: float = 1.0


@dataclass(frozen=True)
class Loss:
    """loss = sum over terms of weight x sum / number of units.  metrics: detached sums that are only reported.

    Sums, because only sums of micro-batches add up to that of the batch: a mean of means is another loss.
    """

    terms: Mapping[str, Term]
    metrics: Mapping[str, Sum] = field(default_factory=dict)


class Algorithm(Protocol):
    """What differs between algorithms.  No base class: what has these is an algorithm."""

    trained: dict[str, nn.Module]
    """What the optimizer may change, and what else must survive a restart (buffers); saved under these names."""

    def batches(self, step: int) -> Updates:
        """What to learn from at `step` (counted from 0): one optimizer update for everything yielded.  May generate and
        judge.  Depends only on the step, the seed and the current weights."""
        ...

    def loss(self, batch: TokenBatch) -> Loss:
        """How to learn from a batch, or from any part of it."""
        ...
