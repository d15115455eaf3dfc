"""The data browser: finding items, and one item with its answers, in canonical slots."""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter
from sqlalchemy import ColumnElement, Connection, Integer, bindparam, case, func, literal, or_, select

from tutelage.feedback.asking.answer_rows import read_answers
from tutelage.feedback.asking.payloads import LARGEST_ID, Answer, ItemType, Model, Short, Shown, Turn
from tutelage.feedback.errors import Refused
from tutelage.feedback.items.conflicts import APART, conflicts, settled_items
from tutelage.feedback.items.contents import newest_note, steps_shown, thread_of
from tutelage.feedback.people.access import Member
from tutelage.feedback.projects.projects import current_schema
from tutelage.records import Prompt
from tutelage.store.current import IS_CURRENT, IS_FIRST, IS_VOTE
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
    folded,
)
from tutelage.store.schema_feedback import (
    Acceptance,
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
    StepMarkRow,
)

State = Literal[
    "",
    "any",
    "unanswered",
    "partial",
    "complete",
    "conflict",
    "flagged",
    "gold",
    "closed",
    "reserved",
    "redacted",
]
Said = Literal["", "first", "second", "tie", "not-acceptable", "wrong-step", "reason"]
Agreement = Literal["", "agree", "differ", "far-apart"]
MOST_LINES = 500  # of a page
OPEN_FLAG = Flag.resolved_at.is_(None)
ANSWER: TypeAdapter[Answer] = TypeAdapter(Answer)


class Query(Model):
    """What to look for; what is empty is not asked.  Everything given must fit; `annotator` and `answer` the same answer."""

    text: Short = ""  # in the prompt, a response or the reason of an answer, without case
    type: ItemType | Literal[""] = ""
    state: State = ""
    model: Short = ""
    annotator: Short = ""
    answer: Said = ""
    agreement: Agreement = ""  # of items with two answers or more
    tag: Short = ""
    task: Short = ""
    split: Short = ""
    run: Annotated[int, Field(ge=0, le=LARGEST_ID)] | Literal[""] = 0  # generation run
    after: Annotated[int, Field(ge=0, le=LARGEST_ID)] = 0  # item id of the last line of the page before
    limit: Annotated[int, Field(ge=1, le=MOST_LINES)] = 50


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
    reserved: tuple[str, ...]  # names of people, and of teams with an '@' before them
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
    children: tuple[int, ...]  # items below it: turns of a chat, steps written again


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


def ids_of(connection: Connection, project_id: int, query: Query) -> list[int]:
    """All items that fit (`after` and `limit` aside), in order."""
    conditions = _filters(connection, project_id, query)
    return list(
        connection.scalars(
            select(Item.id).where(Item.project_id == project_id, *conditions).order_by(Item.id)
        )
    )


def detail(database: Database, who: Member, item_id: int) -> ItemDetail:
    """One item with its answers, revisions included.  Needs view.  Refused: not-found."""
    who.require("view")
    with database.read() as connection:
        own = (Item.id == item_id, Item.project_id == who.project_id)
        found = connection.execute(
            select(PromptRow.content, Item.parent_id).join(Item, Item.prompt_id == PromptRow.id).where(*own)
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
        )


def choices(database: Database, who: Member) -> Choices:
    """What the project's items can be searched by and reserved for.  Needs view."""
    who.require("view")
    of_project = PromptRow.project_id == who.project_id
    with database.read() as connection:
        runs = connection.execute(
            select(GenerationRun.id, ModelRef.name)
            .join(ModelRef, ModelRef.id == GenerationRun.model_ref_id)
            .where(_runs_of(who.project_id))
            .order_by(GenerationRun.id)
        ).all()
        answered = select(Annotation.id).join(Item, Item.id == Annotation.item_id)
        answered = answered.where(
            Annotation.annotator_id == Annotator.id, Item.project_id == who.project_id
        ).correlate(Annotator)
        kinds = connection.execute(select(PromptRow.task, PromptRow.split).where(of_project).distinct()).all()
        tags = select(ItemTag.tag).join(Item, Item.id == ItemTag.item_id)
        labels = (Membership.project_id == who.project_id, Membership.role != "viewer")
        names = select(Account.name).join(Membership, Membership.account_id == Account.id).where(*labels)

        def sorted_of(query: Any) -> list[str]:
            return sorted(value for value in connection.scalars(query.distinct()) if value)

        return Choices(
            models=sorted({run.name for run in runs}),
            annotators=sorted_of(select(Annotator.name).where(answered.exists())),
            tags=sorted_of(tags.where(Item.project_id == who.project_id)),
            tasks=sorted({kind.task for kind in kinds if kind.task}),
            splits=sorted({kind.split for kind in kinds}),
            runs=[(run.id, run.name) for run in runs] if len(runs) > 1 else [],
            members=sorted_of(names),
            teams=sorted_of(select(Membership.team).where(*labels)),
        )


