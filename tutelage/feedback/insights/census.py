"""How much there is and how much is wanted, per project: what a monitor asks for every few seconds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import ColumnElement, Connection, Select, func, select

from tutelage.store.database import Database
from tutelage.store.schema import Annotation, Item, Project, now
from tutelage.store.schema_feedback import Assignment


@dataclass(frozen=True)
class ProjectCensus:
    """One project.  `answers` counts every stored row, revisions too; `wanted`: answers that open items still want."""

    name: str
    answers: int
    leases: int
    wanted: int


def census(database: Database) -> list[ProjectCensus]:
    """All projects by name."""
    with database.read() as connection:
        answers = _per_project(connection, Annotation, func.count(Annotation.id))
        live = (Assignment.status == "leased", Assignment.lease_expires_at > now())
        leases = _per_project(connection, Assignment, func.count(Assignment.id), live)
        open_items = (Item.owner_id.is_(None), Item.closed.is_(False), Item.n_done < Item.overlap)
        wanted = select(Item.project_id, func.sum(Item.overlap - Item.n_done)).where(*open_items)
        left = _by_key(connection, wanted)
        there = select(Project.id, Project.name).where(Project.deleted_at.is_(None))
        return [
            ProjectCensus(name, answers.get(key, 0), leases.get(key, 0), int(left.get(key, 0)))
            for key, name in connection.execute(there.order_by(Project.name))
        ]


def _per_project(
    connection: Connection,
    table: type[Annotation] | type[Assignment],
    count: ColumnElement[int],
    conditions: Sequence[ColumnElement[bool]] = (),
) -> dict[int, int]:
    query = select(Item.project_id, count).select_from(table).join(Item, Item.id == table.item_id)
    return _by_key(connection, query.where(*conditions))


def _by_key(connection: Connection, query: Select[int, int]) -> dict[int, int]:
    return {row[0]: row[1] for row in connection.execute(query.group_by(Item.project_id))}
