"""Logistic models of comparisons, fitted by Newton's method for many bootstrap resamples at once.

The margin (in logits, in favour of the response shown first) of each of n comparisons is

    strength[first] - strength[second] + columns @ effects.

Parameters are rows [r, players + effects (+ 1)], one row per resample. Nothing of the size players x players is ever
built: systems are solved by conjugate gradients, so that many players cost no more than their comparisons.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tutelage.statistics import Floats, sigmoid

Ints = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Design:
    """Who meets whom: `first` and `second` [n] are players 0..players-1; `columns` [n, Q] is what else plays a part.

    With players = 0 it is an ordinary logistic regression on the columns.
    """

    first: Ints
    second: Ints
    players: int
    columns: Floats

    @property
    def effects(self) -> int:
        return self.columns.shape[1]

    def margins(self, parameters: Floats) -> Floats:
        """[r, n] from parameters [r, players + Q]."""
        margin = parameters[:, self.players :] @ self.columns.T
        if self.players:
            margin += parameters[:, self.first] - parameters[:, self.second]
        return margin

    def collect(self, values: Floats) -> Floats:
        """The transpose of `margins`: [r, players + Q] from [r, n]."""
        own = self._by_player(self.first, values) - self._by_player(self.second, values)
        return np.concatenate([own, values @ self.columns], axis=1)

    def diagonal(self, curvature: Floats) -> Floats:
        """The diagonal of the Hessian, from the curvature of each comparison [r, n]."""
        own = self._by_player(self.first, curvature) + self._by_player(self.second, curvature)
        return np.concatenate([own, curvature @ self.columns**2], axis=1)

    def _by_player(self, who: Ints, values: Floats) -> Floats:
        rows = len(values)
        if not self.players:
            return np.zeros((rows, 0))
        cell = who + self.players * np.arange(rows)[:, None]
        sums = np.bincount(cell.ravel(), weights=values.ravel(), minlength=rows * self.players)
        return sums.reshape(rows, self.players)


@dataclass(frozen=True, eq=False)
class Outcomes:
    """How often each comparison was won by the first, tied, or won by the second: each [r, n]."""

    win: Floats
    tie: Floats
    loss: Floats


def fit(
    design: Design,
    outcomes: Outcomes,
    ridge: Floats | float,
    *,
    davidson: bool = False,
    start: Floats | None = None,
    steps: int = 50,
    tolerance: float = 1e-8,
) -> Floats:
    """Parameters [r, D] of greatest likelihood less ridge / 2 * parameter^2.

    Ties count as half a win each, or, with `davidson`, have a probability of their own (Davidson 1970), whose log
    weight is one more parameter at the end. `steps` bounds Newton's steps; the objective rises with each.
    """
    rows = len(outcomes.win)
    size = design.players + design.effects + davidson
    parameters = np.zeros((rows, size)) if start is None else np.broadcast_to(start, (rows, size)).copy()
    model = _Davidson(design, outcomes) if davidson else _HalfWins(design, outcomes)
    penalty = np.broadcast_to(np.asarray(ridge, float), (rows, size))
    scale = 1 + np.sum(outcomes.win + outcomes.tie + outcomes.loss, axis=1, keepdims=True)
    for _ in range(steps):
        value, slope, curvature = model.at(parameters)
        value = value - np.sum(penalty * parameters**2, axis=1) / 2
        slope = slope - penalty * parameters
        if np.all(np.abs(slope) < tolerance * scale):
            break
        step = _solve(model, curvature, penalty, slope)
        parameters = _climb(model, parameters, step, penalty, value)
    return parameters


def _climb(
    model: _HalfWins | _Davidson, start: Floats, step: Floats, penalty: Floats, value: Floats
) -> Floats:
    """A step that does not lower the objective: halved, row by row, until it does not."""
    size = np.ones((len(start), 1))
    for _ in range(20):
        parameters = start + size * step
        reached = model.at(parameters)[0] - np.sum(penalty * parameters**2, axis=1) / 2
        worse = reached < value - 1e-9 * np.abs(value)
        if not worse.any():
            return parameters
        size[worse] /= 2
    return np.where(worse[:, None], start, parameters)


class _HalfWins:
    """P(first wins) = sigmoid(margin); a tie is half a win and half a loss."""

    def __init__(self, design: Design, outcomes: Outcomes) -> None:
        self.design = design
        self.won = outcomes.win + outcomes.tie / 2
        self.lost = outcomes.loss + outcomes.tie / 2

    def at(self, parameters: Floats) -> tuple[Floats, Floats, Floats]:
        """Log-likelihood [r], its slope [r, D] and the curvature of each comparison [r, n]."""
        margin = self.design.margins(parameters)
        p = sigmoid(margin)
        value = -np.sum(self.won * np.logaddexp(0, -margin) + self.lost * np.logaddexp(0, margin), axis=1)
        n = self.won + self.lost
        return value, self.design.collect(self.won - n * p), n * p * (1 - p)

    def times(self, curvature: Floats, vector: Floats) -> Floats:
        """The negative Hessian times a vector [r, D]."""
        return self.design.collect(curvature * self.design.margins(vector))

    def diagonal(self, curvature: Floats) -> Floats:
        return self.design.diagonal(curvature)


class _Davidson:
    """Win, tie and loss weigh exp(margin / 2), exp(t) and exp(-margin / 2); t is the last parameter."""

    def __init__(self, design: Design, outcomes: Outcomes) -> None:
        self.design, self.outcomes = design, outcomes
        self.n = outcomes.win + outcomes.tie + outcomes.loss

    def at(self, parameters: Floats) -> tuple[Floats, Floats, Floats]:
        """As above; the curvature is [3, r, n]: margin twice, margin and t, t twice."""
        margin, t = self.design.margins(parameters[:, :-1]), parameters[:, -1:]
        total = np.logaddexp(np.logaddexp(margin / 2, -margin / 2), t)
        win, loss, tie = np.exp(margin / 2 - total), np.exp(-margin / 2 - total), np.exp(t - total)
        seen = self.outcomes
        value = np.sum((seen.win - seen.loss) * margin / 2 + seen.tie * t - self.n * total, axis=1)
        mean = (win - loss) / 2
        slope = self.design.collect((seen.win - seen.loss) / 2 - self.n * mean)
        slope_t = np.sum(seen.tie - self.n * tie, axis=1, keepdims=True)
        curvature = np.stack([(win + loss) / 4 - mean**2, -mean * tie, tie * (1 - tie)]) * self.n
        return value, np.concatenate([slope, slope_t], axis=1), curvature

    def times(self, curvature: Floats, vector: Floats) -> Floats:
        margin, t = self.design.margins(vector[:, :-1]), vector[:, -1:]
        own = self.design.collect(curvature[0] * margin + curvature[1] * t)
        tie = np.sum(curvature[1] * margin + curvature[2] * t, axis=1, keepdims=True)
        return np.concatenate([own, tie], axis=1)

    def diagonal(self, curvature: Floats) -> Floats:
        tie = curvature[2].sum(axis=1, keepdims=True)
        return np.concatenate([self.design.diagonal(curvature[0]), tie], axis=1)


def _solve(model: _HalfWins | _Davidson, curvature: Floats, penalty: Floats, slope: Floats) -> Floats:
    """(Hessian + penalty)^-1 slope by conjugate gradients, every row its own system."""
    scale = 1 / np.maximum(model.diagonal(curvature) + penalty, 1e-12)
    found = np.zeros_like(slope)
    rest = slope.copy()
    direction = scale * rest
    size = np.sum(rest * direction, axis=1, keepdims=True)
    enough = 1e-20 * size
    for _ in range(2 * slope.shape[1] + 10):
        if np.all(size <= enough):
            break
        image = model.times(curvature, direction) + penalty * direction
        along = np.sum(direction * image, axis=1, keepdims=True)
        length = np.where(along > 0, size / np.where(along > 0, along, 1), 0)
        found += length * direction
        rest -= length * image
        scaled = scale * rest
        fresh = np.sum(rest * scaled, axis=1, keepdims=True)
        direction = scaled + np.where(size > 0, fresh / np.where(size > 0, size, 1), 0) * direction
        size = fresh
    return found
