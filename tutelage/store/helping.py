"""What assistants say of the responses of pairs, for people to see before they vote."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection, select

from tutelage.records import Help
from tutelage.store.schema import Item
from tutelage.store.schema_feedback import ItemHelp
from tutelage.store.sql import chunks, insert_rows


def insert_help_of_items(connection: Connection, project_id: int, said: Sequence[tuple[int, Help]]) -> int:
    """Keep it, by item; returns how much is new.  What the same assistant has said of an item before stays as it is.

    Raises ValueError for an item that is no pair of the project, and where nothing is said (`arm` none).
    """
    items = [item for item, _ in said]
    known: set[int] = set()
    for some in chunks(items):
        query = select(Item.id).where(Item.project_id == project_id, Item.type == "pair", Item.id.in_(some))
        known |= set(connection.scalars(query))
    if strangers := sorted(set(items) - known):
        raise ValueError(f"item {strangers[0]} is no pair of this project: nothing can be said of it.")
    rows = []
    names = {help.assistant for _, help in said}
    there = {name: helped_items(connection, project_id, name) for name in names}
    for item, help in said:
        if help.arm == "none":
            raise ValueError(f"item {item}: an assistant that is kept away says nothing.")
        if item not in there[help.assistant]:
            first, second = help.said
            there[help.assistant].add(item)
            rows.append(
                {
                    "item_id": item, "arm": help.arm, "assistant": help.assistant, "first": first, "second": second,
                    "argues": help.argues, "template": help.template,
                }
            )  # fmt: skip
    insert_rows(connection, ItemHelp, rows)
    return len(rows)


def helped_items(connection: Connection, project_id: int, assistant: str) -> set[int]:
    """The pairs of a project of which an assistant has said something."""
    query = select(ItemHelp.item_id).join(Item, Item.id == ItemHelp.item_id)
    return set(
        connection.scalars(query.where(Item.project_id == project_id, ItemHelp.assistant == assistant))
    )
