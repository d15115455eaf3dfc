"""Items with their texts, in the order of their content, some at a time: memory does not grow with the store."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Connection, select
from sqlalchemy.orm import aliased

from tutelage.records import Finish, Prompt
from tutelage.store.rows import finish_of, is_held_out
from tutelage.store.schema import Item, ItemResponse, PromptRow, ResponseRow
from tutelage.store.sql import CHUNK


class ItemContent(NamedTuple):
    """An item with its prompt, the texts in its slots, how each of them ended, and their rows.

    `split` is the prompt's; what arose in a chat about a held-out prompt is held out with it.  `redacted`: the text of
    the prompt or of a response is gone.
    """

    item_id: int
    type: str
    digest: str
    prompt: Prompt
    texts: tuple[str, ...]
    finishes: tuple[Finish, ...]
    responses: tuple[int, ...]
    split: str
    redacted: bool


def read_items(
    connection: Connection, project_id: int, *types: str, only: Collection[int] | None = None
) -> list[ItemContent]:
    """The items of some types (or those of them that are named) with their contents, ordered by content."""
    if only is None:
        return [item for some in stream_items(connection, project_id, *types) for item in some]
    ids = sorted(only)
    parts = (ids[start : start + CHUNK] for start in range(0, len(ids), CHUNK))
    of_type = (Item.project_id == project_id, Item.type.in_(types))
    found = [item for part in parts for item in _read(connection, *of_type, Item.id.in_(part))]
    return sorted(found, key=lambda item: item.digest)


def stream_items(connection: Connection, project_id: int, *types: str) -> Iterator[list[ItemContent]]:
    """The items of some types, ordered by content, `CHUNK` at a time.

    Each time those behind the last digest are asked for, which an index answers at once; in one transaction they are of one
    state of the store.
    """
    last = ""
    while True:
        behind = (Item.project_id == project_id, Item.type.in_(types), Item.digest > last)
        some = _read(connection, *behind, limit=CHUNK)
        if some:
            yield some
            last = some[-1].digest
        if len(some) < CHUNK:
            return


def _read(connection: Connection, *which: ColumnElement[bool], limit: int | None = None) -> list[ItemContent]:
    """Items with their contents, ordered by content: few enough for one list of their numbers."""
    parent, began_with = aliased(Item), aliased(PromptRow)
    query = (
        select(
            Item.id,
            Item.type,
            Item.digest,
            PromptRow.content,
            PromptRow.task,
            PromptRow.reference,
            PromptRow.split,
            PromptRow.redacted_at,
            began_with.split.label("began_with"),
        )
        .join(PromptRow, PromptRow.id == Item.prompt_id)
        .outerjoin(parent, parent.id == Item.parent_id)
        .outerjoin(began_with, began_with.id == parent.prompt_id)
        .where(*which)
        .order_by(Item.digest)
        .limit(limit)
    )
    rows = connection.execute(query).all()
    responses = _responses(connection, [row.id for row in rows])
    return [_content(row, responses[row.id]) for row in rows]


def _responses(connection: Connection, items: Sequence[int]) -> dict[int, list[Any]]:
    """item -> its responses by slot."""
    found: dict[int, list[Any]] = defaultdict(list)
    shown = (
        select(
            ItemResponse.item_id,
            ResponseRow.id,
            ResponseRow.text,
            ResponseRow.finish_reason,
            ResponseRow.redacted_at,
        )
        .join(ResponseRow, ResponseRow.id == ItemResponse.response_id)
        .where(ItemResponse.item_id.in_(items))
        .order_by(ItemResponse.item_id, ItemResponse.slot)
    )
    for row in connection.execute(shown):
        found[row.item_id].append(row)
    return found


def _content(row: Any, responses: Sequence[Any]) -> ItemContent:
    return ItemContent(
        row.id,
        row.type,
        row.digest,
        Prompt.from_json(row.content, row.task, row.reference),
        tuple(one.text for one in responses),
        tuple(finish_of(one.finish_reason) for one in responses),
        tuple(one.id for one in responses),
        row.began_with if row.began_with and is_held_out(row.began_with) else row.split,
        any(part.redacted_at is not None for part in (row, *responses)),
    )
