"""Answers as rows: writing one (in slots) below its annotation, and reading them back as the same payloads."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, select

from tutelage.feedback.asking.checking import dense
from tutelage.feedback.asking.payloads import (
    Answer,
    ChatAnswer,
    ItemType,
    PairAnswer,
    RankAnswer,
    RateAnswer,
    RewriteAnswer,
    StepAnswer,
    StepMark,
)
from tutelage.store.schema import Annotation, Item, ItemResponse
from tutelage.store.schema_feedback import (
    Acceptance,
    CriterionPreference,
    RankEntry,
    Rating,
    Rewrite,
    StepMarkRow,
)
from tutelage.store.sql import chunks, insert_one, insert_rows

_Below = dict[type, dict[int, list[Any]]]  # the rows below some annotations: table -> annotation -> rows
SATISFIED = {True: "satisfied", False: "not-satisfied", None: None}


def normal(answer: Answer) -> Answer:
    """The answer as it will be read back: ranks without gaps, nothing that was not said of any response."""
    update: dict[str, Any] = {}
    if isinstance(answer, RateAnswer):
        said = {name: values for name, values in answer.ratings.items() if any(v is not None for v in values)}
        update["ratings"] = said
    if isinstance(answer, RankAnswer):
        update["ranks"] = dense(answer.ranks)
    if isinstance(answer, PairAnswer | RankAnswer | RateAnswer) and not any(
        value is not None for value in answer.acceptable
    ):
        update["acceptable"] = ()
    return answer.model_copy(update=update)


def write_answer(
    connection: Connection, answer: Answer, steps: Sequence[str], first_shown: int, **columns: Any
) -> int:
    """Insert an annotation with the answer (in slots) below it; returns its id.  `columns`: the rest of the row."""
    pair = isinstance(answer, PairAnswer)
    key = insert_one(
        connection,
        Annotation,
        preference=answer.preference if pair else None,  # type: ignore[union-attr]
        first_shown=first_shown if pair else None,
        confidence=answer.confidence,
        reason=answer.reason,
        verdict=_verdict(answer),
        **columns,
    )
    if isinstance(answer, PairAnswer):
        preferences = [{"criterion": name, "preference": p} for name, p in answer.criteria.items()]
        _below(connection, CriterionPreference, key, preferences)
    if isinstance(answer, PairAnswer | RankAnswer | RateAnswer):
        said = [{"slot": s, "acceptable": a} for s, a in enumerate(answer.acceptable) if a is not None]
        _below(connection, Acceptance, key, said)
    if isinstance(answer, RankAnswer):
        ranks = [{"slot": slot, "rank": rank} for slot, rank in enumerate(dense(answer.ranks))]
        _below(connection, RankEntry, key, ranks)
    if isinstance(answer, RateAnswer):
        ratings = [
            {"slot": slot, "criterion": name, "value": value}
            for name, values in answer.ratings.items()
            for slot, value in enumerate(values)
            if value is not None
        ]
        _below(connection, Rating, key, ratings)
    if isinstance(answer, StepAnswer):
        marks = [mark.model_dump() | {"text": steps[mark.step]} for mark in answer.marks]
        _below(connection, StepMarkRow, key, marks)
    if isinstance(answer, RewriteAnswer):
        _below(connection, Rewrite, key, [{"text": answer.text}])
    return key


def read_answers(connection: Connection, annotation_ids: Sequence[int]) -> dict[int, Answer]:
    """The answers of some annotations, in slots."""
    found: dict[int, Answer] = {}
    for some in chunks(annotation_ids):
        rows = connection.execute(
            select(
                Annotation.id,
                Annotation.item_id,
                Item.type,
                Annotation.preference,
                Annotation.confidence,
                Annotation.reason,
                Annotation.verdict,
            )
            .join(Item)
            .where(Annotation.id.in_(some))
        ).all()
        slots = _slot_counts(connection, [row.item_id for row in rows])
        below = _read_below(connection, some)
        for row in rows:
            found[row.id] = _answer(row, slots[row.item_id], below)
    return found


def _read_below(connection: Connection, ids: Sequence[int]) -> _Below:
    below: _Below = {}
    for table in (CriterionPreference, RankEntry, Rating, Acceptance, StepMarkRow, Rewrite):
        below[table] = defaultdict(list)
        order = list(table.__table__.primary_key.columns)  # type: ignore[attr-defined]
        query = select(table.__table__).where(table.annotation_id.in_(ids)).order_by(*order)
        for row in connection.execute(query):
            below[table][row.annotation_id].append(row)
    return below


def _answer(row: Any, slots: int, below: _Below) -> Answer:
    common: dict[str, Any] = {"confidence": row.confidence, "reason": row.reason or ""}
    said = {a.slot: a.acceptable for a in below[Acceptance][row.id]}
    acceptable = tuple(said.get(slot) for slot in range(slots)) if said else ()
    type: ItemType = row.type
    if type == "pair":
        criteria = {c.criterion: c.preference for c in below[CriterionPreference][row.id]}
        return PairAnswer(preference=row.preference, acceptable=acceptable, criteria=criteria, **common)
    if type == "rank":
        ranks = tuple(entry.rank for entry in below[RankEntry][row.id])
        return RankAnswer(ranks=ranks, acceptable=acceptable, **common)
    if type == "rate":
        ratings: dict[str, list[int | None]] = {}
        for r in below[Rating][row.id]:
            ratings.setdefault(r.criterion, [None] * slots)[r.slot] = r.value
        return RateAnswer(
            ratings={name: tuple(values) for name, values in ratings.items()}, acceptable=acceptable, **common
        )
    if type == "step":
        names = StepMark.model_fields
        rows = below[StepMarkRow][row.id]
        marks = tuple(StepMark(**{name: getattr(mark, name) for name in names}) for mark in rows)
        return StepAnswer(marks=marks, finish=row.verdict, **common)
    if type == "rewrite":
        return RewriteAnswer(text=below[Rewrite][row.id][0].text or "[redacted]", **common)
    satisfied = {text: value for value, text in SATISFIED.items()}[row.verdict]
    return ChatAnswer(satisfied=satisfied, **common)


def _verdict(answer: Answer) -> str | None:
    if isinstance(answer, StepAnswer):
        return answer.finish
    if isinstance(answer, ChatAnswer):
        return SATISFIED[answer.satisfied]
    return None


def _below(connection: Connection, table: Any, key: int, rows: list[dict[str, Any]]) -> None:
    insert_rows(connection, table, [row | {"annotation_id": key} for row in rows])


def _slot_counts(connection: Connection, items: Sequence[int]) -> Counter[int]:
    query = select(ItemResponse.item_id).where(ItemResponse.item_id.in_(sorted(set(items))))
    return Counter(connection.scalars(query))
