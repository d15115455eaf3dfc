"""What the statistics read: flat tables of current answers, in canonical slots, without text."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Select, case, func, literal, select
from sqlalchemy.orm import aliased

from tutelage.feedback.asking.answer_rows import read_answers
from tutelage.feedback.asking.payloads import Answer, PairAnswer, RankAnswer, RateAnswer, StepAnswer
from tutelage.feedback.items.conflicts import conflicts, settled_items
from tutelage.feedback.people.access import Member
from tutelage.feedback.projects.projects import settings_of
from tutelage.store.current import IS_CURRENT, IS_FIRST
from tutelage.store.database import Database
from tutelage.store.schema import (
    Annotation,
    Annotator,
    GenerationRun,
    Item,
    ItemResponse,
    ModelRef,
    ResponseRow,
)
from tutelage.store.schema_feedback import (
    Acceptance,
    Assignment,
    Flag,
    Gold,
    RankEntry,
    Rating,
    StepMarkRow,
)


@dataclass(frozen=True)
class PairLabel:
    """One current, counted pair answer.  Lengths are characters, models may be the same."""

    item_id: int
    prompt_id: int
    annotator: str
    kind: str
    preference: int  # canonical: negative = slot 0 is better
    first_shown: int
    lengths: tuple[int, int]
    models: tuple[str, str]
    response_ids: tuple[int, int]
    active_ms: int | None  # None: a program
    submitted_at: datetime
    gold: int | None  # the gold preference of a gold item


@dataclass(frozen=True)
class ValueLabel:
    """One current, counted value: a rank, rating, acceptance or step mark.

    `unit` is what several annotators judge: (item, slot, "") for ranks and acceptance, (item, slot, criterion) for
    ratings, (item, step, "") for marks.
    """

    unit: tuple[int, int, str]
    annotator: str
    kind: str
    question: str  # rank, rating, acceptable, step
    value: int


@dataclass(frozen=True)
class Totals:
    """The project in numbers."""

    items: int
    complete: int
    answers: int
    extra: int
    revisions: int
    skips: int
    flags: int
    gold_items: int
    conflicts: int
    settled: int
    annotators: int


@dataclass(frozen=True)
class OwnAgreement:
    """How often an annotator took the side of the others' majority: `agreed` of `compared`, and per kind of the others."""

    agreed: int
    compared: int
    by_kind: dict[str, tuple[int, int]]  # kind -> (agreed, compared)


@dataclass(frozen=True)
class AnnotatorTotals:
    """One annotator's work in a project."""

    name: str
    kind: str
    answers: int
    skips: int
    last: datetime | None


def annotators(database: Database, who: Member) -> list[AnnotatorTotals]:
    """Everybody who has had an item of the project or answered one, by name.  Needs view."""
    who.require("view")
    with database.read() as connection:
        answered = (
            select(
                Annotation.annotator_id,
                func.count().label("n"),
                func.max(Annotation.submitted_at).label("last"),
            )
            .join(Item, Item.id == Annotation.item_id)
            .where(Item.project_id == who.project_id, IS_FIRST)
            .group_by(Annotation.annotator_id)
            .subquery()
        )
        skipped = (
            select(
                Assignment.annotator_id,
                func.sum(case((Assignment.status == "skipped", 1), else_=0)).label("n"),
            )
            .join(Item, Item.id == Assignment.item_id)
            .where(Item.project_id == who.project_id)
            .group_by(Assignment.annotator_id)
            .subquery()
        )
        rows = connection.execute(
            select(
                Annotator.name,
                Annotator.kind,
                func.coalesce(answered.c.n, 0),
                func.coalesce(skipped.c.n, 0),
                answered.c.last,
            )
            .outerjoin(answered, answered.c.annotator_id == Annotator.id)
            .outerjoin(skipped, skipped.c.annotator_id == Annotator.id)
            .where(answered.c.n.is_not(None) | skipped.c.n.is_not(None))
            .order_by(Annotator.name)
        )
        return [AnnotatorTotals(*row) for row in rows]


