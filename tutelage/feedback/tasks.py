"""Leases and what is behind them, inside the transactions of the services."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Connection, func, select, update

from tutelage.feedback.access import Member
from tutelage.feedback.errors import Refused
from tutelage.feedback.payloads import ItemType, Schema, Shown, Task, Turn
from tutelage.feedback.projects import current_versions, schema_at, settings_of
from tutelage.feedback.slots import draw_order, to_positions
from tutelage.feedback.steps import split_steps
from tutelage.feedback.stored import read_answers
from tutelage.store.schema import Annotation, Item, ItemResponse, PromptRow, ResponseRow, now
from tutelage.store.schema_feedback import Assignment, Draft, Gold, GuidelineVersion
from tutelage.store.sql import insert_one
from tutelage.store.voting import answers_of


@dataclass(frozen=True)
class Held:
    """An assignment with its item, read under a lock on the item's row."""

    id: int
    item_id: int
    annotator_id: int
    status: str
    lease_expires_at: datetime
    order: list[int]
    schema_version_id: int
    guideline_version_id: int | None
    type: ItemType
    overlap: int
    prompt_id: int
    owner_id: int | None
    parent_id: int | None
    item_digest: str


def hold(connection: Connection, who: Member, assignment_id: int) -> Held:
    """An own assignment; from here on nobody else claims, answers or settles its item.  Refused: not-found."""
    columns = (
        Assignment.id,
        Assignment.item_id,
        Assignment.annotator_id,
        Assignment.status,
        Assignment.lease_expires_at,
        Assignment.presented_order,
        Assignment.schema_version_id,
        Assignment.guideline_version_id,
        Item.type,
        Item.overlap,
        Item.prompt_id,
        Item.owner_id,
        Item.parent_id,
        Item.digest,
    )
    mine = (
        Assignment.id == assignment_id,
        Assignment.annotator_id == who.annotator_id,
        Item.project_id == who.project_id,
    )
    query = select(*columns).join(Item, Item.id == Assignment.item_id).where(*mine)
    found = connection.execute(query).one_or_none()
    if found is None:
        raise Refused(
            "not-found", f"assignment {assignment_id} is not yours in this project: ask for the next item."
        )
    lock_item(connection, found.item_id)
    return Held(*connection.execute(query).one())  # again: it may have changed while we waited


def lock_item(connection: Connection, item_id: int) -> None:
    """Take the item's row: claims and answers of one item come one after the other (SQLite has one writer anyway)."""
    connection.execute(select(Item.id).where(Item.id == item_id).with_for_update(key_share=True))


def has_room(connection: Connection, item_id: int, annotator_id: int, at: datetime) -> bool:
    """Whether answers and the live leases of others leave a place; call it under the item's lock.

    A statement of its own on purpose: under PostgreSQL the one that waited for the lock counts what was before.
    """
    if connection.scalar(select(Gold.item_id).where(Gold.item_id == item_id)) is not None:
        return True
    row = connection.execute(
        select(
            Item.overlap,
            Item.closed,
            answers_of(Item.id).label("answers"),
            leases_of_others(annotator_id, at).label("leases"),
        ).where(Item.id == item_id)
    ).one()
    return not row.closed and row.answers + row.leases < row.overlap


def is_counted(connection: Connection, item_id: int) -> bool:
    """Whether one more answer counts, or is extra because the item is full; call it under the item's lock."""
    if connection.scalar(select(Gold.item_id).where(Gold.item_id == item_id)) is not None:
        return True
    row = connection.execute(
        select(Item.overlap, answers_of(Item.id).label("answers")).where(Item.id == item_id)
    ).one()
    return row.answers < row.overlap


def leases_of_others(annotator_id: int, at: datetime) -> Any:
    """How many other annotators hold a live lease on `Item` (a scalar subquery)."""
    return (
        select(func.count(Assignment.id))
        .where(
            Assignment.item_id == Item.id,
            Assignment.annotator_id != annotator_id,
            Assignment.status == "leased",
            Assignment.lease_expires_at > at,
        )
        .correlate(Item)
        .scalar_subquery()
    )


