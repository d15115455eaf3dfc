"""Intervals and rates behind every evaluation. numpy only; all randomness comes from the seed that is passed in.

Intervals are 95 % unless another `confidence` is given. "Cluster" is what was drawn independently (a prompt): several
responses or pairs of one prompt are resampled together.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import NormalDist
from typing import Any

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


def _resampled(columns: Floats, clusters: NDArray[np.int64], seed: int, resamples: int) -> Floats:
    """Column sums [resamples, C] of data drawn with replacement by cluster."""
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
    sums, totals = _resampled(data, numbers, seed, resamples), data.sum(axis=0)
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
    sums = _resampled(np.stack([top, bottom], axis=1), numbers, seed, resamples)
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


def ngrams(words: Sequence, n: int) -> list[tuple]:
    """All n-grams of a sequence, in order."""
    return [tuple(words[i : i + n]) for i in range(len(words) - n + 1)]


def distinct(grams: Sequence, size: int) -> float:
    """Distinct-n (Li et al. 2016) at a given amount: how many different ones there are among `size` of the n-grams, over
    `size`, in expectation over all ways to draw them without putting back (Hurlbert 1971, eq. 15).

    With all of them drawn it is the share of different ones.  NaN when `size` is 0 or more than there are.
    """
    total = len(grams)
    if not 0 < size <= total:
        return math.nan
    counts = np.array(list(Counter(grams).values()))
    logs = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, total + 1)))])  # log k!
    absent = np.zeros(counts.size)  # the probability that none of an n-gram's places is drawn
    some = counts <= total - size
    left = total - counts[some]
    absent[some] = np.exp(logs[left] - logs[left - size] - logs[total] + logs[total - size])
    return float(np.sum(1 - absent) / size)


def copied(response: Sequence, source: Sequence, n: int) -> tuple[int, int]:
    """(n-grams of the response that also stand in the source, n-grams of the response)."""
    known = set(ngrams(source, n))
    grams = ngrams(response, n)
    return sum(gram in known for gram in grams), len(grams)


def percentiles(lengths: Sequence[int] | NDArray[Any]) -> dict[str, int]:
    """min, p5, median, p95 and max of whole numbers, each one that is among them; empty where there is none."""
    if not len(lengths):
        return {}
    names = {"min": 0, "p5": 5, "median": 50, "p95": 95, "max": 100}
    values = np.percentile(lengths, list(names.values()), method="nearest")
    return {name: int(value) for name, value in zip(names, values, strict=True)}
