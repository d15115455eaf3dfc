"""How much there is and how much is wanted, per project: what a monitor asks for every few seconds."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from sqlalchemy import ColumnElement, Connection, func, literal_column, select

from tutelage.store.current import IS_UNCOUNTED
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
        answers = Counter(_done(connection))  # to count all answers would take longer than the monitor waits
        answers.update(_by_project(connection, Annotation, IS_UNCOUNTED))
        revisions = (Annotation.supersedes_id.is_not(None), Annotation.role == "answer")
        answers.update(_by_project(connection, Annotation, *revisions))
        live = (Assignment.status == literal_column("'leased'"), Assignment.lease_expires_at > now())
        leases = _by_project(connection, Assignment, *live)
        open_items = (Item.owner_id.is_(None), Item.closed.is_(False), Item.n_done < Item.overlap)
        wanted = select(Item.project_id, func.sum(Item.overlap - Item.n_done)).where(*open_items)
        left = {key: int(n) for key, n in connection.execute(wanted.group_by(Item.project_id))}
        there = select(Project.id, Project.name).where(Project.deleted_at.is_(None))
        return [
            ProjectCensus(name, answers.get(key, 0), leases.get(key, 0), left.get(key, 0))
            for key, name in connection.execute(there.order_by(Project.name))
        ]


def _done(connection: Connection) -> dict[int, int]:
    """project -> how many first answers count."""
    query = select(Item.project_id, func.sum(Item.n_done)).group_by(Item.project_id)
    return {key: int(n) for key, n in connection.execute(query)}


def _by_project(
    connection: Connection, table: type[Annotation] | type[Assignment], *which: ColumnElement[bool]
) -> dict[int, int]:
    """project -> how many of these rows there are about its items."""
    query = select(Item.project_id, func.count()).select_from(table).join(Item).where(*which)
    return dict(connection.execute(query.group_by(Item.project_id)).all())
