"""Leases and what is behind them, inside the transactions of the services."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from typing import Any

from pydantic import TypeAdapter, ValidationError
from sqlalchemy import Connection, Row, Select, bindparam, func, or_, select, update
from sqlalchemy.orm import aliased

from tutelage.feedback.asking.answer_rows import read_answers
from tutelage.feedback.asking.payloads import About, Answer, ItemType, Shown, Suggested, Task
from tutelage.feedback.asking.slots import draw_order, to_positions
from tutelage.feedback.errors import Refused
from tutelage.feedback.items.contents import lock_item, newest_note, steps_shown, texts_of, thread_of
from tutelage.feedback.people.access import TEACHERS, Member
from tutelage.feedback.projects.projects import Standing, parsed_schema, parsed_settings, standing
from tutelage.feedback.work.telling import told
from tutelage.store.counting import answers_of
from tutelage.store.current import IS_CURRENT, IS_VOTE
from tutelage.store.origins import IDENTITY
from tutelage.store.schema import Annotation, Item, ItemResponse, Project, PromptRow, now
from tutelage.store.schema_feedback import (
    Account,
    Assignment,
    ChatTurn,
    Draft,
    Gold,
    GuidelineSeen,
    GuidelineVersion,
    ItemReserved,
    Membership,
    SchemaVersion,
    Suggestion,
)
from tutelage.store.sql import insert_one, takes_turns

OTHER_ITEM = (
    "this answer is about another item, of before a restore or of another store at this address: nothing was stored; "
    "copy what you need from it, and answer the item that is shown."
)
_answers: TypeAdapter[Answer] = TypeAdapter(Answer)


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
    type: ItemType
    prompt_id: int
    owner_id: int | None
    parent_id: int | None
    item_digest: str


def hold(connection: Connection, who: Member, assignment_id: int, about: About | None = None) -> Held:
    """An own assignment; from here on nobody else claims, answers or settles its item.

    Refused: not-found; conflict (it is not what the sender's words are about).
    """
    about = about or About()
    check_store(connection, about)
    held = own_assignment(connection, who, assignment_id)
    if about.item_digest not in (None, held.item_digest):
        raise Refused("conflict", OTHER_ITEM)
    if takes_turns(connection):
        return held
    lock_item(connection, held.item_id)
    return own_assignment(connection, who, assignment_id)  # again: it may have changed while we waited


def check_store(connection: Connection, about: About) -> None:
    """Refused: conflict, when the sender speaks of another store that was at this address."""
    if about.store is not None and about.store != connection.scalar(IDENTITY):
        raise Refused("conflict", OTHER_ITEM)


def own_assignment(connection: Connection, who: Member, assignment_id: int) -> Held:
    """`hold` for whoever has the item's lock already.  Refused: not-found."""
    return _read(connection, _HELD, who, assignment_id)[0]


def _read(
    connection: Connection, query: Select[Any], who: Member, assignment_id: int
) -> tuple[Held, Row[Any]]:
    """The row of `_HELD`, or of a query that begins with its columns."""
    mine = {"assignment": assignment_id, "annotator": who.annotator_id, "project": who.project_id}
    found = connection.execute(query, mine).one_or_none()
    if found is None:
        raise Refused(
            "not-found", f"assignment {assignment_id} is not yours in this project: ask for the next item."
        )
    return Held(*found[: len(fields(Held))]), found


def has_room(connection: Connection, item_id: int, annotator_id: int, at: datetime) -> bool:
    """Whether answers and the live leases of others leave a place; call it under the item's lock.

    A statement of its own on purpose: under PostgreSQL the one that waited for the lock counts what was before.
    """
    row = connection.execute(_ROOM, {"item": item_id, "annotator": annotator_id, "at": at}).one()
    return row.for_me and (row.gold or (not row.closed and row.answers + row.leases < row.overlap))


def is_counted(connection: Connection, item_id: int) -> bool:
    """Whether one more answer counts, or is extra because the item is full; call it under the item's lock."""
    row = connection.execute(_COUNTED, {"item": item_id}).one()
    return row.gold or row.answers < row.overlap


def lease(
    connection: Connection,
    who: Member,
    item_id: int,
    status: str = "leased",
    rules: Standing | None = None,
) -> int:
    """Give an item (locked, with room) to an annotator; returns the assignment's id.

    Whoever had it before sees it in the same order and under the same questions as then.  `rules`: what is in force,
    where that is known already.
    """
    rules = rules or standing(connection, who.project_id)
    until = now() + timedelta(seconds=rules.settings.lease_seconds)
    row = connection.execute(_LEASED, {"item": item_id, "annotator": who.annotator_id}).one()
    if row.assignment is not None:
        values = {"status": status, "lease_expires_at": until}
        connection.execute(update(Assignment).where(Assignment.id == row.assignment).values(values))
        return row.assignment
    seed = order_seed(who, row.digest)
    return insert_one(
        connection,
        Assignment,
        item_id=item_id,
        annotator_id=who.annotator_id,
        status=status,
        lease_expires_at=until,
        presented_order=draw_order(row.slots, seed),
        order_seed=seed,
        schema_version_id=rules.schema_id,
        guideline_version_id=row.seen,
    )


def turns_of(chat_item: int, annotator_id: int) -> Select[Any]:
    """The items of the turns of one annotator's chat; several may have the same chat, each with turns of their own."""
    query = select(ChatTurn.item_id).join(Item, Item.id == ChatTurn.item_id)
    return query.where(Item.parent_id == chat_item, Item.owner_id == annotator_id)


def give_back_turns(connection: Connection, held: Held) -> None:
    """The turns of a chat that is over are in nobody's hands any more."""
    turns = turns_of(held.item_id, held.annotator_id)
    leased = (Assignment.item_id.in_(turns), Assignment.status == "leased")
    connection.execute(update(Assignment).where(*leased).values(status="released"))


def order_seed(who: Member, item_digest: str) -> int:
    """A seed for the order in which this annotator sees this item: the same whenever it is asked for."""
    name = "\0".join((who.project, item_digest, who.user.name))
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "little") >> 1


