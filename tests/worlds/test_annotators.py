"""The simulated annotators behave as their parameters say."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from tutelage.evals.reward_model import ceiling
from tutelage.records import Comparison
from tutelage.seeds import rng
from tutelage.worlds import world
from tutelage.worlds.annotators import GAP, Annotator, panel, vote
from tutelage.worlds.gold import GoldStandard, grade

SHORT, LONG = "one two three", "one two three four five six seven eight nine ten eleven twelve thirteen"
N = 4000
ERROR = 4 / math.sqrt(N)  # more than four standard errors of a rate


def test_a_pool_has_its_biases_in_common() -> None:
    for alone, biased in zip(panel(3), panel(3, length_bias=1.0, position_bias=-0.5), strict=True):
        assert biased.length_bias == pytest.approx(alone.length_bias + 1.0)
        assert biased.position_bias == pytest.approx(alone.position_bias - 0.5)
        assert (biased.name, biased.reliability) == (alone.name, alone.reliability)


def someone(**changes):
    return Annotator(
        **(
            {"name": "x", "reliability": 0.85, "position_bias": 0.0, "length_bias": 0.0, "tie_width": 0.0}
            | changes
        )
    )


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
    assert np.mean(votes(person, (0.5, 0.5), first_shown=0) < 0) == pytest.approx(
        logistic(0.8), abs=ERROR / 2
    )
    assert np.mean(votes(person, (0.5, 0.5), first_shown=1) > 0) == pytest.approx(
        logistic(0.8), abs=ERROR / 2
    )


def test_length_bias_favours_the_longer_one():
    assert np.mean(votes(someone(length_bias=0.6), (0.5, 0.5), (SHORT, LONG)) > 0) == pytest.approx(
        logistic(0.6), abs=ERROR / 2
    )
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
    assert vote(person, ("a", "b"), (0.1, 0.4), 1, rng(5, "v")) == vote(
        person, ("a", "b"), (0.1, 0.4), 1, rng(5, "v")
    )
    assert vote(person, ("a", "b"), (0.1, 0.4), 1, rng(5, "v")).first_shown == 1


def test_panel_is_the_seeds_own():
    assert panel(1) == panel(1)
    assert {person.name for person in panel(1)}.isdisjoint({person.name for person in panel(2)})
    assert 5 <= len(panel(0)) <= 7
    assert max(p.reliability for p in panel(0)) - min(p.reliability for p in panel(0)) > 0.1
    with pytest.raises(ValueError, match="reliability"):
        someone(reliability=1.0)


@pytest.mark.slow
def test_ceiling_is_what_the_panel_lets_a_perfect_judge_reach():
    """Against the exact probability that each vote follows the gold order, computed without drawing a vote."""
    comparisons, expected = [], []
    people = [replace(person, position_bias=0.0, length_bias=0.0, tie_width=0.0) for person in panel(0)]
    for i, prompt in enumerate(world.prompts(5, "ceiling", 900)):
        draw = rng(6, i)
        texts = tuple(world.write_response(prompt, draw, 0.7).text for _ in range(2))
        grades = tuple(grade(prompt, text).value for text in texts)
        person = people[i % len(people)]
        swap = vote(person, texts, grades, 0, draw).preference > 0
        comparisons.append(Comparison(prompt, *(reversed(texts) if swap else texts)))
        expected.append(logistic(person.sharpness * abs(grades[0] - grades[1])))
    found = ceiling("any", comparisons, GoldStandard())[0]
    assert found.low < np.mean(expected) < found.high
    assert found.value == pytest.approx(np.mean(expected), abs=0.04)
