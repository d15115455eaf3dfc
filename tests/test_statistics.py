"""Statistics against scipy, closed forms and the coverage of simulated intervals."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import optimize, stats
from sklearn.linear_model import LogisticRegression

from tutelage import statistics


@pytest.mark.parametrize(("k", "n"), [(0, 10), (10, 10), (7, 10), (213, 300), (1, 3)])
@pytest.mark.parametrize("confidence", [0.9, 0.95])
def test_wilson_is_scipys(k: int, n: int, confidence: float) -> None:
    found = statistics.wilson(k, n, confidence)
    expected = stats.binomtest(k, n).proportion_ci(confidence, method="wilson")
    assert (found.value, found.n) == (k / n, n)
    assert found.low == pytest.approx(expected.low, abs=1e-12)
    assert found.high == pytest.approx(expected.high, abs=1e-12)


def test_wilson_of_nothing_is_nothing() -> None:
    assert statistics.wilson(0, 0).n == 0
    assert math.isnan(statistics.wilson(0, 0).value)


@pytest.mark.parametrize(("wins", "losses"), [(0, 0), (3, 3), (10, 2), (2, 10), (180, 120), (1, 0), (0, 40)])
def test_sign_test_is_scipys(wins: int, losses: int) -> None:
    expected = stats.binomtest(wins, wins + losses, 0.5).pvalue if wins + losses else 1.0
    assert statistics.sign_test(wins, losses) == pytest.approx(expected, rel=1e-9)


def test_bootstrap_of_a_mean_has_the_width_of_the_central_limit() -> None:
    values = np.random.default_rng(0).normal(3.0, 2.0, 400)
    found = statistics.bootstrap_mean(values, seed=1)
    half = 1.959964 * values.std() / math.sqrt(values.size)
    assert found.value == pytest.approx(values.mean())
    assert found.high - found.low == pytest.approx(2 * half, rel=0.05)
    assert (found.high + found.low) / 2 == pytest.approx(values.mean(), abs=0.1 * half)


def test_bootstrap_depends_on_its_seed_only() -> None:
    values = np.arange(50.0)
    assert statistics.bootstrap_mean(values, seed=3) == statistics.bootstrap_mean(values, seed=3)
    assert statistics.bootstrap_mean(values, seed=3) != statistics.bootstrap_mean(values, seed=4)


def test_copies_of_a_prompt_do_not_narrow_the_interval() -> None:
    values = np.random.default_rng(0).normal(size=100)
    once = statistics.bootstrap_mean(values, seed=0)
    keys = np.repeat([f"p{i:03}" for i in range(100)], 5)
    five = statistics.bootstrap_mean(np.repeat(values, 5), keys, seed=0)
    naive = statistics.bootstrap_mean(np.repeat(values, 5), seed=0)
    assert (five.low, five.high) == pytest.approx((once.low, once.high))
    assert naive.high - naive.low < 0.6 * (five.high - five.low)


def test_clustered_intervals_cover_the_truth() -> None:
    """95 % intervals of a mean of clustered data hold the true mean about 95 times in 100; unclustered ones do not."""
    generator = np.random.default_rng(5)
    keys = np.repeat(np.arange(60), 4)
    clustered = plain = 0
    rounds = 200
    for seed in range(rounds):
        values = np.repeat(generator.normal(size=60), 4) + 0.5 * generator.normal(size=240)
        a = statistics.bootstrap_mean(values, keys, seed=seed, resamples=300)
        b = statistics.bootstrap_mean(values, seed=seed, resamples=300)
        clustered += a.low <= 0 <= a.high
        plain += b.low <= 0 <= b.high
    assert 0.90 <= clustered / rounds <= 0.98
    assert plain / rounds < 0.80


def test_bootstrap_ratio_is_a_ratio_of_sums() -> None:
    found = statistics.bootstrap_ratio([2.0, 6.0], [1.0, 3.0], seed=0)
    assert (found.value, found.n) == (2.0, 2)
    assert math.isnan(found.low) and math.isnan(found.high)  # both resamples say 2, which is no certainty
    assert statistics.bootstrap_ratio([0.0], [0.0]).n == 0
    assert statistics.bootstrap_mean([]).n == 0


def test_win_rate_counts_ties_as_one_half() -> None:
    found = statistics.win_rate([1.0, 0.5, 0.2, 0.9], [0.0, 0.5, 0.4, 0.9], seed=0)
    assert (found.wins, found.ties, found.losses) == (1, 2, 1)
    assert found.interval.value == 0.5
    swapped = statistics.win_rate([0.0, 0.5, 0.4, 0.9], [1.0, 0.5, 0.2, 0.9], seed=0)
    assert swapped.interval.value == 1 - found.interval.value
    assert swapped.p == found.p


def test_win_rate_intervals_cover_the_truth() -> None:
    generator = np.random.default_rng(9)
    held = 0
    for seed in range(200):
        outcome = generator.choice([1.0, 0.0, -1.0], size=120, p=[0.6, 0.2, 0.2])
        found = statistics.win_rate(outcome, np.zeros(120), seed=seed, resamples=300).interval
        held += found.low <= 0.7 <= found.high
    assert 0.91 <= held / 200 <= 0.985


def test_a_clean_sweep_still_has_an_interval() -> None:
    found = statistics.win_rate(np.ones(20), np.zeros(20)).interval
    assert found == statistics.wilson(20, 20)
    assert found.low < 0.9
    assert statistics.win_rate([], []).interval.n == 0


def scipys_wilson(successes: int, n: int) -> tuple[float, float]:
    found = stats.binomtest(successes, n).proportion_ci(0.95, method="wilson")
    return pytest.approx(found.low, abs=1e-12), pytest.approx(found.high, abs=1e-12)


@pytest.mark.parametrize("each", [0.0, 1.0])
@pytest.mark.parametrize("of_one_prompt", [1, 5])
def test_a_rate_of_nothing_or_everything_has_wilsons_interval_over_its_prompts(
    each: float, of_one_prompt: int
) -> None:
    prompts = np.repeat(np.arange(30), of_one_prompt)
    outcome = np.full(prompts.size, each)
    columns = np.stack([outcome, np.ones_like(outcome)], axis=1)
    for found in (
        statistics.bootstrap_mean(outcome, prompts, rate=True),
        statistics.bootstrap_ratio(4 * outcome, np.full(prompts.size, 4), prompts, rate=True),
        statistics.bootstrap_sums(lambda sums: sums[..., 0] / sums[..., 1], columns, prompts, rate=True),
        statistics.win_rate(outcome, np.full(prompts.size, 0.5), prompts).interval,
    ):
        assert (found.value, found.n) == (each, prompts.size)
        assert (found.low, found.high) == scipys_wilson(int(30 * each), 30)


def test_one_prompt_is_one_draw() -> None:
    found = statistics.bootstrap_mean([1, 0, 1, 0], ["p"] * 4, rate=True)
    assert (found.value, found.n) == (0.5, 4)
    half = 1.96 / 4.84 * math.sqrt(0.25 + 3.84 / 4)
    assert (found.low, found.high) == pytest.approx((0.5 - half, 0.5 + half), abs=1e-3)
    assert np.isnan(statistics.bootstrap_mean([3.0, 4.0], ["p"] * 2).low)
    ties = statistics.win_rate(np.zeros(20), np.zeros(20), np.repeat(np.arange(10), 2)).interval
    assert (ties.low, ties.high) == scipys_wilson(5, 10)


def test_entries_without_denominator_are_no_draws() -> None:
    found = statistics.bootstrap_ratio([0.0] * 20, [3.0] * 8 + [0.0] * 12, rate=True)
    assert (found.low, found.high) == scipys_wilson(0, 8)


def test_prompts_whose_responses_share_their_fate_are_covered() -> None:
    """At a true rate of 3 % most samples of 30 prompts show none: their intervals must still hold it."""
    generator = np.random.default_rng(0)
    prompts, held, naive = np.repeat(np.arange(30), 8), 0, 0
    for seed in range(200):
        outcome = np.repeat((generator.random(30) < 0.03).astype(float), 8)
        found = statistics.bootstrap_mean(outcome, prompts, rate=True, seed=seed, resamples=200)
        held += found.low <= 0.03 <= found.high
        naive += outcome.any() or statistics.wilson(0, outcome.size).high >= 0.03
    assert held / 200 > 0.93
    assert naive / 200 < 0.7  # counting responses as draws


@pytest.mark.parametrize("each", [0.0, 0.1, 0.7, 123.456])
def test_what_is_no_rate_has_no_interval_where_all_resamples_agree(each: float) -> None:
    found = statistics.bootstrap_mean(np.full(900, each), np.repeat(np.arange(300), 3))
    assert found.value == pytest.approx(each) and found.n == 900
    assert math.isnan(found.low) and math.isnan(found.high)
    constant = statistics.bootstrap(lambda i: each, 50, resamples=100)
    assert constant.value == each and math.isnan(constant.low) and math.isnan(constant.high)


@pytest.mark.parametrize(
    ("low", "high", "wide"),
    [
        (0.0, 0.0, False),
        (math.nan, math.nan, False),
        (0.7017067514578784, 0.7017067514578793, False),
        (-4.4e-17, 2.2e-17, False),  # of a value that is 0 but for rounding
        (1e9, 1e9 + 1e-3, False),
        (1e9, 1e9 + 10, True),
        (0.0, 1e-6, True),
        (0.4999, 0.5001, True),
    ],
)
def test_rounding_is_no_width(low: float, high: float, wide: bool) -> None:
    assert statistics.has_width(low, high) is wide


def test_accuracy_with_ties_and_soft_labels() -> None:
    found = statistics.accuracy([1.0, -1.0, 0.0, 2.0])
    assert (found.value, found.n) == (2.5 / 4, 4)
    assert statistics.accuracy([1.0, -2.0], [0.75, 0.25]).value == 0.75


def calibrated(n: int, scale: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Margins times `scale`, and votes drawn from sigmoid of the unscaled margin."""
    generator = np.random.default_rng(2)
    margins = generator.normal(0, 1.2, n)
    return scale * margins, (generator.random(n) < statistics.sigmoid(margins)).astype(float)


