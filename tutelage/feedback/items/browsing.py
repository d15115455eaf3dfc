"""The data browser: pages of items, and one item with its answers, in canonical slots."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from sqlalchemy import ColumnElement, Connection, case, func, literal, select

from tutelage.feedback.asking.answer_rows import read_answers
from tutelage.feedback.asking.payloads import ANSWER, Answer, ItemType, Shown, Turn
from tutelage.feedback.asking.slots import order_of
from tutelage.feedback.errors import Refused
from tutelage.feedback.items.conflicts import conflicts, settled_items
from tutelage.feedback.items.contents import newest_note, steps_shown, thread_of
from tutelage.feedback.items.searching import OPEN_FLAG, Query, ids_of
from tutelage.feedback.people.access import Member
from tutelage.feedback.projects.projects import current_schema
from tutelage.records import Prompt
from tutelage.store.current import IS_CURRENT, IS_FIRST
from tutelage.store.database import Database
from tutelage.store.schema import (
    Annotation,
    Annotator,
    GenerationRun,
    Item,
    ItemResponse,
    ModelRef,
    PromptRow,
    ResponseRow,
)
from tutelage.store.schema_calls import JudgeLeft
from tutelage.store.schema_feedback import (
    Account,
    Assignment,
    Flag,
    Gold,
    ItemNote,
    ItemReserved,
    ItemTag,
    Membership,
    SchemaVersion,
    SoftVote,
)
from tutelage.store.schema_refining import RefinementRound

EXPERTS = "(experts)"  # among whom an item is reserved for


@dataclass(frozen=True)
class ItemRow:
    """One line of the data browser."""

    item_id: int
    type: ItemType
    prompt: str  # readable text
    task: str
    split: str
    responses: tuple[str, ...]  # in canonical slots
    models: tuple[str, ...]
    answers: int
    extra: int
    overlap: int
    skips: int
    flags: int  # not resolved
    gold: bool
    conflict: bool
    settled: bool
    closed: bool
    priority: float
    tags: tuple[str, ...]
    reserved: tuple[str, ...]  # names of people, of teams with an '@' before them, and EXPERTS
    redacted: bool  # the prompt's or a response's text is gone


@dataclass(frozen=True)
class Page:
    """Some of the items that fit, by id: `next` is the `after` of the page that follows (None: this is the last)."""

    items: list[ItemRow]
    total: int  # all that fit
    next: int | None


@dataclass(frozen=True)
class Neighbours:
    """The items before and after one, its place among `total` (counted from 1; 0: it does not fit itself)."""

    previous: int | None
    next: int | None
    place: int
    total: int


@dataclass(frozen=True)
class AnswerRow:
    """One stored answer in the data browser: positions here are canonical slots."""

    annotation_id: int
    annotator: str
    kind: str
    role: Literal["answer", "extra", "adjudication"]
    answer: Answer
    shown_order: tuple[int, ...]
    submitted_at: datetime
    active_ms: int | None
    schema_version: int | None
    current: bool  # not revised since
    share: float | None = None  # of a vote from a file, as `margin`: see `records.Vote`
    margin: float | None = None
    by_person: bool = False  # given in the app: it can be sent back
    sent_back: str | None = None  # the note with which it was


@dataclass(frozen=True)
class ItemDetail:
    """Everything about one item."""

    row: ItemRow
    thread: tuple[Turn, ...]
    responses: tuple[Shown, ...]
    answers: tuple[AnswerRow, ...]
    flags: tuple[dict[str, Any], ...]  # {id, code, text, by, at, resolution (None: open)}
    notes: tuple[dict[str, Any], ...]  # {id, text, by, at}
    gold_answer: Answer | None  # in canonical slots
    parent: int | None
    children: tuple[int, ...]  # items below it: turns of a chat, later rounds of a refinement
    problem: int | None = None  # the first item of the refinement that it is a round of


@dataclass(frozen=True)
class Choices:
    """What a project's items can be searched by and be for."""

    models: list[str]
    annotators: list[str]
    tags: list[str]
    tasks: list[str]
    splits: list[str]
    runs: list[tuple[int, str]]  # id and model, where there are several
    members: list[str]  # who may label
    teams: list[str]
    judges: list[str]  # that left items to people


def find(database: Database, who: Member, query: Query) -> Page:
    """A page of the items that fit, by id.  Needs view."""
    who.require("view")
    with database.read() as connection:
        fitting = ids_of(connection, who.project_id, query)
        left = [item for item in fitting if item > query.after]
        shown = left[: query.limit]
        more = shown[-1] if len(left) > len(shown) else None
        return Page(_rows(connection, who.project_id, shown), len(fitting), more)


