"""What an item knows of its own answers, so that no page need look at them all: how many there are, and how far apart.

Whoever adds answers calls `recount` in the same transaction; `doctor` compares.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, bindparam, case, func, select, update

from tutelage.store.current import IS_CURRENT, IS_FIRST
from tutelage.store.schema import Annotation, Item
from tutelage.store.schema_feedback import RankEntry, Rating, StepMarkRow
from tutelage.store.sql import chunks


def recount(connection: Connection, items: Sequence[int]) -> None:
    """Bring `Item.n_done` and `Item.spread` up to date."""
    for some in chunks(items):
        connection.execute(_RECOUNT, {"items": list(some)})


def recount_all(connection: Connection) -> int:
    """The same for all items of the store; returns how many were wrong."""
    wrong = (Item.n_done != answers_of(Item.id)) | (Item.spread != SPREAD)
    return connection.execute(update(Item).where(wrong).values(_COUNTS)).rowcount


def answers_of(item_id: Any) -> Any:
    """How many annotators have a counted answer to an item (a scalar subquery)."""
    return (
        select(func.count(Annotation.id))
        .where(Annotation.item_id == item_id, Annotation.role == "answer", IS_FIRST)
        .scalar_subquery()
    )


def _spread() -> ColumnElement[int]:
    """How far apart the current counted answers to an item lie: to a pair 0 (alike), 1 (ties against a side) or 2 (both sides);
    otherwise the largest distance of two ranks of one response, two marks of one step, two ratings by one criterion."""
    sign = case((Annotation.preference < 0, -1), (Annotation.preference > 0, 1), else_=0)
    by_part = (
        ("rank", RankEntry, RankEntry.rank, (RankEntry.slot,)),
        ("step", StepMarkRow, StepMarkRow.label, (StepMarkRow.step,)),
        ("rate", Rating, Rating.value, (Rating.slot, Rating.criterion)),
    )
    return case(
        (Item.type == "pair", _distance(sign)),
        *((Item.type == type, _distance(value, table, part)) for type, table, value, part in by_part),
        else_=0,
    )


def _distance(value: Any, table: Any = None, part: Sequence[Any] = ()) -> Any:
    """The largest distance of two answers of an item; with a `table`, of what they say of the same part."""
    distance = func.max(value) - func.min(value)
    query = select(distance).select_from(Annotation)
    if table is not None:
        query = query.join(table).group_by(*part).order_by(distance.desc()).limit(1)
    current = (Annotation.item_id == Item.id, Annotation.role == "answer", IS_CURRENT)
    return func.coalesce(query.where(*current).correlate(Item).scalar_subquery(), 0)


SPREAD = _spread()
_COUNTS = {"n_done": answers_of(Item.id), "spread": SPREAD}
# Run with every answer: built once, since building a statement costs as much as running it.
_RECOUNT = update(Item).values(_COUNTS).where(Item.id.in_(bindparam("items", expanding=True)))