def test_a_calibrated_model_is_calibrated() -> None:
    margins, votes = calibrated(20_000)
    assert statistics.expected_calibration_error(margins, votes) < 0.015
    assert statistics.temperature(margins, votes) == pytest.approx(1.0, abs=0.05)
    floor = statistics.calibration_floor(margins[:200], seed=0)
    assert 0.02 < floor < 0.12  # 200 pairs in 10 bins: noise alone shows an error


def test_an_overconfident_model_is_found_out_and_one_temperature_repairs_it() -> None:
    """The reference value: logits times 3 have an ECE near 0.15, about 0.01 after fitting T near 3."""
    margins, votes = calibrated(20_000, scale=3.0)
    assert 0.12 < statistics.expected_calibration_error(margins, votes) < 0.2
    fitted = statistics.temperature(margins, votes)
    assert fitted == pytest.approx(3.0, abs=0.15)
    assert statistics.expected_calibration_error(margins / fitted, votes) < 0.015


def test_temperature_is_the_optimum_that_scipy_finds() -> None:
    margins, votes = calibrated(500, scale=2.0)

    def nll(t: float) -> float:
        return float(
            np.sum(np.logaddexp(0, -margins / t) * votes + np.logaddexp(0, margins / t) * (1 - votes))
        )

    expected = optimize.minimize_scalar(nll, bounds=(0.1, 50), method="bounded", options={"xatol": 1e-8}).x
    assert statistics.temperature(margins, votes) == pytest.approx(expected, rel=1e-4)