def neighbours(database: Database, who: Member, query: Query, item_id: int) -> Neighbours:
    """Where an item stands among those that fit.  Needs view."""
    who.require("view")
    with database.read() as connection:
        fitting = ids_of(connection, who.project_id, query)
    at = bisect_left(fitting, item_id)
    fits = at < len(fitting) and fitting[at] == item_id
    return Neighbours(
        previous=fitting[at - 1] if at else None,
        next=next(iter(fitting[at + fits : at + fits + 1]), None),
        place=at + 1 if fits else 0,
        total=len(fitting),
    )


def detail(database: Database, who: Member, item_id: int) -> ItemDetail:
    """One item with its answers, revisions included.  Needs view.  Refused: not-found."""
    who.require("view")
    with database.read() as connection:
        own = (Item.id == item_id, Item.project_id == who.project_id)
        found = connection.execute(
            select(PromptRow.content, Item.parent_id).join(Item).where(*own)
        ).one_or_none()
        if found is None:
            raise Refused("not-found", f"there is no item {item_id} in this project.")
        row = _rows(connection, who.project_id, [item_id])[0]
        _, schema = current_schema(connection, who.project_id)
        children = select(Item.id).where(Item.parent_id == item_id).order_by(Item.id)
        return ItemDetail(
            row=row,
            thread=thread_of(found.content),
            responses=tuple(
                Shown(position=slot, text=text, steps=steps_shown(row.type, schema, text))
                for slot, text in enumerate(row.responses)
            ),
            answers=tuple(_answer_rows(connection, item_id)),
            flags=tuple(_flags(connection, item_id)),
            notes=tuple(_notes(connection, item_id)),
            gold_answer=_gold(connection, item_id),
            parent=found.parent_id,
            children=tuple(connection.scalars(children)),
            problem=connection.scalar(
                select(RefinementRound.root_id).where(RefinementRound.item_id == item_id)
            ),
        )


def choices(database: Database, who: Member) -> Choices:
    """What the project's items can be searched by and reserved for.  Needs view."""
    who.require("view")
    own_item, of_project = Item.project_id == who.project_id, PromptRow.project_id == who.project_id
    answered = select(Annotation.id).join(Item).where(Annotation.annotator_id == Annotator.id, own_item)
    labels = (Membership.project_id == who.project_id, Membership.role != "viewer")
    with database.read() as connection:

        def sorted_of(query: Any) -> list[str]:
            return sorted(value for value in connection.scalars(query.distinct()) if value)

        runs = connection.execute(
            select(GenerationRun.id, ModelRef.name)
            .join(ModelRef, ModelRef.id == GenerationRun.model_ref_id)
            .where(_runs_of(who.project_id))
            .order_by(GenerationRun.id)
        ).all()
        return Choices(
            models=sorted({run.name for run in runs}),
            annotators=sorted_of(select(Annotator.name).where(answered.correlate(Annotator).exists())),
            tags=sorted_of(select(ItemTag.tag).join(Item).where(own_item)),
            tasks=sorted_of(select(PromptRow.task).where(of_project)),
            splits=sorted_of(select(PromptRow.split).where(of_project)),
            runs=[(run.id, run.name) for run in runs] if len(runs) > 1 else [],
            members=sorted_of(select(Account.name).join(Membership).where(*labels)),
            teams=sorted_of(select(Membership.team).where(*labels)),
            judges=sorted_of(select(JudgeLeft.judge).join(Item).where(own_item)),
        )


def models_of(database: Database, who: Member) -> list[str]:
    """Names of the models that wrote the project's responses, sorted.  Needs view."""
    who.require("view")
    names = select(ModelRef.name).join(GenerationRun)
    with database.read() as connection:
        return sorted(set(connection.scalars(names.where(_runs_of(who.project_id)))))


# reading ----------------------------------------------------------------------------------------------------------


def _runs_of(project_id: int) -> ColumnElement[bool]:
    """That a generation run has written for the project: found at its first response, where it has."""
    written = (ResponseRow.generation_run_id == GenerationRun.id, PromptRow.project_id == project_id)
    return select(ResponseRow.id).join(PromptRow).where(*written).correlate(GenerationRun).exists()


