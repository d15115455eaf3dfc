"""How often one is better than another, and how small a difference shows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike

from tutelage.statistics.intervals import RESAMPLES, Floats, Interval, bootstrap_mean, clusters_of


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