def test_temperature_of_separable_pairs_stays_in_bounds() -> None:
    assert statistics.temperature([1.0, 2.0]) == 1e-3
    assert statistics.temperature([-1.0, -2.0]) == 1e3


def test_reliability_does_not_depend_on_the_order_of_a_pair() -> None:
    margins, votes = calibrated(300)
    assert statistics.reliability(margins, votes) == statistics.reliability(-margins, 1 - votes)
    table = statistics.reliability(margins, votes)
    assert [b.agreed.n for b in table] == [30] * 10
    assert [b.confidence for b in table] == sorted(b.confidence for b in table)
    assert statistics.reliability([], []) == []


def test_distinct_and_copy() -> None:
    assert statistics.distinct("abaa", 4) == pytest.approx(2 / 4)  # all of them
    assert statistics.distinct("abaa", 1) == pytest.approx(1.0)
    # Two of four places: "b" is among them in 3 of 6 draws, else both are "a".
    assert statistics.distinct("abaa", 2) == pytest.approx((3 / 6 * 2 + 3 / 6 * 1) / 2)
    assert math.isnan(statistics.distinct("ab", 3)) and math.isnan(statistics.distinct("", 0))
    assert statistics.copied(list("abcde"), list("xbcdx"), 2) == (2, 4)
    assert statistics.copied(["a"], ["a"], 2) == (0, 0)


