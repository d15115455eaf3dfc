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
    numbered,
    same_length,
    withheld,
)
from tutelage.feedback.statistics.logit import Design, Ints, fitted
from tutelage.statistics import Floats, percentile_interval

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
    n = same_length(first=first, second=second, won=won, clusters=clusters)
    if not n:
        raise ValueError("there are no comparisons to learn from: collect some first.")
    names, numbers = np.unique(np.concatenate([first, second]), return_inverse=True)
    a, b = numbers[:n], numbers[n:]
    share = np.asarray(won, float)
    _check(names, a, b, share)
    players = names.size
    met, cells = np.unique(a * players + b, return_inverse=True)
    design = Design(met // players, met % players, players, np.ones((met.size, int(side))))
    cluster = numbered(clusters, n)
    value, drawn = fitted(design, cells, share, ridge, cluster, how)
    for found in (
        value,
        drawn,
    ):  # ridge holds the mean at 0 but for rounding; strengths are told from the mean of all
        found[..., :players] -= found[..., :players].mean(axis=-1, keepdims=True)
    took_part = np.unique(np.stack([numbers, np.tile(cluster, 2)]), axis=1)[0]
    sizes = np.bincount(took_part, minlength=players).tolist()
    sizes += [np.unique(cluster).size] * (value.size - players)
    intervals = (
        percentile_interval(v, d, n, how.confidence) for v, d, n in zip(value.tolist(), drawn.T, sizes)
    )
    told = [estimate(interval, "logit", how) for interval in intervals]
    if not _joined(design):
        told[:players] = [withheld(n, "logit", APART) for n in sizes[:players]]
    return Strengths(dict(zip(names.tolist(), told)), told[players] if side else None)


def _check(names: NDArray, first: Ints, second: Ints, won: Floats) -> None:
    for where in np.flatnonzero(first == second)[:1]:
        raise ValueError(f"comparison {where + 1} sets {names[first[where]]!s} against itself: leave it out.")
    for where in np.flatnonzero(~((won >= 0) & (won <= 1)))[:1]:
        raise ValueError(f"comparison {where + 1} has won={won[where]}, which must be in [0, 1].")


def _joined(design: Design) -> bool:
    """Whether a chain of comparisons joins all players: the smallest number spreads along the comparisons."""
    group = np.arange(design.players)
    while True:
        least = np.minimum(group[design.first], group[design.second])
        spread = group.copy()
        np.minimum.at(spread, design.first, least)
        np.minimum.at(spread, design.second, least)
        spread = spread[spread]  # jumps: long chains take few rounds
        if np.array_equal(spread, group):
            return bool(np.all(group == 0))
        group = spread
