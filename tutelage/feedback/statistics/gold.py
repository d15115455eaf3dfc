"""Accuracy on gold items, whose right answer is known: a Beta posterior, which is honest from the first item on."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from tutelage.feedback.statistics.estimate import Estimate, by_name, same_length


@dataclass(frozen=True)
class GoldAccuracy:
    """`accuracy`: posterior mean with credible interval; n gold items. `below`: probability that the true accuracy lies
    below the threshold; `alert`: whether that is all but sure."""

    accuracy: Estimate
    below: float
    alert: bool


def gold_accuracy(
    annotators: ArrayLike,
    right: ArrayLike,
    *,
    threshold: float = 0.7,
    prior: tuple[float, float] = (1.0, 1.0),
    sure: float = 0.95,
    confidence: float = 0.95,
) -> dict[object, GoldAccuracy]:
    """By annotator, from `right` [n]: 1 for a right answer to a gold item, 0 for a wrong one, between for partial credit.

    An alert is raised when the probability of an accuracy below `threshold` exceeds `sure`. `prior` holds the parameters of
    the Beta prior (1, 1: every accuracy equally likely). Raises ValueError for values outside [0, 1] or a prior not above 0.
    """
    same_length(annotators=annotators, right=right)
    points = np.asarray(right, float)
    if not np.all((points >= 0) & (points <= 1)):
        raise ValueError("right must lie between 0 (a wrong answer) and 1 (a right one).")
    if min(prior) <= 0 or not 0 < threshold < 1:
        raise ValueError(f"prior={prior} must be above 0 and threshold={threshold} between 0 and 1.")
    found = {}
    for name, rows in by_name(annotators):
        n, hits = rows.size, float(points[rows].sum())
        a, b = prior[0] + hits, prior[1] + n - hits
        low, high = (beta_quantile(q, a, b) for q in ((1 - confidence) / 2, (1 + confidence) / 2))
        below = beta_cdf(threshold, a, b)
        accuracy = Estimate(a / (a + b), low, high, n, "share", f"{hits:g} of {n} right")
        found[name] = GoldAccuracy(accuracy, below, below > sure)
    return found


def beta_cdf(x: float, a: float, b: float) -> float:
    """The regularised incomplete beta function I_x(a, b), by its continued fraction (DLMF 8.17.22)."""
    if x <= 0 or x >= 1:
        return float(x >= 1)
    if x > (a + 1) / (a + b + 2):  # where the fraction converges slowly, its mirror image does fast
        return 1 - beta_cdf(1 - x, b, a)
    log_front = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x)
    return math.exp(log_front) / (a * _fraction(x, a, b))


def beta_quantile(q: float, a: float, b: float) -> float:
    """Where the distribution function of Beta(a, b) reaches q: by bisection, to the last bits."""
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if beta_cdf(middle, a, b) < q else (low, middle)
    return (low + high) / 2


def _fraction(x: float, a: float, b: float) -> float:
    """1 + d1 / (1 + d2 / (1 + ...)), from the front by Lentz's method."""
    value, above, below = 1.0, 1.0, 0.0
    for step in range(1, 2000):
        m = step // 2
        if step % 2:
            d = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        else:
            d = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        above = 1 + d / above or 1e-300
        below = 1 / (1 + d * below or 1e-300)
        value *= above * below
        if abs(above * below - 1) < 1e-15:
            break
    return value
