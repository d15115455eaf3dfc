"""From the votes on one pair to one comparison.  Votes are in canonical slots, so sides on a screen play no part."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal

from tutelage.records import Comparison
from tutelage.store.rows import VotedPair

Aggregation = Literal["majority", "all", "adjudicated"]
Ties = Literal["keep", "drop"]


def share_of_first(preferences: Sequence[int], aggregation: Literal["majority", "all"]) -> float:
    """The probability that the first response is better, in [0, 1].

    `majority`: the sign of the summed preferences (1.0, 0.0, or 0.5 for an exact tie); a strong preference counts
    for more than a slight one.  `all`: the share of votes for the first; a tied vote counts half to each.
    """
    assert preferences, "a pair without votes has no share"
    if aggregation == "majority":
        total = sum(preferences)
        return 0.5 if total == 0 else float(total < 0)
    halves = sum(2 if p < 0 else int(p == 0) for p in preferences)
    return halves / (2 * len(preferences))


def share_of(pair: VotedPair, aggregation: Aggregation) -> float | None:
    """The probability that the first response of a pair is better; None where `adjudicated` leaves the pair out.

    `adjudicated`: what was settled as it was settled, what nobody disputes by its majority, disputed pairs that nobody
    has settled not at all.
    """
    preferences = [vote.preference for vote in pair.votes]
    if aggregation != "adjudicated":
        return share_of_first(preferences, aggregation)
    if pair.settled is not None:
        return share_of_first([pair.settled], "majority")
    if len({(p > 0) - (p < 0) for p in preferences}) > 1:
        return None
    return share_of_first(preferences, "majority")


def oriented(pair: VotedPair, first: float, ties: Ties) -> Comparison | None:
    """A pair as a training row, given the probability that its first response is better; None for a dropped tie.

    A kept tie has p_chosen 0.5 and the first response as `chosen` (which means nothing then).
    """
    if first == 0.5 and ties == "drop":
        return None
    if first >= 0.5:
        return Comparison(pair.prompt, pair.texts[0], pair.texts[1], p_chosen=first)
    return Comparison(pair.prompt, pair.texts[1], pair.texts[0], p_chosen=1 - first)


def comparisons(pairs: Iterable[VotedPair], aggregation: Aggregation, ties: Ties) -> list[Comparison]:
    """One row per pair, in their order."""
    shares = ((pair, share_of(pair, aggregation)) for pair in pairs)
    rows = (oriented(pair, share, ties) for pair, share in shares if share is not None)
    return [row for row in rows if row is not None]


def in_slots(screen_preference: int, first_shown: int) -> int:
    """A preference between what was shown first (negative) and second (positive), in canonical slots.

    `first_shown` is the slot (0 or 1) that was shown first.  The function is its own inverse.
    """
    assert first_shown in (0, 1)
    return screen_preference if first_shown == 0 else -screen_preference
