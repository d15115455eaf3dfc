"""The queue: which item an annotator gets next, for how long, and how it is given back.

A lease is a row with an expiry that the claim itself compares with the clock; nothing sweeps.  An item is handed out
while answers plus other people's live leases are fewer than its overlap, decided under a lock on the item's row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from tutelage.feedback.access import Member
from tutelage.feedback.payloads import FlagCode, SkipReason, Task
from tutelage.store.database import Database


@dataclass(frozen=True)
class Progress:
    """What an annotator's home shows.

    `left`: items this annotator could still get; `per_hour`: own pace over the last 50 answers, pauses over five
    minutes left out (None below 5 answers); `gold_right` of `gold_answered` (None when the project hides it).
    """

    answered: int
    skipped: int
    left: int
    project_items: int
    project_complete: int
    per_hour: float | None
    gold_right: int | None
    gold_answered: int | None
    last: list[LastAnswer]


@dataclass(frozen=True)
class LastAnswer:
    """One of the annotator's own latest answers: for undo and for going back."""

    annotation_id: int
    assignment_id: int
    item_id: int
    type: str
    submitted_at: datetime


def next_task(database: Database, who: Member, besides: Sequence[int] = ()) -> Task | None:
    """The next item, leased to this annotator; None when nothing is left.  Needs label.

    An own live lease comes first (a reload loses nothing).  `besides` are assignment ids in hand (to prefetch: pass
    the one on screen).  Nobody gets an item that they answered or skipped.
    """
    raise NotImplementedError


def task(database: Database, who: Member, assignment_id: int) -> Task:
    """An own assignment again: open, or answered (for revision, with the answer).  Refused: not-found."""
    raise NotImplementedError


def heartbeat(database: Database, who: Member, assignment_id: int) -> datetime:
    """Extend an own lease to now + lease_seconds; returns when it ends.

    Revives an expired lease if the item still has room.  Refused: not-found; gone (others have filled the item: a
    submit is still taken, as extra).
    """
    raise NotImplementedError


def save_draft(database: Database, who: Member, assignment_id: int, draft: dict[str, Any]) -> None:
    """Keep what is typed so far (at most 300 kB of JSON), and extend the lease if it can be.  Refused: not-found, invalid."""
    raise NotImplementedError


def skip(database: Database, who: Member, assignment_id: int, reason: SkipReason, text: str = "") -> None:
    """Give the item back for good.  Again with the same assignment: nothing happens.  Refused: not-found, conflict (answered)."""
    raise NotImplementedError


def release(database: Database, who: Member, assignment_id: int) -> None:
    """Give the item back without saying no: it may come again.  Also for prefetched ones.  Refused: not-found."""
    raise NotImplementedError


def flag(database: Database, who: Member, assignment_id: int, code: FlagCode, text: str = "") -> int:
    """Tell the managers about an item, without giving it back; returns the flag's id."""
    raise NotImplementedError


def progress(database: Database, who: Member) -> Progress:
    """The annotator's own numbers."""
    raise NotImplementedError
