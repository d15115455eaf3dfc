"""Habits and attention: recovery of simulated habits, closed forms, scipy, and what must not change an answer."""

from __future__ import annotations

import math
from itertools import combinations

import numpy as np
import pytest
from scipy import optimize, stats

from tutelage.feedback.statistics import (
    Resampling,
    consistency,
    gold_accuracy,
    length_bias,
    position_bias,
    speed,
    straight_lining,
    three_cycles,
)
from tutelage.feedback.statistics.attention import longest_run
from tutelage.feedback.statistics.gold import beta_cdf, beta_quantile
from tutelage.worlds.annotators import Annotator, vote


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def votes(side: float, length: float, n: int, seed: int, quality: float = 0.0):
    """Screen outcomes of one annotator: first_won, length difference, advantage of the first."""
    generator = np.random.default_rng(seed)
    longer, better = generator.normal(0, 40, n), generator.normal(0, 1, n)
    won = generator.random(n) < sigmoid(side + length * longer / 40 + quality * better)
    return won.astype(float), longer, better


def test_position_bias_is_a_rate_and_a_side() -> None:
    won, _, _ = votes(side=0.6, length=0.0, n=3000, seed=0)
    found = position_bias(["ann"] * 3000, won)["ann"]
    assert found.rate.value == won.mean()
    wilson = stats.binomtest(int(won.sum()), 3000).proportion_ci(method="wilson")
    assert (found.rate.low, found.rate.high) == pytest.approx((wilson.low, wilson.high))
    assert found.side.value == pytest.approx(math.log(won.mean() / (1 - won.mean())), abs=1e-3)
    assert found.side.low < 0.6 < found.side.high


def test_ties_are_no_decided_votes_but_halves_in_the_logit() -> None:
    won = np.array([1.0] * 40 + [0.0] * 20 + [0.5] * 60)
    found = position_bias(["ann"] * 120, won)["ann"]
    assert found.rate.value == pytest.approx(2 / 3) and found.rate.n == 60
    assert found.side.value == pytest.approx(math.log(70 / 50), abs=1e-3) and found.side.n == 120


@pytest.mark.slow
def test_length_bias_is_recovered_for_each_annotator() -> None:
    keen, fair = votes(0.3, 0.8, 2500, seed=2), votes(0.3, 0.0, 2500, seed=3)
    names = np.repeat(["keen", "fair"], 2500)
    found = length_bias(names, np.append(keen[0], fair[0]), np.append(keen[1], fair[1]))
    assert found["keen"].value == pytest.approx(0.8, abs=0.12) and found["keen"].low > 0.6
    assert found["fair"].low < 0 < found["fair"].high


def test_length_bias_is_logistic_regression() -> None:
    won, longer, _ = votes(0.4, 0.5, 200, seed=4)
    x = longer / np.sqrt(np.mean(longer**2))

    def loss(b: np.ndarray) -> float:
        return -np.sum(stats.logistic.logcdf((2 * won - 1) * (b[0] * x + b[1]))) + 0.005 * np.sum(b**2)

    expected = optimize.minimize(loss, np.zeros(2), tol=1e-12).x[0]
    assert length_bias(["a"] * 200, won, longer)["a"].value == pytest.approx(expected, abs=1e-4)


def test_units_and_sides_do_not_matter_to_length_bias() -> None:
    won, longer, _ = votes(0.4, 0.5, 300, seed=5)
    words = length_bias(["a"] * 300, won, longer)["a"]
    assert length_bias(["a"] * 300, won, longer * 5.5)["a"].value == pytest.approx(words.value)
    assert length_bias(["a"] * 300, 1 - won, -longer)["a"].value == pytest.approx(words.value)


def test_the_habits_of_the_simulated_annotators_are_found() -> None:
    """The embedded world's annotator states his habits in logits; equal gold leaves nothing but habits."""
    annotator = Annotator("sim", 0.9, position_bias=0.5, length_bias=0.4, tie_width=0.0)
    generator = np.random.default_rng(6)
    won, longer = [], []
    for number in range(4000):
        counts = generator.integers(5, 25, 2)
        texts = ("w " * counts[0], "w " * counts[1])
        shown = number % 2
        cast = vote(annotator, texts, (0.5, 0.5), shown, generator)
        won.append(float((cast.preference > 0) == (shown == 1)))
        longer.append(counts[shown] - counts[1 - shown])
    side = position_bias(["sim"] * 4000, won)["sim"].side
    assert side.low < 0.5 < side.high
    length = length_bias(["sim"] * 4000, won, longer)["sim"]
    per_ten_words = 10 / np.sqrt(np.mean(np.square(longer)))
    assert length.low * per_ten_words < 0.4 < length.high * per_ten_words


def test_consistency_is_the_share_of_equal_answers() -> None:
    before, again = [1] * 40 + [0] * 10, [1] * 30 + [0] * 20
    found = consistency(["a"] * 50, before, again)["a"]
    assert (found.value, found.n) == (0.8, 50)
    assert consistency(["a"] * 29, before[:29], again[:29])["a"].note.startswith("insufficient: 29")


