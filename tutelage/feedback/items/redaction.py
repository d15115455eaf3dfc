"""Redacting one record: its text goes, in every place that has it; that it was there, and every vote, stay.

Copies of a prompt or a response are found by where they come from, not by their words: the conversation that a chat made
of it, steps that were marked or written again, rewrites, drafts, suggestions.  What a person wrote in words of their own
(the reason of an answer) is a record of its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Literal

from sqlalchemy import Connection, delete, select, tuple_, update
from sqlalchemy.orm import aliased

from tutelage.feedback.errors import Refused
from tutelage.feedback.items.contents import own_item, thread_of
from tutelage.feedback.people.access import Member, note
from tutelage.store.append_only import unguarded
from tutelage.store.database import Database
from tutelage.store.schema import Annotation, Item, ItemResponse, PromptRow, ResponseRow, now
from tutelage.store.schema_calls import JudgeCall
from tutelage.store.schema_feedback import (
    Assignment,
    ChatTurn,
    Draft,
    Flag,
    Gold,
    ItemHelp,
    ItemNote,
    Rewrite,
    SentBack,
    StepMarkRow,
    Suggestion,
    VoteHelp,
)
from tutelage.store.sql import chunks, lock_project

Record = Literal["prompt", "response", "answer"]
GONE = "[redacted]"
TYPED = "redact"


def redact(
    database: Database, who: Member, item_id: int, what: Record, key: int = 0, confirm: str = ""
) -> int:
    """Remove the text of an item's prompt, of the response in slot `key`, or of the answer with the id `key`.

    Every item that shows the prompt or response is closed; returns how many.  Counts and votes stay, training and
    exports leave such items out.  Copies on disk (exports, backups) are not reached.  It cannot be undone; repeating
    it is harmless, and finishes one that was cut off before the file was cleaned.  `confirm` is the word "redact",
    typed by whoever asks.  Needs manage.  Refused: invalid (not confirmed), not-found.
    """
    who.require("manage")
    if confirm.strip().lower() != TYPED:
        raise Refused("invalid", f'type "{TYPED}" to remove the text for good: it cannot be brought back.')
    with database.write() as connection:
        lock_project(connection, who.project, database.place)
        item = own_item(connection, who, item_id)
        with unguarded(connection):
            if what == "answer":
                closed = _answer(connection, item, key)
            else:
                closed = _prompt(connection, item) if what == "prompt" else _response(connection, item, key)
                _set(connection, Item, closed, {"closed": True})
        note(
            connection, who.user, f"redact-{what}", str(item_id), who.project_id, key=key, closed=len(closed)
        )
    database.vacuum()
    return len(closed)


def _prompt(connection: Connection, item: Any) -> list[int]:
    """The prompt, and every conversation that goes on from it."""
    columns = (ChatTurn.message, Item.parent_id)
    query = select(*columns).select_from(ChatTurn).join(Item).where(ChatTurn.item_id == item.id)
    turn = connection.execute(query).one_or_none()
    prompt_id, texts = item.prompt_id, _messages(connection, item.prompt_id)
    if turn is not None and turn.message.strip():  # a message of an annotator: what was before it is not it
        texts, after = {turn.message}, _later_turns(connection, {item.id})
        connection.execute(update(ChatTurn).where(ChatTurn.item_id == item.id).values(message=GONE))
    else:
        if turn is not None:  # the opening of a chat, answered as it is
            prompt_id = next(iter(_prompts_of(connection, {turn.parent_id})))
        after = _family(connection, _items_of(connection, {prompt_id}))
    prompts = {prompt_id, item.prompt_id} | _holding(connection, after, texts)
    items = sorted(_items_of(connection, prompts))
    _empty_prompts(connection, prompts)
    _empty_around(connection, items)
    _empty_answers(connection, _answers_to(connection, items))
    return items


def _response(connection: Connection, item: Any, slot: int) -> list[int]:
    """The response with its equals (the same text to the same prompt), and what was made of it."""
    row = connection.execute(
        select(ResponseRow.prompt_id, ResponseRow.digest, ResponseRow.text)
        .join(ItemResponse)
        .where(ItemResponse.item_id == item.id, ItemResponse.slot == slot)
    ).one_or_none()
    if row is None:
        raise Refused("not-found", f"item {item.id} has no response {slot}.")
    equal = (ResponseRow.prompt_id == row.prompt_id, ResponseRow.digest == row.digest)
    responses = list(connection.scalars(select(ResponseRow.id).where(*equal)))
    items = _found(connection, ItemResponse.item_id, ItemResponse.response_id, responses)
    quoting = _holding(connection, _later_turns(connection, items), {row.text})
    again = _family(connection, items) - items  # steps of it, written again
    _empty_responses(connection, [*responses, *_responses_of(connection, again)])
    _empty_prompts(connection, quoting)
    shown = sorted(items | again | _items_of(connection, quoting))
    _empty_around(connection, shown)
    _empty_answers(connection, _answers_to(connection, items | again), steps=True)
    return shown


def _answer(connection: Connection, item: Any, annotation_id: int) -> list[int]:
    """All revisions of one person's answer: the reason, rewrites, and what a model made of those."""
    own = (Annotation.item_id == item.id, Annotation.id == annotation_id)
    row = connection.execute(select(Annotation.annotator_id, Annotation.role).where(*own)).one_or_none()
    if row is None:
        raise Refused("not-found", f"item {item.id} has no answer {annotation_id}.")
    mine = (Annotation.item_id == item.id, Annotation.annotator_id == row.annotator_id)
    _empty_answers(connection, list(connection.scalars(select(Annotation.id).where(*mine))), reasons=True)
    held = (Assignment.item_id == item.id, Assignment.annotator_id == row.annotator_id)
    connection.execute(delete(Draft).where(Draft.assignment_id.in_(select(Assignment.id).where(*held))))
    written = select(Item.id).where(
        Item.parent_id == item.id, Item.owner_id == row.annotator_id, Item.type == "step"
    )
    below = sorted(_family(connection, set(connection.scalars(written))))
    _empty_responses(connection, _responses_of(connection, below))
    _empty_answers(connection, _answers_to(connection, below), reasons=True, steps=True)
    _set(connection, Item, below, {"closed": True})
    return below


