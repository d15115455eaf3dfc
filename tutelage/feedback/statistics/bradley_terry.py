"""How strong models (or responses) are, from comparisons: Bradley-Terry, with ties, sides, and annotators of unequal care.

Rows are comparisons as they stood on the screen: `first` was shown first. `won` is 1 where the first won, 0 where the
second did, one half for a tie.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tutelage.feedback.statistics.estimate import (
    DEFAULT,
    FEWER,
    Estimate,
    Resampling,
    estimate,
    row_weights,
    same_length,
    withheld,
)
from tutelage.feedback.statistics.logit import Design, Ints, Outcomes, fit
from tutelage.statistics import Floats, clusters_of, percentile_interval, sigmoid

APART = "not comparable: no chain of comparisons joins all of them"


@dataclass(frozen=True, eq=False)
class Strengths:
    """`players`: strength in logits, mean 0 over all; n is the items each took part in. `side`: logits in favour of what
    is shown first, None when not fitted. `tie`: log weight of a tie, None without Davidson's model."""

    players: dict[object, Estimate]
    side: Estimate | None
    tie: Estimate | None


@dataclass(frozen=True, eq=False)
class CrowdStrengths:
    """As `Strengths`, and `reliability`: by annotator, the probability that a vote follows the strengths rather than their
    opposite (1 careful, one half a coin, below it upside down). `objective` after each step, which never falls."""

    players: dict[object, Estimate]
    reliability: dict[object, Estimate]
    side: Estimate | None
    objective: Floats
    converged: bool


def bradley_terry(
    first: ArrayLike,
    second: ArrayLike,
    won: ArrayLike,
    *,
    ties: Literal["half", "davidson"] = "half",
    side: bool = False,
    ridge: float = 0.01,
    clusters: ArrayLike | None = None,
    how: Resampling = DEFAULT,
) -> Strengths:
    """Bradley-Terry strengths with bootstrap intervals over `clusters` [n] (prompts; default: every comparison its own).

    `won` [n] may hold shares of votes when ties count as half wins; Davidson's model (1970) takes 0, one half and 1.
    `side` adds an advantage of being shown first. `ridge` (a normal prior of variance 1 / ridge) keeps those who always
    win finite. Without a chain of comparisons between all players no strength is given.
    Raises ValueError for lists of different lengths, values outside [0, 1], a comparison of a player with itself.
    """
    games = _Games.read(first, second, won, side, clusters, halves=ties == "davidson")
    # Equal meetings are added up first: models are few, and a resample then costs what there are pairs of models.
    cells, design = games.design.merged()
    ridge_of = np.full(design.players + design.effects + (ties == "davidson"), ridge)

    def strengths(weight: Floats) -> Floats:
        parts = (games.win, games.tie, games.loss)
        outcomes = Outcomes(*(_summed(cells, weight * part, design.first.size) for part in parts))
        return fit(design, outcomes, ridge_of, davidson=ties == "davidson")

    value = strengths(np.ones((1, games.n)))[0]
    drawn = np.concatenate([strengths(weight) for weight in row_weights(games.cluster, games.n, how)])
    players, rest = games.estimates(value, drawn, how)
    return Strengths(players, rest[0] if side else None, rest[-1] if ties == "davidson" else None)


def crowd_bradley_terry(
    first: ArrayLike,
    second: ArrayLike,
    won: ArrayLike,
    annotators: ArrayLike,
    *,
    side: bool = False,
    ridge: float = 0.1,
    prior: tuple[float, float] = (4.0, 2.0),
    clusters: ArrayLike | None = None,
    iterations: int = 500,
    tolerance: float = 1e-7,
    how: Resampling = FEWER,
) -> CrowdStrengths:
    """Bradley-Terry with reliability per annotator (Crowd-BT, Chen et al. 2013), by EM:

        P(first wins) = eta * sigmoid(margin) + (1 - eta) * sigmoid(-margin), with eta of the annotator.

    `prior` is the Beta prior of eta, worth (a - 1) votes for and (b - 1) against; its mean above one half says which way
    is up. A tie is half a vote each way. Reliability is told only when the median player has `how.enough` votes: with fewer
    the strengths bend to every vote and everybody looks reliable. So players are models; for the responses of single
    pairs there is `dawid_skene`. Raises ValueError as `bradley_terry` does, and when a parameter of the prior is below 1.
    """
    if min(prior) < 1:
        raise ValueError(f"prior={prior}: both parameters of the Beta prior must be at least 1.")
    games = _Games.read(first, second, won, side, clusters, annotators=annotators)
    crowd = _Crowd(games, annotators, ridge, prior)
    start = crowd.start()
    parameters, eta, trace = crowd.run(*start, np.ones((1, games.n)), iterations, tolerance)
    fits = [
        crowd.run(parameters, eta, weight, min(iterations, 30), 1e-4)
        for weight in row_weights(games.cluster, games.n, how)
    ]
    players, rest = games.estimates(parameters[0], np.concatenate([fitted[0] for fitted in fits]), how)
    etas = np.concatenate([fitted[1] for fitted in fits])
    typical = float(np.median(np.bincount(np.concatenate([games.design.first, games.design.second]))))
    reliability = {}
    for number, name in enumerate(crowd.names):
        n = np.unique(games.cluster[crowd.who == number]).size
        found = percentile_interval(float(eta[0, number]), etas[:, number], n, how.confidence, draws=n)
        reliability[name] = (
            withheld(n, "share", f"insufficient: {typical:g} of at least {how.enough} votes per player")
            if typical < how.enough
            else estimate(found, "share", how)
        )
    return CrowdStrengths(
        players, reliability, rest[0] if side else None, np.array(trace), len(trace) < iterations
    )