# ---- gold --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("a", "b"), [(1, 1), (0.5, 0.5), (8, 3), (1, 40), (300, 120), (4000, 3)])
def test_the_beta_distribution_is_scipys(a, b) -> None:
    for x in (0.0, 0.01, 0.3, 0.7, 0.95, 1.0):
        assert beta_cdf(x, a, b) == pytest.approx(stats.beta.cdf(x, a, b), rel=1e-9, abs=1e-14)
    for q in (0.025, 0.5, 0.975):
        assert beta_quantile(q, a, b) == pytest.approx(stats.beta.ppf(q, a, b), rel=1e-8, abs=1e-12)


def test_gold_accuracy_alerts_when_it_is_sure() -> None:
    right = [1] * 18 + [0] * 2 + [1] * 5 + [0] * 15 + [0] * 2
    names = ["good"] * 20 + ["bad"] * 20 + ["new"] * 2
    found = gold_accuracy(names, right, threshold=0.7)
    assert found["good"].accuracy.value == pytest.approx(22 / 25)
    assert found["good"].accuracy.note == "18 of 20 right" and not found["good"].alert
    assert found["bad"].alert and found["bad"].accuracy.high < 0.7
    assert not found["new"].alert  # two wrong answers prove little
    flat = gold_accuracy(names, right, threshold=0.7, prior=(1.0, 1.0))
    assert flat["new"].below == pytest.approx(1 - 0.3**3)


# ---- attention ---------------------------------------------------------------------------------------------------------


def test_speed_is_a_median_with_an_interval() -> None:
    generator = np.random.default_rng(7)
    seconds = generator.lognormal(3, 0.5, 400)
    found = speed(["a"] * 400, seconds)["a"]
    expected = stats.bootstrap((seconds,), np.median, method="percentile", rng=0, n_resamples=2000)
    assert found.value == np.median(seconds)
    assert found.low == pytest.approx(expected.confidence_interval.low, rel=0.03)
    assert found.high == pytest.approx(expected.confidence_interval.high, rel=0.03)


def test_the_longest_run_is_counted() -> None:
    rows = np.array([[1, 1, 2, 2, 2, 1], [1, 2, 1, 2, 1, 2], [3, 3, 3, 3, 3, 3], [1, 2, 2, 1, 1, 1]])
    assert longest_run(rows).tolist() == [3, 1, 6, 3]


def test_straight_lining_is_seen_against_shuffles() -> None:
    mixed = np.random.default_rng(8).integers(0, 2, 200)
    lined = np.append(np.sort(mixed)[60:], mixed[:60])
    found = straight_lining(np.repeat(["fair", "lined"], 200), np.append(mixed, lined))
    assert found["fair"].chance > 0.05
    assert found["lined"].chance < 0.01 and found["lined"].longest.value > found["lined"].longest.high


def test_one_answer_throughout_is_a_run_that_shuffling_does_not_shorten() -> None:
    found = straight_lining(["a"] * 50, ["left"] * 50)["a"]
    assert (found.longest.value, found.chance) == (50, 1.0)


# ---- circles -----------------------------------------------------------------------------------------------------------


def test_circles_are_counted() -> None:
    rounds = [("x", "y"), ("y", "z"), ("z", "x")]
    straight = [("x", "y"), ("y", "z"), ("x", "z")]
    games = rounds * 20 + straight * 20
    groups = np.repeat(np.arange(40), 3)
    found = three_cycles(groups, [w for w, _ in games], [x for _, x in games])
    assert (found.cycles, found.triples, found.rate.value) == (20, 40, 0.5)
    assert found.rate.low < 0.5 < found.rate.high


def test_coin_tosses_give_one_circle_in_four_and_rankings_none() -> None:
    generator = np.random.default_rng(10)
    pairs = np.array(list(combinations(range(6), 2)))
    groups = np.repeat(np.arange(100), len(pairs))
    many = np.tile(pairs, (100, 1))
    flip = generator.random(len(many)) < 0.5
    tossed = np.where(flip[:, None], many, many[:, ::-1])
    chance = three_cycles(groups, tossed[:, 0], tossed[:, 1])
    assert chance.triples == 100 * math.comb(6, 3)
    assert chance.rate.low < 0.25 < chance.rate.high
    ranked = three_cycles(groups, many[:, 0], many[:, 1])
    assert (ranked.cycles, ranked.rate.value) == (0, 0.0)


def test_pairs_that_end_even_make_no_triple() -> None:
    winners, losers = ["x", "y", "z", "x"], ["y", "z", "x", "z"]
    found = three_cycles(["p"] * 4, winners, losers, how=Resampling(enough=0))
    assert (found.cycles, found.triples) == (0, 0)
    assert found.rate.value is None


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: position_bias(["a"], [1, 0]), r"annotators \[1\], first_won \[2\]"),
        (lambda: position_bias(["a"], [3]), "first_won must lie between"),
        (lambda: length_bias(["a"], [1], [math.nan]), "length_difference holds values that are not numbers"),
        (lambda: gold_accuracy(["a"], [2]), "right must lie between"),
        (lambda: gold_accuracy(["a"], [1], threshold=1.0), "threshold=1.0"),
        (lambda: speed(["a"], [-1.0]), "seconds holds times below 0"),
    ],
)
def test_mistakes_are_told(call, message) -> None:
    with pytest.raises(ValueError, match=message):
        call()