def models_of(database: Database, who: Member) -> list[str]:
    """Names of the models that wrote the project's responses, sorted.  Needs view."""
    who.require("view")
    names = select(ModelRef.name).join(GenerationRun, GenerationRun.model_ref_id == ModelRef.id)
    with database.read() as connection:
        return sorted(set(connection.scalars(names.where(_runs_of(who.project_id)))))


# finding ----------------------------------------------------------------------------------------------------------


def _runs_of(project_id: int) -> ColumnElement[bool]:
    """That a generation run has written for the project: found at its first response, where it has."""
    written = select(ResponseRow.id).join(PromptRow, PromptRow.id == ResponseRow.prompt_id)
    written = written.where(
        ResponseRow.generation_run_id == GenerationRun.id, PromptRow.project_id == project_id
    )
    return written.correlate(GenerationRun).exists()


def _filters(connection: Connection, project_id: int, query: Query) -> Iterable[ColumnElement[bool]]:
    if query.type:
        yield Item.type == query.type
    if query.text:
        yield _has_text(connection, project_id, folded(query.text))
    if query.model:
        by_model = _responses().join(GenerationRun, GenerationRun.id == ResponseRow.generation_run_id)
        by_model = by_model.join(ModelRef, ModelRef.id == GenerationRun.model_ref_id)
        yield by_model.where(ModelRef.name == query.model).exists()
    if query.run:
        yield _responses().where(ResponseRow.generation_run_id == query.run).exists()
    for wanted, column in ((query.task, PromptRow.task), (query.split, PromptRow.split)):
        if wanted:
            yield Item.prompt_id.in_(
                select(PromptRow.id).where(PromptRow.project_id == project_id, column == wanted)
            )
    if query.tag:
        yield select(ItemTag.tag).where(ItemTag.item_id == Item.id, ItemTag.tag == query.tag).exists()
    if query.annotator or query.answer:
        yield _has_answer(query)
    if query.agreement:
        yield from _agree(connection, project_id, query.agreement)
    if query.state == "conflict":
        yield _among(sorted(conflicts(connection, project_id)))
    elif query.state not in ("", "any"):
        yield _in_state(query.state)


def _has_text(connection: Connection, project_id: int, wanted: str) -> ColumnElement[bool]:
    """Plain containing: nothing in `wanted` is a wildcard."""
    find = func.instr if connection.dialect.name == "sqlite" else func.strpos
    prompts = select(PromptRow.id).where(PromptRow.project_id == project_id)
    reasons = connection.execute(
        select(Annotation.item_id, Annotation.reason)
        .join(Item, Item.id == Annotation.item_id)
        .where(Item.project_id == project_id, Annotation.reason != "")
    )
    responses = select(ItemResponse.item_id).join(ResponseRow, ResponseRow.id == ItemResponse.response_id)
    in_prompts = responses.join(PromptRow, PromptRow.id == ResponseRow.prompt_id).where(
        PromptRow.project_id == project_id, find(ResponseRow.search, wanted) > 0
    )
    return or_(
        Item.prompt_id.in_(prompts.where(find(PromptRow.search, wanted) > 0)),
        Item.id.in_(in_prompts),
        _among(sorted({item for item, reason in reasons if wanted in folded(reason or "")})),
    )


def _has_answer(query: Query) -> ColumnElement[bool]:
    """A current answer by `annotator` that says `answer`."""
    found = select(Annotation.id).where(Annotation.item_id == Item.id, IS_VOTE, IS_CURRENT)
    if query.annotator:
        found = found.join(Annotator, Annotator.id == Annotation.annotator_id)
        found = found.where(Annotator.name == query.annotator)
    if query.answer:
        refused = select(Acceptance.slot).where(
            Acceptance.annotation_id == Annotation.id, Acceptance.acceptable.is_(False)
        )
        wrong = select(StepMarkRow.step).where(
            StepMarkRow.annotation_id == Annotation.id, StepMarkRow.label == -1
        )
        said: dict[str, ColumnElement[bool]] = {
            "first": Annotation.preference < 0,
            "second": Annotation.preference > 0,
            "tie": Annotation.preference == 0,
            "not-acceptable": refused.correlate(Annotation).exists(),
            "wrong-step": wrong.correlate(Annotation).exists(),
            "reason": Annotation.reason != "",
        }
        found = found.where(said[query.answer])
    return found.correlate(Item).exists()


def _agree(connection: Connection, project_id: int, wanted: Agreement) -> Iterable[ColumnElement[bool]]:
    apart = conflicts(connection, project_id, full=False)
    least = APART if wanted == "far-apart" else 0.0
    some = _among(sorted(item for item, share in apart.items() if share >= least))
    yield Item.n_done >= 2
    yield ~some if wanted == "agree" else some


