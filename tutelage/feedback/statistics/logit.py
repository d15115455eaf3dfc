"""Logistic models of comparisons, fitted by Newton's method for many bootstrap resamples at once.

The margin (in logits, in favour of the response shown first) of each of n comparisons is

    strength[first] - strength[second] + columns @ effects.

Parameters are rows [r, players + effects], one row per resample. Nothing of the size players x players is ever
built: systems are solved by conjugate gradients, so that many players cost no more than their comparisons.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tutelage.feedback.statistics.estimate import Resampling, row_weights
from tutelage.statistics import Floats

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
        """The diagonal of the negative Hessian, from the curvature of each comparison [r, n]."""
        own = self._by_player(self.first, curvature) + self._by_player(self.second, curvature)
        return np.concatenate([own, curvature @ self.columns**2], axis=1)

    def _by_player(self, who: Ints, values: Floats) -> Floats:
        rows = len(values)
        if not self.players:
            return np.zeros((rows, 0))
        cell = who + self.players * np.arange(rows)[:, None]
        sums = np.bincount(cell.ravel(), weights=values.ravel(), minlength=rows * self.players)
        return sums.reshape(rows, self.players).astype(float)


def fitted(
    design: Design, cells: Ints, won: Floats, ridge: float, clusters: Ints, how: Resampling
) -> tuple[Floats, Floats]:
    """Parameters fitted to votes [n], and to every resample of them by `clusters` [n]: [D] and [R, D].

    `cells` [n] says which comparison of the design a vote is of: those that the model cannot tell apart are added up, so
    that a resample costs what there are different ones.
    """
    order = np.argsort(cells, kind="stable")
    begin = np.searchsorted(cells[order], np.arange(len(design.first)))

    def parameters(weight: Floats, start: Floats | None) -> Floats:
        won_of, n_of = (np.add.reduceat(weight * part, begin, axis=1) for part in (won[order], 1.0))
        return fit(design, won_of, n_of, ridge, start=start)

    value = parameters(np.ones((1, won.size)), None)
    blocks = row_weights(clusters[order], won.size, how)
    return value[0], np.concatenate([parameters(weight, value) for weight in blocks])


def fit(
    design: Design,
    won: Floats,
    n: Floats,
    ridge: Floats | float,
    *,
    start: Floats | None = None,
    steps: int = 50,
    tolerance: float = 1e-8,
) -> Floats:
    """Parameters [r, players + Q] of greatest likelihood less ridge / 2 * parameter^2.

    `n` [r, n] is how often each comparison was made, `won` how often its first won; a tie is half a win each. `steps`
    bounds Newton's steps; the objective rises with each.
    """
    shape = (len(won), design.players + design.columns.shape[1])
    parameters = np.zeros(shape) if start is None else np.broadcast_to(start, shape).copy()
    model = _Objective(design, won, n, np.broadcast_to(np.asarray(ridge, float), shape))
    scale = 1 + np.sum(n, axis=1, keepdims=True)
    value, slope, curvature = model.at(parameters)
    for _ in range(steps):
        if np.all(np.abs(slope) < tolerance * scale):
            break
        step = _solve(model, curvature, slope)
        length = np.ones((len(won), 1))
        for _ in range(20):  # halved, row by row, until the objective does not fall
            reached = parameters + length * step
            found, slope, curvature = model.at(reached)
            worse = found < value - 1e-9 * np.abs(value)
            if not worse.any():
                break
            length[worse] /= 2
        parameters, value = reached, found
    return parameters


@dataclass(frozen=True, eq=False)
class _Objective:
    """The log-likelihood, P(first wins) = sigmoid(margin), less the penalties [r, D]; a tie is half a win and half a loss."""

    design: Design
    won: Floats
    n: Floats
    penalty: Floats

    def at(self, parameters: Floats) -> tuple[Floats, Floats, Floats]:
        """The objective [r], its slope [r, D], and the curvature of the likelihood of each comparison [r, n]."""
        margin = self.design.margins(parameters)
        small = np.exp(-np.abs(margin))  # one exponential serves the probability and the logarithm
        p = np.where(margin >= 0, 1, small) / (1 + small)
        value = np.sum(self.won * margin - self.n * (np.maximum(margin, 0) + np.log1p(small)), axis=1)
        value = value - np.sum(self.penalty * parameters**2, axis=1) / 2
        slope = self.design.collect(self.won - self.n * p) - self.penalty * parameters
        return value, slope, self.n * p * (1 - p)

    def times(self, curvature: Floats, vector: Floats) -> Floats:
        """The negative Hessian times a vector [r, D]."""
        return self.design.collect(curvature * self.design.margins(vector)) + self.penalty * vector


def _solve(model: _Objective, curvature: Floats, slope: Floats) -> Floats:
    """(negative Hessian)^-1 slope by conjugate gradients, every row its own system."""
    scale = 1 / np.maximum(model.design.diagonal(curvature) + model.penalty, 1e-12)
    found = np.zeros_like(slope)
    rest = slope.copy()
    direction = scale * rest
    size = np.sum(rest * direction, axis=1, keepdims=True)
    enough = 1e-20 * size
    for _ in range(2 * slope.shape[1] + 10):
        if np.all(size <= enough):
            break
        image = model.times(curvature, direction)
        along = np.sum(direction * image, axis=1, keepdims=True)
        length = np.where(along > 0, size / np.where(along > 0, along, 1), 0)
        found += length * direction
        rest -= length * image
        scaled = scale * rest
        fresh = np.sum(rest * scaled, axis=1, keepdims=True)
        direction = scaled + np.where(size > 0, fresh / np.where(size > 0, size, 1), 0) * direction
        size = fresh
    return found
