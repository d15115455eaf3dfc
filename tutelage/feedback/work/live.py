"""Turns of a chat, written on the spot by models.  Generation itself happens elsewhere.

A turn is a child item (pair or rank) below the chat's item, given to its annotator only, with responses whose prompt is the
conversation so far; so chats reach training as comparisons like any others.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, select

from tutelage.feedback.asking.payloads import MAX_TEXT, ItemType, LiveResponse, Receipt, Submission, Task
from tutelage.feedback.errors import Refused
from tutelage.feedback.items.contents import lock_item, texts_of
from tutelage.feedback.items.written import prompt_of, store_response
from tutelage.feedback.people.access import Member
from tutelage.feedback.work.answers import revise_in, submit_in
from tutelage.feedback.work.leases import (
    Held,
    hold,
    latest_answer,
    lease,
    own_assignment,
    read_task,
    turns_of,
)
from tutelage.records import Message, Prompt
from tutelage.store.database import Database
from tutelage.store.generations import ensure_prompt
from tutelage.store.pairing import LIVE, insert_item
from tutelage.store.schema import Item, digest
from tutelage.store.schema_feedback import Assignment, ChatTurn
from tutelage.store.sql import insert_one, lock_project


def chat_prompt(database: Database, who: Member, assignment_id: int, message: str) -> Prompt:
    """The conversation so far with the annotator's new message at its end: what candidates must answer.

    The item's prompt opens the conversation, and nothing of it is dropped: with an empty first message the candidates
    answer it as it is; a first message is added to it (to its last user turn, since many models want turns to
    alternate).  Refused: not-found; conflict (the latest turn has no choice yet, or the chat was ended); invalid
    (nothing to answer, too long).
    """
    who.require("label")
    with database.write() as connection:
        return _next_prompt(connection, _open_chat(connection, who, assignment_id), message)


def add_turn(
    database: Database, who: Member, assignment_id: int, message: str, candidates: Sequence[LiveResponse]
) -> Task:
    """Store candidates for a new turn; returns the child task (pair or rank) to be answered with `choose`."""
    who.require("label")
    if not 2 <= len(candidates) <= 9:
        raise Refused("invalid", f"a turn has 2 to 9 candidates, not {len(candidates)}.")
    with database.write() as connection:
        lock_project(connection, who.project, database.place)
        chat = _open_chat(connection, who, assignment_id)
        prompt = _next_prompt(connection, chat, message)
        prompt_id = ensure_prompt(connection, who.project_id, prompt, LIVE).id
        responses = [store_response(connection, prompt_id, candidate) for candidate in candidates]
        n = len(_turns(connection, chat))
        type: ItemType = "pair" if len(responses) == 2 else "rank"
        held = _child(connection, who, chat, type, prompt_id, responses, ("turn", n))
        insert_one(connection, ChatTurn, item_id=held.item_id, n=n, message=message, chosen_slot=None)
        return read_task(connection, who, held.id)


def choose(
    database: Database, who: Member, assignment_id: int, submission: Submission, position: int | None = None
) -> Receipt:
    """Answer a turn's child task; the best response (`position`, among equals) continues the conversation.

    Again: a revision, as long as no later turn builds on it.  Refused: as submit and revise.
    """
    who.require("label")
    with database.write() as connection:
        held = hold(connection, who, assignment_id, submission)
        if connection.scalar(select(ChatTurn.n).where(ChatTurn.item_id == held.item_id)) is None:
            raise Refused("not-found", f"assignment {assignment_id} is no turn of a chat: submit it instead.")
        latest = latest_answer(connection, held.item_id, who.annotator_id)
        if latest is None:
            return submit_in(connection, who, held, submission, position)
        return revise_in(connection, who, latest, submission, position)


def turns(database: Database, who: Member, assignment_id: int) -> list[dict[str, Any]]:
    """The chat so far: [{message, task: Task, chosen: text | None}], oldest first."""
    who.require("label")
    with database.write() as connection:
        chat = hold(connection, who, assignment_id)
        return [
            {
                "message": turn.message,
                "task": read_task(connection, who, turn.assignment_id),
                "chosen": _chosen(connection, turn),
            }
            for turn in _turns(connection, chat)
        ]


# chats ----------------------------------------------------------------------------------------------------------------


def _open_chat(connection: Connection, who: Member, assignment_id: int) -> Held:
    chat = hold(connection, who, assignment_id)
    if chat.type != "chat":
        raise Refused("not-found", f"assignment {assignment_id} is no chat.")
    if chat.status not in ("leased", "released"):
        raise Refused("conflict", f"this chat is {chat.status}: ask for the next item.")
    return chat


def _turns(connection: Connection, chat: Held) -> list[Any]:
    """The turns of one annotator's chat: child item, n, message, chosen slot, assignment, in order."""
    columns = (ChatTurn.n, ChatTurn.message, ChatTurn.chosen_slot, Assignment.id.label("assignment_id"))
    own = (Assignment.item_id == Item.id) & (Assignment.annotator_id == Item.owner_id)
    query = turns_of(chat.item_id, chat.annotator_id).add_columns(*columns).join(Assignment, own)
    return list(connection.execute(query.order_by(ChatTurn.n)))


def _chosen(connection: Connection, turn: Any) -> str | None:
    if turn.chosen_slot is None:
        return None
    return texts_of(connection, turn.item_id)[turn.chosen_slot]


def _next_prompt(connection: Connection, chat: Held, message: str) -> Prompt:
    if len(message) > MAX_TEXT:
        raise Refused("invalid", f"a message has at most {MAX_TEXT} characters.")
    opening = prompt_of(connection, chat.prompt_id)
    done = _turns(connection, chat)
    if done and done[-1].chosen_slot is None:
        raise Refused("conflict", "choose a response to your last message first.")
    said = [turn.message for turn in done] + [message]
    thread = _opening(opening, said[0])
    for turn, following in zip(done, said[1:], strict=True):
        thread += [Message("assistant", _chosen(connection, turn) or ""), Message("user", following)]
    if thread[-1].role not in ("user", "tool") or not thread[-1].content.strip():
        raise Refused("invalid", "write a message first.")
    if len(said) == 1 and not message.strip():
        return opening
    return Prompt(tuple(thread), opening.task, tools=opening.tools)


def _opening(prompt: Prompt, message: str) -> list[Message]:
    """How the conversation begins: the item's prompt, and the first message, if there is one."""
    thread = [Message("user", prompt.content)] if isinstance(prompt.content, str) else list(prompt.content)
    if not message.strip():
        return thread
    if thread[-1].role != "user":
        return [*thread, Message("user", message)]
    return [*thread[:-1], Message("user", f"{thread[-1].content}\n\n{message}")]


# rows -----------------------------------------------------------------------------------------------------------------


def _child(
    connection: Connection,
    who: Member,
    parent: Held,
    type: ItemType,
    prompt_id: int,
    responses: Sequence[int],
    name: tuple[str, int],
) -> Held:
    """An item below another one, for this annotator alone, leased to them."""
    item_id = insert_item(
        connection,
        responses,
        project_id=who.project_id,
        type=type,
        prompt_id=prompt_id,
        overlap=1,
        digest=digest("below", parent.item_digest, who.user.name, *name),
        parent_id=parent.item_id,
        owner_id=who.annotator_id,
    )
    lock_item(connection, item_id)
    return own_assignment(connection, who, lease(connection, who, item_id))