def read_task(connection: Connection, who: Member, assignment_id: int, blank: bool = False) -> Task:
    """The task behind an own assignment; `blank` leaves out the annotator's own answer.  Refused: not-found."""
    held, found = _read(connection, _TASK, who, assignment_id)
    schema = parsed_schema(found.sha256, found.schema)
    texts = texts_of(connection, held.item_id)
    annotation_id = None if blank else found.latest
    answer = None
    if annotation_id is not None:
        answer = to_positions(read_answers(connection, [annotation_id])[annotation_id], held.order)
    settings = parsed_settings(found.settings)
    return Task(
        store=found.store,
        item_digest=held.item_digest,
        assignment_id=held.id,
        item_id=held.item_id,
        project=who.project,
        type=held.type,
        thread=thread_of(found.prompt),
        plain_prompt=isinstance(found.prompt, str),
        task=found.task,
        responses=tuple(
            Shown(position=position, text=texts[slot], steps=steps_shown(held.type, schema, texts[slot]))
            for position, slot in enumerate(held.order)
        ),
        schema_version=found.n,
        guideline_version=found.guideline or 0,
        newest_guideline=found.newest or 0,
        questions=schema,
        markdown=settings.markdown,
        lease_expires_at=held.lease_expires_at,
        draft=found.draft,
        answer=answer,
        annotation_id=annotation_id,
        parent_item_id=held.parent_id,
        skipped=held.status == "skipped",
        sent_back=None if blank else found.note,
        suggestion=_suggested(connection, held) if settings.show_suggestions and not blank else None,
        help=None if blank else told(connection, who, held, settings),
    )


def _suggested(connection: Connection, held: Held) -> Suggested | None:
    """What a program suggests; recorded with the assignment, since whoever has seen it is no longer independent.

    The one that was shown before stays; else the newest.  One that is no answer to such an item is not shown.
    """
    row = connection.execute(_SUGGESTED, {"assignment": held.id, "item": held.item_id}).first()
    if row is None:
        return None
    try:
        answer = _answers.validate_python(row.answer)
    except ValidationError:
        return None
    if answer.type != held.type:
        return None
    shown = update(Assignment).where(Assignment.id == held.id, Assignment.suggestion_id.is_(None))
    connection.execute(shown.values(suggestion_id=row.id))
    return Suggested(source=row.source, answer=to_positions(answer, held.order), score=row.score)


def latest_answer(connection: Connection, item_id: int, annotator_id: int) -> int | None:
    """The id of an annotator's current answer to an item."""
    own = (Annotation.item_id == item_id, Annotation.annotator_id == annotator_id)
    return connection.scalar(select(Annotation.id).where(*own, IS_VOTE, IS_CURRENT))


# statements: built once, since building one costs as much as running it ---------------------------------------------

_HELD = (
    select(
        Assignment.id,
        Assignment.item_id,
        Assignment.annotator_id,
        Assignment.status,
        Assignment.lease_expires_at,
        Assignment.presented_order,
        Assignment.schema_version_id,
        Item.type,
        Item.prompt_id,
        Item.owner_id,
        Item.parent_id,
        Item.digest,
    )
    .join(Item, Item.id == Assignment.item_id)
    .where(
        Assignment.id == bindparam("assignment"),
        Assignment.annotator_id == bindparam("annotator"),
        Item.project_id == bindparam("project"),
    )
)

