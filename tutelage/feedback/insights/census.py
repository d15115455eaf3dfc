"""How much there is and how much is wanted, per project: what a monitor asks for every few seconds."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import ColumnElement, Connection, func, select

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
        answers = _by_project(connection, Annotation)
        leases = _by_project(
            connection, Assignment, Assignment.status == "leased", Assignment.lease_expires_at > now()
        )
        open_items = (Item.owner_id.is_(None), Item.closed.is_(False), Item.n_done < Item.overlap)
        wanted = select(Item.project_id, func.sum(Item.overlap - Item.n_done)).where(*open_items)
        left = {key: int(n) for key, n in connection.execute(wanted.group_by(Item.project_id))}
        there = select(Project.id, Project.name).where(Project.deleted_at.is_(None))
        return [
            ProjectCensus(name, answers.get(key, 0), leases.get(key, 0), left.get(key, 0))
            for key, name in connection.execute(there.order_by(Project.name))
        ]


def _by_project(
    connection: Connection, table: type[Annotation] | type[Assignment], *which: ColumnElement[bool]
) -> dict[int, int]:
    """project -> how many of these rows there are about its items."""
    query = select(Item.project_id, func.count()).select_from(table).join(Item).where(*which)
    return dict(connection.execute(query.group_by(Item.project_id)).all())
