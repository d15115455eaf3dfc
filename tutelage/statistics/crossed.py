"""Means of tables whose rows and columns are both drawn (runs and prompts), and tests of several."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import combinations

import numpy as np
from numpy.typing import ArrayLike

from tutelage.statistics.intervals import NOTHING, Floats, Interval, wilson


def crossed_mean(values: ArrayLike, *, rate: bool = False, confidence: float = 0.95) -> Interval:
    """Mean of a table whose every axis was drawn, such as runs x prompts, with an interval for other runs and other prompts.

    Variance by inclusion and exclusion of what varies along each axis (Cameron, Gelbach and Miller 2011, "Robust inference with
    multiway clustering", Journal of Business & Economic Statistics 29, eq. 2.13); Student's t with Satterthwaite's degrees of
    freedom, so that few runs cost what they should: a bootstrap of five is a third too narrow.  `n` of the interval is the
    longest axis.  `rate`: the values are from 0 to 1; where all are the same Wilson's interval over that axis stands in.
    """
    table = np.asarray(values, float)
    if table.size == 0:
        return NOTHING
    mean, n = float(table.mean()), max(table.shape)
    variance, freedom = _crossed_variance(table - mean)
    if not variance:
        stand_in = wilson(mean * n, n, confidence) if rate else NOTHING
        return Interval(mean, stand_in.low, stand_in.high, n)
    half = student_quantile(0.5 + confidence / 2, freedom) * math.sqrt(variance)
    low, high = mean - half, mean + half
    return Interval(mean, max(low, 0.0) if rate else low, min(high, 1.0) if rate else high, n)


def crossed_test(values: ArrayLike) -> float:
    """Two-sided p that the mean of such a table (`crossed_mean`) is 0 but for chance: t = mean / standard error.

    NaN where nothing varies, so that nothing says how far chance goes; below 0.05 where the 95 % interval leaves 0 out.
    """
    table = np.asarray(values, float)
    if table.size == 0:
        return math.nan
    variance, freedom = _crossed_variance(table - table.mean())
    return student_p(abs(float(table.mean())) / math.sqrt(variance), freedom) if variance else math.nan


def _crossed_variance(centred: Floats) -> tuple[float, float]:
    """(variance of the mean of a crossed table, its degrees of freedom); (0, 0) where nothing varies."""
    drawn = [axis for axis, size in enumerate(centred.shape) if size > 1]
    alone = [_variance_along(centred, (axis,)) for axis in drawn]
    if not alone or not sum(alone):
        return 0.0, 0.0
    every = sum(
        (-1) ** (size + 1) * _variance_along(centred, axes)
        for size in range(1, len(drawn) + 1)
        for axes in combinations(drawn, size)
    )
    freedom = sum(alone) ** 2 / sum(v * v / (centred.shape[a] - 1) for v, a in zip(alone, drawn))
    return max(every, *alone), freedom  # what is subtracted is an estimate, too


def holm(p: Sequence[float]) -> list[float]:
    """The p of several tests, made larger for how many there are (Holm 1979): where one is below 0.05, the chance that any such
    claim is false is below 0.05.  NaN stays, and is no test."""
    order = sorted((i for i, one in enumerate(p) if not math.isnan(one)), key=lambda i: p[i])
    adjusted, highest = [math.nan] * len(p), 0.0
    for rank, i in enumerate(order):
        highest = max(highest, min(1.0, (len(order) - rank) * p[i]))
        adjusted[i] = highest
    return adjusted


def _variance_along(centred: Floats, axes: tuple[int, ...]) -> float:
    """Variance of the mean when what shares its place on these axes belongs together."""
    others = tuple(axis for axis in range(centred.ndim) if axis not in axes)
    sums = centred.sum(axis=others)
    return float((sums**2).sum() / centred.size**2 * sums.size / (sums.size - 1))


def student_quantile(p: float, freedom: float) -> float:
    """Quantile of Student's t, p from 0.5 to 1 (exclusive); exact to some five digits."""
    angle, upto = _student(freedom)
    return math.sqrt(freedom) * math.tan(float(np.interp((2 * p - 1) * upto[-1], upto, angle)))


def student_p(t: float, freedom: float) -> float:
    """Two-sided p of a Student's t of 0 or more: the probability of one at least as large in size; to some five digits."""
    angle, upto = _student(freedom)
    inside = float(np.interp(math.atan(t / math.sqrt(freedom)), angle, upto)) / float(upto[-1])
    return min(1.0, max(0.0, 1.0 - inside))


def _student(freedom: float) -> tuple[Floats, Floats]:
    """(angles from 0 to a right one, the integral up to each): with t = sqrt(freedom) tan(a) the density is proportional to
    cos(a)^(freedom - 1)."""
    angle = np.linspace(0.0, math.pi / 2, 100_001)
    density = np.cos(angle) ** (freedom - 1)
    return angle, np.concatenate([[0.0], np.cumsum(density[1:] + density[:-1])])
