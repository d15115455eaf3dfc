"""Which items their annotators disagree about."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, Select, case, func, select

from tutelage.store.current import IS_CURRENT, IS_SETTLING
from tutelage.store.schema import Annotation, Annotator, Item, PromptRow
from tutelage.store.schema_feedback import RankEntry, Rating, SchemaVersion, StepMarkRow

APART = 0.5  # share of the widest possible distance from which answers are far apart, and ratings a conflict


def conflicts(
    connection: Connection, project_id: int, full: bool = True, among: Sequence[int] | None = None
) -> dict[int, float]:
    """item -> how disputed it is, in (0, 1]; see `answers.next_conflict` for what is a conflict.

    Without `full` also items that still want answers; `among`: only these items.
    """
    found: dict[int, float] = {}
    for query, least in _spreads(connection, project_id, full, among):
        for item, share in connection.execute(query):
            if share > 0 and share >= least:
                found[item] = max(found.get(item, 0.0), min(1.0, float(share)))
    return found


def number_of_conflicts(connection: Connection, project_id: int) -> int:
    """How many items `conflicts` finds; they are counted where they lie."""
    total = 0
    for query, least in _spreads(connection, project_id, True, None):
        rows = query.subquery()
        apart = (rows.c.share > 0, rows.c.share >= least)
        total += connection.scalar(select(func.count(func.distinct(rows.c.id))).where(*apart)) or 0
    return total


def _spreads(
    connection: Connection, project_id: int, full: bool, among: Sequence[int] | None
) -> Iterator[tuple[Select[Any], float]]:
    """For each type of item a query for (id, share): how far apart the answers to each of its parts are; and from what share
    on that is a conflict."""
    sign = case((Annotation.preference < 0, -1), (Annotation.preference > 0, 1), else_=0)
    span = (func.max(sign) - func.min(sign)) / 2.0
    yield _answers(project_id, "pair", span, full, among).group_by(Item.id), 0.0
    for type, table, value, unit, widest in (
        ("rank", RankEntry, RankEntry.rank, (RankEntry.slot,), 8.0),
        ("step", StepMarkRow, StepMarkRow.label, (StepMarkRow.step,), 2.0),
        ("rate", Rating, Rating.value, (Rating.slot, Rating.criterion), _widest(connection, project_id)),
    ):
        spread: Any = (func.max(value) - func.min(value)) / widest
        query = _answers(project_id, type, spread, full, among).join(table)
        yield query.group_by(Item.id, *unit), APART if type == "rate" else 0.0


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


def unsettled(connection: Connection, project_id: int) -> list[int]:
    """The items in conflict that nobody has settled, most disputed first."""
    settled = settled_items(connection, project_id)
    found = {item: share for item, share in conflicts(connection, project_id).items() if item not in settled}
    return sorted(found, key=lambda item: (-found[item], item))


def _answers(project_id: int, type: str, spread: Any, full: bool, among: Sequence[int] | None) -> Select[Any]:
    """Current counted answers to the items of one type that have two or more; the caller groups them by item."""
    complete = (Item.n_done >= (Item.overlap if full else 2), Item.n_done >= 2)
    counted = (Annotation.role == "answer", IS_CURRENT)
    query = select(Item.id, spread.label("share")).select_from(Item).join(Annotation)
    query = query.where(Item.project_id == project_id, Item.type == type, *complete, *counted)
    return query if among is None else query.where(Item.id.in_(among))


def _widest(connection: Connection, project_id: int) -> float:
    """The largest possible distance of two ratings, under the newest questions."""
    query = select(SchemaVersion.content).where(SchemaVersion.project_id == project_id)
    newest = connection.scalar(query.order_by(SchemaVersion.n.desc()).limit(1))
    return float((newest or {}).get("scale", 7)) - 1
