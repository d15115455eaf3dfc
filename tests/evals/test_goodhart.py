"""Best-of-n against all subsets, the forms against planted curves, and a proxy whose errors have heavy tails."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from tutelage.evals import goodhart
from tutelage.evals.goodhart import Curve

# The bound at these n, worked out elsewhere.
BOUNDS = {1: 0.0, 2: 0.1931, 4: 0.6363, 16: 1.8351, 64: 3.1745, 1024: 5.9325}


@pytest.mark.parametrize(("n", "kl"), BOUNDS.items())
def test_the_bound(n: int, kl: float) -> None:
    assert goodhart.best_of_n_kl(n) == pytest.approx(kl, abs=1e-4)


def test_the_bound_is_exact_without_ties() -> None:
    """The KL of the best of n among 20,000 equally likely responses, summed up: log(n u^(n-1)) under its density."""
    for n in (2, 16):
        f = np.arange(20_001) / 20_000
        q = np.diff(f**n)
        q = q[q > 0]
        assert goodhart.best_of_n_kl(n) == pytest.approx(float(np.sum(q * np.log(q * 20_000))), abs=1e-3)


def test_best_of_n_is_the_mean_over_all_subsets_and_all_winners() -> None:
    proxy, gold = np.array([[0.3, 0.1, 0.3, -1.0, 0.3, 0.7]]), np.array([[1.0, 5.0, 2.0, 7.0, -3.0, 0.5]])
    sizes = (1, 2, 3, 5, 6)
    found = goodhart.best_of_n(proxy, gold, sizes)
    for k, n in enumerate(sizes):
        subsets = [list(some) for some in itertools.combinations(range(6), n)]
        tops = [[i for i in some if proxy[0, i] == max(proxy[0, some])] for some in subsets]
        assert found[0][0, k] == pytest.approx(np.mean([proxy[0, top[0]] for top in tops]))
        assert found[1][0, k] == pytest.approx(np.mean([gold[0, top].mean() for top in tops]))
    order = np.array([4, 2, 0, 5, 1, 3])  # in whatever order they were written
    again = goodhart.best_of_n(proxy[:, order], gold[:, order], sizes)
    assert np.allclose(again, found, rtol=0, atol=1e-12)


def test_more_than_there_are_cannot_be_chosen_from() -> None:
    with pytest.raises(ValueError, match="from 3 responses needs every n from 1 to 3"):
        goodhart.best_of_n([[1, 2, 3]], [[1, 2, 3]], (1, 4))


def planted(kind: str, alpha: float, beta: float, *, prompts: int = 1, noise: float = 0.0) -> Curve:
    """A curve of this form over 0 <= d <= 3, whose prompts differ from it by noise, and from each other in level."""
    d = np.array([0, 0.2, 0.5, 0.9, 1.3, 1.8, 2.4, 3.0])
    bend = d if kind == "bon" else np.log(np.maximum(d, 1e-300))
    generator = np.random.default_rng(3)
    level, errors = generator.normal(5, 2, (prompts, 1)), generator.normal(0, noise, (prompts, d.size))
    gold = level + d * (alpha - beta * bend) + errors
    kl = np.broadcast_to(d**2, gold.shape)
    return Curve(kind, "bon" if kind == "bon" else "rl", tuple(range(d.size)), kl, 3 * kl + level, gold)


@pytest.mark.parametrize(
    ("kind", "alpha", "beta", "peak", "height"),
    [("bon", 1.2, 0.4, 1.5, 0.9), ("rl", 0.6, 0.5, math.exp(0.2), 0.5 * math.exp(0.2))],
)
def test_a_planted_curve_is_found_again(
    kind: str, alpha: float, beta: float, peak: float, height: float
) -> None:
    found = goodhart.fit(planted(kind, alpha, beta))
    assert found is not None
    assert (found.alpha.value, found.beta.value) == pytest.approx((alpha, beta))
    assert (found.peak.value, found.height.value) == pytest.approx((peak, height))
    assert found.r2 == pytest.approx(1.0)
    assert math.isnan(found.peak.low)  # one prompt says nothing of how prompts differ
    noisy = goodhart.fit(planted(kind, alpha, beta, prompts=40, noise=0.3))
    assert noisy is not None and noisy.r2 > 0.9
    for interval, truth in (
        (noisy.alpha, alpha),
        (noisy.beta, beta),
        (noisy.peak, peak),
        (noisy.height, height),
    ):
        assert interval.low < truth < interval.high and interval.high - interval.low < 0.8


def refitted(d: np.ndarray, gains: np.ndarray, second: np.ndarray) -> float:
    """The error beyond two thirds of the way of what numpy fits before it: columns d and `second`."""
    seen, features = (d > 0) & (d <= d.max() * 2 / 3), np.stack([d, second], axis=1)
    coefficients, *_ = np.linalg.lstsq(features[seen], gains[seen], rcond=None)
    ahead = d > d.max() * 2 / 3
    return float(np.sqrt(np.mean((features[ahead] @ coefficients - gains[ahead]) ** 2)))


@pytest.mark.parametrize(("kind", "other"), [("bon", "log"), ("rl", "parabola")])
def test_a_form_foretells_its_own_curve_and_the_other_form_does_not(kind: str, other: str) -> None:
    """Two thirds of d = 3 are 2: five points are seen, two are ahead."""
    own = {"bon": "parabola", "rl": "log"}[kind]
    found = goodhart.forecast(planted(kind, 1.2, 0.6))
    assert found is not None and (found.seen, found.ahead) == (5, 2)
    assert getattr(found, own) == pytest.approx(0, abs=1e-9) and getattr(found, other) > 0.05
    assert math.isnan(found.advantage.low)
    curve = planted(kind, 1.2, 0.6, prompts=60, noise=0.3)
    noisy = goodhart.forecast(curve)
    assert noisy is not None
    gains = (curve.gold - curve.gold[:, :1]).mean(axis=0)
    log = curve.d * np.log(np.maximum(curve.d, 1e-300))
    assert noisy.log == pytest.approx(refitted(curve.d, gains, -log))
    assert noisy.parabola == pytest.approx(refitted(curve.d, gains, -(curve.d**2)))
    assert noisy.stays == pytest.approx(float(np.sqrt(np.mean((gains[6:] - gains[5]) ** 2))))
    assert noisy.advantage.value == pytest.approx(noisy.parabola - noisy.log)
    sure = noisy.advantage.low > 0 if kind == "rl" else noisy.advantage.high < 0
    said = goodhart.forecast_sentence("c", noisy)
    assert sure and ("the logarithm" if kind == "rl" else "the parabola") + " foretells better." in said


def test_a_forecast_does_not_depend_on_the_order_and_needs_points() -> None:
    curve = planted("rl", 1.2, 0.6, prompts=20, noise=0.2)
    order = np.array([0, 5, 2, 7, 1, 4, 3, 6])
    turned = Curve(
        "c", "rl", tuple(order.tolist()), *(a[:, order] for a in (curve.kl, curve.proxy, curve.gold))
    )
    one, other = goodhart.forecast(curve), goodhart.forecast(turned)
    assert one is not None and other is not None
    assert (one.log, one.parabola, one.stays) == pytest.approx((other.log, other.parabola, other.stays))
    few = Curve("c", "rl", (0, 1, 2, 3), *(a[:, [0, 1, 2, 7]] for a in (curve.kl, curve.proxy, curve.gold)))
    assert goodhart.forecast(few) is None
    still = Curve("c", "rl", curve.at, 0 * curve.kl, curve.proxy, curve.gold)
    assert goodhart.forecast(still) is None


@pytest.mark.parametrize("kind", ["bon", "rl"])
def test_the_interval_holds_the_truth_about_as_often_as_it_says(kind: str) -> None:
    """Forty sets of prompts, each with its own noise: 95 % of 40 is 38; fewer than 33 has a chance below one in a thousand."""
    held = 0
    d = np.linspace(0, 2.5, 7)
    shape = d * (1.0 - 0.4 * (d if kind == "bon" else np.log(np.maximum(d, 1e-300))))
    for seed in range(40):
        gold = shape + np.random.default_rng(seed).normal(0, 0.4, (50, d.size))
        curve = Curve(
            "c", "bon" if kind == "bon" else "rl", tuple(range(7)), np.tile(d**2, (50, 1)), gold, gold
        )
        found = goodhart.fit(curve, resamples=300)
        truth = 1.25 if kind == "bon" else math.exp(1.5)
        held += found is not None and found.peak.low <= truth <= found.peak.high
    assert held >= 33


def test_a_curve_that_never_bends_has_no_peak() -> None:
    for kind in ("bon", "rl"):
        found = goodhart.fit(planted(kind, 1.0, -0.1))
        assert found is not None and found.peak.value == math.inf and found.height.value == math.inf
    peak = goodhart.peak_of(planted("bon", 1.0, -0.1, prompts=5))
    assert peak.last and peak.index == 7
    said = goodhart.sentence(planted("bon", 1.0, -0.1, prompts=5), peak, "n")
    assert "highest at the end" in said and "no over-optimisation" in said


def test_two_points_are_no_curve() -> None:
    two = Curve("c", "bon", (1, 2), np.array([[0, 0.19]]), np.array([[0.0, 1]]), np.array([[0.0, 1]]))
    assert goodhart.fit(two) is None


def test_the_peak_and_what_comes_after() -> None:
    found = planted("bon", 1.2, 0.4, prompts=40, noise=0.1)
    peak = goodhart.peak_of(found)
    assert peak.index in (4, 5) and not peak.last
    # From the peak to d = 3: by the form, 0.884 or 0.864 down to 0; the proxy is 3 d^2 there.
    assert peak.fall.low < 0.88 < peak.fall.high + 0.05 and peak.fall.low > 0
    assert peak.proxy_rise == pytest.approx(3 * (9 - found.d[peak.index] ** 2))
    said = goodhart.sentence(found, peak, "n")
    assert "gold peaks at n = " in said and "the proxy still rises there" in said and "chance" not in said


def test_a_negative_estimate_of_the_kl_counts_as_no_distance() -> None:
    assert goodhart.distance([-0.2, 0.0, 4.0]).tolist() == [0.0, 0.0, 2.0]


def test_errors_with_heavy_tails_are_found_out_and_normal_ones_are_not() -> None:
    """Gold is normal and the proxy adds an error (20,000 responses): with Student's t(2) as the error the highest proxies are
    mostly error, and gold falls again after n = 16; with a normal error it rises for ever."""
    sizes = [2**k for k in range(11)]
    generator = np.random.default_rng(5)
    gold = generator.standard_normal(20_000)
    heavy = goodhart.best_of_n_curve("t", gold + generator.standard_t(2, gold.size), gold, sizes)
    peak = goodhart.peak_of(heavy)
    assert sizes[peak.index] in (8, 16, 32)
    means = heavy.gold.mean(axis=0)
    assert 0.6 < means[peak.index] < 0.8 and means[-1] < 0.5 * means[peak.index]
    assert peak.proxy_rise > 5 and (np.diff(heavy.proxy[0]) > 0).all()
    found = goodhart.fit(heavy)
    assert found is not None
    assert found.alpha.value == pytest.approx(1.07, abs=0.15) and found.beta.value == pytest.approx(
        0.43, abs=0.07
    )
    assert found.peak.value == pytest.approx(1.24, abs=0.1) and found.r2 > 0.85
    normal = goodhart.best_of_n_curve("n", gold + generator.standard_normal(gold.size), gold, sizes)
    assert goodhart.peak_of(normal).last
