"""Preferences with habits taken out, on votes whose makers are known."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.special import expit

from tutelage.feedback.statistics import crowd_pairs, habit_pairs


class Crowd:
    """Votes of annotators with habits (s, b, c) on pairs whose true difference is known; each pair is shown either way."""

    def __init__(
        self,
        people: list[tuple[float, float, float]],
        pairs: int,
        overlap: int,
        seed: int,
        shared: float = 0.0,
    ) -> None:
        draw = np.random.default_rng(seed)
        longer = draw.normal(size=pairs)
        self.d = draw.normal(scale=1.5, size=pairs) + shared * longer
        self.pair = np.repeat(np.arange(pairs), overlap)
        self.who = np.concatenate([draw.permutation(len(people))[:overlap] for _ in range(pairs)])
        self.shown = draw.integers(0, 2, self.pair.size)
        self.longer = longer[self.pair]
        s, b, c = np.array(people)[self.who].T
        logit = s * self.d[self.pair] + b * (2 * self.shown - 1) + c * self.longer
        self.won = (draw.random(self.pair.size) < expit(logit)).astype(float)

    def fit(self, **given: float):
        return habit_pairs(self.pair, self.who, self.won, self.shown, self.longer, **given)


def test_the_share_is_the_integral_over_the_difference() -> None:
    """Before anything is learnt of the annotators: sigmoid(d) where they like nothing but quality."""
    votes = [1, 1, 0]
    found = habit_pairs(["p"] * 3, range(3), votes, [1, 0, 1], [0, 0, 0], iterations=1)

    def joint(d: float) -> float:
        likelihood = np.prod([expit(d) if won else expit(-d) for won in votes])
        return float(likelihood * np.exp(-(d**2) / 8))

    top, bottom = (quad(f, -20, 20)[0] for f in (lambda d: joint(d) * expit(d), joint))
    assert found.share[0] == pytest.approx(top / bottom, abs=1e-3)  # of 21 nodes


def test_a_planted_liking_for_the_first_place_is_found_and_taken_out() -> None:
    """Half a logit for what is shown first, within a tenth; and the labels do not lean to the first place."""
    crowd = Crowd([(1.0, 0.5, 0.0)] * 6, pairs=1500, overlap=3, seed=0)
    found = crowd.fit()
    assert found.position == pytest.approx(np.full(6, 0.5), abs=0.25)
    assert found.position.mean() == pytest.approx(0.5, abs=0.1)
    shown = np.bincount(crowd.pair, weights=2.0 * crowd.shown - 1) / 3

    def leaning(share: np.ndarray) -> float:
        """By how much more a response is preferred, beyond the truth, where all saw it first."""
        return float(np.polyfit(shown, share - expit(crowd.d), 1)[0])

    plain = crowd_pairs(crowd.pair, crowd.who, crowd.won).share
    assert leaning(plain) > 0.04 and abs(leaning(found.share)) < 0.015


@pytest.mark.slow
def test_each_habit_is_recovered_beside_the_others() -> None:
    people = [
        (1.5, 0.0, 0.0),
        (1.0, 1.0, 0.0),
        (1.0, 0.0, 1.0),
        (0.5, -0.5, -0.5),
        (1.0, 0.0, -0.5),
        (0.0, 0.0, 0.0),
    ]
    crowd = Crowd(people, pairs=4000, overlap=3, seed=1)
    found = crowd.fit()
    s, b, c = np.array(people).T
    scale = found.sharpness.mean() / s.mean()  # differences have no unit of their own
    assert found.sharpness / scale == pytest.approx(s, abs=0.35)
    assert found.position == pytest.approx(b, abs=0.15)
    assert found.length - found.length.mean() == pytest.approx(c - c.mean(), abs=0.2)
    plain = crowd_pairs(crowd.pair, crowd.who, crowd.won).share
    truth = expit(crowd.d)
    assert np.mean((found.share - truth) ** 2) < np.mean((plain - truth) ** 2)


def test_what_everybody_likes_in_length_stays() -> None:
    """Longer responses may be better ones: a liking that all share is no habit."""
    crowd = Crowd([(1.0, 0.0, 0.0)] * 5, pairs=3000, overlap=2, seed=2, shared=0.8)
    found = crowd.fit()
    assert found.shared_length * found.sharpness.mean() == pytest.approx(0.8, abs=0.12)
    assert found.length == pytest.approx(np.zeros(5), abs=0.2)
    assert np.corrcoef(found.share, crowd.longer[np.argsort(crowd.pair, kind="stable")][::2])[0, 1] > 0.3


def test_swapping_the_sides_of_every_pair_mirrors_the_shares_and_nothing_else() -> None:
    crowd = Crowd([(1.0, 0.4, 0.0), (0.8, -0.3, 0.5), (1.2, 0, 0)], pairs=80, overlap=3, seed=3)
    one = crowd.fit()
    other = habit_pairs(crowd.pair, crowd.who, 1 - crowd.won, 1 - crowd.shown, -crowd.longer)
    assert other.share == pytest.approx(1 - one.share, abs=1e-6)
    assert other.position == pytest.approx(one.position, abs=1e-6)
    assert other.length == pytest.approx(one.length, abs=1e-6)


def test_the_objective_never_falls_and_few_votes_stay_near_the_prior() -> None:
    crowd = Crowd([(1.0, 1.0, 0.5), (-0.5, 0.0, 0.0), (1.0, 0.0, 0.0)], pairs=200, overlap=3, seed=4)
    trace = crowd.fit().objective
    assert (np.diff(trace) >= -1e-9 * np.abs(trace[:-1])).all() and len(trace) > 3
    few = habit_pairs(["a"], ["x"], [1], [1], [30])
    assert few.sharpness[0] == pytest.approx(1, abs=0.1) and abs(few.position[0]) < 0.5
    assert 0.5 < few.share[0] < 0.8


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (([], [], [], [], []), "no votes"),
        (([1], [1], [0.5], [1], [0]), "won must be 1"),
        (([1], [1], [1], [2], [0]), "first_shown must be 1"),
        (([1, 2], [1], [1], [1], [0]), "length"),
        (([1], [1], [1], [1], [np.nan]), "not numbers"),
    ],
)
def test_votes_that_are_none(given: tuple[list[float], ...], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        habit_pairs(*given)


def wrong(share: np.ndarray, crowd: Crowd) -> float:
    return float(np.mean((share - expit(crowd.d)) ** 2))


def unexplained(share: np.ndarray, crowd: Crowd) -> float:
    return 1 - float(np.corrcoef(share, expit(crowd.d))[0, 1]) ** 2


@pytest.mark.slow
def test_whether_a_shared_liking_for_length_is_taken_out_is_a_choice() -> None:
    """Right where length is no quality and everybody likes it by half a logit, wrong where it is quality."""
    habit = Crowd([(1.0, 0.0, 0.5)] * 5, pairs=2000, overlap=3, seed=5)
    quality = Crowd([(1.0, 0.0, 0.0)] * 5, pairs=2000, overlap=3, seed=6, shared=0.5)
    for crowd, all_is_better in ((habit, True), (quality, False)):
        own, whole = crowd.fit(), crowd.fit(length="all")
        assert own.shared_length == whole.shared_length
        assert own.shared_length * own.sharpness.mean() == pytest.approx(0.5, abs=0.12)
        assert (wrong(whole.share, crowd) < 0.97 * wrong(own.share, crowd)) == all_is_better
        longer = crowd.longer[np.searchsorted(crowd.pair, np.arange(2000))]
        assert np.polyfit(longer, own.share, 1)[0] > np.polyfit(longer, whole.share, 1)[0] + 0.05
    leaning = np.polyfit(habit.longer[::3], habit.fit(length="all").share - expit(habit.d), 1)[0]
    assert abs(leaning) < 0.02


@pytest.mark.parametrize("overlap", [1, 3])
def test_labels_are_as_good_as_crowd_bt_where_nobody_has_habits_and_teach_no_more_length(
    overlap: int,
) -> None:
    """What a linear reward takes from labels: length is worth half of what the rest is, however few the votes.  (Both are drawn
    from normal distributions, so that least squares find the right direction through any sigmoid: Brillinger 1982.)"""
    crowd = Crowd([(1.0, 0.0, 0.0)] * 5, pairs=1500, overlap=overlap, seed=20, shared=0.5)
    share, plain = crowd.fit().share, crowd_pairs(crowd.pair, crowd.who, crowd.won).share
    assert wrong(share, crowd) < 1.02 * wrong(plain, crowd)
    assert unexplained(share, crowd) < 1.02 * unexplained(plain, crowd)
    longer = crowd.longer[::overlap]
    rest, length = np.linalg.lstsq(np.stack([crowd.d - 0.5 * longer, longer], 1), share - 0.5, rcond=None)[0]
    assert length / rest == pytest.approx(0.5, abs=0.1)


def test_labels_are_nearer_to_the_truth_than_crowd_bt_where_annotators_have_habits() -> None:
    """What is left unexplained of the truth, at any scale of labels, so that only habits make the difference."""
    people = [(1.0, 1.2, 1.5), (1.0, 1.2, -1.5), (1.0, -0.6, 0.0), (1.0, 1.2, 0.0), (1.0, 0.0, 0.0)]
    crowd = Crowd(people, pairs=1500, overlap=3, seed=21, shared=0.5)
    plain = crowd_pairs(crowd.pair, crowd.who, crowd.won).share
    assert unexplained(crowd.fit().share, crowd) < 0.96 * unexplained(plain, crowd)


@pytest.mark.slow
def test_standard_errors_say_how_far_off_estimates_are() -> None:
    """Over 16 drawn crowds the squared error over the squared standard error is near 1 on average."""
    people = [(1.5, 0.5, 0.0), (1.0, -0.5, 0.5), (1.0, 0.0, -0.5), (0.7, 0.0, 0.0)]
    s, b, c = np.array(people).T
    common = (s @ c) / (s @ s)  # what all like, each as sharply as they tell differences, is no habit
    position, length = list[float](), list[float]()
    for seed in range(16):
        crowd = Crowd(people, pairs=400, overlap=3, seed=seed)
        found = crowd.fit()
        position += list((found.position - b) / found.position_error)
        length += list((found.length - (c - s * common)) / found.length_error)
        assert (found.votes == np.bincount(crowd.who)).all()
    for scores in (position, length):
        assert 0.6 < np.mean(np.square(scores)) < 1.5 and abs(np.mean(scores)) < 0.35


def test_errors_shrink_with_votes_and_length_has_a_unit() -> None:
    people = [(1.0, 0.3, 0.0)] * 4
    few, many = (Crowd(people, pairs=n, overlap=2, seed=7) for n in (200, 1800))
    ratio = few.fit().position_error.mean() / many.fit().position_error.mean()
    assert ratio == pytest.approx(3.0, rel=0.3)  # nine times as many votes
    in_characters = habit_pairs(few.pair, few.who, few.won, few.shown, 30 * few.longer)
    assert in_characters.length_unit == pytest.approx(30 * np.sqrt(np.mean(few.longer**2)))
    assert in_characters.length == pytest.approx(few.fit().length)
