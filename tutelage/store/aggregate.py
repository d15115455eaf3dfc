"""From the votes on one pair to one comparison.  Votes are in canonical slots, so sides on a screen play no part."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from tutelage.records import Comparison, Prompt, Vote

Aggregation = Literal["majority", "all"]
Ties = Literal["keep", "drop"]


def share_of_first(preferences: Sequence[int], aggregation: Aggregation) -> float:
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


def comparison(
    prompt: Prompt, texts: tuple[str, str], votes: Sequence[Vote], aggregation: Aggregation, ties: Ties
) -> Comparison | None:
    """One pair with its votes as a training row; None for an exact tie when `ties` is 'drop'.

    A kept tie has p_chosen 0.5 and the first response as `chosen` (which means nothing then).
    """
    first = share_of_first([vote.preference for vote in votes], aggregation)
    if first == 0.5 and ties == "drop":
        return None
    if first >= 0.5:
        return Comparison(prompt, texts[0], texts[1], p_chosen=first)
    return Comparison(prompt, texts[1], texts[0], p_chosen=1 - first)


def in_slots(screen_preference: int, first_shown: int) -> int:
    """A preference between what was shown first (negative) and second (positive), in canonical slots.

    `first_shown` is the slot (0 or 1) that was shown first.  The function is its own inverse.
    """
    assert first_shown in (0, 1)
    return screen_preference if first_shown == 0 else -screen_preference