def totals(database: Database, who: Member) -> Totals:
    """Needs view."""
    who.require("view")
    with database.read() as connection:
        in_project = Item.project_id == who.project_id

        def count(table: Any, *conditions: Any, of: Any = None) -> int:
            column = func.count() if of is None else func.count(func.distinct(of))
            query = select(column).select_from(table).where(in_project, *conditions)
            if table is not Item:
                query = query.join(Item, Item.id == table.item_id)
            return connection.scalar(query) or 0

        return Totals(
            items=count(Item),
            complete=count(Item, Item.n_done >= Item.overlap),
            answers=count(Annotation, IS_FIRST, Annotation.role == "answer"),
            extra=count(Annotation, IS_FIRST, Annotation.role == "extra"),
            revisions=count(Annotation, Annotation.supersedes_id.is_not(None)),
            skips=count(Assignment, Assignment.status == "skipped"),
            flags=count(Flag),
            gold_items=count(Gold),
            conflicts=len(conflicts(connection, who.project_id)),
            settled=len(settled_items(connection, who.project_id)),
            annotators=count(Annotation, IS_FIRST, Annotation.role == "answer", of=Annotation.annotator_id),
        )


def pair_labels(database: Database, who: Member) -> list[PairLabel]:
    """All of them, ordered by annotation.  Needs view (annotators get their own agreement from `own_agreement`)."""
    who.require("view")
    with database.read() as connection:
        return read_pair_labels(connection, who.project_id)


def value_labels(database: Database, who: Member) -> list[ValueLabel]:
    """All of them, ordered by question and annotation.  Needs view."""
    who.require("view")
    tables: tuple[tuple[str, Any, Any, Any, Any], ...] = (
        ("rank", RankEntry, RankEntry.slot, literal(""), RankEntry.rank),
        ("rating", Rating, Rating.slot, Rating.criterion, Rating.value),
        ("acceptable", Acceptance, Acceptance.slot, literal(""), Acceptance.acceptable),
        ("step", StepMarkRow, StepMarkRow.step, literal(""), StepMarkRow.label),
    )
    with database.read() as connection:
        return [
            ValueLabel((row.item_id, row[1], row[2]), row.name, row.kind, question, int(row[3]))
            for question, table, place, criterion, value in tables
            for row in connection.execute(
                _current(
                    select(Annotation.item_id, place, criterion, value, Annotator.name, Annotator.kind),
                    who.project_id,
                )
                .join(table, table.annotation_id == Annotation.id)
                .order_by(Annotation.id, place, criterion)
            )
        ]


def own_agreement(database: Database, who: Member) -> OwnAgreement | None:
    """The annotator's own pair answers against the others'; None when the project does not show it.  Needs label.

    The others' majority is the sign of their summed sides; ties, theirs or one's own, are not compared.
    """
    who.require("label")
    with database.read() as connection:
        if not settings_of(connection, who.project_id).show_agreement:
            return None
        labels = read_pair_labels(connection, who.project_id)
    mine = {label.item_id: _sign(label.preference) for label in labels if label.annotator == who.user.name}
    total: dict[int, int] = defaultdict(int)
    by_kind: dict[str, dict[int, int]] = defaultdict(lambda: defaultdict(int))
    for label in labels:
        if label.item_id in mine and label.annotator != who.user.name:
            total[label.item_id] += _sign(label.preference)
            by_kind[label.kind][label.item_id] += _sign(label.preference)
    kinds = {kind: _agreed(mine, sides) for kind, sides in sorted(by_kind.items())}
    return OwnAgreement(*_agreed(mine, total), by_kind=kinds)


