"""Problems written by experts, so that a model falls into them: options, which are right, where the trap is."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from datetime import timedelta
from string import ascii_uppercase
from typing import Annotated, Any, Literal

from pydantic import Field
from sqlalchemy import Connection, delete, select, update

from tutelage.feedback.asking.payloads import LiveResponse, Model
from tutelage.feedback.errors import Refused
from tutelage.feedback.items.written import store_response
from tutelage.feedback.people.access import Member, note
from tutelage.feedback.people.users import fingerprint
from tutelage.feedback.projects.projects import standing
from tutelage.feedback.refining import rows
from tutelage.feedback.refining.judging import is_right
from tutelage.records import ErrorKind, Message, Prompt
from tutelage.store.database import Database
from tutelage.store.generations import ensure_prompt
from tutelage.store.schema import Item, now
from tutelage.store.schema_refining import TrialRow
from tutelage.store.sql import insert_one, lock_project

TRIALS_KEPT = timedelta(days=1)
AHEAD = 100.0
"""The priority of an author's problem: it comes before what is built in bulk."""


class Draft(Model):
    """A problem: its text, its options in order with those that are right (by number, from 0), or else its answer.

    `trap`: where the model is expected to go wrong; `error`: what kind of error that is.  `layout`: how the options stand behind
    the text, as a model is used to them: one below the other, or in its line.
    """

    text: Annotated[str, Field(max_length=20_000)]
    options: Annotated[tuple[Annotated[str, Field(max_length=2_000)], ...], Field(max_length=12)] = ()
    layout: Literal["lines", "inline"] = "lines"
    right: Annotated[tuple[Annotated[int, Field(ge=0, le=11)], ...], Field(max_length=12)] = ()
    answer: Annotated[str, Field(max_length=2_000)] = ""
    trap: Annotated[str, Field(max_length=2_000)] = ""
    error: ErrorKind = "reasoning"


class Tried(Model):
    """What a model answered, and whether that is right."""

    said: LiveResponse
    right: bool


def prompt_from(draft: Draft) -> Prompt:
    """The problem as a user's turn, options behind it by letters, with its reference: models that are served are asked in their
    chat template, as in training.

    Refused: invalid (no text; empty options; no right option; no answer).
    """
    text = draft.text.strip()
    if not text:
        raise Refused("invalid", "write the problem first.")
    options = [option.strip() for option in draft.options]
    if not options:
        if not draft.answer.strip():
            raise Refused(
                "invalid", "a problem without options needs its right answer: nothing could be checked."
            )
        return _asked(text, _reference(draft, draft.answer.strip()))
    if len(options) == 1 or not all(options) or len(set(options)) < len(options):
        raise Refused("invalid", "a problem has at least two options, none empty and none twice.")
    right = sorted(set(draft.right))
    if not right:
        raise Refused(
            "invalid",
            "a problem without a right option cannot be checked: tick what is right, or add an option that says so, such as "
            "“None of them”.",
        )
    if right[-1] >= len(options):
        raise Refused("invalid", f"there is no option {right[-1] + 1}: there are {len(options)}.")
    lines = [f"{letter}. {option}" for letter, option in zip(ascii_uppercase, options, strict=False)]
    letters = [ascii_uppercase[number] for number in right]
    whole = " ".join([text, *lines]) if draft.layout == "inline" else "\n".join([text, "", *lines])
    return _asked(whole, _reference(draft, letters))


def judged(prompt: Prompt, said: Sequence[LiveResponse]) -> list[Tried]:
    """Whether each answer is right; one that comes to no end is not."""
    return [Tried(said=one, right=one.finish == "eos" and is_right(prompt, one.text) is True) for one in said]


