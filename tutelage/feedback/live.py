"""Text written on the spot by a model: turns of a chat, and steps written again.  Generation itself happens elsewhere.

A turn of a chat is a child item (pair or rank) below the chat's item, given to its annotator only, with responses
whose prompt is the conversation so far; so chats reach training as comparisons like any others.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tutelage.feedback.access import Member
from tutelage.feedback.payloads import Candidate, Receipt, Submission, Task
from tutelage.records import Prompt
from tutelage.store.database import Database


def chat_prompt(database: Database, who: Member, assignment_id: int, message: str) -> Prompt:
    """The conversation so far with the annotator's new message at its end: what candidates must answer.

    Refused: not-found; conflict (the latest turn has no choice yet); invalid (empty).
    """
    raise NotImplementedError


def add_turn(
    database: Database, who: Member, assignment_id: int, message: str, candidates: Sequence[Candidate]
) -> Task:
    """Store candidates for a new turn; returns the child task (pair or rank) to be answered with `choose`."""
    raise NotImplementedError


def choose(
    database: Database, who: Member, assignment_id: int, submission: Submission, position: int | None = None
) -> Receipt:
    """Answer a turn's child task; the best response (or `position`, among equals) continues the conversation."""
    raise NotImplementedError


def turns(database: Database, who: Member, assignment_id: int) -> list[dict[str, Any]]:
    """The chat so far: [{message, task: Task, chosen: text | None}], oldest first."""
    raise NotImplementedError


def regeneration_prefix(
    database: Database, who: Member, assignment_id: int, step: int, rewrite: str
) -> tuple[Prompt, str]:
    """The prompt, and how the response begins (steps before `step` as they were, then `rewrite`) for a generator."""
    raise NotImplementedError


def add_regeneration(
    database: Database, who: Member, assignment_id: int, step: int, rewrite: str, candidate: Candidate
) -> Task:
    """Store what a model wrote from the corrected prefix (candidate.text is the continuation); returns the child step task."""
    raise NotImplementedError
