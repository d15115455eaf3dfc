"""How often one is better than another, also at equal lengths, and how small a difference shows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike

from tutelage.statistics.calibration import sigmoid
from tutelage.statistics.intervals import (
    NOTHING,
    RESAMPLES,
    Floats,
    Interval,
    bootstrap_mean,
    clusters_of,
    percentile_interval,
    resample_counts,
)


def sign_test(wins: int, losses: int) -> float:
    """Two-sided p of the exact sign test: wins against losses, ties left out. 1.0 when there is neither."""
    n = wins + losses
    if n == 0:
        return 1.0

    def log_probability(k: int) -> float:
        return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1) - n * math.log(2)

    return min(1.0, 2 * math.fsum(math.exp(log_probability(k)) for k in range(min(wins, losses) + 1)))


@dataclass(frozen=True)
class WinRate:
    """Wins, ties and losses over n pairs; `interval` is the win rate with ties as one half; `p` the sign test."""

    wins: int
    ties: int
    losses: int
    interval: Interval
    p: float


def win_rate(
    ours: ArrayLike,
    theirs: ArrayLike,
    clusters: Sequence[str] | ArrayLike | None = None,
    *,
    seed: int = 0,
    resamples: int = RESAMPLES,
    tie: float = 1e-9,
) -> WinRate:
    """How often `ours` [n] scores higher than `theirs` [n] on the same prompts; a difference of at most `tie` is a tie.

    The bootstrap is paired: a prompt is drawn with both of its responses.
    """
    return won(outcomes(ours, theirs, tie), clusters, seed=seed, resamples=resamples)


def outcomes(ours: ArrayLike, theirs: ArrayLike, tie: float = 1e-9) -> Floats:
    """[n]: 1 where ours is higher, 0 where theirs is, one half where they differ by at most `tie`."""
    difference = np.asarray(ours, float) - np.asarray(theirs, float)
    return np.where(np.abs(difference) <= tie, 0.5, (difference > 0).astype(float))


def won(
    outcome: ArrayLike,
    clusters: Sequence[str] | ArrayLike | None = None,
    *,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> WinRate:
    """The win rate of outcomes [n] from 0 to 1: the probability that ours is better, 1, 0 or one half where nobody doubts."""
    values = np.asarray(outcome, float)
    wins, losses = int((values > 0.5).sum()), int((values < 0.5).sum())
    interval = bootstrap_mean(values, clusters, rate=True, seed=seed, resamples=resamples)
    return WinRate(wins, values.size - wins - losses, losses, interval, sign_test(wins, losses))


def detectable(outcome: ArrayLike, clusters: Sequence[str] | ArrayLike | None = None) -> float:
    """The least distance from one half of a win rate that a test at 5 % on as many prompts with as much spread finds with a
    probability of 80 % (Cohen 1988): (z_.975 + z_.8) standard errors of the mean over clusters; NaN below two."""
    values = np.asarray(outcome, float)
    if values.size == 0:
        return math.nan
    numbers = np.arange(values.size) if clusters is None else clusters_of(clusters)
    sizes = np.bincount(numbers)
    k = sizes.size
    if k < 2:
        return math.nan
    off = np.bincount(numbers, weights=values - values.mean())
    error = math.sqrt(float(np.square(off).sum()) * k / (k - 1)) / values.size
    return (NormalDist().inv_cdf(0.975) + NormalDist().inv_cdf(0.8)) * error


SPREAD = 1.0  # of the prior of what length is worth, in logits: it only matters where there are few pairs


FREE = 1000.0  # of that of the rest


def length_controlled(
    outcome: ArrayLike,
    lengths: ArrayLike,
    clusters: Sequence[str] | ArrayLike | None = None,
    *,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> Interval:
    """The win rate of outcomes [n] as it would be at equal lengths; `lengths` [n]: how much longer ours is than theirs.

        logit P(ours is better) = a + b tanh(d / s),    s the standard deviation of the d;    sigmoid(a)

    (AlpacaEval 2's model, Dubois et al. 2024, arXiv 2404.04475, without its terms for the instruction and with a normal prior on
    b.)  Swapping the two sides gives 1 less the value.  The interval is a bootstrap over clusters.
    """
    y, d = np.asarray(outcome, float), np.asarray(lengths, float)
    if y.size == 0:
        return NOTHING
    spread = float(d.std())  # 0: what length is worth cannot be told from the rest
    x = np.tanh(d / spread) if spread else np.zeros_like(d)
    numbers = np.arange(y.size) if clusters is None else clusters_of(clusters)
    k = int(numbers.max()) + 1
    value = float(_at_equal(y, x, np.ones((1, y.size)))[0])
    drawn = [
        _at_equal(y, x, some[:, numbers].astype(float))
        for counts in resample_counts(k, seed, resamples)
        for some in np.array_split(counts, max(1, math.ceil(len(counts) * y.size / 2_000_000)))
    ]
    return percentile_interval(value, np.concatenate(drawn), y.size, draws=k)


def _at_equal(y: Floats, x: Floats, weights: Floats) -> Floats:
    """sigmoid(a) [R] of the model of `length_controlled`, for rows of weights [R, n]: Newton's method, all rows at once."""
    a, b = np.zeros(len(weights)), np.zeros(len(weights))
    for _ in range(25):
        p = sigmoid(a[:, None] + b[:, None] * x)
        slope, curve = weights * (y - p), weights * p * (1 - p)
        ga, gb = slope.sum(1) - a / FREE, (slope * x).sum(1) - b / SPREAD**2
        haa, hab, hbb = curve.sum(1) + 1 / FREE, (curve * x).sum(1), (curve * x * x).sum(1) + 1 / SPREAD**2
        determinant = haa * hbb - hab * hab
        da, db = (hbb * ga - hab * gb) / determinant, (haa * gb - hab * ga) / determinant
        longest = np.maximum(1, np.maximum(np.abs(da), np.abs(db)) / 2)  # at most two logits a step
        a, b = a + da / longest, b + db / longest
        if max(np.abs(da).max(), np.abs(db).max()) < 1e-10:
            break
    return sigmoid(a)