def keep(
    database: Database,
    who: Member,
    draft: Draft,
    tried: Sequence[Tried],
    whose: Literal["me", "experts"] = "me",
    anyway: bool = False,
) -> int:
    """Store a problem with the answers that are wrong, and begin to refine one of them; returns its item.  Needs teach.

    Its first round comes first in the author's queue, or in the experts'.
    Refused: invalid (as `prompt_from`; nothing was tried); conflict (no model fails it, unless `anyway`; every answer that could
    be refined is there already).
    """
    who.require_account("teach")
    prompt = prompt_from(draft)
    if not tried:
        raise Refused("invalid", "try the problem first: what the models answer is what is refined.")
    wrong = [one for one in tried if not one.right]
    if not wrong and not anyway:
        raise Refused(
            "conflict", f"none of {len(tried)} answers is wrong: make it harder, or keep it all the same."
        )
    kept = sorted(wrong or tried[:1], key=lambda one: one.said.finish == "length")
    with database.write() as connection:
        lock_project(connection, who.project, database.place)
        standing(connection, who.project_id)  # makes the project's questions where nobody has yet
        kept = _new_ones(connection, who, prompt, kept)
        prompt_id = ensure_prompt(connection, who.project_id, prompt, "train").id
        stored = [store_response(connection, prompt_id, one.said, author=who.user.name) for one in kept]
        root = rows.open_refinement(connection, who.project_id, rows.Written(stored[0], kept[0].right))
        rows.reserve(connection, root, who.annotator_id if whose == "me" else None)
        connection.execute(update(Item).where(Item.id == root).values(priority=AHEAD))
        note(connection, who.user, "write-problem", str(root), who.project_id)
        return root


def _new_ones(connection: Connection, who: Member, prompt: Prompt, kept: Sequence[Tried]) -> list[Tried]:
    """Those that nobody has been asked about: somebody may have written this problem before.  Refused: conflict."""
    there = [rows.item_of(connection, who.project_id, prompt, one.said.text) for one in kept]
    new = [one for one, item in zip(kept, there, strict=True) if item is None]
    if not new:
        raise Refused(
            "conflict",
            f"this problem is there already, with these very answers (item {there[0]}): change it, or try it again.",
        )
    return new


def _asked(text: str, reference: dict[str, Any]) -> Prompt:
    return Prompt((Message("user", text),), reference=reference)


def _reference(draft: Draft, answer: Any) -> dict[str, Any]:
    trap = {"trap": draft.trap.strip()} if draft.trap.strip() else {}
    return {"answer": answer, **trap, "error": draft.error}


# what models answered, until the problem is kept ----------------------------------------------------------------------


def keep_trial(database: Database, who: Member, prompt: Prompt, tried: Sequence[Tried]) -> str:
    """Keep some answers for a day, so that what is stored later is what a model said, not what a browser says it said.

    Returns the secret name that they are found by.
    """
    name, at = secrets.token_urlsafe(16), now()
    answers = [one.model_dump(mode="json") for one in tried]
    with database.write() as connection:
        connection.execute(delete(TrialRow).where(TrialRow.created_at < at - TRIALS_KEPT))
        own = {"key": _trial_key(who, name), "project_id": who.project_id, "prompt": prompt.id}
        insert_one(connection, TrialRow, **own, answers=answers, created_at=at)
    return name


def trial(database: Database, who: Member, name: str, prompt: Prompt) -> tuple[Tried, ...]:
    """The answers to this prompt; none where it was changed since, or they were not kept that long."""
    query = select(TrialRow.answers).where(
        TrialRow.key == _trial_key(who, name), TrialRow.prompt == prompt.id
    )
    with database.read() as connection:
        return tuple(Tried.model_validate(one) for one in connection.scalar(query) or ())


def drop_trial(database: Database, who: Member, name: str) -> None:
    """They are stored."""
    with database.write() as connection:
        connection.execute(delete(TrialRow).where(TrialRow.key == _trial_key(who, name)))


def _trial_key(who: Member, name: str) -> str:
    return fingerprint("trial", who.user.name, name)
