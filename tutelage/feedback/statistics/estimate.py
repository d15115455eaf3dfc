"""What every statistic here returns: a number with its interval and its n, or the reason why there is none."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tutelage.statistics import (
    Floats,
    Interval,
    bootstrap_sums,
    clusters_of,
    has_width,
    resample_counts,
    wilson,
)

ENOUGH = 30  # below so many items an interval says nothing that a number should be shown for


@dataclass(frozen=True)
class Estimate:
    """A value with its interval; `value` is None, and `note` says why, where the data do not give one.

    `low` and `high` are None where there is no interval: every resample gives the same, and `note` says so (rates have
    Wilson's then). `n` is how many items (or votes, where the function says so) the value is over; `unit` is what it is
    measured in: "share" (of 1), "coefficient" (1 is perfect, 0 is chance), "logit", "bits", "s", "votes".
    """

    value: float | None
    low: float | None
    high: float | None
    n: int
    unit: str
    note: str = ""


@dataclass(frozen=True)
class Resampling:
    """How intervals are made: a bootstrap of `resamples` draws of items from `seed`, at `confidence`.

    Below `enough` items the answer is "insufficient" instead of a number.
    """

    seed: int = 0
    resamples: int = 1000
    confidence: float = 0.95
    enough: int = ENOUGH

    @property
    def draws(self) -> dict[str, Any]:
        """The same for the functions of `tutelage.statistics`."""
        return {"seed": self.seed, "resamples": self.resamples, "confidence": self.confidence}


DEFAULT = Resampling()
FEWER = Resampling(resamples=200)  # where every resample is an EM of its own


def estimate(
    found: Interval, unit: str, how: Resampling, *, what: str = "items", undefined: str = ""
) -> Estimate:
    """The result for an interval: withheld below `how.enough`, and where the value is not a number (`undefined` says why)."""
    if found.n < max(1, how.enough):
        return insufficient(found.n, unit, how, what)
    if not math.isfinite(found.value):
        return withheld(found.n, unit, undefined or f"not defined on these {what}")
    if not has_width(found.low, found.high):
        return Estimate(found.value, None, None, found.n, unit, "no interval: every resample gives the same")
    return Estimate(found.value, found.low, found.high, found.n, unit)


def insufficient(n: int, unit: str, how: Resampling, what: str) -> Estimate:
    """No number, because there are too few of what it would be over."""
    return withheld(n, unit, f"insufficient: {n} of at least {max(1, how.enough)} {what}")


def withheld(n: int, unit: str, note: str) -> Estimate:
    """No number, and why."""
    return Estimate(None, None, None, n, unit, note)


def from_sums(
    statistic: Callable[[Floats], Floats],
    columns: Floats,
    clusters: NDArray[np.int64] | None,
    n: int,
    unit: str,
    how: Resampling,
    *,
    what: str = "items",
    undefined: str = "",
    rate: bool = False,
) -> Estimate:
    """The estimate of a statistic of column sums (see `tutelage.statistics.bootstrap_sums`); n is told by the caller."""
    if n < max(1, how.enough):  # before the work of the bootstrap
        return insufficient(n, unit, how, what)
    found = bootstrap_sums(statistic, columns, clusters, rate=rate, **how.draws)
    return estimate(replace(found, n=n), unit, how, what=what, undefined=undefined)


def share(hits: ArrayLike, how: Resampling, *, what: str = "votes") -> Estimate:
    """The mean of `hits` [n], each in [0, 1], with its Wilson interval."""
    values = np.asarray(hits, float)
    return estimate(wilson(float(values.sum()), values.size, how.confidence), "share", how, what=what)


def by_name(names: ArrayLike) -> Iterator[tuple[object, NDArray[np.int64]]]:
    """Each different name, in order, with the rows that bear it."""
    keys = np.asarray(names)
    unique, numbers = np.unique(keys, return_inverse=True)
    rows = np.split(np.argsort(numbers, kind="stable"), np.cumsum(np.bincount(numbers))[:-1])
    yield from zip(unique.tolist(), rows) if keys.size else ()


def row_weights(clusters: ArrayLike | None, n: int, how: Resampling) -> Iterator[Floats]:
    """How often each of n rows is drawn, in blocks [r, n]: rows of one cluster together."""
    numbers = numbered(clusters, n)
    for counts in resample_counts(int(numbers.max()) + 1, how.seed, how.resamples):
        yield counts.astype(float)[:, numbers]


def numbered(clusters: ArrayLike | None, n: int) -> NDArray[np.int64]:
    """The cluster of each of n rows, from 0 on; without any each row is one of its own."""
    return np.arange(n) if clusters is None else clusters_of(clusters)


def same_length(**arrays: ArrayLike | None) -> int:
    """The common length of one-dimensional arrays; ValueError when they differ. None stands for an array left out."""
    sizes = {name: np.shape(values) for name, values in arrays.items() if values is not None}
    if any(len(shape) != 1 for shape in sizes.values()) or len(set(sizes.values())) > 1:
        told = ", ".join(f"{name} {list(shape)}" for name, shape in sizes.items())
        raise ValueError(f"these must be lists of one common length, one entry per vote, but are {told}.")
    return next(iter(sizes.values()))[0]
