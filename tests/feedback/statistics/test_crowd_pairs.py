"""Crowd-BT on pairs that stand alone: the integral by scipy, known annotators recovered, and what must hold anyway."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.special import expit
from scipy.stats import norm

from tutelage.feedback.statistics import crowd_pairs


def simulate(reliability: list[float], pairs: int, overlap: int, spread: float, seed: int):
    """(true share of careful annotators [pairs]; pair, annotator and vote of every vote)."""
    generator = np.random.default_rng(seed)
    share = expit(generator.normal(0, spread, pairs))
    pair = np.repeat(np.arange(pairs), overlap)
    who = np.concatenate([generator.permutation(len(reliability))[:overlap] for _ in range(pairs)])
    careful = generator.random(pair.size) < share[pair]
    like = generator.random(pair.size) < np.array(reliability)[who]
    return share, pair, who, np.where(like, careful, ~careful).astype(float)


@pytest.mark.parametrize("votes", [(1,), (1, 1, 0), (0, 0, 0, 0), (1, 0)])
def test_the_share_is_the_integral(votes: tuple[int, ...]) -> None:
    """Before anything is learnt (one step, reliability 0.75, spread 2) it is a quotient of two integrals."""
    found = crowd_pairs(["pair"] * len(votes), range(len(votes)), votes, iterations=1)

    def joint(d: float) -> float:
        p = 0.75 * expit(d) + 0.25 * expit(-d)
        return norm.pdf(d, scale=2.0) * np.prod([p if vote else 1 - p for vote in votes])

    total = quad(joint, -30, 30)[0]
    assert found.share[0] == pytest.approx(quad(lambda d: expit(d) * joint(d), -30, 30)[0] / total, abs=1e-4)


def test_known_annotators_are_recovered() -> None:
    """Reliabilities and spread, and shares nearer to the truth than the majority and than the votes' own share."""
    true = [0.97, 0.9, 0.8, 0.7, 0.5, 0.2]
    share, pair, who, won = simulate(true, pairs=4000, overlap=4, spread=2.0, seed=1)
    found = crowd_pairs(pair, who, won)
    assert len(found.objective) < 500 and found.reliability == pytest.approx(true, abs=0.06)
    assert found.spread == pytest.approx(2.0, abs=0.3)
    votes = np.bincount(pair, won) / 4
    majority = np.where(votes == 0.5, 0.5, votes > 0.5)
    errors = [np.mean((guess - share) ** 2) for guess in (found.share, votes, majority)]
    assert errors[0] < 0.6 * errors[1] and errors[1] < 0.7 * errors[2]


def test_a_spammer_counts_for_nothing_and_an_upside_down_one_the_other_way() -> None:
    _, pair, who, won = simulate([0.95, 0.95, 0.95, 0.5, 0.05], pairs=2000, overlap=4, spread=3.0, seed=2)
    told = crowd_pairs([*pair, "new1", "new2"], [*who, 3, 4], [*won, 1.0, 1.0])
    by_pair = dict(zip(told.pairs.tolist(), told.share.tolist(), strict=True))
    assert by_pair["new1"] == pytest.approx(0.5, abs=0.05) and by_pair["new2"] < 0.35


def test_one_vote_a_pair_is_believed_half() -> None:
    """Nothing tells reliability then: everybody is as good as beforehand, and one vote is no certainty."""
    found = crowd_pairs(range(40), [0, 1] * 20, [1, 1, 0, 0] * 10)
    assert found.reliability == pytest.approx([0.75, 0.75], abs=0.01)
    assert found.spread == pytest.approx(2.0, abs=0.1)
    assert set(found.share.round(6)) == {round(found.share.max(), 6), round(1 - found.share.max(), 6)}
    assert 0.55 < found.share.max() < 0.65


def test_swapping_the_sides_mirrors_everything() -> None:
    _, pair, who, won = simulate([0.9, 0.7, 0.6], pairs=60, overlap=3, spread=1.5, seed=3)
    found, mirrored = crowd_pairs(pair, who, won), crowd_pairs(pair, who, 1 - won)
    assert mirrored.share == pytest.approx(1 - found.share, abs=1e-9)
    assert mirrored.reliability == pytest.approx(found.reliability, abs=1e-9)


def test_the_objective_never_falls_and_nodes_are_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    _, pair, who, won = simulate([0.95, 0.8, 0.6, 0.5], pairs=200, overlap=3, spread=2.5, seed=4)
    found = crowd_pairs(pair, who, won)
    assert np.all(np.diff(found.objective) > -1e-9)
    monkeypatch.setattr(sys.modules["tutelage.feedback.statistics.crowd_pairs"], "NODES", 63)
    assert crowd_pairs(pair, who, won).share == pytest.approx(found.share, abs=1e-3)


def test_what_cannot_be_is_said() -> None:
    with pytest.raises(ValueError, match="collect some first"):
        crowd_pairs([], [], [])
    with pytest.raises(ValueError, match="leave ties out"):
        crowd_pairs(["a"], ["x"], [0.5])
    with pytest.raises(ValueError, match="lists of one common length"):
        crowd_pairs(["a"], ["x", "y"], [1])
    with pytest.raises(ValueError, match="above 0"):
        crowd_pairs(["a"], ["x"], [1], spread=0)