@dataclass(frozen=True, eq=False)
class _Games:
    """Comparisons, read and checked."""

    names: list
    design: _Meetings
    win: Floats
    tie: Floats
    loss: Floats
    cluster: NDArray[np.int64]

    @property
    def n(self) -> int:
        return self.win.size

    @classmethod
    def read(
        cls,
        first: ArrayLike,
        second: ArrayLike,
        won: ArrayLike,
        side: bool,
        clusters: ArrayLike | None,
        *,
        halves: bool = False,
        annotators: ArrayLike | None = None,
    ) -> _Games:
        n = same_length(first=first, second=second, won=won, clusters=clusters, annotators=annotators)
        if not n:
            raise ValueError("there are no comparisons to learn from: collect some first.")
        names, numbers = np.unique(np.concatenate([first, second]), return_inverse=True)
        a, b = numbers[:n], numbers[n:]
        if np.any(a == b):
            where = int(np.flatnonzero(a == b)[0])
            raise ValueError(f"comparison {where + 1} sets {names[a[where]]!s} against itself: leave it out.")
        share = np.asarray(won, float)
        wrong = ~((share >= 0) & (share <= 1))
        if halves:
            wrong |= ~np.isin(share, (0, 0.5, 1))
        if wrong.any():
            where = int(np.flatnonzero(wrong)[0])
            allowed = "0, 0.5 or 1 with Davidson's ties" if halves else "in [0, 1]"
            raise ValueError(f"comparison {where + 1} has won={share[where]}, which must be {allowed}.")
        tie = (share == 0.5).astype(float)
        win, loss = (np.where(tie > 0, 0, part) for part in (share, 1 - share))
        design = _Meetings(a, b, names.size, np.ones((n, int(side))))
        cluster = np.arange(n) if clusters is None else clusters_of(clusters)
        return cls(names.tolist(), design, win, tie, loss, cluster)

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


class _Crowd:
    """EM: how likely each vote followed the strengths, then reliabilities and strengths from that."""

    def __init__(
        self, games: _Games, annotators: ArrayLike, ridge: float, prior: tuple[float, float]
    ) -> None:
        names, self.who = np.unique(np.asarray(annotators), return_inverse=True)
        self.names = names.tolist()
        self.games, self.prior = games, prior
        self.up, self.down = games.win + games.tie / 2, games.loss + games.tie / 2
        self.ridge = ridge

    def start(self) -> tuple[Floats, Floats]:
        a, b = self.prior
        size = self.games.design.players + self.games.design.effects
        return np.zeros((1, size)), np.full((1, len(self.names)), max(0.75, a / (a + b)))

    def run(
        self, parameters: Floats, eta: Floats, weight: Floats, iterations: int, tolerance: float
    ) -> tuple[Floats, Floats, list[float]]:
        """Parameters [r, D], reliabilities [r, A] and the objective (summed over rows) after each step."""
        rows = len(weight)
        eta = np.broadcast_to(eta, (rows, len(self.names)))
        parameters = np.broadcast_to(parameters, (rows, parameters.shape[1]))
        trace: list[float] = []
        while len(trace) < iterations:
            up, down, value = self._expect(parameters, eta, weight)
            trace.append(value)
            if len(trace) > 1 and trace[-1] - trace[-2] < tolerance * weight.sum():
                break
            eta = self._reliability(up, down, weight)
            # A faithful vote counts as it stands, an unfaithful one the other way round.
            won = weight * (self.up * up + self.down * (1 - down))
            lost = weight - won
            outcomes = Outcomes(won, np.zeros_like(won), lost)
            parameters = fit(self.games.design, outcomes, self.ridge, start=parameters, steps=2)
        return parameters, eta, trace

    def _expect(self, parameters: Floats, eta: Floats, weight: Floats) -> tuple[Floats, Floats, float]:
        """Probabilities that a vote for the first, and one for the second, was faithful; and the objective."""
        p = sigmoid(self.games.design.margins(parameters))
        mine = eta[:, self.who]
        for_first = mine * p + (1 - mine) * (1 - p)
        likely = np.sum(weight * (self.up * np.log(for_first) + self.down * np.log1p(-for_first)))
        a, b = self.prior
        before = np.sum((a - 1) * np.log(eta) + (b - 1) * np.log1p(-eta))
        value = likely + before - self.ridge * np.sum(parameters**2) / 2
        return mine * p / for_first, mine * (1 - p) / (1 - for_first), float(value)

    def _reliability(self, up: Floats, down: Floats, weight: Floats) -> Floats:
        a, b = self.prior
        size = len(self.names)
        faithful = _summed(self.who, weight * (self.up * up + self.down * down), size)
        total = _summed(self.who, weight, size)
        return np.clip((faithful + a - 1) / np.maximum(total + a + b - 2, 1e-9), 1e-6, 1 - 1e-6)
