"""From the votes on one pair to one comparison.  Votes are in canonical slots, so sides on a screen play no part."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Literal

from tutelage.records import Comparison, Vote
from tutelage.store.rows import VotedPair

Aggregation = Literal["auto", "majority", "all", "adjudicated"]
Ties = Literal["keep", "drop"]
NoRow = Literal["tie", "unsettled dispute"]  # why a pair gives no row


def share_of_first(votes: Sequence[Vote], aggregation: Literal["majority", "all"]) -> float:
    """The probability that the first response is better, in [0, 1].

    `majority`: the sign of the summed preferences (1.0, 0.0, or 0.5 for an exact tie); a strong preference counts
    for more than a slight one.  `all`: the share of votes for the first; a tied vote counts half to each.  In both a vote
    counts `Vote.weight` times.  A vote that stands alone says it itself: where it is a share of votes, those were counted
    before.
    """
    assert votes, "a pair without votes has no share"
    if aggregation == "majority" and len(votes) > 1:
        total = math.fsum(vote.weight * vote.preference for vote in votes)
        return 0.5 if total == 0 else float(total < 0)
    return weighted_mean((vote.for_first, vote.weight) for vote in votes)


def weighted_mean(values: Iterable[tuple[float, float]]) -> float:
    """The mean of (value, weight)."""
    pairs = list(values)
    return math.fsum(value * weight for value, weight in pairs) / math.fsum(weight for _, weight in pairs)


def counted_before(pair: VotedPair) -> bool:
    """Whether all that is known of a pair is one share of votes: no aggregation makes another one of it."""
    return len(pair.votes) == 1 and pair.votes[0].share is not None


def undisputed(pair: VotedPair) -> VotedPair | None:
    """The pair with what settled it as its only vote, or as it is where nobody disputes it; None for an open dispute."""
    if pair.settled is not None:
        return replace(pair, votes=(Vote("adjudicator", pair.settled, 0),))
    sides = {(vote.preference > 0) - (vote.preference < 0) for vote in pair.votes}
    return pair if len(sides) == 1 else None


def margin_of(pair: VotedPair, first: float) -> float:
    """How much better the better response is by those who say so, from 0 to 1 (the end of their scale).

    The mean strength (by `Vote.weight`) of the votes on the side that `first`, the probability that the first response
    is better, is on: with seven steps 1/3, 2/3 and 1 are "slightly better", "better" and "much better", the margins of
    Llama 2 (Touvron et al. 2023, arXiv 2307.09288, table 27).  0 for a tie, and where nobody was asked by how much.
    Margins that came from a file are taken as they are, also beyond 1; the one of a vote that stands alone to the last
    digit.
    """
    if len(pair.votes) == 1 and pair.votes[0].margin is not None:
        return pair.votes[0].margin
    side = (first < 0.5) - (first > 0.5)
    strengths = [
        (_strength(vote, pair.scale), vote.weight) for vote in pair.votes if vote.preference * side > 0
    ]
    said = [pair for pair in strengths if pair[0]]
    end = max([1.0, *(vote.margin for vote in pair.votes if vote.margin is not None)])
    return round(min(end, weighted_mean(said)), 6) if said else 0.0


def _strength(vote: Vote, scale: int) -> float:
    """By how much its better side is better, by this vote; 0: not said."""
    if vote.margin is not None:
        return vote.margin
    return abs(vote.preference) / scale if scale > 1 else 0.0


def oriented(pair: VotedPair, first: float, ties: Ties) -> Comparison | NoRow:
    """A pair as a training row, given the probability that its first response is better; a dropped tie is none.

    A kept tie has p_chosen 0.5 and the first response as `chosen` (which means nothing then).  Its weight is the mean of
    those of its votes.
    """
    if first == 0.5 and ties == "drop":
        return "tie"
    margin = margin_of(pair, first)
    weight = math.fsum(vote.weight for vote in pair.votes) / len(pair.votes)
    (one, other), (finish, other_finish) = pair.texts, pair.finishes
    if first >= 0.5:
        return Comparison(pair.prompt, one, other, first, margin, finish, other_finish, weight=weight)
    return Comparison(pair.prompt, other, one, 1 - first, margin, other_finish, finish, weight=weight)


def comparison_of(
    pair: VotedPair, aggregation: Literal["majority", "all", "adjudicated"], ties: Ties
) -> Comparison | NoRow:
    """A pair's row, or why there is none; `adjudicated` leaves open disputes out, and goes by the majority elsewhere."""
    agreed = undisputed(pair) if aggregation == "adjudicated" else pair
    if agreed is None:
        return "unsettled dispute"
    share = share_of_first(agreed.votes, "all" if aggregation == "all" else "majority")
    return oriented(agreed, share, ties)


def in_slots(screen_preference: int, first_shown: int) -> int:
    """A preference between what was shown first (negative) and second (positive), in canonical slots.

    `first_shown` is the slot (0 or 1) that was shown first.  The function is its own inverse.
    """
    assert first_shown in (0, 1)
    return screen_preference if first_shown == 0 else -screen_preference