def read_pair_labels(connection: Connection, project_id: int) -> list[PairLabel]:
    """`pair_labels` inside a transaction."""
    slots = [aliased(ItemResponse), aliased(ItemResponse)]
    responses = [aliased(ResponseRow), aliased(ResponseRow)]
    runs = [aliased(GenerationRun), aliased(GenerationRun)]
    models = [aliased(ModelRef), aliased(ModelRef)]
    query: Select[Any] = _current(
        select(
            Annotation.item_id,
            Item.prompt_id,
            Annotator.name,
            Annotator.kind,
            Annotation.preference,
            Annotation.first_shown,
            Annotation.active_ms,
            Annotation.submitted_at,
            Gold.answer.label("gold"),
            *(func.length(response.text).label(f"length{n}") for n, response in enumerate(responses)),
            *(model.name.label(f"model{n}") for n, model in enumerate(models)),
            *(response.id.label(f"response{n}") for n, response in enumerate(responses)),
        ),
        project_id,
    )
    for number, (slot, response, run, model) in enumerate(zip(slots, responses, runs, models, strict=True)):
        query = (
            query.join(slot, (slot.item_id == Item.id) & (slot.slot == number))
            .join(response, response.id == slot.response_id)
            .join(run, run.id == response.generation_run_id)
            .join(model, model.id == run.model_ref_id)
        )
    query = query.outerjoin(Gold, Gold.item_id == Item.id).where(Annotation.preference.is_not(None))
    return [
        PairLabel(
            row.item_id,
            row.prompt_id,
            row.name,
            row.kind,
            row.preference,
            row.first_shown,
            (row.length0, row.length1),
            (row.model0, row.model1),
            (row.response0, row.response1),
            row.active_ms,
            row.submitted_at,
            None if row.gold is None else row.gold["preference"],
        )
        for row in connection.execute(query.order_by(Annotation.id))
    ]


def gold_counts(connection: Connection, who: Member) -> tuple[int, int]:
    """(right, answered) of one annotator's current answers to gold items."""
    query = _current(select(Annotation.id, Gold.answer), who.project_id, roles=("answer", "extra"))
    query = query.join(Gold, Gold.item_id == Item.id).where(Annotation.annotator_id == who.annotator_id)
    golds = {row.id: row.answer for row in connection.execute(query)}
    stored = read_answers(connection, list(golds))
    right = [is_right(stored[key], golds[key]) for key in golds]
    return sum(right), len(right)


def is_right(answer: Answer, gold: dict[str, Any]) -> bool:
    """Whether an answer (in slots) says what gold (JSON of an answer in slots) says.

    Pairs: the same side, however strongly; ranks and steps: the same; ratings: each within one point.  Others have
    no right answer and count as right.
    """
    if isinstance(answer, PairAnswer):
        return _sign(answer.preference) == _sign(gold["preference"])
    if isinstance(answer, RankAnswer):
        return list(answer.ranks) == list(gold["ranks"])
    if isinstance(answer, StepAnswer):
        return [mark.label for mark in answer.marks] == [mark["label"] for mark in gold["marks"]]
    if isinstance(answer, RateAnswer):
        return all(
            (mine is None) == (right is None) and (mine is None or abs(mine - right) <= 1)
            for name, values in gold["ratings"].items()
            for mine, right in zip(answer.ratings.get(name, [None] * len(values)), values, strict=True)
        )
    return True


def _current(query: Select[Any], project_id: int, roles: Sequence[str] = ("answer",)) -> Select[Any]:
    """Annotations that were not revised since, with item and annotator."""
    return (
        query.select_from(Annotation)
        .join(Item, Item.id == Annotation.item_id)
        .join(Annotator, Annotator.id == Annotation.annotator_id)
        .where(
            Item.project_id == project_id,
            Annotation.role.in_(roles),
            IS_CURRENT,
        )
    )


def _agreed(mine: dict[int, int], others: dict[int, int]) -> tuple[int, int]:
    products = [mine[item] * total for item, total in others.items() if mine[item] * total]
    return sum(product > 0 for product in products), len(products)


def _sign(value: int) -> int:
    return (value > 0) - (value < 0)