@pytest.mark.parametrize("freedom", [1.0, 3.7, 4.0, 30.0, 1000.0])
@pytest.mark.parametrize("p", [0.9, 0.975, 0.995])
def test_student_quantiles_are_scipys(p: float, freedom: float) -> None:
    assert statistics.student_quantile(p, freedom) == pytest.approx(stats.t.ppf(p, freedom), rel=1e-5)


def test_a_table_of_one_axis_has_the_interval_of_a_t_test() -> None:
    values = np.random.default_rng(1).normal(3, 2, 7)
    known = stats.ttest_1samp(values, 0).confidence_interval()
    for table in (values, values[None], values[:, None]):
        found = statistics.crossed_mean(table)
        assert (found.value, found.n) == (pytest.approx(values.mean()), 7)
        assert (found.low, found.high) == (pytest.approx(known.low), pytest.approx(known.high))


@pytest.mark.parametrize(("runs", "prompts", "each"), [(0.3, 0.1, 0.1), (0.0, 0.5, 1.0), (0.1, 1.0, 0.3)])
def test_crossed_intervals_cover_the_truth(runs: float, prompts: float, each: float) -> None:
    """Five runs on forty prompts, with variance between runs, between prompts, and neither's."""
    draw = np.random.default_rng(2).normal
    covered = 0
    for _ in range(160):
        table = draw(0, runs, (5, 1)) + draw(0, prompts, (1, 40)) + draw(0, each, (5, 40))
        found = statistics.crossed_mean(table)
        covered += found.low <= 0 <= found.high
    assert 0.9 < covered / 160 < 0.995


def test_two_methods_of_several_runs_are_covered_too() -> None:
    """Every run of one against every run of the other, on the same prompts; runs differ."""
    draw = np.random.default_rng(3).normal
    covered, narrow = 0, 0
    for _ in range(120):
        ours, theirs = (draw(0, 0.3, (4, 1)) + draw(0, 1, (4, 30)) for _ in range(2))
        won = 0.5 + 0.5 * np.sign(ours[:, None] - theirs[None])
        found = statistics.crossed_mean(won, rate=True)
        covered += found.low <= 0.5 <= found.high
        cells = stats.ttest_1samp(won.ravel(), 0).confidence_interval()
        narrow += cells.low <= 0.5 <= cells.high
    assert covered / 120 > 0.9
    assert narrow / 120 < 0.8  # what counting every cell as a draw would say


def test_a_table_without_variance_is_no_certainty() -> None:
    assert statistics.crossed_mean(np.ones((3, 20)), rate=True).low == pytest.approx(
        statistics.wilson(20, 20).low
    )
    assert math.isnan(statistics.crossed_mean(np.ones((3, 20))).low)
    assert statistics.crossed_mean(np.empty((0, 3))).n == 0
    assert math.isnan(statistics.crossed_mean([2.0]).low)


def test_the_rank_correlation_is_scipys_and_its_interval_goes_by_cluster() -> None:
    draw = np.random.default_rng(0)
    one = draw.integers(0, 6, 60)  # with ties
    other = one + draw.normal(scale=3, size=60)
    found = statistics.rank_correlation(one, other)
    assert found.value == pytest.approx(stats.spearmanr(one, other).statistic, rel=1e-12)
    assert found.low < found.value < found.high and found.n == 60
    twice = statistics.rank_correlation([*one, *one], [*other, *other], [*range(60), *range(60)])
    assert twice.value == pytest.approx(found.value) and twice.high - twice.low == pytest.approx(
        found.high - found.low, rel=0.2
    )
    assert np.isnan(statistics.rank_correlation([1, 1, 1], [1, 2, 3]).value)


