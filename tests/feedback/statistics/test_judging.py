"""A judge beside people: counted by hand, and pair by pair."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score

from tests.feedback.statistics.tables import votes_of
from tutelage.feedback.statistics import Resampling, Votes, judge_agreement

ANY = Resampling(resamples=200, enough=0)


def people(table: list[list[int | None]]) -> Votes:
    return votes_of(table, [-1, 0, 1], mirrored=True)


def test_by_hand() -> None:
    votes = people([[1, 1, -1], [1, -1, None], [0, 0, 0], [-1, None, None], [None, None, None]])
    found = judge_agreement([0, 1, 2, 3, 4, 9], [1, 1, 1, -1, 1, 1], votes, how=ANY)
    # Majorities: 1, even, 0, -1; the judge says 1, 1, 1, -1.  Item 4 has no people, item 9 is not theirs.
    assert (found.majority.value, found.majority.n) == (0.5, 4)
    assert found.person.value == pytest.approx((2 / 3 + 1 / 2 + 0 + 1) / 4)
    assert (found.people.value, found.people.n) == (pytest.approx((1 / 3 + 0 + 1) / 3), 3)
    assert found.gap.value == pytest.approx((2 / 3 + 1 / 2 + 0) / 3 - (1 / 3 + 0 + 1) / 3)


def test_pair_by_pair_and_kappa_is_scikit_learns() -> None:
    draw = np.random.default_rng(0)
    table = draw.choice([-1, 0, 1], (60, 4))
    said = np.where(draw.random(60) < 0.5, table[:, 0], draw.choice([-1, 0, 1], 60))
    found = judge_agreement(np.arange(60), said, people(table.tolist()), how=ANY)
    assert found.person.value == pytest.approx(
        np.mean([table[i, a] == said[i] for i in range(60) for a in range(4)])
    )
    pairs = [table[i, a] == table[i, b] for i in range(60) for a, b in combinations(range(4), 2)]
    assert found.people.value == pytest.approx(np.mean(pairs))
    assert found.gap.low < found.gap.value < found.gap.high
    majority = np.sign(table.sum(axis=1))
    both = np.concatenate([[said, majority], [-said, -majority]], axis=1)  # either side first
    assert found.kappa.value == pytest.approx(cohen_kappa_score(*both))


def test_one_more_person_is_as_good_a_judge_as_the_others() -> None:
    """A judge who is a person among persons: the gap is 0 but for chance."""
    draw = np.random.default_rng(1)
    truth = draw.choice([-1, 1], 800)
    table = np.where(draw.random((800, 4)) < 0.8, truth[:, None], -truth[:, None])
    found = judge_agreement(np.arange(800), table[:, 3], people(table[:, :3].tolist()))
    assert found.gap.low < 0 < found.gap.high and found.gap.high - found.gap.low < 0.1


def test_mistakes_are_told() -> None:
    with pytest.raises(ValueError, match="give categories"):
        judge_agreement([0], [1], votes_of([[1, 1]]))
    with pytest.raises(ValueError, match="common length"):
        judge_agreement([0], [1, 1], people([[1, 1]]))
