"""Deleting a project: hidden at first, with everything kept; really gone only by a purge that names it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Select, delete, func, select, update

from tutelage.feedback.errors import Refused
from tutelage.feedback.people.access import Member, User, note
from tutelage.store.append_only import unguarded
from tutelage.store.database import Database
from tutelage.store.schema import Annotation, Base, Item, Project, PromptRow, ResponseRow, now
from tutelage.store.schema_feedback import Assignment, GuidelineVersion, Membership, Webhook


@dataclass(frozen=True)
class DeletedProject:
    """A project that can be restored or purged."""

    name: str
    title: str
    deleted_at: datetime
    answers: int


@dataclass(frozen=True)
class Purged:
    """What is gone for good."""

    items: int
    responses: int
    answers: int


def delete_project(database: Database, who: Member) -> None:
    """Hide the project from everybody; all its data stay.  Needs own.  Refused: conflict (deleted already)."""
    _set_deleted(database, who, True)


def restore_project(database: Database, who: Member) -> None:
    """Bring a deleted project back as it was.  Needs own.  Refused: conflict (it is not deleted)."""
    _set_deleted(database, who, False)


def deleted_projects(database: Database, user: User) -> list[DeletedProject]:
    """The deleted projects that the user may restore, by name."""
    owned = select(Membership.project_id).where(Membership.account_id == user.id, Membership.role == "owner")
    answers = (
        select(func.count(Annotation.id)).join(Item).where(Item.project_id == Project.id).scalar_subquery()
    )
    query = select(Project.name, Project.settings, Project.deleted_at, answers)
    query = query.where(Project.deleted_at.is_not(None)).order_by(Project.name)
    with database.read() as connection:
        rows = connection.execute(query if user.administrator else query.where(Project.id.in_(owned)))
        return [DeletedProject(name, said.get("title", ""), *rest) for name, said, *rest in rows]


def purge_project(database: Database, who: Member, typed: str) -> Purged:
    """Delete a deleted project for good: prompts, responses, items, answers, versions, members, history.

    What is left is that it was done, by whom and when; users and models stay.  `typed` is the project's name, from
    whoever asks.  Needs own.  Refused: invalid (another name), conflict (not deleted before).
    """
    who.require("own")
    if typed != who.project:
        raise Refused("invalid", f"type the project's name exactly ('{who.project}') to delete it for good.")
    with database.write() as connection:
        locked = select(Project.deleted_at).where(Project.id == who.project_id).with_for_update()
        row = connection.execute(locked).one_or_none()
        if row is None:
            raise Refused("gone", f"project '{who.project}' is gone already.")
        if row.deleted_at is None:
            raise Refused("conflict", f"project '{who.project}' is in use: delete it first.")
        with unguarded(connection):
            purged = _purge(connection, who.project_id)
        note(connection, who.user, "purge-project", who.project, **asdict(purged))
    database.vacuum()
    return purged


def _set_deleted(database: Database, who: Member, deleted: bool) -> None:
    who.require("own")
    other_way = Project.deleted_at.is_(None) if deleted else Project.deleted_at.is_not(None)
    with database.write() as connection:
        change = update(Project).where(Project.id == who.project_id, other_way)
        if connection.execute(change.values(deleted_at=now() if deleted else None)).rowcount != 1:
            state = "deleted already" if deleted else "not deleted"
            raise Refused("conflict", f"project '{who.project}' is {state}.")
        what = "delete-project" if deleted else "restore-project"
        note(connection, who.user, what, who.project, who.project_id)


def _purge(connection: Connection, project_id: int) -> Purged:
    """Every row of the project, those that point at others first."""
    items = select(Item.id).where(Item.project_id == project_id)
    answers = select(Annotation.id).where(Annotation.item_id.in_(items))
    prompts = select(PromptRow.id).where(PromptRow.project_id == project_id)
    responses = select(ResponseRow.id).where(ResponseRow.prompt_id.in_(prompts))
    purged = Purged(*(_count(connection, found) for found in (items, responses, answers)))
    owners: dict[str, Any] = {  # a table's rows are found by the first of these columns that it has
        "project_id": [project_id],
        "item_id": items,
        "annotation_id": answers,
        "prompt_id": prompts,
        "response_id": responses,
        "assignment_id": select(Assignment.id).where(Assignment.item_id.in_(items)),
        "webhook_id": select(Webhook.id).where(Webhook.project_id == project_id),
        "guideline_version_id": select(GuidelineVersion.id).where(GuidelineVersion.project_id == project_id),
    }
    for table in reversed(Base.metadata.sorted_tables):
        owner = next((name for name in owners if name in table.columns), None)
        if owner is not None:  # else it belongs to no project: people, models, the store's own
            connection.execute(delete(table).where(table.columns[owner].in_(owners[owner])))
    connection.execute(delete(Project).where(Project.id == project_id))
    return purged


def _count(connection: Connection, rows: Select[Any]) -> int:
    return connection.scalar(select(func.count()).select_from(rows.subquery())) or 0
