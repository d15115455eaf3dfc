"""What a metric knows of each output: numbers that are added up over any outputs, and what the metric makes of the sums.

So a corpus metric is resampled without reading a text again, and equals its library on every resample.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tutelage import statistics
from tutelage.evals.rows import Row, row
from tutelage.statistics import Floats

DIFFERENCE = "_difference"  # ends the name of a paired difference


class Measure(NamedTuple):
    """A number made of sums [..., C].  `rate`: the value is a mean of numbers from 0 to 1, so that 0 and 1 have an interval."""

    name: str
    of: Callable[[Floats], Floats]
    unit: str = "share"
    rate: bool = False


@dataclass(frozen=True)
class Sums:
    """`columns` float64 [n, C], a line for each output; `about`: library, version and settings, as a signature has them."""

    columns: Floats
    measures: tuple[Measure, ...]
    about: str = ""

    def only(self, members: Sequence[int] | NDArray[np.int64]) -> Sums:
        """Of these outputs alone."""
        return replace(self, columns=self.columns[np.asarray(members, dtype=np.int64)])

    def signature(self, name: str, seed: int, resamples: int) -> str:
        """What a reader needs in order to get the same number, in the manner of sacreBLEU (bs, rs: the bootstrap's resamples
        and seed)."""
        return f"{name}|{self.about}|n:{len(self.columns)}|bs:{resamples}|rs:{seed}" if self.about else ""


def means(
    names: Sequence[str], values: ArrayLike, about: str = "", *, unit: str = "share", rate: bool = False
) -> Sums:
    """Sums of which each measure is a mean over outputs; `values` is [n, number of names]."""
    found = np.asarray(values, float).reshape(-1, len(names))
    columns = np.concatenate([found, np.ones((len(found), 1))], axis=1)
    measures = tuple(Measure(name, _over(k, len(names)), unit, rate) for k, name in enumerate(names))
    return Sums(columns, measures, about)


def ratio(name: str, over: ArrayLike, under: ArrayLike) -> Sums:
    """Sums of which the measure is the share that `over` [n] has of `under` [n], all outputs together."""
    return Sums(
        np.stack([np.asarray(over, float), np.asarray(under, float)], 1), (Measure(name, _over(0, 1)),)
    )


def _over(top: int, bottom: int) -> Callable[[Floats], Floats]:
    def value(sums: Floats) -> Floats:
        with np.errstate(invalid="ignore", divide="ignore"):
            found: Floats = sums[..., top] / sums[..., bottom]
        return found

    return value


def rows(
    model: str, task: str, sums: Sums, prompts: Sequence[str], *, seed: int, resamples: int
) -> list[Row]:
    """A row for each measure, with a bootstrap interval over prompts; `prompts` [n] names the prompt of each output."""
    of, rates = [m.of for m in sums.measures], [m.rate for m in sums.measures]
    found = statistics.bootstrap_each(of, sums.columns, prompts, rates=rates, seed=seed, resamples=resamples)
    return [
        row(model, m.name, task, interval, m.unit, sums.signature(m.name, seed, resamples))
        for m, interval in zip(sums.measures, found, strict=True)
    ]


def difference_rows(
    model: str,
    task: str,
    ours: tuple[Sums, Sequence[str]],
    theirs: tuple[Sums, Sequence[str]],
    *,
    seed: int,
    resamples: int,
) -> list[Row]:
    """A row METRIC_difference for each measure: ours less theirs, the same prompts drawn for both.

    Each side is (sums, the prompt of each output); n is the number of prompts.  Raises ValueError where these differ.
    """
    (a, one), (b, other) = (_by_prompt(*side) for side in (ours, theirs))
    if one != other:
        raise ValueError(f"{model} and what it is compared with answered different prompts")
    both = np.concatenate([a, b], axis=1)
    of = [_less(m.of, a.shape[1]) for m in ours[0].measures]
    found = statistics.bootstrap_each(of, both, seed=seed, resamples=resamples)
    made = []
    for m, interval in zip(ours[0].measures, found, strict=True):
        name = m.name + DIFFERENCE
        made.append(row(model, name, task, interval, m.unit, ours[0].signature(name, seed, resamples)))
    return made


def _by_prompt(sums: Sums, prompts: Sequence[str]) -> tuple[Floats, list[str]]:
    """The sums of each prompt's outputs, prompts in the order of their names."""
    names, numbers = np.unique(np.asarray(prompts, dtype=str), return_inverse=True)
    columns = [np.bincount(numbers, weights=c, minlength=len(names)) for c in sums.columns.T]
    return np.stack(columns, axis=1), names.tolist()


def _less(of: Callable[[Floats], Floats], width: int) -> Callable[[Floats], Floats]:
    return lambda both: of(both[..., :width]) - of(both[..., width:])