def _rows(connection: Connection, project_id: int, ids: Sequence[int]) -> list[ItemRow]:
    responses = (
        select(ItemResponse.item_id, ResponseRow.text, ModelRef.name, ResponseRow.redacted_at)
        .join(ResponseRow)
        .join(GenerationRun)
        .join(ModelRef)
        .where(ItemResponse.item_id.in_(ids))
        .order_by(ItemResponse.item_id, ItemResponse.slot)
    )
    shown: dict[int, list[Any]] = defaultdict(list)
    for row in connection.execute(responses):
        shown[row.item_id].append(row)
    extra = _counts(connection, Annotation, ids, Annotation.role == "extra", IS_FIRST)
    skips = _counts(connection, Assignment, ids, Assignment.status == "skipped")
    flags, gold = _counts(connection, Flag, ids, OPEN_FLAG), _counts(connection, Gold, ids)
    disputed = conflicts(connection, project_id, among=ids)
    settled = settled_items(connection, project_id) if disputed else set()
    tags, reserved = _tags(connection, ids), _reserved(connection, ids)
    columns = (
        Item.id.label("item_id"),
        Item.type,
        PromptRow.task,
        PromptRow.split,
        Item.n_done.label("answers"),
        Item.overlap,
        Item.closed,
        Item.priority,
    )
    query = select(*columns, PromptRow.content, PromptRow.redacted_at)
    query = query.join(PromptRow).where(Item.id.in_(ids)).order_by(Item.id)
    return [
        ItemRow(
            **{column.key: getattr(row, column.key) for column in columns},
            prompt=Prompt.from_json(row.content).text(),
            responses=tuple(response.text for response in shown[row.item_id]),
            models=tuple(response.name for response in shown[row.item_id]),
            extra=extra[row.item_id],
            skips=skips[row.item_id],
            flags=flags[row.item_id],
            gold=bool(gold[row.item_id]),
            conflict=row.item_id in disputed,
            settled=row.item_id in settled,
            tags=tuple(tags[row.item_id]),
            reserved=tuple(reserved[row.item_id]),
            redacted=bool(row.redacted_at or any(response.redacted_at for response in shown[row.item_id])),
        )
        for row in connection.execute(query)
    ]


def _counts(
    connection: Connection, table: Any, ids: Sequence[int], *conditions: ColumnElement[bool]
) -> Counter[int]:
    query = select(table.item_id, func.count()).where(table.item_id.in_(ids), *conditions)
    rows = connection.execute(query.group_by(table.item_id))
    return Counter(dict(rows.all()))


def _tags(connection: Connection, ids: Sequence[int]) -> dict[int, list[str]]:
    query = select(ItemTag.item_id, ItemTag.tag).where(ItemTag.item_id.in_(ids))
    return _by_item(connection, query.order_by(ItemTag.tag))


def _reserved(connection: Connection, ids: Sequence[int]) -> dict[int, list[str]]:
    whom = func.coalesce(Annotator.name, literal("@").concat(ItemReserved.team), literal(EXPERTS))
    query = select(ItemReserved.item_id, whom).select_from(ItemReserved).outerjoin(Annotator)
    return _by_item(connection, query.where(ItemReserved.item_id.in_(ids)).order_by(ItemReserved.id))


def _by_item(connection: Connection, query: Any) -> dict[int, list[str]]:
    found: dict[int, list[str]] = defaultdict(list)
    for item_id, value in connection.execute(query):
        found[item_id].append(value)
    return found


def _answer_rows(connection: Connection, item_id: int) -> list[AnswerRow]:
    columns = (
        Annotation.id.label("annotation_id"),
        Annotator.name.label("annotator"),
        Annotator.kind,
        Annotation.role,
        Annotation.submitted_at,
        Annotation.active_ms,
        SchemaVersion.n.label("schema_version"),
        IS_CURRENT.label("current"),
        SoftVote.share,
        SoftVote.margin,
        Annotation.assignment_id.is_not(None).label("by_person"),
        newest_note(Annotation.id, Annotation).label("sent_back"),
    )
    rows = connection.execute(
        select(*columns, Annotation.first_shown, Assignment.presented_order)
        .select_from(Annotation)
        .join(Annotator)
        .outerjoin(SoftVote)
        .outerjoin(Assignment, Assignment.id == Annotation.assignment_id)
        .outerjoin(SchemaVersion)
        .where(Annotation.item_id == item_id)
        .order_by(Annotation.id)
    ).all()
    stored = read_answers(connection, [row.annotation_id for row in rows])
    return [
        AnswerRow(
            **{column.key: getattr(row, column.key) for column in columns},
            answer=stored[row.annotation_id],
            shown_order=tuple(order_of(row.presented_order, row.first_shown)),
        )
        for row in rows
    ]


def _flags(connection: Connection, item_id: int) -> list[dict[str, Any]]:
    said = case((OPEN_FLAG, None), else_=Flag.resolution).label("resolution")
    columns = (Flag.id, Flag.code, Flag.text, Annotator.name.label("by"), Flag.created_at.label("at"), said)
    query = (
        select(*columns).select_from(Flag).join(Annotator).where(Flag.item_id == item_id).order_by(Flag.id)
    )
    return [dict(row) for row in connection.execute(query).mappings()]


def _notes(connection: Connection, item_id: int) -> list[dict[str, Any]]:
    columns = (ItemNote.id, ItemNote.text, Account.name.label("by"), ItemNote.created_at.label("at"))
    query = select(*columns).select_from(ItemNote).outerjoin(Account)
    query = query.where(ItemNote.item_id == item_id).order_by(ItemNote.id)
    return [dict(row) for row in connection.execute(query).mappings()]


def _gold(connection: Connection, item_id: int) -> Answer | None:
    stored = connection.scalar(select(Gold.answer).where(Gold.item_id == item_id))
    return None if stored is None else ANSWER.validate_python(stored)