# ---- win rates at equal lengths, and what a sample can show -----------------------------------------------------------


def liked_for_length(n: int, quality: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Wins of a model that writes longer, by a judge who likes length by up to 1.3 logits: (outcomes, lengths)."""
    random = np.random.default_rng(seed)
    lengths = random.normal(70, 60, n)
    logits = quality + 1.3 * np.tanh(lengths / lengths.std())
    return (random.random(n) < 1 / (1 + np.exp(-logits))).astype(float), lengths


def test_length_control_finds_the_planted_win_rate() -> None:
    """0.685 in the raw, 0.50 at equal lengths; the intervals hold it as often as they say, and three verbose variants of one
    model get one figure."""
    raw, found, held = [], [], 0
    for seed in range(40):
        y, d = liked_for_length(600, 0.0, seed)
        interval = statistics.length_controlled(y, d, seed=seed, resamples=200)
        raw.append(y.mean())
        found.append(interval.value)
        held += interval.low <= 0.5 <= interval.high
    assert np.mean(raw) == pytest.approx(0.685, abs=0.03) and np.mean(found) == pytest.approx(0.5, abs=0.012)
    assert np.quantile(np.abs(np.array(found) - 0.5), 0.95) < 0.08 and held >= 34
    random = np.random.default_rng(0)
    variants = []
    for longer in (0.0, 60.0, 200.0):
        d = random.normal(longer, 100, 4000)
        logits = 0.4 + 1.2 * np.tanh(d / 100)
        y = (random.random(4000) < 1 / (1 + np.exp(-logits))).astype(float)
        variants.append(statistics.length_controlled(y, d, resamples=100).value)
    assert np.ptp(variants) < 0.06 and np.mean(variants) == pytest.approx(1 / (1 + np.exp(-0.4)), abs=0.03)


def test_length_control_against_a_second_library_and_turned_round() -> None:
    y, d = liked_for_length(400, 0.5, 3)
    x = np.tanh(d / d.std())
    fitted = LogisticRegression(C=1.0, tol=1e-10, max_iter=1000).fit(
        x[:, None], y
    )  # a normal prior of 1 on the slope
    expected = 1 / (1 + np.exp(-fitted.intercept_[0]))
    found = statistics.length_controlled(y, d, resamples=100)
    assert found.value == pytest.approx(expected, abs=2e-4)
    turned = statistics.length_controlled(1 - y, -d, resamples=100)
    assert turned.value == pytest.approx(1 - found.value, abs=1e-9)
    assert turned.low == pytest.approx(1 - found.high, abs=1e-9)
    same = statistics.length_controlled([1.0, 1.0, 0.0], [0, 0, 0], resamples=100)
    assert same.value == pytest.approx(2 / 3, abs=1e-3)
    assert statistics.length_controlled(np.ones(30), np.arange(30.0), resamples=100).value > 0.9
    assert statistics.length_controlled([], []).n == 0


def test_what_is_detectable_is_detected_four_times_in_five() -> None:
    random = np.random.default_rng(1)
    least = statistics.detectable(random.random(200) < 0.5)
    assert least == pytest.approx(2.802 * np.sqrt(0.25 / 200), rel=0.02)
    hits = (random.random((4000, 200)) < 0.5 + least).mean(axis=1)
    z = (hits - 0.5) / np.sqrt(0.25 / 200)
    assert np.mean(np.abs(z) > 1.96) == pytest.approx(0.8, abs=0.03)
    twice = np.repeat(random.random(100) < 0.5, 2)  # two of one prompt that say the same are no two
    assert statistics.detectable(twice, np.repeat(np.arange(100), 2)) == pytest.approx(
        statistics.detectable(twice[::2]), rel=1e-9
    )
    assert np.isnan(statistics.detectable([1.0]))
