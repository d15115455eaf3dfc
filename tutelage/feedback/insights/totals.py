"""How much there is in a project: items, answers, and what each annotator has done."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, case, func, select

from tutelage.feedback.items.conflicts import number_of_conflicts, settled_items
from tutelage.feedback.people.access import Member
from tutelage.feedback.projects.projects import answered_by
from tutelage.store.current import IS_EXTRA, IS_FIRST
from tutelage.store.database import Database
from tutelage.store.schema import Annotation, Annotator, Item
from tutelage.store.schema_feedback import Assignment, Flag, Gold


@dataclass(frozen=True)
class Totals:
    """The project in numbers."""

    items: int
    complete: int
    answers: int
    extra: int
    revisions: int
    skips: int
    flags: int
    gold_items: int
    conflicts: int
    settled: int
    annotators: int


@dataclass(frozen=True)
class AnnotatorTotals:
    """One annotator's work in a project."""

    name: str
    kind: str
    answers: int
    skips: int
    last: datetime | None


def annotators(database: Database, who: Member) -> list[AnnotatorTotals]:
    """Everybody who has had an item of the project or answered one, by name.  Needs view."""
    who.require("view")
    with database.read() as connection:
        answered, skips = answered_by(who.project_id), case((Assignment.status == "skipped", 1), else_=0)
        skipped = (
            select(Assignment.annotator_id, func.sum(skips).label("n"))
            .join(Item)
            .where(Item.project_id == who.project_id)
            .group_by(Assignment.annotator_id)
            .subquery()
        )
        counts = (func.coalesce(answered.c.n, 0), func.coalesce(skipped.c.n, 0))
        rows = connection.execute(
            select(Annotator.name, Annotator.kind, *counts, answered.c.last)
            .outerjoin(answered, answered.c.annotator_id == Annotator.id)
            .outerjoin(skipped, skipped.c.annotator_id == Annotator.id)
            .where(answered.c.n.is_not(None) | skipped.c.n.is_not(None))
            .order_by(Annotator.name)
        )
        return [AnnotatorTotals(*row) for row in rows]


def totals(database: Database, who: Member) -> Totals:
    """Needs view."""
    who.require("view")
    with database.read() as connection:
        in_project = Item.project_id == who.project_id

        def count(table: Any, *conditions: Any) -> int:
            where = in_project
            if table is not Item:  # so said, the rows of the table are begun with, not all items
                where = select(Item.id).where(in_project, Item.id == table.item_id).exists()
            return connection.scalar(select(func.count()).select_from(table).where(where, *conditions)) or 0

        people = _by_annotator(connection, who.project_id)
        done = select(func.sum(Item.n_done)).where(
            in_project
        )  # what all answers would have to be counted for
        return Totals(
            items=count(Item),
            complete=count(Item, Item.n_done >= Item.overlap),
            answers=int(connection.scalar(done) or 0),
            extra=count(Annotation, IS_FIRST, IS_EXTRA),
            revisions=count(Annotation, Annotation.supersedes_id.is_not(None)),
            skips=sum(row.skips for row in people),
            flags=count(Flag),
            gold_items=count(Gold),
            conflicts=number_of_conflicts(connection, who.project_id),
            settled=len(settled_items(connection, who.project_id)),
            annotators=sum(row.answered for row in people),
        )


def _by_annotator(connection: Connection, project_id: int) -> Sequence[Any]:
    """Of each annotator whether they have a counted answer in the project, and how many skips: an index has both at hand."""
    mine = Item.project_id == project_id
    counted = (Annotation.annotator_id == Annotator.id, IS_FIRST, Annotation.role == "answer")
    answered = select(Annotation.id).join(Item, Item.id == Annotation.item_id).where(mine, *counted).exists()
    skipped = (Assignment.annotator_id == Annotator.id, Assignment.status == "skipped")
    skips = select(func.count()).select_from(Assignment).join(Item, Item.id == Assignment.item_id)
    query = select(answered.label("answered"), skips.where(mine, *skipped).scalar_subquery().label("skips"))
    return connection.execute(query.select_from(Annotator)).all()
