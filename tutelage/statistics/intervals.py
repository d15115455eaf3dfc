"""Intervals: Wilson's, and bootstraps over clusters."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tutelage.seeds import rng

Floats = NDArray[np.float64]


RESAMPLES = 10_000


NOISE = 1e-9  # of the bounds (of 1, where they are smaller): sums of a million terms come out the same to some 1e-11


@dataclass(frozen=True)
class Interval:
    """A value, the bounds of its interval (NaN where there is none) and the number of things it is over."""

    value: float
    low: float
    high: float
    n: int


NOTHING = Interval(math.nan, math.nan, math.nan, 0)


def wilson(successes: float, n: int, confidence: float = 0.95) -> Interval:
    """Wilson score interval of a rate (Wilson 1927). `successes` may hold halves (ties)."""
    if n == 0:
        return NOTHING
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    p = successes / n
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    # At p = 0 and p = 1 the bound equals p exactly; rounding must not push it past.
    return Interval(p, min(p, max(0.0, centre - half)), max(p, min(1.0, centre + half)), n)


def has_width(low: float, high: float) -> bool:
    """Whether these are the bounds of an interval: not NaN, and further apart than rounding alone would set them.

    Resamples that all give the same value say nothing about how far it could be off.
    """
    return high - low > NOISE * max(1.0, abs(low), abs(high))


def clusters_of(keys: Sequence[str] | ArrayLike) -> NDArray[np.int64]:
    """Cluster numbers 0..k-1, one per entry, from any hashable keys (prompt ids)."""
    return np.unique(np.asarray(keys), return_inverse=True)[1].astype(np.int64)


def resample_counts(k: int, seed: int, resamples: int) -> Iterator[NDArray[np.int64]]:
    """How often each of k clusters is drawn in each bootstrap resample, in blocks [r, k] that bound the memory."""
    generator = rng(seed, "bootstrap")
    block = max(1, 2_000_000 // k)
    for start in range(0, resamples, block):
        rows = min(block, resamples - start)
        # The counts of k draws are a multinomial's, six times faster; those of row r are told apart by r * k.
        drawn = generator.integers(0, k, size=(rows, k)) + k * np.arange(rows)[:, None]
        yield np.bincount(drawn.ravel(), minlength=rows * k).reshape(rows, k)


def percentile_interval(
    value: float, drawn: Floats, n: int, confidence: float = 0.95, *, draws: int = 0
) -> Interval:
    """The central `confidence` of the drawn values, NaN left out, widened where needed to hold the value itself.

    When they have no width (`has_width`) there are no bounds.  Of a rate the caller tells from how many independent `draws`
    (clusters) it comes: Wilson's interval over those stands in then.  Not over the responses: where all outcomes are the
    same nothing shows how alike those of one prompt are, so a prompt counts as one draw, however many it has.
    """
    drawn = drawn[np.isfinite(drawn)]
    tails = [(1 - confidence) / 2, (1 + confidence) / 2]
    low, high = np.quantile(drawn, tails).tolist() if drawn.size else (math.nan, math.nan)
    if not has_width(low, high):
        stand_in = wilson(min(1.0, max(0.0, value)) * draws, draws, confidence)
        return Interval(value, stand_in.low, stand_in.high, n)
    return Interval(value, min(low, value), max(high, value), n)


def resampled_sums(columns: Floats, clusters: NDArray[np.int64], seed: int, resamples: int) -> Floats:
    """Column sums [resamples, C] of data [n, C] drawn with replacement by cluster."""
    k = int(clusters.max()) + 1
    totals = np.stack([np.bincount(clusters, weights=c, minlength=k) for c in columns.T], axis=1)
    return np.concatenate([counts @ totals for counts in resample_counts(k, seed, resamples)])


def bootstrap_each(
    statistics: Sequence[Callable[[Floats], Floats]],
    columns: ArrayLike,
    clusters: Sequence[str] | ArrayLike | None = None,
    *,
    rates: Sequence[bool] = (),
    seed: int = 0,
    resamples: int = RESAMPLES,
    confidence: float = 0.95,
) -> list[Interval]:
    """`bootstrap_sums` of several statistics on the same resamples, which are drawn once; `rates` says it of each of them."""
    data = np.asarray(columns, float)
    if data.shape[0] == 0:
        return [NOTHING for _ in statistics]
    numbers = np.arange(data.shape[0]) if clusters is None else clusters_of(clusters)
    sums, totals = resampled_sums(data, numbers, seed, resamples), data.sum(axis=0)
    draws = [np.unique(numbers).size if rate else 0 for rate in rates or [False for _ in statistics]]
    return [
        percentile_interval(float(of(totals)), of(sums), data.shape[0], confidence, draws=independent)
        for of, independent in zip(statistics, draws, strict=True)
    ]


def bootstrap_sums(
    statistic: Callable[[Floats], Floats],
    columns: ArrayLike,
    clusters: Sequence[str] | ArrayLike | None = None,
    *,
    rate: bool = False,
    seed: int = 0,
    resamples: int = RESAMPLES,
    confidence: float = 0.95,
) -> Interval:
    """Any statistic of column sums, with a percentile bootstrap interval over clusters: all resamples at once.

    `columns` is [n, C]; `statistic` maps sums [..., C] to values [...], NaN where it is not defined (such resamples are
    left out). Ratios, kappas and entropies have this form. `rate`: the value is a mean of numbers from 0 to 1 (see
    `percentile_interval`).
    """
    of, rates = [statistic], [rate]
    return bootstrap_each(
        of, columns, clusters, rates=rates, seed=seed, resamples=resamples, confidence=confidence
    )[0]


def bootstrap_ratio(
    numerator: ArrayLike,
    denominator: ArrayLike,
    clusters: Sequence[str] | ArrayLike | None = None,
    *,
    rate: bool = False,
    seed: int = 0,
    resamples: int = RESAMPLES,
    confidence: float = 0.95,
) -> Interval:
    """Sum of `numerator` over sum of `denominator` with a percentile bootstrap interval over clusters.

    Both are [n]; `clusters` [n] names the prompt of each entry (default: every entry is its own). n is the number of entries.
    `rate`: the numerators lie between 0 and their denominators, so that there is an interval at 0 % and 100 % too.
    """
    top, bottom = np.asarray(numerator, float), np.asarray(denominator, float)
    if top.size == 0 or bottom.sum() == 0:
        return NOTHING
    numbers = np.arange(top.size) if clusters is None else clusters_of(clusters)
    sums = resampled_sums(np.stack([top, bottom], axis=1), numbers, seed, resamples)
    kept = sums[sums[:, 1] > 0]
    value = float(top.sum() / bottom.sum())
    draws = np.unique(numbers[bottom > 0]).size if rate else 0  # whatever has no denominator says nothing
    return percentile_interval(value, kept[:, 0] / kept[:, 1], int(top.size), confidence, draws=draws)


def bootstrap_mean(
    values: ArrayLike,
    clusters: Sequence[str] | ArrayLike | None = None,
    *,
    rate: bool = False,
    seed: int = 0,
    resamples: int = RESAMPLES,
    confidence: float = 0.95,
) -> Interval:
    """Mean of `values` [n] with a percentile bootstrap interval over clusters (see `bootstrap_ratio`)."""
    array = np.asarray(values, float)
    return bootstrap_ratio(
        array,
        np.ones_like(array),
        clusters,
        rate=rate,
        seed=seed,
        resamples=resamples,
        confidence=confidence,
    )


def bootstrap(
    statistic: Callable[[NDArray[np.int64]], float],
    n: int,
    *,
    seed: int = 0,
    resamples: int = 1000,
    confidence: float = 0.95,
) -> Interval:
    """Any statistic of row numbers, with a percentile bootstrap interval over the n rows."""
    if n == 0:
        return NOTHING
    drawn = np.array([statistic(rows) for rows in resampled_rows(np.arange(n), seed, resamples)])
    return percentile_interval(float(statistic(np.arange(n))), drawn, n, confidence)


def resampled_rows(
    clusters: Sequence[str] | ArrayLike, seed: int, resamples: int
) -> Iterator[NDArray[np.int64]]:
    """The rows of each bootstrap resample: as many clusters as there are, drawn with replacement, each with all its rows."""
    numbers = clusters_of(clusters)
    order, sizes = np.argsort(numbers, kind="stable"), np.bincount(numbers)
    starts, generator = np.cumsum(sizes) - sizes, rng(seed, "bootstrap")
    for _ in range(resamples):
        drawn = generator.integers(0, sizes.size, sizes.size)
        each = sizes[drawn]
        within = np.arange(each.sum()) - np.repeat(np.cumsum(each) - each, each)
        yield order[np.repeat(starts[drawn], each) + within]


def rank_correlation(
    one: ArrayLike, other: ArrayLike, clusters: Sequence[str] | ArrayLike | None = None, *, seed: int = 0
) -> Interval:
    """Spearman's correlation of two columns [n], ties sharing their ranks, with a percentile bootstrap interval over clusters
    (of the ranks that they have among all); NaN where a column is always the same."""
    a, b = _ranks(one), _ranks(other)
    if not (len(a) and np.ptp(a) and np.ptp(b)):
        return NOTHING

    def pearson(sums: Floats) -> Floats:
        n, x, y, xx, yy, xy = np.moveaxis(sums, -1, 0)
        with np.errstate(invalid="ignore", divide="ignore"):
            found: Floats = (n * xy - x * y) / np.sqrt((n * xx - x * x) * (n * yy - y * y))
        return found

    a, b = a - a.mean(), b - b.mean()  # keeps the sums small
    return bootstrap_sums(
        pearson, np.stack([np.ones_like(a), a, b, a * a, b * b, a * b], 1), clusters, seed=seed
    )


def _ranks(values: ArrayLike) -> Floats:
    """1 for the least; equal values share the mean of their ranks."""
    _, which, counts = np.unique(np.asarray(values, float), return_inverse=True, return_counts=True)
    ranks: Floats = (np.cumsum(counts) - (counts - 1) / 2)[which]
    return ranks
