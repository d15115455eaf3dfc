"""The simulated annotators behave as their parameters say."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tutelage.seeds import rng
from tutelage.worlds.annotators import GAP, Annotator, ceiling, panel, vote

SHORT, LONG = "one two three", "one two three four five six seven eight nine ten eleven twelve thirteen"
N = 4000
ERROR = 4 / math.sqrt(N)  # more than four standard errors of a rate


def someone(**changes):
    return Annotator(**({"name": "x", "reliability": 0.85, "position_bias": 0.0, "length_bias": 0.0, "tie_width": 0.0} | changes))


def votes(annotator, grades, texts=(SHORT, SHORT), first_shown=0):
    draw = rng(0, "votes")
    return np.array([vote(annotator, texts, grades, first_shown, draw).preference for _ in range(N)])


def logistic(x):
    return 1 / (1 + math.exp(-x))


@pytest.mark.parametrize("reliability", [0.5, 0.7, 0.95])
def test_reliability_is_the_rate_of_preferring_the_better_one(reliability):
    found = votes(someone(reliability=reliability), (0.2, 0.2 + GAP))
    assert np.mean(found > 0) == pytest.approx(reliability, abs=ERROR / 2)


def test_position_bias_favours_what_is_shown_first():
    person = someone(position_bias=0.8)
    assert np.mean(votes(person, (0.5, 0.5), first_shown=0) < 0) == pytest.approx(logistic(0.8), abs=ERROR / 2)
    assert np.mean(votes(person, (0.5, 0.5), first_shown=1) > 0) == pytest.approx(logistic(0.8), abs=ERROR / 2)


def test_length_bias_favours_the_longer_one():
    assert np.mean(votes(someone(length_bias=0.6), (0.5, 0.5), (SHORT, LONG)) > 0) == pytest.approx(logistic(0.6), abs=ERROR / 2)
    endless = "word " * 1000
    found = votes(someone(length_bias=0.6), (0.5, 0.5), (endless, SHORT))
    assert np.mean(found < 0) == pytest.approx(logistic(1.2), abs=ERROR / 2)


def test_ties_have_the_width_of_their_band():
    found = votes(someone(tie_width=0.5), (0.5, 0.5))
    assert np.mean(found == 0) == pytest.approx(logistic(0.5) - logistic(-0.5), abs=ERROR / 2)
    assert not np.any(votes(someone(), (0.5, 0.5)) == 0)


def test_preferences_are_stronger_where_the_difference_is():
    slight, clear = (np.abs(votes(someone(reliability=0.9), (0.0, gap))).mean() for gap in (0.1, 0.9))
    assert clear > slight + 0.5
    assert set(np.abs(votes(someone(reliability=0.9), (0.0, 0.6)))) == {1, 2, 3}


def test_a_vote_follows_from_its_generator_alone():
    person = panel(0)[0]
    assert vote(person, ("a", "b"), (0.1, 0.4), 1, rng(5, "v")) == vote(person, ("a", "b"), (0.1, 0.4), 1, rng(5, "v"))
    assert vote(person, ("a", "b"), (0.1, 0.4), 1, rng(5, "v")).first_shown == 1


def test_panel_is_the_seeds_own():
    assert panel(1) == panel(1)
    assert {person.name for person in panel(1)}.isdisjoint({person.name for person in panel(2)})
    assert 5 <= len(panel(0)) <= 7
    assert max(p.reliability for p in panel(0)) - min(p.reliability for p in panel(0)) > 0.1
    with pytest.raises(ValueError, match="reliability"):
        someone(reliability=1.0)


def test_ceiling_equals_the_probability_that_the_votes_follow_gold():
    draw = np.random.default_rng(0)
    first, second = draw.random(N), draw.random(N)
    person = someone(reliability=0.8)
    preferences = [vote(person, (SHORT, SHORT), (a, b), 0, rng(1, i)).preference for i, (a, b) in enumerate(zip(first, second, strict=True))]
    chosen = [a if p < 0 else b for a, b, p in zip(first, second, preferences, strict=True)]
    rejected = [b if p < 0 else a for a, b, p in zip(first, second, preferences, strict=True)]
    expected = np.mean(1 / (1 + np.exp(-person.sharpness * np.abs(first - second))))  # independent of the votes drawn
    found = ceiling(chosen, rejected)
    assert found.value == pytest.approx(expected, abs=ERROR / 2)
    assert found.low < expected < found.high
    clustered = ceiling(chosen, rejected, clusters=[str(i // 4) for i in range(N)])
    assert clustered.value == pytest.approx(found.value) and clustered.low < found.value < clustered.high


def test_ceiling_counts_ties_as_one_half():
    assert ceiling([1.0, 0.5], [0.0, 0.5]).value == 0.75  # equal in gold
    assert ceiling([1.0, 1.0], [0.0, 0.0], [1.0, 0.5]).value == 0.75  # equal in the votes
    assert ceiling([0.0], [1.0], [1.0]).value == 0.0
    assert ceiling([0.0], [1.0], [0.6]).value == pytest.approx(0.4)
