"""What choosing among settings is worth: how good those of a cell are, and the best of k that somebody tries.  No torch.

`tuning` names the axes whose labels nobody knows beforehand (a learning rate, the strength of the KL).  If k of the n settings
are tried and the best one is kept, what is to be expected is the mean over all subsets of k (Dodge et al. 2019, arXiv
1909.03004, 3).  The best of k looks better than it is by luck alone, so it is chosen by one repetition and measured by another,
over all pairs of them; with one repetition it is as lucky as it looks.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tutelage.evals.goodhart import best_of_n
from tutelage.evals.rows import Row
from tutelage.study.grid import Cell
from tutelage.study.summary import Floats, Group


@dataclass(frozen=True)
class Tuned:
    """The n settings of one cell.

    measured: of each setting its mean and interval, by rising value; gains: the same of what it has more than the model it
    started from, empty where that is not known.  best_of: [n], what the best of 1, 2, ... n of them is to be expected to have;
    repetitions: how many every setting has.
    """

    cell: Cell
    model: str
    metric: str
    settings: list[tuple[Cell, Row]]
    gains: list[Row]
    best_of: Floats
    repetitions: int

    @property
    def better(self) -> int:
        """Settings whose mean is above that of the start."""
        return sum((row.value or 0.0) > 0 for row in self.gains)

    @property
    def surely(self) -> int:
        """Settings that are above the start with their whole interval."""
        return sum(row.low is not None and row.low > 0 for row in self.gains)

    @property
    def surely_worse(self) -> int:
        """Settings that are below the start with their whole interval."""
        return sum(row.high is not None and row.high < 0 for row in self.gains)

    def quantile(self, share: float) -> float:
        """Of the means of the settings."""
        return float(np.quantile([row.value or 0.0 for _, row in self.settings], share))


def tuned(groups: Sequence[Group], axes: Sequence[str], metric: str) -> list[Tuned]:
    """What is known of each cell's settings; nothing where there are no axes of settings, or a cell has a single one."""
    found: dict[tuple[tuple[tuple[str, str], ...], str], list[Group]] = {}
    for group in groups if axes else ():
        rest = tuple((axis, label) for axis, label in group.cell.items() if axis not in axes)
        if group.values(metric):
            found.setdefault((rest, group.model), []).append(group)
    return [
        _tuned(dict(rest), model, each, axes, metric)
        for (rest, model), each in found.items()
        if len(each) > 1
    ]


def _tuned(cell: Cell, model: str, each: Sequence[Group], axes: Sequence[str], metric: str) -> Tuned:
    unit = next(unit for name, _, unit in each[0].metrics if name == metric)
    measured = [
        ({axis: group.cell[axis] for axis in axes if axis in group.cell}, group.measured(metric, "all", unit))
        for group in each
    ]
    values = [one.each for _, one in measured]
    labels = [label for label in values[0] if all(label in other for other in values)]
    table = np.array([[of[label] for of in values] for label in labels])
    rows = sorted(((at, one.row) for at, one in measured), key=lambda pair: pair[1].value or 0.0)
    gains = [row for group in each if (row := group.gain(metric, unit)) is not None]
    return Tuned(cell, model, metric, rows, gains, best_of(table), len(labels))


def best_of(table: Floats) -> Floats:
    """[n]: what the best of 1, 2, ... n settings is to be expected to have, from values [repetitions, n]."""
    sizes = range(1, table.shape[1] + 1)
    if not len(table):
        return np.full(len(sizes), np.nan)
    pairs = list(itertools.permutations(range(len(table)), 2)) or [(0, 0)]
    chosen, paid = ([pair[side] for pair in pairs] for side in (0, 1))
    return best_of_n(table[chosen], table[paid], sizes)[1].mean(axis=0)
