"""Items that a judge leaves to people: where it is not sure enough, or has no verdict."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import ColumnElement, Connection, case, func, select, update

from tutelage.store.current import IS_FIRST
from tutelage.store.rows import Unsure
from tutelage.store.schema import Annotation, Annotator, Item
from tutelage.store.schema_calls import JudgeLeft
from tutelage.store.sql import chunks, insert_rows

PEOPLE = ("human", "simulated")
_answers = select(Annotation.id).join(Annotator, Annotator.id == Annotation.annotator_id)
IS_ANSWERED: ColumnElement[bool] = (
    _answers.where(Annotation.item_id == JudgeLeft.item_id, IS_FIRST, Annotator.kind.in_(PEOPLE))
    .where(Annotation.submitted_at >= JudgeLeft.at)
    .correlate(JudgeLeft)
    .exists()
)
"""Condition on `JudgeLeft`: a person has answered the item since."""
IS_WAITING: ColumnElement[bool] = (Item.n_done < Item.overlap) & Item.closed.is_(False) & ~IS_ANSWERED
"""Condition on `JudgeLeft` and its `Item`: no person has answered since, and the queue still has it."""


@dataclass(frozen=True)
class Left:
    """Items that a judge left to people: all of them, those that a person answered since, and those that still wait for one.

    What is neither was settled otherwise: by another judge, or taken out of the queue.
    """

    items: int = 0
    answered: int = 0
    waiting: int = 0


def insert_left(connection: Connection, judge: str, items: Sequence[int]) -> None:
    """Write down that a judge leaves items to people; what it left before stays as it is."""
    there: set[int] = set()
    for some in chunks(items):
        known = select(JudgeLeft.item_id).where(JudgeLeft.judge == judge, JudgeLeft.item_id.in_(some))
        there |= set(connection.scalars(known))
    new = [{"item_id": item, "judge": judge} for item in dict.fromkeys(items) if item not in there]
    insert_rows(connection, JudgeLeft, new)


def ask_for_people(connection: Connection, project_id: int, judge: str, items: Sequence[Unsure]) -> None:
    """Leave items to people, and let those wait for them, in an order of their own, that no person has answered since."""
    insert_left(connection, judge, [one.item_id for one in items])
    seen: set[int] = set()
    for some in chunks([one.item_id for one in items]):
        mine = (JudgeLeft.judge == judge, JudgeLeft.item_id.in_(some))
        seen |= set(connection.scalars(select(JudgeLeft.item_id).where(*mine, IS_ANSWERED)))
    for one in items:
        if one.item_id not in seen:
            change = {
                "priority": one.priority,
                "overlap": case((Item.overlap < one.overlap, one.overlap), else_=Item.overlap),
            }
            own = (Item.id == one.item_id, Item.project_id == project_id)
            connection.execute(update(Item).where(*own).values(change))


def read_left(connection: Connection, project_id: int) -> dict[str, Left]:
    """Judge -> what it left to people in a project."""
    count = func.count(JudgeLeft.item_id)
    query = (
        select(JudgeLeft.judge, count, count.filter(IS_ANSWERED), count.filter(IS_WAITING))
        .join(Item, Item.id == JudgeLeft.item_id)
        .where(Item.project_id == project_id)
        .group_by(JudgeLeft.judge)
    )
    return {judge: Left(*counted) for judge, *counted in connection.execute(query)}