# How many other annotators than `annotator` hold a lease on `Item` that lives `at` a moment.
LEASES_OF_OTHERS = (
    select(func.count(Assignment.id))
    .where(
        Assignment.item_id == Item.id,
        Assignment.annotator_id != bindparam("annotator"),
        Assignment.status == "leased",
        Assignment.lease_expires_at > bindparam("at"),
    )
    .correlate(Item)
    .scalar_subquery()
)
IS_GOLD = select(Gold.item_id).where(Gold.item_id == Item.id).exists()
_COUNTED = select(Item.overlap, answers_of(Item.id).label("answers"), IS_GOLD.label("gold")).where(
    Item.id == bindparam("item")
)
# Whether `Item` is for everybody, or for `annotator` by name, team or role.  Counted, not EXISTS: see `queue`.
_RESERVED = (
    select(func.count(ItemReserved.id))
    .where(
        ItemReserved.item_id == Item.id,
        or_(
            ItemReserved.annotator_id == bindparam("annotator"),
            ItemReserved.team.in_(
                select(Membership.team)
                .join(Account, Account.id == Membership.account_id)
                .where(
                    Account.annotator_id == bindparam("annotator"), Membership.project_id == Item.project_id
                )
                .correlate(Item)
            ),
            ItemReserved.role.is_not(None)
            & select(Account.id)
            .outerjoin(
                Membership,
                (Membership.account_id == Account.id) & (Membership.project_id == Item.project_id),
            )
            .where(
                Account.annotator_id == bindparam("annotator"),
                or_(Account.administrator, Membership.role.in_(TEACHERS)),
            )
            .correlate(Item)
            .exists(),
        ),
    )
    .correlate(Item)
    .scalar_subquery()
)
IS_FOR_ME = or_(Item.reserved.is_(False), _RESERVED > 0)
_ROOM = _COUNTED.add_columns(Item.closed, LEASES_OF_OTHERS.label("leases"), IS_FOR_ME.label("for_me"))

_LEASED = select(
    Item.digest,
    select(func.count())
    .select_from(ItemResponse)
    .where(ItemResponse.item_id == Item.id)
    .correlate(Item)
    .scalar_subquery()
    .label("slots"),
    select(Assignment.id)
    .where(Assignment.item_id == Item.id, Assignment.annotator_id == bindparam("annotator"))
    .correlate(Item)
    .scalar_subquery()
    .label("assignment"),
    select(GuidelineSeen.guideline_version_id)
    .join(GuidelineVersion, GuidelineVersion.id == GuidelineSeen.guideline_version_id)
    .where(
        GuidelineVersion.project_id == Item.project_id, GuidelineSeen.annotator_id == bindparam("annotator")
    )
    .order_by(GuidelineVersion.n.desc())
    .limit(1)
    .correlate(Item)
    .scalar_subquery()
    .label("seen"),
).where(Item.id == bindparam("item"))

_newest = aliased(GuidelineVersion)
_latest = (
    select(Annotation.id)
    .where(
        Annotation.item_id == Assignment.item_id,
        Annotation.annotator_id == Assignment.annotator_id,
        IS_VOTE,
        IS_CURRENT,
    )
    .correlate(Assignment)
    .scalar_subquery()
)
_SUGGESTED = (
    select(Suggestion.id, Suggestion.source, Suggestion.answer, Suggestion.score)
    .join(Assignment, Assignment.item_id == Suggestion.item_id)
    .where(Suggestion.item_id == bindparam("item"), Assignment.id == bindparam("assignment"))
    .where(or_(Assignment.suggestion_id.is_(None), Assignment.suggestion_id == Suggestion.id))
    .order_by(Suggestion.id.desc())
    .limit(1)
)

_TASK = (
    _HELD.add_columns(
        SchemaVersion.n,
        SchemaVersion.sha256,
        SchemaVersion.content.label("schema"),
        Project.settings,
        GuidelineVersion.n.label("guideline"),
        PromptRow.content.label("prompt"),
        PromptRow.task,
        Draft.content.label("draft"),
        IDENTITY.scalar_subquery().label("store"),
        select(func.max(_newest.n))
        .where(_newest.project_id == Project.id)
        .correlate(Project)
        .scalar_subquery()
        .label("newest"),
        _latest.label("latest"),
        newest_note(_latest, Assignment).label("note"),
    )
    .join(Project, Project.id == Item.project_id)
    .join(PromptRow, PromptRow.id == Item.prompt_id)
    .join(SchemaVersion, SchemaVersion.id == Assignment.schema_version_id)
    .outerjoin(GuidelineVersion, GuidelineVersion.id == Assignment.guideline_version_id)
    .outerjoin(Draft, Draft.assignment_id == Assignment.id)
)
