"""Bradley-Terry: Agresti's baseball table, choix, and recovery of what was simulated."""

from __future__ import annotations

from itertools import combinations

import choix
import numpy as np
import pytest

from tutelage.feedback.statistics import Resampling, bradley_terry
from tutelage.feedback.statistics.bradley_terry import Overturned, overturned

FEW = Resampling(resamples=50, enough=0)
TEAMS = ["Milwaukee", "Detroit", "Toronto", "New York", "Boston", "Cleveland", "Baltimore"]
# Agresti (2002), table 10.10: American League East, 1987. Row at home: wins-losses against each other team, in order.
BASEBALL = [
    "43 42 43 61 42 60",
    "33 42 43 60 61 43",
    "25 43 24 43 42 60",
    "33 51 25 43 42 61",
    "51 25 33 42 52 60",
    "25 33 34 43 42 24",
    "25 15 16 24 16 34",
]


def baseball():
    """Home team, away team, whether home won: one entry per game."""
    games = []
    for home, row in zip(TEAMS, BASEBALL):
        for away, (wins, losses) in zip([team for team in TEAMS if team != home], row.split()):
            games += [(home, away, 1)] * int(wins) + [(home, away, 0)] * int(losses)
    return [np.array(column) for column in zip(*games)]


def simulate(strengths, n: int, seed: int, side: float = 0.0):
    generator = np.random.default_rng(seed)
    s = np.asarray(strengths)
    first = generator.integers(0, s.size, n)
    second = (first + generator.integers(1, s.size, n)) % s.size
    p = 1 / (1 + np.exp(-(s[first] - s[second] + side)))
    return first, second, p, generator


def values(found) -> np.ndarray:
    return np.array([estimate.value for estimate in found.players.values()])


def test_baseball_is_agrestis() -> None:
    first, second, won = baseball()
    plain = bradley_terry(first, second, won, ridge=1e-6)
    strengths = values(plain)
    above_baltimore = np.sort(strengths - plain.players["Baltimore"].value)[1:]
    assert above_baltimore.round(2).tolist() == [0.68, 1.11, 1.25, 1.29, 1.44, 1.58]
    home = bradley_terry(first, second, won, side=True, ridge=1e-6)
    shares = np.exp(values(home)) / np.exp(values(home)).sum()
    assert np.sort(shares).round(3).tolist() == [0.044, 0.088, 0.137, 0.157, 0.164, 0.190, 0.220]
    assert home.side.value == pytest.approx(0.302, abs=5e-4)
    assert home.side.low < 0.302 < home.side.high


@pytest.mark.parametrize("ridge", [0.02, 0.2, 2.0])
def test_strengths_are_those_of_choix(ridge) -> None:
    first, second, p, generator = simulate([1.0, 0.4, 0.0, -0.5, -1.2], 300, seed=1)
    won = generator.random(300) < p
    games = [(int(a), int(b)) if w else (int(b), int(a)) for a, b, w in zip(first, second, won)]
    expected = choix.opt_pairwise(5, games, alpha=ridge / 2, tol=1e-10)
    found = bradley_terry(first, second, won, ridge=ridge, how=FEW)
    assert values(found) == pytest.approx(expected - expected.mean(), abs=1e-5)


def test_a_tie_is_half_a_win() -> None:
    first, second, p, generator = simulate([1.0, 0.0, -1.0], 300, seed=2)
    won = np.where(generator.random(300) < 0.3, 0.5, generator.random(300) < p)
    both = [np.where(won == 0.5, side, won) for side in (1.0, 0.0)]  # once all ties won, once all lost
    doubled = bradley_terry(np.tile(first, 2), np.tile(second, 2), np.concatenate(both), ridge=0.02, how=FEW)
    assert values(bradley_terry(first, second, won, ridge=0.01, how=FEW)) == pytest.approx(
        values(doubled), abs=1e-6
    )


def test_who_is_called_first_only_turns_the_side() -> None:
    first, second, p, generator = simulate([1.0, 0.3, -0.2, -1.1], 500, seed=4, side=0.5)
    won = np.where(generator.random(500) < 0.2, 0.5, generator.random(500) < p)
    here = bradley_terry(first, second, won, side=True, how=FEW)
    there = bradley_terry(second, first, 1 - won, side=True, how=FEW)
    assert values(there) == pytest.approx(values(here), abs=1e-6)
    assert there.side.value == pytest.approx(-here.side.value, abs=1e-6)


def test_the_side_is_told_from_strength() -> None:
    """The strong model is shown first far more often: without the side term it would look stronger than it is."""
    generator = np.random.default_rng(5)
    strong_first = generator.random(4000) < 0.8
    first, second = np.where(strong_first, "strong", "weak"), np.where(strong_first, "weak", "strong")
    p = 1 / (1 + np.exp(-(np.where(strong_first, 0.5, -0.5) + 0.8)))
    won = generator.random(4000) < p
    found = bradley_terry(first, second, won, side=True)
    gap = found.players["strong"].value - found.players["weak"].value
    assert gap == pytest.approx(0.5, abs=0.12) and found.side.value == pytest.approx(0.8, abs=0.12)
    blind = bradley_terry(first, second, won)
    assert blind.players["strong"].value - blind.players["weak"].value > 0.8


