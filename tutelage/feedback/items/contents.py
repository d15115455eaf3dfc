"""What an item is about: its texts, and the lock on its row."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, bindparam, select

from tutelage.feedback.asking.payloads import ItemType, Schema, Turn
from tutelage.feedback.asking.steps import split_steps
from tutelage.feedback.errors import Refused
from tutelage.feedback.people.access import Member
from tutelage.records import Prompt, PromptJson
from tutelage.store.schema import Item, ItemResponse, ResponseRow
from tutelage.store.schema_feedback import SentBack
from tutelage.store.sql import takes_turns


def lock_item(connection: Connection, item_id: int) -> None:
    """Take the item's row: claims and answers of one item come one after the other (SQLite has one writer anyway)."""
    if not takes_turns(connection):
        connection.execute(select(Item.id).where(Item.id == item_id).with_for_update(key_share=True))


def own_item(connection: Connection, who: Member, item_id: int) -> Any:
    """The item's row (id, type, prompt_id), locked.  Refused: not-found, also in another project."""
    lock_item(connection, item_id)
    own = (Item.id == item_id, Item.project_id == who.project_id)
    row = connection.execute(select(Item.id, Item.type, Item.prompt_id).where(*own)).one_or_none()
    if row is None:
        raise Refused("not-found", f"there is no item {item_id} in this project.")
    return row


def texts_of(connection: Connection, item_id: int) -> list[str]:
    """The texts of an item's responses, by slot."""
    return list(connection.scalars(_TEXTS, {"item": item_id}))


def newest_note(annotation_id: Any, outside: Any) -> Any:
    """The note with which an answer was sent back last, in a statement on the table `outside`."""
    query = select(SentBack.note).where(SentBack.annotation_id == annotation_id)
    return query.order_by(SentBack.id.desc()).limit(1).correlate(outside).scalar_subquery()


def thread_of(content: PromptJson) -> tuple[Turn, ...]:
    """The stored content of a prompt as turns for people: calls of tools are text; a plain prompt is one user's turn."""
    if isinstance(content, str):
        return (Turn(role="user", content=content),)
    turns = Prompt.from_json(content).content
    assert not isinstance(turns, str)
    return tuple(Turn(role=turn.role, content=turn.text()) for turn in turns)


def steps_shown(type: ItemType, schema: Schema, text: str) -> tuple[str, ...]:
    """The steps of a response where steps are marked."""
    return split_steps(text, schema.splitter) if type == "step" else ()


_TEXTS = (
    select(ResponseRow.text)
    .join(ItemResponse, ItemResponse.response_id == ResponseRow.id)
    .where(ItemResponse.item_id == bindparam("item"))
    .order_by(ItemResponse.slot)
)
