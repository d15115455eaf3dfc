"""Whether margins order pairs as votes do, and whether probabilities mean what they say."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from tutelage.seeds import rng
from tutelage.statistics.intervals import Floats, Interval, wilson


def correct(margins: ArrayLike, p_chosen: ArrayLike | None = None) -> Floats:
    """Agreement [n] of the sign of the margins with the labels: 1, 0, or one half where the margin is exactly 0.

    `p_chosen` [n] is the share of votes for the first response (default 1): a soft label counts with its share.
    """
    delta = np.asarray(margins, float)
    p = np.ones_like(delta) if p_chosen is None else np.asarray(p_chosen, float)
    return np.where(delta > 0, p, np.where(delta < 0, 1 - p, 0.5))


def accuracy(margins: ArrayLike, p_chosen: ArrayLike | None = None) -> Interval:
    """Pair accuracy with ties as one half, and its Wilson interval."""
    agreed = correct(margins, p_chosen)
    return wilson(float(agreed.sum()), agreed.size)


def sigmoid(x: ArrayLike) -> Floats:
    """1 / (1 + exp(-x)) that does not overflow."""
    return 0.5 * (1 + np.tanh(0.5 * np.asarray(x, float)))


@dataclass(frozen=True)
class Bin:
    """Pairs of similar confidence: mean confidence, share that agreed with the label (with Wilson interval), n."""

    confidence: float
    agreed: Interval


def reliability(margins: ArrayLike, p_chosen: ArrayLike | None = None, bins: int = 10) -> list[Bin]:
    """Reliability table of sigmoid(margin): `bins` bins with (nearly) equally many pairs, by rising confidence.

    The confidence of a pair is sigmoid(|margin|), from 0.5 to 1, so the table does not depend on which response of a
    pair is called the first.
    """
    confidence = sigmoid(np.abs(np.asarray(margins, float)))
    agreed = correct(margins, p_chosen)
    order = np.argsort(confidence, kind="stable")
    parts = [part for part in np.array_split(order, bins) if part.size]
    return [Bin(float(confidence[i].mean()), wilson(float(agreed[i].sum()), i.size)) for i in parts]


def expected_calibration_error(
    margins: ArrayLike, p_chosen: ArrayLike | None = None, bins: int = 10
) -> float:
    """ECE = sum over bins (as `reliability` has them) of n_b / n * |agreed_b - confidence_b|; NaN when there are no pairs.

    Pairs in the order of their |margin| take half the time.
    """
    confidence = sigmoid(np.abs(np.asarray(margins, float)))
    n = confidence.size
    if not n:
        return math.nan
    gaps = (correct(margins, p_chosen) - confidence)[np.argsort(confidence, kind="stable")]
    starts = np.cumsum([0, *(part.size for part in np.array_split(gaps, bins) if part.size)])[:-1]
    return float(np.abs(np.add.reduceat(gaps, starts)).sum() / n)


def calibration_floor(margins: ArrayLike, *, bins: int = 10, seed: int = 0, resamples: int = 200) -> float:
    """Mean ECE that a perfectly calibrated model with these margins would show at this n: labels drawn from it."""
    generator = rng(seed, "calibration")
    return float(np.mean([chance_error(margins, bins, generator) for _ in range(resamples)]))


def chance_error(margins: ArrayLike, bins: int, generator: np.random.Generator) -> float:
    """The ECE of a perfectly calibrated model with these margins, once: labels drawn from it."""
    delta = np.abs(np.asarray(margins, float))
    labels = (generator.random(delta.size) < sigmoid(delta)).astype(float)
    return expected_calibration_error(delta, labels, bins)


def temperature(
    margins: ArrayLike,
    p_chosen: ArrayLike | None = None,
    low: float = 1e-3,
    high: float = 1e3,
    *,
    start: float = 1.0,
) -> float:
    """The temperature T for which sigmoid(margin / T) has the least negative log-likelihood, within [low, high].

    The likelihood is concave in 1/T: Newton's steps on its slope find it from `start`, and bisection where one would leave the
    bracket.  All pairs agreeing gives `low`, the opposite `high`.
    """
    delta = np.asarray(margins, float)
    p = np.ones_like(delta) if p_chosen is None else np.asarray(p_chosen, float)

    def slopes(inverse: float) -> tuple[float, float]:
        s = sigmoid(inverse * delta)
        return float((s - p) @ delta), float((s * (1 - s)) @ (delta * delta))

    left, right = 1 / high, 1 / low
    if slopes(left)[0] >= 0:
        return high
    if slopes(right)[0] <= 0:
        return low
    at = 1 / start
    for _ in range(100):
        slope, curvature = slopes(at)
        left, right = (at, right) if slope < 0 else (left, at)
        step = at - slope / curvature if curvature else 0.0
        after = step if left < step < right else math.sqrt(left * right)
        if abs(after - at) <= 1e-12 * at:
            break
        at = after
    return 1 / after
