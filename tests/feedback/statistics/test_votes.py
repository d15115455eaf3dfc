"""How votes come in, what an estimate says, and that reading the package costs nothing."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from tests.feedback.statistics.tables import votes_of
from tutelage.feedback.statistics import Resampling, Votes
from tutelage.feedback.statistics.estimate import estimate
from tutelage.statistics import NOTHING, Interval, bootstrap_ratio, bootstrap_sums


def test_triplets_are_counted_by_item_and_category() -> None:
    rows = [(0, 0, "a"), (1, 0, "b"), (1, 1, "a"), (2, 1, "c")]
    votes = Votes.from_triplets(*zip(*rows))
    assert votes.counts().tolist() == [[1, 0, 0], [1, 1, 0], [0, 0, 1]]
    assert votes.categories.tolist() == ["a", "b", "c"]


def test_categories_keep_their_order() -> None:
    votes = votes_of([["good", "bad"], ["fair", "fair"]], ["bad", "fair", "good", "best"])
    assert votes.counts().tolist() == [[1, 0, 1, 0], [0, 2, 0, 0]]


def test_an_item_lies_in_one_cluster() -> None:
    votes = Votes.from_triplets(
        ["i", "j", "k", "i"], ["a"] * 3 + ["b"], [0, 1, 1, 0], clusters=["p", "p", "q", "p"]
    )
    assert votes.cluster.tolist() == [0, 0, 1]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: votes_of([["x", "y"]], ["x", "z"]), "label y is none of the categories x, z"),
        (lambda: Votes.from_triplets([1], ["a"], [0], clusters=["p", "q"]), "2 clusters for 1 entries"),
        (lambda: Votes.from_triplets([1], ["a", "b"], [0]), "three lists of one length"),
        (lambda: Votes.from_triplets([1, 1], ["a", "b"], [0, 0], clusters=["p", "q"]), "item 1 lies in two clusters"),
    ],
)  # fmt: skip
def test_mistakes_are_told(call, message) -> None:
    with pytest.raises(ValueError, match=message):
        call()


def test_an_estimate_is_a_number_or_a_reason() -> None:
    how = Resampling()
    assert estimate(Interval(0.5, 0.4, 0.6, 30), "share", how).low == 0.4
    few = estimate(Interval(0.5, 0.4, 0.6, 29), "share", how)
    assert (few.value, few.note) == (None, "insufficient: 29 of at least 30 items")
    assert estimate(NOTHING, "share", Resampling(enough=0)).note == "insufficient: 0 of at least 1 items"
    certain = estimate(Interval(1.0, 1.0, 1.0, 30), "share", how)
    assert (certain.value, certain.low, certain.high) == (1.0, None, None) and certain.note


def test_sums_of_columns_give_the_interval_of_a_ratio() -> None:
    generator = np.random.default_rng(0)
    top, bottom, prompts = generator.random(90), 1 + generator.random(90), generator.integers(0, 30, 90)
    ratio = bootstrap_ratio(top, bottom, prompts, seed=3, resamples=500)
    sums = bootstrap_sums(
        lambda s: s[..., 0] / s[..., 1], np.stack([top, bottom], 1), prompts, seed=3, resamples=500
    )
    assert (sums.low, sums.high, sums.n) == (ratio.low, ratio.high, ratio.n)
    assert sums.value == pytest.approx(ratio.value)


def test_the_package_is_read_without_heavy_libraries() -> None:
    code = "import sys, tutelage.feedback.statistics; print([m for m in ('torch', 'scipy', 'pandas') if m in sys.modules])"
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert printed.strip() == "[]"