def test_intervals_hold_the_truth() -> None:
    true = np.array([0.9, 0.3, -0.3, -0.9])
    held = []
    for seed in range(60):
        first, second, p, generator = simulate(true, 400, seed=200 + seed)
        found = bradley_terry(first, second, generator.random(400) < p, how=Resampling(resamples=300))
        held += [e.low <= s <= e.high for e, s in zip(found.players.values(), true)]
    assert 0.90 <= np.mean(held) <= 0.99


def test_votes_of_one_prompt_do_not_narrow_the_interval() -> None:
    first, second, p, generator = simulate([0.5, 0.0, -0.5], 120, seed=6)
    won = generator.random(120) < p
    prompts = np.repeat(np.arange(120), 4)
    many = [np.repeat(column, 4) for column in (first, second, won)]
    once = bradley_terry(first, second, won, ridge=0.001).players[0]
    clustered = bradley_terry(*many, clusters=prompts, ridge=0.004).players[0]
    naive = bradley_terry(*many, ridge=0.004).players[0]
    assert clustered.n == once.n < naive.n
    assert (clustered.low, clustered.high) == pytest.approx((once.low, once.high), abs=1e-3)
    assert naive.high - naive.low < 0.6 * (once.high - once.low)


def test_one_who_always_wins_stays_finite() -> None:
    found = bradley_terry(["a"] * 40, ["b"] * 40, [1.0] * 40).players["a"]
    assert 3 < found.value < 5
    assert found.low is None and found.high is None and found.note.startswith("no interval")


def test_prompts_that_are_all_alike_give_strengths_without_interval() -> None:
    """Resamples of 40 equal prompts are all the same data: their strengths differ by rounding only."""
    pairs = list(combinations("abcde", 2))
    first, second = ([pair[i] for pair in pairs] * 40 for i in (0, 1))
    prompts = np.repeat(np.arange(40), len(pairs))
    found = bradley_terry(first, second, [0.7] * len(first), clusters=prompts).players
    assert found["a"].value == pytest.approx(-found["e"].value)
    assert all(e.low is None and e.high is None and e.note.startswith("no interval") for e in found.values())


def test_players_that_never_meet_are_not_compared() -> None:
    found = bradley_terry(["a", "c"] * 40, ["b", "d"] * 40, [1, 0] * 40)
    assert all(e.value is None and "not comparable" in e.note for e in found.players.values())


def test_few_comparisons_give_no_strength() -> None:
    first = ["a"] * 40 + ["a"] * 10
    second = ["b"] * 40 + ["c"] * 10
    found = bradley_terry(first, second, [1, 0] * 25)
    assert found.players["a"].value is not None
    assert found.players["c"].value is None and found.players["c"].note.startswith("insufficient: 10")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: bradley_terry(["a"], ["b", "c"], [1]), r"common length.*second \[2\]"),
        (lambda: bradley_terry([], [], []), "no comparisons"),
        (lambda: bradley_terry(["a"], ["a"], [1]), "comparison 1 sets a against itself"),
        (lambda: bradley_terry(["a"], ["b"], [2]), r"comparison 1 has won=2.0, which must be in \[0, 1\]"),
    ],
)
def test_mistakes_are_told(call, message) -> None:
    with pytest.raises(ValueError, match=message):
        call()


# ---- how few votes hold a first place ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("wins", "losses", "ties"), [(55, 45, 0), (30, 29, 4), (3, 2, 0)])
def test_of_two_players_the_smallest_number_is_known(wins: int, losses: int, ties: int) -> None:
    """The lead in votes, and one more."""
    won = [1.0] * wins + [0.0] * losses + [0.5] * ties
    found = overturned(["a"] * len(won), ["b"] * len(won), won)
    assert found == Overturned("a", "b", wins - losses + 1, len(won))


def test_what_it_says_does_it_and_exhaustion_finds_hardly_less() -> None:
    """On small tables of three players: leaving the votes out changes the first place, and no set that is smaller by two does."""
    random = np.random.default_rng(0)
    seen = 0
    for _ in range(12):
        a, b = np.array([random.permutation(3)[:2] for _ in range(14)]).T
        won = (random.random(14) < 1 / (1 + np.exp(-(b - a) * 0.5))).astype(float)
        try:
            found = overturned(a, b, won)
        except ValueError:
            continue
        if found is None or found.votes > 4:
            continue
        seen += 1

        def first_place(kept: list[int], a=a, b=b, won=won) -> object:
            players = bradley_terry(a[kept], b[kept], won[kept], how=FEW).players
            told = {name: one.value for name, one in players.items() if one.value is not None}
            return max(told, key=told.get) if len(told) == 3 else None  # type: ignore[arg-type]

        everything = list(range(14))
        assert first_place(everything) == found.first
        smaller = max(found.votes - 2, 0)
        for left_out in combinations(everything, smaller):
            kept = [n for n in everything if n not in left_out]
            assert first_place(kept) in (found.first, None), (found, left_out)
    assert seen >= 4


def test_a_first_place_that_nothing_takes_away() -> None:
    assert overturned(["a", "a"], ["b", "b"], [1.0, 1.0]) is None  # without them there is nobody to compare
    assert overturned(["a", "c"], ["b", "d"], [1.0, 1.0]) is None  # no chain joins all
    with pytest.raises(ValueError, match="against itself"):
        overturned(["a"], ["a"], [1.0])
