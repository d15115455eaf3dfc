"""Measures that are sums over sums, with one bootstrap for all: of one model, and of two on the same questions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from tutelage import statistics
from tutelage.evals.rows import Row, row
from tutelage.statistics import Floats

Bools = NDArray[np.bool_]
DIFFERENCE = "_difference"


@dataclass(frozen=True)
class Measure:
    """The sum of `top` over the sum of `bottom`, over the questions in `scope` (all [n]).

    unit: "share" where the tops lie between 0 and the bottoms.
    """

    name: str
    top: Floats
    bottom: Floats
    scope: Bools
    unit: str = "share"

    @property
    def rate(self) -> bool:
        """Whether it is a share, from 0 to 1."""
        return self.unit == "share"


@dataclass(frozen=True)
class Counting:
    """How intervals are made."""

    seed: int = 0
    resamples: int = 2000

    def row(self, model: str, task: str, measure: Measure, members: Bools, keys: Sequence[str]) -> Row | None:
        """A row of a measure over some questions (`members` [n]); `keys` [n] name what was drawn independently.  None where
        there is nothing to be measured."""
        of = np.flatnonzero(measure.scope & members)
        if not of.size or not measure.bottom[of].sum():
            return None
        found = statistics.bootstrap_ratio(
            measure.top[of],
            measure.bottom[of],
            [keys[i] for i in of.tolist()],
            rate=measure.rate,
            seed=self.seed,
            resamples=self.resamples,
        )
        count = int(measure.bottom[of].sum())
        return row(model, measure.name, task, replace(found, n=count), measure.unit)

    def difference(
        self, model: str, task: str, ours: Measure, theirs: Measure, keys: Sequence[str]
    ) -> Row | None:
        """A model's measure less the first model's, the same questions drawn for both."""
        of = np.flatnonzero(ours.scope | theirs.scope)
        columns = np.stack([ours.top, ours.bottom, theirs.top, theirs.bottom], axis=1)[of]
        if not of.size or not columns[:, 1].sum() or not columns[:, 3].sum():
            return None

        def gap(sums: Floats) -> Floats:
            with np.errstate(divide="ignore", invalid="ignore"):
                found: Floats = sums[..., 0] / sums[..., 1] - sums[..., 2] / sums[..., 3]
            return found

        near = [keys[i] for i in of.tolist()]
        found = statistics.bootstrap_sums(gap, columns, near, seed=self.seed, resamples=self.resamples)
        return row(model, ours.name + DIFFERENCE, task, found, ours.unit)