def _in_state(state: State) -> ColumnElement[bool]:
    open_flag = select(Flag.id).where(Flag.item_id == Item.id, OPEN_FLAG)
    gone = select(PromptRow.id).where(PromptRow.id == Item.prompt_id, PromptRow.redacted_at.is_not(None))
    states: dict[str, ColumnElement[bool]] = {
        "unanswered": Item.n_done == 0,
        "partial": (Item.n_done > 0) & (Item.n_done < Item.overlap),
        "complete": Item.n_done >= Item.overlap,
        "flagged": open_flag.exists(),
        "gold": select(Gold.item_id).where(Gold.item_id == Item.id).exists(),
        "closed": Item.closed.is_(True),
        "reserved": Item.reserved.is_(True),
        "redacted": gone.exists() | _responses().where(ResponseRow.redacted_at.is_not(None)).exists(),
    }
    return states[state]


def _among(ids: Sequence[int]) -> ColumnElement[bool]:
    """Written out, since databases limit how many values a statement has."""
    return Item.id.in_(
        bindparam(None, list(ids), type_=Integer, expanding=True, unique=True, literal_execute=True)
    )


def _responses() -> Any:
    return (
        select(ResponseRow.id)
        .join(ItemResponse, ItemResponse.response_id == ResponseRow.id)
        .where(ItemResponse.item_id == Item.id)
        .correlate(Item)
    )


# reading ----------------------------------------------------------------------------------------------------------


def _rows(connection: Connection, project_id: int, ids: Sequence[int]) -> list[ItemRow]:
    shown: dict[int, list[Any]] = defaultdict(list)
    responses = (
        select(ItemResponse.item_id, ResponseRow.text, ModelRef.name, ResponseRow.redacted_at)
        .join(ResponseRow, ResponseRow.id == ItemResponse.response_id)
        .join(GenerationRun, GenerationRun.id == ResponseRow.generation_run_id)
        .join(ModelRef, ModelRef.id == GenerationRun.model_ref_id)
        .where(ItemResponse.item_id.in_(ids))
        .order_by(ItemResponse.item_id, ItemResponse.slot)
    )
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
    query = query.join(PromptRow, PromptRow.id == Item.prompt_id).where(Item.id.in_(ids)).order_by(Item.id)
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
) -> dict[int, int]:
    query = select(table.item_id, func.count()).where(table.item_id.in_(ids), *conditions)
    counts: dict[int, int] = defaultdict(int)
    counts.update({row[0]: row[1] for row in connection.execute(query.group_by(table.item_id))})
    return counts


def _tags(connection: Connection, ids: Sequence[int]) -> dict[int, list[str]]:
    query = select(ItemTag.item_id, ItemTag.tag).where(ItemTag.item_id.in_(ids))
    return _by_item(connection, query.order_by(ItemTag.tag))


def _reserved(connection: Connection, ids: Sequence[int]) -> dict[int, list[str]]:
    whom = func.coalesce(Annotator.name, literal("@").concat(ItemReserved.team))
    query = select(ItemReserved.item_id, whom).where(ItemReserved.item_id.in_(ids))
    query = query.outerjoin(Annotator, Annotator.id == ItemReserved.annotator_id)
    return _by_item(connection, query.order_by(ItemReserved.id))


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
        .join(Annotator, Annotator.id == Annotation.annotator_id)
        .outerjoin(SoftVote, SoftVote.annotation_id == Annotation.id)
        .outerjoin(Assignment, Assignment.id == Annotation.assignment_id)
        .outerjoin(SchemaVersion, SchemaVersion.id == Assignment.schema_version_id)
        .where(Annotation.item_id == item_id)
        .order_by(Annotation.id)
    ).all()
    stored = read_answers(connection, [row.annotation_id for row in rows])
    return [
        AnswerRow(
            **{column.key: getattr(row, column.key) for column in columns},
            answer=stored[row.annotation_id],
            shown_order=tuple(row.presented_order or _order(row.first_shown)),
        )
        for row in rows
    ]


def _order(first_shown: int | None) -> tuple[int, ...]:
    """The order in which a program saw a pair."""
    return () if first_shown is None else (first_shown, 1 - first_shown)


def _flags(connection: Connection, item_id: int) -> list[dict[str, Any]]:
    said = case((OPEN_FLAG, None), else_=Flag.resolution).label("resolution")
    columns = (Flag.id, Flag.code, Flag.text, Annotator.name.label("by"), Flag.created_at.label("at"), said)
    query = select(*columns).join(Annotator, Annotator.id == Flag.annotator_id)
    rows = connection.execute(query.where(Flag.item_id == item_id).order_by(Flag.id))
    return [dict(row._mapping) for row in rows]


def _notes(connection: Connection, item_id: int) -> list[dict[str, Any]]:
    rows = connection.execute(
        select(ItemNote.id, ItemNote.text, Account.name.label("by"), ItemNote.created_at.label("at"))
        .outerjoin(Account, Account.id == ItemNote.by_id)
        .where(ItemNote.item_id == item_id)
        .order_by(ItemNote.id)
    )
    return [dict(row._mapping) for row in rows]


def _gold(connection: Connection, item_id: int) -> Answer | None:
    stored = connection.scalar(select(Gold.answer).where(Gold.item_id == item_id))
    return None if stored is None else ANSWER.validate_python(stored)