def _empty_prompts(connection: Connection, prompts: Iterable[int]) -> None:
    gone = {"content": GONE, "search": "", "reference": None, "redacted_at": now()}
    _set(connection, PromptRow, prompts, gone)


def _empty_responses(connection: Connection, responses: Iterable[int]) -> None:
    _set(connection, ResponseRow, responses, {"text": GONE, "search": "", "redacted_at": now()})


def _set(connection: Connection, table: Any, ids: Iterable[int], values: dict[str, Any]) -> None:
    for some in chunks(sorted(ids)):
        connection.execute(update(table).where(table.id.in_(some)).values(values))


def _empty_around(connection: Connection, items: Iterable[int]) -> None:
    """What stands beside the answers to some items and may quote what they show."""
    for some in chunks(sorted(items)):
        mine = Assignment.item_id.in_(some)
        for change in (
            delete(Draft).where(Draft.assignment_id.in_(select(Assignment.id).where(mine))),
            update(Assignment).where(mine, Assignment.suggestion_id.is_not(None)).values(suggestion_id=None),
            delete(Suggestion).where(Suggestion.item_id.in_(some)),
            update(ItemHelp).where(ItemHelp.item_id.in_(some)).values(first="", second=""),
            update(Assignment).where(mine, Assignment.skip_text != "").values(skip_text=""),
            update(Flag).where(Flag.item_id.in_(some)).values(text="", resolution=""),
            delete(ItemNote).where(ItemNote.item_id.in_(some)),
            update(VoteHelp)
            .where(VoteHelp.annotation_id.in_(select(Annotation.id).where(Annotation.item_id.in_(some))))
            .values(first="", second=""),
            update(JudgeCall).where(_about(some), JudgeCall.text.is_not(None)).values(text=GONE, likely=None),
        ):
            connection.execute(change)
        gold = select(Gold.item_id, Gold.answer).where(Gold.item_id.in_(some))
        for item_id, answer in connection.execute(gold).all():
            kept = answer | {"reason": ""} | ({"text": GONE} if "text" in answer else {})
            connection.execute(update(Gold).where(Gold.item_id == item_id).values(answer=kept))


