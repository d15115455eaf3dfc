"""Train / held-out split by prompt: all rows of one prompt stand on the same side, in every file and every stage."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import TypeVar

from tutelage.data.formats import Record, Records
from tutelage.records import Conversation, Document, Message, Prompt

R = TypeVar("R", bound=Record)


def split_by_prompt(rows: Sequence[R], heldout_share: float, seed: int = 0) -> tuple[Records[R], Records[R]]:
    """(train, held out), each in the order of `rows`.

    The side depends only on (seed, opening), where the opening is the prompt's text without regard to white space and
    case, and for a conversation its turns up to the first of the user's: dialogues that start alike stay together, and
    rows added later move nobody.  The share is met on average.  With a share above 0 and two openings or more, neither
    side is empty.  Counts of skipped rows go with the training side.  Raises ValueError if the share is not in [0, 1).
    """
    if not 0.0 <= heldout_share < 1.0:
        raise ValueError(f"heldout_share is {heldout_share}, but it must be at least 0 and below 1")
    places = [_place(seed, opening(row)) for row in rows]
    limit = heldout_share
    if (
        heldout_share > 0.0 and len(set(places)) > 1
    ):  # few rows: hold out at least one opening, and not all of them
        limit = min(max(limit, _just_above(min(places))), max(places))
    train = [row for row, place in zip(rows, places, strict=True) if place >= limit]
    heldout = [row for row, place in zip(rows, places, strict=True) if place < limit]
    return Records(train, getattr(rows, "skipped", None)), Records(heldout)


def opening(row: Record) -> str:
    """What decides on which side of a split a row stands."""
    content: str | tuple[Message, ...]
    if isinstance(row, Document):
        content = row.text
    elif isinstance(row, Conversation):
        content = row.messages
    else:
        content = row.content if isinstance(row, Prompt) else row.prompt.content
    if isinstance(content, str):
        return _plain(content)
    turns = []
    for message in content:
        turns.append([message.role, _plain(message.content)])
        if message.role == "user":
            break
    return json.dumps(turns, ensure_ascii=False)


def _plain(text: str) -> str:
    return " ".join(text.casefold().split())


def _place(seed: int, text: str) -> float:
    """A number in [0, 1) for this text under this seed."""
    digest = hashlib.sha256(f"split:{seed}:{text}".encode()).digest()
    return int.from_bytes(digest[:6], "big") / 2**48


def _just_above(place: float) -> float:
    return place + 2.0**-48
