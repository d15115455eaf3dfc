"""How strong models are, from comparisons: Bradley-Terry, with ties and sides.

Rows are comparisons as they stood on the screen: `first` was shown first. `won` is 1 where the first won, 0 where the
second did, one half for a tie.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tutelage.feedback.statistics.estimate import (
    DEFAULT,
    Estimate,
    Resampling,
    estimate,
    row_weights,
    same_length,
    withheld,
)
from tutelage.feedback.statistics.logit import Design, Ints, fit
from tutelage.statistics import Floats, clusters_of, percentile_interval

APART = "not comparable: no chain of comparisons joins all of them"


@dataclass(frozen=True, eq=False)
class Strengths:
    """`players`: strength in logits, mean 0 over all; n is the items each took part in. `side`: logits in favour of what
    is shown first, None when not fitted."""

    players: dict[object, Estimate]
    side: Estimate | None


def bradley_terry(
    first: ArrayLike,
    second: ArrayLike,
    won: ArrayLike,
    *,
    side: bool = False,
    ridge: float = 0.01,
    clusters: ArrayLike | None = None,
    how: Resampling = DEFAULT,
) -> Strengths:
    """Bradley-Terry strengths with bootstrap intervals over `clusters` [n] (prompts; default: every comparison its own).

    `won` [n] may hold shares of votes; a tie is half a win each.
    `side` adds an advantage of being shown first. `ridge` (a normal prior of variance 1 / ridge) keeps those who always
    win finite. Without a chain of comparisons between all players no strength is given.
    Raises ValueError for lists of different lengths, values outside [0, 1], a comparison of a player with itself.
    """
    games = _Games.read(first, second, won, side, clusters)
    # Equal meetings are added up first: models are few, and a resample then costs what there are pairs of models.
    cells, design = games.design.merged()
    ridge_of = np.full(design.players + design.effects, ridge)

    def strengths(weight: Floats) -> Floats:
        won, n = (_summed(cells, weight * part, design.first.size) for part in (games.won, 1.0))
        return fit(design, won, n, ridge_of)

    value = strengths(np.ones((1, games.n)))[0]
    drawn = np.concatenate([strengths(weight) for weight in row_weights(games.cluster, games.n, how)])
    players, rest = games.estimates(value, drawn, how)
    return Strengths(players, rest[0] if side else None)


@dataclass(frozen=True, eq=False)
class _Games:
    """Comparisons, read and checked."""

    names: list
    design: _Meetings
    won: Floats
    cluster: NDArray[np.int64]

    @property
    def n(self) -> int:
        return self.won.size

    @classmethod
    def read(
        cls,
        first: ArrayLike,
        second: ArrayLike,
        won: ArrayLike,
        side: bool,
        clusters: ArrayLike | None,
    ) -> _Games:
        n = same_length(first=first, second=second, won=won, clusters=clusters)
        if not n:
            raise ValueError("there are no comparisons to learn from: collect some first.")
        names, numbers = np.unique(np.concatenate([first, second]), return_inverse=True)
        a, b = numbers[:n], numbers[n:]
        if np.any(a == b):
            where = int(np.flatnonzero(a == b)[0])
            raise ValueError(f"comparison {where + 1} sets {names[a[where]]!s} against itself: leave it out.")
        share = np.asarray(won, float)
        wrong = ~((share >= 0) & (share <= 1))
        if wrong.any():
            where = int(np.flatnonzero(wrong)[0])
            raise ValueError(f"comparison {where + 1} has won={share[where]}, which must be in [0, 1].")
        design = _Meetings(a, b, names.size, np.ones((n, int(side))))
        cluster = np.arange(n) if clusters is None else clusters_of(clusters)
        return cls(names.tolist(), design, share, cluster)

    def estimates(
        self, value: Floats, drawn: Floats, how: Resampling
    ) -> tuple[dict[object, Estimate], list[Estimate]]:
        """Of every player, and of what else was fitted."""
        players = self.design.players
        joined = self.design.joined()
        drawn = drawn.copy()
        # Ridge holds the mean at 0 but for rounding; strengths are told from the mean of all.
        drawn[:, :players] -= drawn[:, :players].mean(axis=1, keepdims=True)
        value = np.concatenate([value[:players] - value[:players].mean(), value[players:]])
        met = np.stack([np.concatenate([self.design.first, self.design.second]), np.tile(self.cluster, 2)])
        items = np.bincount(np.unique(met, axis=1)[0], minlength=players)
        sizes = [*items.tolist(), *[np.unique(self.cluster).size] * (value.size - players)]
        low_high = [
            percentile_interval(v, d, n, how.confidence) for v, d, n in zip(value.tolist(), drawn.T, sizes)
        ]
        found = [estimate(interval, "logit", how) for interval in low_high]
        table = {
            name: found[number] if joined else withheld(sizes[number], "logit", APART)
            for number, name in enumerate(self.names)
        }
        return table, found[players:]


class _Meetings(Design):
    """A design that can add up equal meetings and tell whether all players are joined."""

    def merged(self) -> tuple[Ints, Design]:
        """The cell of each comparison [n], and the design of the cells."""
        code = self.first * self.players + self.second
        unique, cells = np.unique(code, return_inverse=True)
        columns = np.ones((unique.size, self.effects))
        return cells, Design(unique // self.players, unique % self.players, self.players, columns)

    def joined(self) -> bool:
        """Whether a chain of comparisons joins all players: the smallest number spreads along the comparisons."""
        group = np.arange(self.players)
        while True:
            least = np.minimum(group[self.first], group[self.second])
            spread = group.copy()
            np.minimum.at(spread, self.first, least)
            np.minimum.at(spread, self.second, least)
            spread = spread[spread]  # jumps: long chains take few rounds
            if np.array_equal(spread, group):
                return bool(np.all(group == 0))
            group = spread


def _summed(cells: Ints, values: Floats, size: int) -> Floats:
    """Sums [r, size] of values [r, n] by cell."""
    places = cells + size * np.arange(len(values))[:, None]
    sums = np.bincount(places.ravel(), weights=values.ravel(), minlength=size * len(values))
    return sums.reshape(-1, size).astype(float)