def _about(items: Sequence[int]) -> Any:
    """Questions to language models about the prompts of some items, whose answers quote what they please."""
    of = select(Item.project_id, PromptRow.digest).join(PromptRow, PromptRow.id == Item.prompt_id)
    return tuple_(JudgeCall.project_id, JudgeCall.prompt).in_(of.where(Item.id.in_(items)))


def _empty_answers(
    connection: Connection, answers: Iterable[int], reasons: bool = False, steps: bool = False
) -> None:
    """Rewrites go, and `reasons` and the texts of marked `steps` where asked for; every mark and vote stays."""
    for some in chunks(sorted(answers)):
        of = StepMarkRow.annotation_id.in_(some)
        connection.execute(update(Rewrite).where(Rewrite.annotation_id.in_(some)).values(text=""))
        connection.execute(
            update(StepMarkRow).where(of, StepMarkRow.rewrite.is_not(None)).values(rewrite=None)
        )
        if steps:
            connection.execute(update(StepMarkRow).where(of).values(text=""))
        if reasons:
            said = (Annotation.id.in_(some), Annotation.reason != "")
            connection.execute(update(Annotation).where(*said).values(reason=""))
            connection.execute(update(StepMarkRow).where(of).values(reason=""))
            connection.execute(update(SentBack).where(SentBack.annotation_id.in_(some)).values(note=GONE))


# who belongs to whom --------------------------------------------------------------------------------------------------


def _family(connection: Connection, items: Iterable[int]) -> set[int]:
    """The items with all below them."""
    found, left = set(items), set(items)
    while left:
        left = _found(connection, Item.id, Item.parent_id, left) - found
        found |= left
    return found


def _messages(connection: Connection, prompt_id: int) -> set[str]:
    """The texts of a prompt's messages."""
    content = connection.execute(select(PromptRow.content).where(PromptRow.id == prompt_id)).scalar_one()
    return {turn.content for turn in thread_of(content) if turn.content}


def _holding(connection: Connection, items: Iterable[int], texts: set[str]) -> set[int]:
    """The prompts of those items that have one of the texts as a message."""
    return {prompt for prompt in _prompts_of(connection, items) if _messages(connection, prompt) & texts}


def _later_turns(connection: Connection, items: Iterable[int]) -> set[int]:
    """The turns that follow some turns in the same chat of the same annotator."""
    turn, later, turn_item, later_item = aliased(ChatTurn), aliased(ChatTurn), aliased(Item), aliased(Item)
    query = (
        select(later.item_id)
        .join(later_item, later_item.id == later.item_id)
        .join(
            turn_item,
            (turn_item.parent_id == later_item.parent_id) & (turn_item.owner_id == later_item.owner_id),
        )
        .join(turn, (turn.item_id == turn_item.id) & (turn.n < later.n))
        .where(turn.item_id.in_(sorted(items)))
    )
    return set(connection.scalars(query))


def _items_of(connection: Connection, prompts: Iterable[int]) -> set[int]:
    return _found(connection, Item.id, Item.prompt_id, prompts)


def _prompts_of(connection: Connection, items: Iterable[int]) -> set[int]:
    return _found(connection, Item.prompt_id, Item.id, items)


def _responses_of(connection: Connection, items: Iterable[int]) -> set[int]:
    return _found(connection, ItemResponse.response_id, ItemResponse.item_id, items)


def _answers_to(connection: Connection, items: Iterable[int]) -> set[int]:
    return _found(connection, Annotation.id, Annotation.item_id, items)


def _found(connection: Connection, wanted: Any, by: Any, keys: Iterable[int]) -> set[int]:
    """What the column `wanted` holds where `by` is one of the keys."""
    some = (select(wanted).where(by.in_(few)) for few in chunks(sorted(set(keys))))
    return {value for query in some for value in connection.scalars(query)}
