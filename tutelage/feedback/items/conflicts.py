"""Which items their annotators disagree about."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Float,
    Row,
    and_,
    case,
    cast,
    func,
    literal_column,
    select,
    true,
)

from tutelage.store.current import IS_SETTLING
from tutelage.store.schema import Annotation, Annotator, Item, PromptRow
from tutelage.store.schema_feedback import SchemaVersion

APART = 0.5  # share of the widest possible distance from which answers are far apart, and ratings a conflict
WIDEST = {"pair": 2, "rank": 8, "step": 2}  # distance of answers; of ratings it is a matter of the questions


def conflicts(
    connection: Connection, project_id: int, full: bool = True, among: Sequence[int] | None = None
) -> dict[int, float]:
    """item -> how disputed it is, in (0, 1]; see `answers.next_conflict` for what is a conflict.

    Without `full` also items that still want answers; `among`: only these items.
    """
    found = in_conflict(connection, project_id, full)
    query = select(Item.id, found.share.label("share")).where(found.holds)
    if among is not None:
        query = query.where(Item.id.in_(among))
    return {row.id: row.share for row in connection.execute(query)}


def number_of_conflicts(connection: Connection, project_id: int) -> int:
    """How many items `conflicts` finds."""
    found = in_conflict(connection, project_id)
    return connection.scalar(select(func.count()).select_from(Item).where(found.holds)) or 0


@dataclass(frozen=True)
class InConflict:
    """Of an item, as expressions: how disputed it is, in (0, 1]; whether that is a conflict."""

    share: ColumnElement[float]
    holds: ColumnElement[bool]


def in_conflict(connection: Connection, project_id: int, full: bool = True, least: float = 0.0) -> InConflict:
    """What `conflicts` asks, for a condition of one's own; `least`: only from that share on."""
    share = Item.spread / cast(case(WIDEST, value=Item.type, else_=_widest(connection, project_id)), Float)
    holds = (
        Item.project_id == project_id,
        Item.spread > literal_column("0"),  # in the words of its index
        Item.n_done >= 2,
        Item.n_done >= Item.overlap if full else true(),
        share >= case((Item.type == "rate", max(APART, least)), else_=least),
    )
    return InConflict(case((share > 1.0, 1.0), else_=share), and_(*holds))


def settled_items(connection: Connection, project_id: int) -> set[int]:
    """The items that somebody has settled, and nobody has reopened since."""
    query = select(Annotation.item_id).join(Item).where(Item.project_id == project_id, IS_SETTLING)
    return set(connection.scalars(query))


def settlements(
    connection: Connection, project_id: int, *conditions: ColumnElement[bool], limit: int | None = None
) -> list[Row[Any]]:
    """(annotation_id, item_id, by, at, content) of the adjudications that hold, newest first; content: the prompt's."""
    said = (Annotation.id.label("annotation_id"), Annotation.item_id, Annotation.submitted_at.label("at"))
    query = (
        select(*said, Annotator.name.label("by"), PromptRow.content)
        .select_from(Annotation)
        .join(Item)
        .join(PromptRow)
        .join(Annotator, Annotator.id == Annotation.annotator_id)  # an item has an owner, too
        .where(Item.project_id == project_id, IS_SETTLING, *conditions)
    )
    return list(connection.execute(query.order_by(Annotation.id.desc()).limit(limit)))


@dataclass(frozen=True)
class Unsettled:
    """The conflict that is to be settled next, and how many there are."""

    item_id: int
    left: int


def next_unsettled(connection: Connection, project_id: int, after: int = 0) -> Unsettled | None:
    """The most disputed of the items in conflict that nobody has settled; `after` one of them that which follows, round and
    round."""
    found = in_conflict(connection, project_id)
    settled = select(Annotation.id).where(Annotation.item_id == Item.id, IS_SETTLING).correlate(Item).exists()
    waiting = select(Item.id, found.share.label("share")).where(found.holds, ~settled).subquery()
    left = connection.scalar(select(func.count()).select_from(waiting)) or 0
    following = select(waiting.c.id).order_by(waiting.c.share.desc(), waiting.c.id).limit(1)
    share = connection.scalar(select(waiting.c.share).where(waiting.c.id == after))
    item = None
    if share is not None:
        behind = (waiting.c.share < share) | ((waiting.c.share == share) & (waiting.c.id > after))
        item = connection.scalar(following.where(behind))
    item = item or connection.scalar(following)
    return Unsettled(item, left) if item else None


def _widest(connection: Connection, project_id: int) -> float:
    """The largest possible distance of two ratings, under the newest questions."""
    query = select(SchemaVersion.content).where(SchemaVersion.project_id == project_id)
    newest = connection.scalar(query.order_by(SchemaVersion.n.desc()).limit(1))
    return float((newest or {}).get("scale", 7)) - 1
