"""How strong models are, from comparisons: Bradley-Terry, with ties and sides.

Rows are comparisons as they stood on the screen: `first` was shown first. `won` is 1 where the first won, 0 where the
second did, one half for a tie.
"""

from __future__ import annotations

from collections.abc import Callable
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
from tutelage.feedback.statistics.logit import Design, Ints, fit, fitted
from tutelage.statistics import Floats, percentile_interval, sigmoid

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


@dataclass(frozen=True)
class Overturned:
    """Without `votes` of the `n` votes, those that help most, `second` would be first instead of `first`."""

    first: object
    second: object
    votes: int
    n: int


def overturned(
    first: ArrayLike, second: ArrayLike, won: ArrayLike, *, side: bool = False, ridge: float = 0.01
) -> Overturned | None:
    """How few votes hold the first place of a leaderboard (Broderick, Giordano and Meager 2020, arXiv 2011.14999; of
    Bradley-Terry leaderboards Huang et al. 2025): the arguments are those of `bradley_terry`, and so are the errors.

    Votes are left out in the order of what each does for the distance between the first and another player, to the first
    order (its slope through the inverse Hessian), and the model is fitted anew: so the number is one that does it, and an upper
    bound of the smallest; of two players it is the smallest.  None where there is but one player, no chain of comparisons joins
    all, or no number of votes does it.
    """
    n = same_length(first=first, second=second, won=won)
    if not n:
        raise ValueError("there are no comparisons to learn from: collect some first.")
    names, numbers = np.unique(np.concatenate([first, second]), return_inverse=True)
    a, b, share = numbers[:n], numbers[n:], np.asarray(won, float)
    _check(names, a, b, share)
    design = Design(a, b, names.size, np.ones((n, int(side))))
    if names.size < 2 or not _joined(design):
        return None
    place = _Leaderboard(design, share, ridge)
    strengths = place.fitted(np.ones(n))
    leader = int(np.argmax(strengths[: names.size]))
    best: Overturned | None = None
    for other in range(names.size):
        if other == leader:
            continue
        helpful = place.helpful(strengths, leader, other)
        most = len(helpful) if best is None else best.votes - 1
        fewest = _fewest(lambda count: place.leads(helpful[:count], leader, other), most)  # noqa: B023
        if fewest is not None:
            best = Overturned(names[leader].item(), names[other].item(), fewest, n)
    return best


@dataclass(frozen=True, eq=False)
class _Leaderboard:
    """Votes [n] that can be left out."""

    design: Design
    won: Floats
    ridge: float

    def fitted(self, kept: Floats) -> Floats:
        """Parameters from the votes that are kept (1) and not left out (0)."""
        return fit(self.design, (kept * self.won)[None], kept[None], self.ridge)[0]

    def helpful(self, parameters: Floats, leader: int, other: int) -> Ints:
        """The votes that put the leader before the other, those that do most for it first."""
        size = parameters.size
        p = sigmoid(self.design.margins(parameters[None])[0])
        rows = self.design.margins(np.eye(size))  # [D, n]: what each parameter does in each vote
        hessian = (rows * (p * (1 - p))) @ rows.T + self.ridge * np.eye(size)
        towards = np.zeros(size)
        towards[leader], towards[other] = 1, -1
        worth = (np.linalg.solve(hessian, towards) @ rows) * (self.won - p)
        order = np.argsort(-worth, kind="stable")
        return order[worth[order] > 0]

    def leads(self, left_out: Ints, leader: int, other: int) -> bool:
        """Whether without these votes the other is before the leader, and before everybody."""
        kept = np.ones(len(self.won))
        kept[left_out] = 0
        if not kept.any():
            return False
        found = self.fitted(kept)[: self.design.players]
        return bool(found[other] > found[leader] + 1e-9 and np.argmax(found) == other)


def _fewest(does: Callable[[int], bool], most: int) -> int | None:
    """The smallest count up to `most` that does it, if more do it as well; None where `most` does not."""
    if most < 1 or not does(most):
        return None
    low, high = 0, most  # `high` does it, `low` does not
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if does(middle) else (middle, high)
    return high


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