def lease(connection: Connection, who: Member, item_id: int, status: str = "leased") -> int:
    """Give an item (locked, with room) to an annotator; returns the assignment's id.

    Whoever had it before sees it in the same order and under the same questions as then.
    """
    until = now() + timedelta(seconds=settings_of(connection, who.project_id).lease_seconds)
    place = (Assignment.item_id == item_id, Assignment.annotator_id == who.annotator_id)
    known = connection.scalar(select(Assignment.id).where(*place))
    if known is not None:
        values = {"status": status, "lease_expires_at": until}
        connection.execute(update(Assignment).where(Assignment.id == known).values(values))
        return known
    digest = connection.scalar(select(Item.digest).where(Item.id == item_id))
    slots = connection.scalar(select(func.count()).where(ItemResponse.item_id == item_id)) or 0
    seed = order_seed(who, digest or "")
    schema_id, guideline_id = current_versions(connection, who.project_id)
    return insert_one(
        connection,
        Assignment,
        item_id=item_id,
        annotator_id=who.annotator_id,
        status=status,
        lease_expires_at=until,
        presented_order=draw_order(slots, seed),
        order_seed=seed,
        schema_version_id=schema_id,
        guideline_version_id=guideline_id,
    )


def order_seed(who: Member, item_digest: str) -> int:
    """A seed for the order in which this annotator sees this item: the same whenever it is asked for."""
    name = "\0".join((who.project, item_digest, who.user.name))
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "little") >> 1


def read_task(connection: Connection, who: Member, held: Held, blank: bool = False) -> Task:
    """The task behind an assignment; `blank` leaves out the annotator's own answer."""
    n, schema = schema_at(connection, held.schema_version_id)
    guideline = connection.scalar(
        select(GuidelineVersion.n).where(GuidelineVersion.id == held.guideline_version_id)
    )
    prompt = connection.execute(
        select(PromptRow.content, PromptRow.task).where(PromptRow.id == held.prompt_id)
    ).one()
    plain = isinstance(prompt.content, str)
    messages = [{"role": "user", "content": prompt.content}] if plain else prompt.content
    texts = texts_of(connection, held.item_id)
    annotation_id = None if blank else latest_answer(connection, held.item_id, who.annotator_id)
    answer = None
    if annotation_id is not None:
        answer = to_positions(read_answers(connection, [annotation_id])[annotation_id], held.order)
    return Task(
        assignment_id=held.id,
        item_id=held.item_id,
        project=who.project,
        type=held.type,
        thread=tuple(Turn(role=m["role"], content=m["content"]) for m in messages),
        plain_prompt=plain,
        task=prompt.task,
        responses=tuple(
            Shown(position=position, text=texts[slot], steps=steps_shown(held.type, schema, texts[slot]))
            for position, slot in enumerate(held.order)
        ),
        schema_version=n,
        guideline_version=guideline or 0,
        questions=schema,
        lease_expires_at=held.lease_expires_at,
        draft=connection.scalar(select(Draft.content).where(Draft.assignment_id == held.id)),
        answer=answer,
        annotation_id=annotation_id,
        parent_item_id=held.parent_id,
    )


def steps_shown(type: ItemType, schema: Schema, text: str) -> tuple[str, ...]:
    """The steps of a response where steps are marked."""
    return split_steps(text, schema.splitter) if type == "step" else ()


def texts_of(connection: Connection, item_id: int) -> list[str]:
    """The texts of an item's responses, by slot."""
    query = (
        select(ResponseRow.text)
        .join(ItemResponse, ItemResponse.response_id == ResponseRow.id)
        .where(ItemResponse.item_id == item_id)
        .order_by(ItemResponse.slot)
    )
    return list(connection.scalars(query))


def latest_answer(connection: Connection, item_id: int, annotator_id: int) -> int | None:
    """The id of an annotator's current answer to an item.  Ids grow, so the largest is the latest revision."""
    own = (Annotation.item_id == item_id, Annotation.annotator_id == annotator_id)
    return connection.scalar(select(func.max(Annotation.id)).where(*own, Annotation.role != "adjudication"))


def untouched(who: Member, besides: Sequence[int]) -> list[ColumnElement[bool]]:
    """Conditions on `Item`: not answered, not declined and not in hand by this annotator."""
    mine = select(Assignment.id).where(
        Assignment.item_id == Item.id,
        Assignment.annotator_id == who.annotator_id,
        Assignment.status.in_(("done", "skipped", "review")) | Assignment.id.in_(besides),
    )
    answered = select(Annotation.id).where(
        Annotation.item_id == Item.id,
        Annotation.annotator_id == who.annotator_id,
        Annotation.role != "adjudication",
    )
    return [
        Item.project_id == who.project_id,
        Item.owner_id.is_(None),
        Item.closed.is_(False),
        ~mine.exists(),
        ~answered.exists(),
    ]
