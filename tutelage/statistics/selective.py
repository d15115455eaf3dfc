"""Answering only where one is sure: risk against coverage, and the probability from which somebody answers."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from tutelage.statistics.intervals import Floats

RIDGE = 1e-3  # on the slope, in units of the standard deviation of x: separated data have a finite fit too
ITERATIONS = 50


def in_order(confidence: ArrayLike, values: ArrayLike) -> Floats:
    """Values [n] from the surest to the least sure; those of equal confidence have the mean of theirs, so that their order
    does not matter."""
    numbers = np.asarray(values, float)
    sure, group = np.unique(-np.asarray(confidence, float), return_inverse=True)
    mean = np.bincount(group, numbers, sure.size) / np.bincount(group, minlength=sure.size)
    found: Floats = mean[np.sort(group)]
    return found


def risks(confidence: ArrayLike, wrong: ArrayLike) -> Floats:
    """Share of wrong ones among the surest 1, 2, ... n: the risk at each coverage (El-Yaniv and Wiener 2010)."""
    ordered = in_order(confidence, wrong)
    found: Floats = np.cumsum(ordered) / np.arange(1, ordered.size + 1)
    return found


def aurc(confidence: ArrayLike, wrong: ArrayLike) -> float:
    """Mean of `risks`: the area under risk and coverage (Geifman et al. 2019, arXiv 1805.08206).  NaN of nothing."""
    found = risks(confidence, wrong)
    return float(found.mean()) if found.size else float("nan")


def crossings(x: ArrayLike, ones: ArrayLike, counts: ArrayLike) -> Floats:
    """Where a logistic curve of x crosses one half, for each of R data sets: [R].

    x: [G] different values.  ones, counts: [R, G] how many there are at each, and how many of them are 1.  NaN where the curve
    does not rise, or crosses outside the range of x: then nothing switches there.  Newton's method on the likelihood with a
    slight ridge on the slope.
    """
    at, k, n = np.asarray(x, float), np.asarray(ones, float), np.asarray(counts, float)
    weight = n.sum(axis=0)
    middle = float(np.average(at, weights=weight))
    spread = float(np.sqrt(np.average((at - middle) ** 2, weights=weight))) or 1.0
    z = (at - middle) / spread
    level, slope = np.zeros(len(k)), np.zeros(len(k))
    for _ in range(ITERATIONS):
        p = 1 / (1 + np.exp(-np.clip(level[:, None] + slope[:, None] * z, -30, 30)))
        left, inner = k - n * p, n * p * (1 - p)
        first, second = left.sum(axis=1) - RIDGE * level, (left * z).sum(axis=1) - RIDGE * slope
        a, b, c = inner.sum(axis=1) + RIDGE, (inner * z).sum(axis=1), (inner * z * z).sum(axis=1) + RIDGE
        det = a * c - b * b
        up, along = (c * first - b * second) / det, (a * second - b * first) / det
        size = np.maximum(1, np.maximum(np.abs(up), np.abs(along)))  # no step is longer than 1
        level, slope = level + up / size, slope + along / size
    with np.errstate(divide="ignore", invalid="ignore"):
        found = middle - spread * level / slope
    outside = (slope <= 0) | ~np.isfinite(found) | (found < at.min()) | (found > at.max())
    result: Floats = np.where(outside, np.nan, found)
    return result
