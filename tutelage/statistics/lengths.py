"""Win rates at equal lengths: AlpacaEval 2's model, with or without what it knows of the instructions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from tutelage.statistics.calibration import sigmoid
from tutelage.statistics.intervals import (
    NOTHING,
    RESAMPLES,
    Floats,
    Interval,
    clusters_of,
    percentile_interval,
    resample_counts,
)

SPREAD = 1.0  # of the prior of what length is worth, in logits: it only matters where there are few pairs
FREE = 1000.0  # the variance of that of the rest
AT_ONCE = 2_000_000  # numbers in a block of resamples


@dataclass(frozen=True)
class Anchors:
    """Outcomes [m] of other models that length is known of, each counting `weight` times: they hold what length and difficulty
    are worth where there are few pairs.  `lengths` [m]: how much longer theirs are, in standard deviations; `difficulty` [m]."""

    outcome: Floats
    lengths: Floats
    difficulty: Floats
    weight: float


def length_controlled(
    outcome: ArrayLike,
    lengths: ArrayLike,
    clusters: Sequence[str] | ArrayLike | None = None,
    *,
    difficulty: ArrayLike | None = None,
    anchors: Anchors | None = None,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> Interval:
    """The win rate of outcomes [n] as it would be at equal lengths; `lengths` [n]: how much longer ours is than theirs.

        logit P(ours is better) = a + b tanh(d / s) + c g,    s the standard deviation of the d;    mean of sigmoid(a + c g)

    (AlpacaEval 2's model, Dubois et al. 2024, arXiv 2404.04475, with a normal prior on b in place of a penalty chosen by cross
    validation.)  `difficulty` [n] are the g of the instructions; without it the term is left out, and a stands for their mean.
    Without difficulty, swapping the two sides gives 1 less the value.  The interval is a bootstrap over clusters.
    """
    y, d = np.asarray(outcome, float), np.asarray(lengths, float)
    if y.size == 0:
        return NOTHING
    spread = float(d.std())  # 0: what length is worth cannot be told from the rest
    hard = [] if difficulty is None else [np.asarray(difficulty, float)]
    x = np.stack([np.ones_like(d), np.tanh(d / spread) if spread else np.zeros_like(d), *hard], axis=1)
    model = _Model(y, x, anchors)
    numbers = np.arange(y.size) if clusters is None else clusters_of(clusters)
    k = int(numbers.max()) + 1
    value = float(model.at_equal(np.ones((1, y.size)))[0])
    drawn = [
        model.at_equal(some[:, numbers].astype(float))
        for counts in resample_counts(k, seed, resamples)
        for some in np.array_split(counts, max(1, math.ceil(len(counts) * y.size / AT_ONCE)))
    ]
    return percentile_interval(value, np.concatenate(drawn), y.size, draws=k)


class _Model:
    """Outcomes [n] and what they are explained by [n, P]: 1, length, difficulty."""

    def __init__(self, outcome: Floats, explained_by: Floats, anchors: Anchors | None) -> None:
        self.n, self.x = len(outcome), explained_by
        self.even = explained_by * ([1.0, 0.0] + [1.0] * (explained_by.shape[1] - 2))
        self.y, self.weights = outcome, np.empty(0)
        if anchors is not None:
            given = [np.zeros_like(anchors.outcome), np.tanh(anchors.lengths), anchors.difficulty]
            self.x = np.concatenate([explained_by, np.stack(given[: explained_by.shape[1]], axis=1)])
            self.y = np.concatenate([outcome, anchors.outcome])
            self.weights = np.full(len(anchors.outcome), anchors.weight)

    def at_equal(self, counts: Floats) -> Floats:
        """The win rate at equal lengths [R], for rows of weights [R, n]."""
        held = np.broadcast_to(self.weights, (len(counts), len(self.weights)))
        found = logistic(self.y, self.x, np.concatenate([counts, held], axis=1), self._precision)
        rates: Floats = (counts * sigmoid(found @ self.even.T)).sum(1) / counts.sum(1)
        return rates

    @property
    def _precision(self) -> Floats:
        return np.array([1 / FREE, 1 / SPREAD**2, 1 / FREE])[: self.x.shape[1]]


def logistic(y: Floats, x: Floats, weights: Floats, precision: Floats) -> Floats:
    """The parameters [R, P] of a logistic model of y [n], from 0 to 1, by x [n, P], for rows of weights [R, n], with normal
    priors of these precisions [P]: Newton's method, all rows at once."""
    size = x.shape[1]
    found, products = np.zeros((len(weights), size)), (x[:, :, None] * x[:, None, :]).reshape(len(x), -1)
    for _ in range(25):
        p = sigmoid(found @ x.T)
        slope = (weights * (y - p)) @ x - precision * found
        curve = ((weights * p * (1 - p)) @ products).reshape(-1, size, size) + np.diag(precision)
        step = np.linalg.solve(curve, slope[:, :, None])[:, :, 0]
        found = found + step / np.maximum(1, np.abs(step).max(1, keepdims=True) / 2)  # at most two logits
        if np.abs(step).max() < 1e-10:
            break
    return found


def difficulties(outcomes: Floats, lengths: Floats) -> Floats:
    """How hard each of n instructions is for each of M models, in logits [M, n], told from the *other* models; outcomes [M, n]
    and lengths [M, n] as in `length_controlled`, outcomes NaN where a model has none; 0 where no other has one.

        logit P(model m is better on i) = a_m + b_m tanh(d_mi / s_m) + g_i,    g_i normal around 0 with variance 1

    A model's own outcome would explain itself, so it is left out.
    """
    spread = np.std(lengths, axis=1, keepdims=True)
    x = np.tanh(np.divide(lengths, spread, out=np.zeros_like(lengths), where=spread > 0))
    return np.stack([_hardness(np.delete(outcomes, m, 0), np.delete(x, m, 0)) for m in range(len(outcomes))])


def _hardness(outcomes: Floats, x: Floats) -> Floats:
    """The g [n] of `difficulties` from all these models [M, n]: Newton's steps for all a and b, and for all g, in turns."""
    weights = (~np.isnan(outcomes)).astype(float)
    y, by = np.nan_to_num(outcomes), np.stack([np.ones_like(x), x], axis=2)
    own, hard = np.zeros((len(y), 2)), np.zeros(y.shape[1])
    prior = np.array([1 / FREE, 1 / SPREAD**2])
    for _ in range(200):
        p = sigmoid(np.einsum("mnk,mk->mn", by, own) + hard)
        slope = np.einsum("mn,mnk->mk", weights * (y - p), by) - prior * own
        curve = np.einsum("mn,mnk,mnl->mkl", weights * p * (1 - p), by, by) + np.diag(prior)
        step = np.linalg.solve(curve, slope[:, :, None])[:, :, 0]
        own = own + step / np.maximum(1, np.abs(step).max(1, keepdims=True) / 2)
        p = sigmoid(np.einsum("mnk,mk->mn", by, own) + hard)
        change = ((weights * (y - p)).sum(0) - hard) / ((weights * p * (1 - p)).sum(0) + 1)
        hard = hard + change / np.maximum(1, np.abs(change) / 2)
        if max(np.abs(step).max(initial=0), np.abs(change).max()) < 1e-6:
            break
    return hard
