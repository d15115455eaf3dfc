"""Over-optimisation: what happens to the gold standard while a proxy of it is optimised (Gao, Schulman and Hilton 2023,
arXiv 2210.10760).  Curves of mean scores against d = sqrt(KL to the reference), their fits and peaks.  numpy only.

    best-of-n                R(d) = d (alpha - beta d)         peak at alpha / (2 beta)
    reinforcement learning   R(d) = d (alpha - beta log d)     peak at exp(alpha / beta - 1)

R is what the gold standard gains over the reference, so that R(0) = 0 (their equations 1 and 2).  The first is a parabola
through 0, so whether the second foretells better than a parabola can be asked of either curve (`forecast`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tutelage import statistics
from tutelage.statistics import Floats, Interval

Kind = Literal["bon", "rl"]
SEEN = 2 / 3  # of the way that was measured: what a forecast is fitted on
FEWEST = 3  # points apart from the reference that a forecast with two coefficients is fitted on
TINY = 1e-12


@dataclass(frozen=True)
class Curve:
    """Mean scores at K strengths of optimisation of one kind; the first is the reference, where KL is 0.

    at: what each point is (n, or a step).  kl, proxy, gold: float64 [P, K], of every prompt, in nats and in scores.
    """

    name: str
    kind: Kind
    at: tuple[int, ...]
    kl: Floats
    proxy: Floats
    gold: Floats

    @property
    def d(self) -> Floats:
        """float64 [K]: sqrt(KL); an estimate below 0, which chance can give, counts as 0."""
        return distance(self.kl.mean(axis=0))


@dataclass(frozen=True)
class Fit:
    """A form fitted by least squares; peak and its height (over the reference) are infinite where gold only rises.

    r2 is 1 - (squares left) / (squares about the mean).  Each bootstrapped over prompts; a bound is NaN where there is
    none, and infinite where the resamples have no peak.
    """

    alpha: Interval
    beta: Interval
    r2: float
    peak: Interval
    height: Interval


def distance(kl: ArrayLike) -> Floats:
    """sqrt(KL), elementwise, with estimates below 0 as 0."""
    return np.sqrt(np.maximum(np.asarray(kl, float), 0.0))


def best_of_n_kl(n: int) -> float:
    """KL(best of n || reference) <= log n - (n - 1) / n, in nats; equal where no two responses score the same (Beirami et al.
    2024, arXiv 2401.01879)."""
    return math.log(n) - (n - 1) / n


def best_of_n(proxy: ArrayLike, gold: ArrayLike, sizes: Sequence[int]) -> tuple[Floats, Floats]:
    """(proxy, gold), float64 [P, len(sizes)]: the expected scores of the best of n responses by proxy, for every n.

    proxy, gold: [P, N], the scores of N responses to each prompt.  The mean over all subsets of n of the N (no draw is made
    again, and nothing is biased): sum over i of C(i-1, n-1) / C(N, n) times the score of the i-th lowest (Nakano et al. 2021,
    arXiv 2112.09332, appendix I).  Of responses with equal proxy each is as likely to be chosen.
    Raises ValueError when an n is not from 1 to N.
    """
    proxy, gold = np.atleast_2d(np.asarray(proxy, float)), np.atleast_2d(np.asarray(gold, float))
    weights = _weights(proxy.shape[1], sizes)
    order = np.argsort(proxy, axis=1, kind="stable")
    ranked = np.take_along_axis(proxy, order, axis=1)
    paid = np.take_along_axis(gold, order, axis=1)
    for scores, row in zip(ranked, paid, strict=True):
        _, place, counts = np.unique(scores, return_inverse=True, return_counts=True)
        if counts.size < row.size:  # ties
            row[:] = (np.bincount(place, weights=row) / counts)[place]
    return ranked @ weights.T, paid @ weights.T


def _weights(total: int, sizes: Sequence[int]) -> Floats:
    """[len(sizes), total]: how likely the i-th lowest of `total` is the highest of n of them."""
    if not all(1 <= n <= total for n in sizes):
        raise ValueError(
            f"best-of-n from {total} responses needs every n from 1 to {total}, not {list(sizes)}."
        )
    logs = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, total + 1)))])  # log k!
    weights = np.zeros((len(sizes), total))
    for row, n in zip(weights, sizes, strict=True):
        i = np.arange(n, total + 1)
        chosen = logs[i - 1] - logs[n - 1] - logs[i - n]
        row[n - 1 :] = np.exp(chosen - (logs[total] - logs[n] - logs[total - n]))
    return weights


def best_of_n_curve(name: str, proxy: ArrayLike, gold: ArrayLike, sizes: Sequence[int]) -> Curve:
    """The curve over `sizes` (the first is 1), with the bound as KL."""
    found = best_of_n(proxy, gold, sizes)
    kl = np.broadcast_to([best_of_n_kl(n) for n in sizes], found[0].shape)
    return Curve(name, "bon", tuple(sizes), np.array(kl), *found)


def fit(curve: Curve, *, seed: int = 0, resamples: int = 1000) -> Fit | None:
    """The form of the curve's kind, with intervals by resampling prompts; None with fewer than two points apart from the
    reference."""
    gains = curve.gold - curve.gold[:, :1]
    coefficients, r2 = _solved(curve.kind, curve.d[None], gains.mean(axis=0)[None])
    if not np.isfinite(coefficients).all():
        return None
    whole = _describe(curve.kind, coefficients)[0]
    prompts = gains.shape[0]
    drawn = np.full((1, 4), math.nan)
    if prompts > 1:
        counts = np.concatenate(list(statistics.resample_counts(prompts, seed, resamples))) / prompts
        drawn = _describe(curve.kind, _solved(curve.kind, distance(counts @ curve.kl), counts @ gains)[0])
    alpha, beta, peak, height = (_between(v, c, prompts) for v, c in zip(whole, drawn.T, strict=True))
    return Fit(alpha, beta, float(r2[0]), peak, height)


@dataclass(frozen=True)
class Forecast:
    """How far the last third of a curve is from what its first two thirds foretell: root mean squared errors, in scores.

    seen, ahead: the points that forms are fitted on, apart from the reference, and those that they foretell.  log: of
    d (alpha - beta log d).  parabola: of d (alpha - beta d).  stays: of gold that stays where it was last seen.  advantage:
    `parabola` less `log`, with an interval over prompts (above 0: log foretells better).
    """

    seen: int
    ahead: int
    log: float
    parabola: float
    stays: float
    advantage: Interval


def forecast(curve: Curve, *, seed: int = 0, resamples: int = 1000) -> Forecast | None:
    """Fit on the points up to SEEN of the farthest d, and compare with those beyond; None with fewer than FEWEST points seen
    or none ahead.  Both forms go through 0 and have two coefficients, fitted by least squares over the same points."""
    d, gains = curve.d, curve.gold - curve.gold[:, :1]
    seen, ahead = (d > 0) & (d <= SEEN * d.max()), d > SEEN * d.max()
    if seen.sum() < FEWEST or not ahead.any():
        return None
    whole = _errors(d[None], gains.mean(axis=0)[None], seen, ahead)
    if not all(np.isfinite(error).all() for error in whole.values()):
        return None
    prompts = gains.shape[0]
    drawn = np.full(1, math.nan)
    if prompts > 1:
        counts = np.concatenate(list(statistics.resample_counts(prompts, seed, resamples))) / prompts
        found = _errors(distance(counts @ curve.kl), counts @ gains, seen, ahead)
        drawn = found["parabola"] - found["log"]
    log, parabola, stays = (float(whole[name][0]) for name in ("log", "parabola", "stays"))
    advantage = _between(parabola - log, drawn, prompts)
    return Forecast(int(seen.sum()), int(ahead.sum()), log, parabola, stays, advantage)


def _errors(d: Floats, gains: Floats, seen: NDArray[np.bool_], ahead: NDArray[np.bool_]) -> dict[str, Floats]:
    """[R]: root mean squared errors of each way to foretell R curves of K points each."""
    last = np.where(seen, d, -1.0).argmax(axis=1)[:, None]
    told = {"stays": np.take_along_axis(gains, last, axis=1)}
    kinds: dict[str, Kind] = {"log": "rl", "parabola": "bon"}
    for name, kind in kinds.items():
        coefficients, _ = _solved(kind, d[:, seen], gains[:, seen])
        told[name] = (_features(kind, d[:, ahead]) @ coefficients[..., None])[..., 0]
    return {name: np.sqrt(((gains[:, ahead] - each) ** 2).mean(axis=1)) for name, each in told.items()}


def gain(kind: Kind, alpha: float, beta: float, d: ArrayLike) -> Floats:
    """What gold gains over the reference by a fitted form, at distances `d`."""
    return _features(kind, np.asarray(d, float)) @ np.array([alpha, beta])


def _features(kind: Kind, d: Floats) -> Floats:
    """[..., 2]: what alpha and beta are multiplied with."""
    second = d * d if kind == "bon" else d * np.log(np.where(d > 0, d, 1.0))
    return np.stack([d, -second], axis=-1)


def _solved(kind: Kind, d: Floats, gains: Floats) -> tuple[Floats, Floats]:
    """(alpha and beta [R, 2], R^2 [R]) of R curves of K points each; NaN where the points do not determine them."""
    x = _features(kind, d)
    a, b, c = (x[..., 0] ** 2).sum(-1), (x[..., 0] * x[..., 1]).sum(-1), (x[..., 1] ** 2).sum(-1)
    p, q = (x[..., 0] * gains).sum(-1), (x[..., 1] * gains).sum(-1)
    determinant = a * c - b * b
    determinant = np.where(determinant > TINY * np.maximum(a * c, TINY), determinant, np.nan)
    found = np.stack([(c * p - b * q) / determinant, (a * q - b * p) / determinant], axis=-1)
    left = ((gains - (x @ found[..., None])[..., 0]) ** 2).sum(-1)
    about = ((gains - gains.mean(-1, keepdims=True)) ** 2).sum(-1)
    return found, 1 - left / np.where(about > 0, about, np.nan)


def _describe(kind: Kind, coefficients: Floats) -> Floats:
    """[R, 4] from [R, 2]: alpha, beta, where the fitted form peaks and how high; infinity where it does not bend down."""
    alpha, beta = coefficients.T
    safe = np.where(beta > 0, beta, 1.0)
    if kind == "bon":
        peak = np.where(beta > 0, np.maximum(alpha, 0.0) / (2 * safe), math.inf)
        height = np.where(beta > 0, peak, 0.0) * alpha / 2
    else:
        with np.errstate(over="ignore"):
            peak = np.where(beta > 0, np.exp(alpha / safe - 1), math.inf)
        height = np.where(np.isfinite(peak), peak, 0.0) * beta
    return np.stack([alpha, beta, peak, np.where(np.isfinite(peak), height, math.inf)], axis=-1)


def _between(value: float, drawn: Floats, n: int) -> Interval:
    """The central 95 % of the drawn values, infinite ones among them; no bounds where there are none."""
    drawn = drawn[~np.isnan(drawn)]
    if not drawn.size:
        return Interval(float(value), math.nan, math.nan, n)
    low = float(np.quantile(drawn, 0.025, method="lower"))
    high = float(np.quantile(drawn, 0.975, method="higher"))
    return Interval(float(value), min(low, value), max(high, value), n)


@dataclass(frozen=True)
class Peak:
    """Where the measured gold is highest (`index` among the points), and what comes after it.

    proxy_rise: what the proxy gains from there to its highest point behind.  fall: what gold loses from there to the last
    point, with an interval over prompts.  `last`: there is no point behind.
    """

    index: int
    last: bool
    proxy_rise: float
    fall: Interval


def peak_of(curve: Curve, *, seed: int = 0, resamples: int = 1000) -> Peak:
    """Where gold peaks, in the order of d."""
    order = np.argsort(curve.d, kind="stable")
    gold, proxy = curve.gold.mean(axis=0)[order], curve.proxy.mean(axis=0)[order]
    top = int(gold.argmax())
    fall = statistics.bootstrap_mean(
        curve.gold[:, order[top]] - curve.gold[:, order[-1]], seed=seed, resamples=resamples
    )
    return Peak(int(order[top]), top == len(gold) - 1, float(proxy[top:].max() - proxy[top]), fall)


def sentence(curve: Curve, peak: Peak, unit: str) -> str:
    """Where gold peaks and whether the proxy still rises there; `unit` is what the points of a run are."""
    gold = curve.gold.mean(axis=0)
    top, start = gold[peak.index], gold[0]
    point = f"n = {curve.at[peak.index]}" if curve.kind == "bon" else f"{unit} {curve.at[peak.index]}"
    where = f"{point} (√KL {curve.d[peak.index]:.2f}), {top:.3f} against {start:.3f} of the reference"
    if peak.last:
        return f"{curve.name}: gold is highest at the end, at {where}: as far as was measured there is no over-optimisation."
    if not peak.index:
        where = f"the reference itself, {start:.3f}"
    rises = (
        f"the proxy still rises there (by {peak.proxy_rise:.3g} more)"
        if peak.proxy_rise > 0
        else "the proxy does not rise beyond it"
    )
    low, high = peak.fall.low, peak.fall.high
    bounds = f" [{low:.3f}, {high:.3f}]" if math.isfinite(low) else ""
    sure = "" if low > 0 else ", which may be chance"
    return (
        f"{curve.name}: gold peaks at {where}, and {rises}; from there to the farthest point gold falls by "
        f"{peak.fall.value:.3f}{bounds}{sure}."
    )


def forecast_sentence(name: str, found: Forecast) -> str:
    """How well the first two thirds foretell the last, and which form does it better."""
    low, high = found.advantage.low, found.advantage.high
    better = "the logarithm" if found.advantage.value > 0 else "the parabola"
    sure = "" if low > 0 or high < 0 else ", which may be chance"
    return (
        f"{name}: fitted on the first two thirds of √KL, d (alpha - beta log d) misses gold in the last third by "
        f"{found.log:.3f}, a parabola by {found.parabola:.3f}, and gold that stays as it was by {found.stays:.3f}: "
        f"{better} foretells better{sure}."
    )
