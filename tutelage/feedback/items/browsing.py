"""The data browser: items with their answers, in canonical slots."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from pydantic import TypeAdapter
from sqlalchemy import ColumnElement, Connection, String, cast, func, select

from tutelage.feedback.asking.answer_rows import read_answers
from tutelage.feedback.asking.payloads import Answer, ItemType, Shown, Turn
from tutelage.feedback.errors import Refused
from tutelage.feedback.items.conflicts import conflicts, settled_items
from tutelage.feedback.items.contents import steps_shown, thread_of
from tutelage.feedback.people.access import Member
from tutelage.feedback.projects.projects import current_schema
from tutelage.records import Prompt
from tutelage.store.current import IS_FIRST
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
from tutelage.store.schema_feedback import Assignment, Flag, Gold, SchemaVersion, SoftVote

State = Literal["any", "unanswered", "partial", "complete", "conflict", "flagged", "gold", "closed"]
PAGE = 200  # lines at most
ANSWER: TypeAdapter[Answer] = TypeAdapter(Answer)


@dataclass(frozen=True)
class Query:
    """What to look for in the data browser; None or '' = anything."""

    text: str = ""  # in the prompt or a response
    type: ItemType | None = None
    state: State = "any"
    model: str = ""
    after: int = 0  # item id of the last line of the page before
    limit: int = 50


@dataclass(frozen=True)
class ItemRow:
    """One line of the data browser."""

    item_id: int
    type: ItemType
    prompt: str  # readable text
    task: str
    responses: tuple[str, ...]  # in canonical slots
    models: tuple[str, ...]
    answers: int
    extra: int
    overlap: int
    skips: int
    flags: int
    gold: bool
    conflict: bool
    settled: bool
    closed: bool
    priority: float


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


@dataclass(frozen=True)
class ItemDetail:
    """Everything about one item."""

    row: ItemRow
    thread: tuple[Turn, ...]
    responses: tuple[Shown, ...]
    answers: tuple[AnswerRow, ...]
    flags: tuple[dict[str, Any], ...]  # {code, text, by, at}
    gold_answer: Answer | None  # in canonical slots
    children: tuple[int, ...]  # items below it: turns of a chat, steps written again


def browse(database: Database, who: Member, query: Query) -> list[ItemRow]:
    """A page of items, by id.  Needs view."""
    who.require("view")
    with database.read() as connection:
        conditions = [Item.project_id == who.project_id, Item.id > query.after, *_filters(query)]
        if query.state == "conflict":
            conditions.append(Item.id.in_(sorted(conflicts(connection, who.project_id))))
        limit = max(1, min(query.limit, PAGE))
        ids = connection.scalars(select(Item.id).where(*conditions).order_by(Item.id).limit(limit))
        return _rows(connection, who.project_id, list(ids))


def detail(database: Database, who: Member, item_id: int) -> ItemDetail:
    """One item with its answers, revisions included.  Needs view.  Refused: not-found."""
    who.require("view")
    with database.read() as connection:
        own = (Item.id == item_id, Item.project_id == who.project_id)
        content = connection.scalar(
            select(PromptRow.content).join(Item, Item.prompt_id == PromptRow.id).where(*own)
        )
        if content is None:
            raise Refused("not-found", f"there is no item {item_id} in this project.")
        row = _rows(connection, who.project_id, [item_id])[0]
        _, schema = current_schema(connection, who.project_id)
        children = select(Item.id).where(Item.parent_id == item_id).order_by(Item.id)
        return ItemDetail(
            row=row,
            thread=thread_of(content),
            responses=tuple(
                Shown(position=slot, text=text, steps=steps_shown(row.type, schema, text))
                for slot, text in enumerate(row.responses)
            ),
            answers=tuple(_answer_rows(connection, item_id)),
            flags=tuple(_flag_rows(connection, item_id)),
            gold_answer=_gold(connection, item_id),
            children=tuple(connection.scalars(children)),
        )


def models_of(database: Database, who: Member) -> list[str]:
    """Names of the models that wrote the project's responses, sorted.  Needs view."""
    who.require("view")
    query = (
        select(ModelRef.name)
        .join(GenerationRun, GenerationRun.model_ref_id == ModelRef.id)
        .join(ResponseRow, ResponseRow.generation_run_id == GenerationRun.id)
        .join(PromptRow, PromptRow.id == ResponseRow.prompt_id)
        .where(PromptRow.project_id == who.project_id)
        .distinct()
    )
    with database.read() as connection:
        return sorted(connection.scalars(query))


def _filters(query: Query) -> Iterable[ColumnElement[bool]]:
    if query.type is not None:
        yield Item.type == query.type
    if query.text:
        in_prompt = select(PromptRow.id).where(
            PromptRow.id == Item.prompt_id,
            cast(PromptRow.content, String).contains(query.text, autoescape=True),
        )
        yield (
            in_prompt.exists()
            | _responses().where(ResponseRow.text.contains(query.text, autoescape=True)).exists()
        )
    if query.model:
        yield (
            _responses()
            .join(GenerationRun, GenerationRun.id == ResponseRow.generation_run_id)
            .join(ModelRef, ModelRef.id == GenerationRun.model_ref_id)
            .where(ModelRef.name == query.model)
            .exists()
        )
    states: dict[State, ColumnElement[bool]] = {
        "unanswered": Item.n_done == 0,
        "partial": (Item.n_done > 0) & (Item.n_done < Item.overlap),
        "complete": Item.n_done >= Item.overlap,
        "flagged": select(Flag.id).where(Flag.item_id == Item.id).exists(),
        "gold": select(Gold.item_id).where(Gold.item_id == Item.id).exists(),
        "closed": Item.closed.is_(True),
    }
    if query.state in states:
        yield states[query.state]


