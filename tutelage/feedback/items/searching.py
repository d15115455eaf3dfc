"""Searching items: what may be asked for, as conditions on `Item`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Annotated, Any, Literal

from pydantic import Field
from sqlalchemy import ColumnElement, Connection, Integer, bindparam, func, select, text, union
from sqlalchemy.orm import aliased

from tutelage.feedback.asking.payloads import LARGEST_ID, ItemType, Model, Short
from tutelage.feedback.items.conflicts import APART, in_conflict
from tutelage.store.current import IS_CURRENT, IS_VOTE
from tutelage.store.leaving import IS_ANSWERED, IS_WAITING
from tutelage.store.schema import (
    WITH_REASON,
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
from tutelage.store.schema_calls import JudgeLeft
from tutelage.store.schema_feedback import Acceptance, Flag, Gold, ItemTag, StepMarkRow

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
Left = Literal["", "waiting", "answered"]
MOST_LINES = 500  # of a page
OPEN_FLAG = Flag.resolved_at.is_(None)


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
    left_by: Short = ""  # a judge that left it to people
    left: Left = ""  # such items, by whichever judge: a person has answered since, or they still wait for one
    run: Annotated[int, Field(ge=0, le=LARGEST_ID)] | Literal[""] = 0  # generation run
    after: Annotated[int, Field(ge=0, le=LARGEST_ID)] = 0  # item id of the last line of the page before
    limit: Annotated[int, Field(ge=1, le=MOST_LINES)] = 50


def ids_of(connection: Connection, project_id: int, query: Query) -> list[int]:
    """All items that fit (`after` and `limit` aside), in order."""
    fitting = select(Item.id).where(Item.project_id == project_id, *_filters(connection, project_id, query))
    return list(connection.scalars(fitting.order_by(Item.id)))


def _filters(connection: Connection, project_id: int, query: Query) -> Iterable[ColumnElement[bool]]:
    if query.type:
        yield Item.type == query.type
    if query.text:
        yield _has_text(connection, project_id, folded(query.text))
    if query.model:
        yield _responses().join(GenerationRun).join(ModelRef).where(ModelRef.name == query.model).exists()
    if query.run:
        yield _responses().where(ResponseRow.generation_run_id == query.run).exists()
    prompts = select(PromptRow.id).where(PromptRow.project_id == project_id)
    for wanted, column in ((query.task, PromptRow.task), (query.split, PromptRow.split)):
        if wanted:
            yield Item.prompt_id.in_(prompts.where(column == wanted))
    if query.tag:
        yield select(ItemTag.tag).where(ItemTag.item_id == Item.id, ItemTag.tag == query.tag).exists()
    if query.annotator or query.answer:
        yield _has_answer(query)
    if query.left_by or query.left:
        yield _is_left(query)
    if query.agreement:
        yield from _agree(connection, project_id, query.agreement)
    if query.state == "conflict":
        yield in_conflict(connection, project_id).holds
    elif query.state not in ("", "any"):
        yield _in_state(query.state)


def _has_text(connection: Connection, project_id: int, wanted: str) -> ColumnElement[bool]:
    """Plain containing: nothing in `wanted` is a wildcard.  One union: of several sets with OR PostgreSQL looks through one for
    every item."""
    find = func.instr if connection.dialect.name == "sqlite" else func.strpos
    of_project = PromptRow.project_id == project_id
    here = select(Item.id).where(Item.id == Annotation.item_id, Item.project_id == project_id).exists()
    reasons = select(Annotation.item_id, Annotation.reason).where(text(WITH_REASON), here)
    said = {item for item, reason in connection.execute(reasons) if wanted in folded(reason or "")}
    one = aliased(Item)
    prompts = select(one.id).join(PromptRow, PromptRow.id == one.prompt_id)
    responses = select(ItemResponse.item_id).join(ResponseRow).join(PromptRow)
    found = union(
        prompts.where(of_project, find(PromptRow.search, wanted) > 0),
        responses.where(of_project, find(ResponseRow.search, wanted) > 0),
        select(one.id).where(one.id.in_(_written_out(sorted(said)))),
    )
    return Item.id.in_(found)


def _written_out(ids: Sequence[int]) -> Any:
    """Databases limit how many values a statement has."""
    return bindparam(None, list(ids), type_=Integer, expanding=True, unique=True, literal_execute=True)


def _has_answer(query: Query) -> ColumnElement[bool]:
    """A current answer by `annotator` that says `answer`."""
    found = select(Annotation.id).where(Annotation.item_id == Item.id, IS_VOTE, IS_CURRENT)
    if query.annotator:
        found = found.join(Annotator).where(Annotator.name == query.annotator)
    if query.answer:
        refused = select(Acceptance.slot).where(Acceptance.acceptable.is_(False))
        wrong = select(StepMarkRow.step).where(StepMarkRow.label == -1)
        said: dict[str, ColumnElement[bool]] = {
            "first": Annotation.preference < 0,
            "second": Annotation.preference > 0,
            "tie": Annotation.preference == 0,
            "not-acceptable": refused.where(Acceptance.annotation_id == Annotation.id).exists(),
            "wrong-step": wrong.where(StepMarkRow.annotation_id == Annotation.id).exists(),
            "reason": Annotation.reason != "",
        }
        found = found.where(said[query.answer])
    return found.correlate(Item).exists()


def _is_left(query: Query) -> ColumnElement[bool]:
    found = select(JudgeLeft.item_id).where(JudgeLeft.item_id == Item.id)
    if query.left_by:
        found = found.where(JudgeLeft.judge == query.left_by)
    if query.left:
        found = found.where(IS_WAITING if query.left == "waiting" else IS_ANSWERED)
    return found.correlate(Item).exists()


def _agree(connection: Connection, project_id: int, wanted: Agreement) -> Iterable[ColumnElement[bool]]:
    least = APART if wanted == "far-apart" else 0.0
    apart = in_conflict(connection, project_id, full=False, least=least).holds
    yield Item.n_done >= 2
    yield ~apart if wanted == "agree" else apart


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


def _responses() -> Any:
    return select(ResponseRow.id).join(ItemResponse).where(ItemResponse.item_id == Item.id).correlate(Item)
