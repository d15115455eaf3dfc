"""Answers on their way in: checked against the questions, turned into slots, stored append-only, in one transaction."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from tutelage.feedback.access import Member
from tutelage.feedback.payloads import Answer, Receipt, Submission, Task
from tutelage.store.database import Database


def submit(database: Database, who: Member, assignment_id: int, submission: Submission) -> Receipt:
    """Store an answer; it is on disk when this returns.  The same `client_key` again returns the same receipt.

    Works after the lease has expired, too: counted if the item still has room, else stored as `extra`.
    Refused: not-found; invalid (the answer does not fit the questions: the sentence says where); conflict (already
    answered under another key: revise; the key belongs to another answer; skipped).
    """
    raise NotImplementedError


def revise(database: Database, who: Member, annotation_id: int, submission: Submission) -> Receipt:
    """Store a revision of one's own latest answer: what undo does.

    Refused: not-found (also somebody else's); conflict (not the latest: reload); invalid.
    """
    raise NotImplementedError


@dataclass(frozen=True)
class Opinion:
    """One answer to an item in conflict, names hidden: `label` is "A", "B", ... in a shuffled order."""

    label: str
    kind: str  # human, simulated, judge or rule; judges come last
    answer: Answer
    submitted_at: datetime


@dataclass(frozen=True)
class Conflict:
    """An item whose annotators do not agree, as an adjudicator sees it; `task` fixes the order on the screen."""

    task: Task
    opinions: list[Opinion]
    settled: bool  # an adjudication is there (this would be a revision of it)


def next_conflict(database: Database, who: Member, after_item: int = 0) -> Conflict | None:
    """The next unsettled conflict (items with enough answers that differ), most disputed first.  Needs adjudicate.

    Pairs: both sides have votes, or ties against a side; ranks and rates: any difference in order; steps: any mark
    that differs.  Rewrites and chats have no conflicts.
    """
    raise NotImplementedError


def conflicts_left(database: Database, who: Member) -> int:
    """How many conflicts nobody has settled.  Needs adjudicate."""
    raise NotImplementedError


def adjudicate(database: Database, who: Member, assignment_id: int, submission: Submission) -> Receipt:
    """Settle a conflict with a new annotation that is not counted as a vote; again: a revision.  Needs adjudicate."""
    raise NotImplementedError