def _responses() -> Any:
    return (
        select(ResponseRow.id)
        .join(ItemResponse, ItemResponse.response_id == ResponseRow.id)
        .where(ItemResponse.item_id == Item.id)
        .correlate(Item)
    )


def _rows(connection: Connection, project_id: int, ids: Sequence[int]) -> list[ItemRow]:
    shown: dict[int, list[tuple[str, str]]] = defaultdict(list)
    responses = (
        select(ItemResponse.item_id, ResponseRow.text, ModelRef.name)
        .join(ResponseRow, ResponseRow.id == ItemResponse.response_id)
        .join(GenerationRun, GenerationRun.id == ResponseRow.generation_run_id)
        .join(ModelRef, ModelRef.id == GenerationRun.model_ref_id)
        .where(ItemResponse.item_id.in_(ids))
        .order_by(ItemResponse.item_id, ItemResponse.slot)
    )
    for item_id, text, model in connection.execute(responses):
        shown[item_id].append((text, model))
    extra = _counts(connection, Annotation, ids, Annotation.role == "extra", IS_FIRST)
    skips = _counts(connection, Assignment, ids, Assignment.status == "skipped")
    flags, gold = _counts(connection, Flag, ids), _counts(connection, Gold, ids)
    disputed, settled = conflicts(connection, project_id), settled_items(connection, project_id)
    rows = connection.execute(
        select(
            Item.id,
            Item.type,
            Item.n_done,
            Item.overlap,
            Item.closed,
            Item.priority,
            PromptRow.content,
            PromptRow.task,
        )
        .join(PromptRow, PromptRow.id == Item.prompt_id)
        .where(Item.id.in_(ids))
        .order_by(Item.id)
    )
    return [
        ItemRow(
            item_id=row.id,
            type=row.type,
            prompt=Prompt.from_json(row.content).text(),
            task=row.task,
            responses=tuple(text for text, _ in shown[row.id]),
            models=tuple(model for _, model in shown[row.id]),
            answers=row.n_done,
            extra=extra[row.id],
            overlap=row.overlap,
            skips=skips[row.id],
            flags=flags[row.id],
            gold=bool(gold[row.id]),
            conflict=row.id in disputed,
            settled=row.id in settled,
            closed=row.closed,
            priority=row.priority,
        )
        for row in rows
    ]


def _counts(
    connection: Connection, table: Any, ids: Sequence[int], *conditions: ColumnElement[bool]
) -> dict[int, int]:
    query = select(table.item_id, func.count()).where(table.item_id.in_(ids), *conditions)
    counts: dict[int, int] = defaultdict(int)
    counts.update({row[0]: row[1] for row in connection.execute(query.group_by(table.item_id))})
    return counts


def _answer_rows(connection: Connection, item_id: int) -> list[AnswerRow]:
    rows = connection.execute(
        select(
            Annotation.id,
            Annotator.name,
            Annotator.kind,
            Annotation.role,
            Annotation.first_shown,
            Assignment.presented_order,
            Annotation.submitted_at,
            Annotation.active_ms,
            SchemaVersion.n,
            Annotation.supersedes_id,
            SoftVote.share,
            SoftVote.margin,
        )
        .join(Annotator, Annotator.id == Annotation.annotator_id)
        .outerjoin(SoftVote, SoftVote.annotation_id == Annotation.id)
        .outerjoin(Assignment, Assignment.id == Annotation.assignment_id)
        .outerjoin(SchemaVersion, SchemaVersion.id == Assignment.schema_version_id)
        .where(Annotation.item_id == item_id)
        .order_by(Annotation.id)
    ).all()
    stored = read_answers(connection, [row.id for row in rows])
    revised = {row.supersedes_id for row in rows}
    return [
        AnswerRow(
            annotation_id=row.id,
            annotator=row.name,
            kind=row.kind,
            role=row.role,
            answer=stored[row.id],
            shown_order=tuple(row.presented_order or _order(row.first_shown)),
            submitted_at=row.submitted_at,
            active_ms=row.active_ms,
            schema_version=row.n,
            current=row.id not in revised,
            share=row.share,
            margin=row.margin,
        )
        for row in rows
    ]


def _order(first_shown: int | None) -> tuple[int, ...]:
    """The order in which a program saw a pair."""
    return () if first_shown is None else (first_shown, 1 - first_shown)


def _flag_rows(connection: Connection, item_id: int) -> list[dict[str, Any]]:
    rows = connection.execute(
        select(Flag.code, Flag.text, Annotator.name.label("by"), Flag.created_at.label("at"))
        .join(Annotator, Annotator.id == Flag.annotator_id)
        .where(Flag.item_id == item_id)
        .order_by(Flag.id)
    )
    return [dict(row._mapping) for row in rows]


def _gold(connection: Connection, item_id: int) -> Answer | None:
    stored = connection.scalar(select(Gold.answer).where(Gold.item_id == item_id))
    return None if stored is None else ANSWER.validate_python(stored)
