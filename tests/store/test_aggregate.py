"""Votes -> comparisons, against rows computed by hand; the side clicked is the side chosen, in both screen orders."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.store.making import new_vote
from tutelage.records import Comparison, Prompt, Vote
from tutelage.store import Store, VotedPair
from tutelage.store.aggregate import Aggregation, Ties, comparison_of, in_slots, share_of_first


def voted(first: str, second: str, votes: list[Vote], settled: int | None = None) -> VotedPair:
    return VotedPair("item", 1, Prompt("p"), (first, second), tuple(votes), settled)


def comparisons(pairs: list[VotedPair], aggregation: Aggregation, ties: Ties) -> list[Comparison]:
    rows = (comparison_of(pair, aggregation, ties) for pair in pairs)
    return [row for row in rows if isinstance(row, Comparison)]


PREFERENCES = st.lists(st.integers(-3, 3), min_size=1, max_size=9)


@pytest.mark.parametrize(
    ("preferences", "majority", "share"),
    [
        ([-1], 1.0, 1.0),
        ([2], 0.0, 0.0),
        ([0], 0.5, 0.5),
        ([-1, -1, 1], 1.0, 2 / 3),
        ([-1, -1, 3], 0.0, 2 / 3),  # one strong vote outweighs two slight ones in the sum, not in the share
        ([-2, 2], 0.5, 0.5),
        ([-1, 0], 1.0, 0.75),
        ([0, 0, 1], 0.0, 1 / 3),
        ([-3, 1, 1, 1], 0.5, 0.25),
    ],
)
def test_hand_computed(preferences: list[int], majority: float, share: float) -> None:
    votes = [Vote("a", preference, 0) for preference in preferences]
    assert share_of_first(votes, "majority") == majority
    assert share_of_first(votes, "all") == pytest.approx(share)


@given(PREFERENCES)
def test_swapping_the_slots_mirrors_the_comparison(preferences: list[int]) -> None:
    """Slots are names: with the two responses (and all signs) exchanged, the same text wins by the same share."""
    for aggregation in ("majority", "all"):
        votes = [Vote("a", p, 0) for p in preferences]
        mirrored = [Vote("a", -p, 1) for p in preferences]
        found = comparisons([voted("x", "y", votes)], aggregation, "drop")
        others = comparisons([voted("y", "x", mirrored)], aggregation, "drop")
        assert len(found) == len(others)
        for one, other in zip(found, others, strict=True):
            assert (one.chosen, one.rejected) == (other.chosen, other.rejected)
            assert one.p_chosen == pytest.approx(other.p_chosen)
            assert one.p_chosen > 0.5


@pytest.mark.parametrize(
    ("preferences", "scale", "margin"),
    [
        ([-1], 3, 1 / 3),  # "slightly better", "better", "much better"
        ([2], 3, 2 / 3),
        ([-3], 3, 1.0),
        ([-1], 2, 0.5),
        ([2], 2, 1.0),
        ([-1], 1, 0.0),  # nobody was asked by how much
        ([0], 3, 0.0),
        ([-3, -1, 1], 3, 2 / 3),  # those who agree with the sum: (3 + 1) / 2 of 3
        ([-1, -1, 3], 3, 1.0),
        ([-2, 0], 3, 2 / 3),  # a tie says nothing about how much
        ([3, 3], 2, 1.0),  # programs may use the longest scale on any item
    ],
)
def test_the_margin_is_how_strongly_the_side_that_won_was_preferred(
    preferences: list[int], scale: int, margin: float
) -> None:
    votes = [Vote("a", p, 0) for p in preferences]
    (row,) = comparisons([replace(voted("x", "y", votes), scale=scale)], "majority", "keep")
    assert row.margin == pytest.approx(margin, abs=1e-6)
    (mirrored,) = comparisons(
        [replace(voted("y", "x", [Vote("a", -p, 0) for p in preferences]), scale=scale)], "majority", "keep"
    )
    assert mirrored.margin == row.margin


def test_what_settled_a_dispute_gives_its_margin() -> None:
    votes = [Vote("a", -3, 0), Vote("b", 3, 0)]
    (row,) = comparisons([voted("x", "y", votes, settled=1)], "adjudicated", "keep")
    assert (row.chosen, row.margin) == ("y", pytest.approx(1 / 3, abs=1e-6))


def test_ties_are_kept_or_dropped() -> None:
    votes = [Vote("a", -2, 0), Vote("b", 2, 0)]
    (kept,) = comparisons([voted("x", "y", votes)], "majority", "keep")
    assert kept.p_chosen == 0.5 and {kept.chosen, kept.rejected} == {"x", "y"}
    assert comparisons([voted("x", "y", votes)], "majority", "drop") == []


def test_adjudicated_leaves_open_disputes_out() -> None:
    split, agreed = [Vote("a", -2, 0), Vote("b", 1, 0)], [Vote("a", 2, 0), Vote("b", 1, 0)]
    assert comparisons([voted("x", "y", split)], "adjudicated", "keep") == []
    assert comparisons([voted("x", "y", [Vote("a", 0, 0), Vote("b", 1, 0)])], "adjudicated", "keep") == []
    assert [row.chosen for row in comparisons([voted("x", "y", agreed)], "adjudicated", "keep")] == ["y"]
    for settled, chosen in ((-1, "x"), (3, "y")):
        (row,) = comparisons([voted("x", "y", split, settled)], "adjudicated", "keep")
        assert (row.chosen, row.p_chosen) == (chosen, 1.0)
    assert comparisons([voted("x", "y", agreed, 0)], "adjudicated", "drop") == []  # settled as a tie


@pytest.mark.parametrize(
    ("preferences", "weights", "majority", "share", "margin"),
    [  # by hand; below 0 is for x
        ([1, -1], [1, 3], 1.0, 0.75, 1 / 3),  # an expert against one
        ([1, 1, -1], [1, 1, 3], 1.0, 0.6, 1 / 3),  # an expert against two: 3 to 2
        ([1, 1, 1, -1], [1, 1, 1, 3], 0.5, 0.5, 0.0),  # against three: even
        ([2, -1, -3], [1, 1, 2], 1.0, 0.75, (1 * 1 / 3 + 2 * 1) / 3),  # for x: slightly once, much twice
        ([0, -1], [3, 1], 1.0, 0.625, 1 / 3),  # a tie of an expert: 1.5 to either, and 1 for x
    ],
)
def test_experts_count_more(
    preferences: list[int], weights: list[float], majority: float, share: float, margin: float
) -> None:
    votes = [Vote("a", p, 0, weight=w) for p, w in zip(preferences, weights, strict=True)]
    assert share_of_first(votes, "majority") == majority
    assert share_of_first(votes, "all") == pytest.approx(share)
    (row,) = comparisons([voted("x", "y", votes)], "majority", "keep")
    assert row.margin == pytest.approx(margin, abs=1e-6)


def test_why_there_is_no_row() -> None:
    apart = voted("x", "y", [Vote("a", -2, 0), Vote("b", 2, 0)])
    assert comparison_of(apart, "majority", "drop") == "tie"
    assert comparison_of(apart, "adjudicated", "keep") == "unsettled dispute"


@given(st.integers(-3, 3), st.sampled_from([0, 1]))
def test_screen_to_slots_is_its_own_inverse(preference: int, first_shown: int) -> None:
    assert in_slots(in_slots(preference, first_shown), first_shown) == preference


@pytest.mark.parametrize("first_shown", [0, 1])
@pytest.mark.parametrize("clicked", ["left", "right"])
def test_the_side_clicked_is_the_side_chosen(store: Store, first_shown: int, clicked: str) -> None:
    """Through the whole store: screen -> slots -> votes -> comparison."""
    pair = store.unlabelled_pairs("main", "ann")[0]
    on_screen = {"left": pair.texts[first_shown], "right": pair.texts[1 - first_shown]}
    preference = in_slots(-2 if clicked == "left" else 2, first_shown)
    store.add_votes("main", [new_vote(pair.item_id, "ann", preference, first_shown)])
    for aggregation in ("majority", "all"):
        (row,) = store.comparisons("main", aggregation)
        assert row.chosen == on_screen[clicked]
        assert row.rejected != row.chosen and row.p_chosen == 1.0
        assert row.prompt == pair.prompt
    (line,) = store.annotator_table("main")
    assert line.chose_first == (1.0 if clicked == "left" else 0.0)
