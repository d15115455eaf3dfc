"""Refinements as they stand in the store: rounds with the marks that hold, checks, and what they have cost so far."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

from sqlalchemy import Connection, or_, select, true

from tutelage.feedback.asking.answer_rows import read_answers
from tutelage.feedback.asking.payloads import Schema, Splitter, StepAnswer, StepMark
from tutelage.feedback.asking.steps import split_steps
from tutelage.feedback.projects.projects import current_schema, settings_of
from tutelage.feedback.refining.rules import Rules
from tutelage.records import MarkedStep, Refinement, Role, Round
from tutelage.store.comparing import ItemContent, read_items, read_weights
from tutelage.store.current import IS_CURRENT, IS_SETTLING
from tutelage.store.schema import Annotation, Annotator, Item
from tutelage.store.schema_feedback import Account, Assignment, Membership, SchemaVersion
from tutelage.store.schema_refining import RefinementCheck, RefinementRound, RefinementRow
from tutelage.store.sql import CHUNK

ROLES: dict[str, Role] = {"human": "expert", "simulated": "expert", "judge": "judge", "rule": "verifier"}
"""The role of an annotator of a kind, where nothing says otherwise."""


@dataclass(frozen=True)
class Marks:
    """One answer to a round: who gave it, in what role, how many times it counts, and the time it took (minutes)."""

    by: str
    role: Role
    answer: StepAnswer
    splitter: Splitter
    weight: float = 1.0
    minutes: float = 0.0
    settles: bool = False


@dataclass(frozen=True)
class Standing:
    """A refinement as it stands: its item (`root`), the items of its rounds, the split of its prompt, and the record.

    `broken`: whoever marked the last round says that the problem itself is.  `rules`: what the project's settings say.
    """

    root: int
    items: tuple[int, ...]
    responses: tuple[int, ...]
    split: str
    redacted: bool
    refinement: Refinement
    splitter: Splitter
    rules: Rules
    broken: bool = False

    @property
    def digest(self) -> str:
        return self.refinement.prompt.id


def read_refinements(
    connection: Connection, project_id: int, roots: Collection[int] | None = None
) -> list[Standing]:
    """The refinements of a project (or those of them that began with these items), oldest first."""
    rounds = _rounds(connection, project_id)
    if roots is not None:
        rounds = {root: rows for root, rows in rounds.items() if root in roots}
    if not rounds:
        return []
    of_rounds = [row.item_id for rows in rounds.values() for row in rows]
    # By name only where they are few: no database takes any number of values in one statement.
    wanted_items = of_rounds if roots is not None and len(of_rounds) <= CHUNK else None
    items = {item.item_id: item for item in read_items(connection, project_id, "step", only=wanted_items)}
    marks, wanted = _marks(connection, project_id, wanted_items), _wanted(connection, project_id)
    checks, closed = _checks(connection, project_id), _closed(connection, project_id)
    splitter = current_schema(connection, project_id)[1].splitter
    settings = settings_of(connection, project_id)
    rules = Rules(rounds=settings.refine_rounds, checks=settings.refine_checks)
    found = []
    for root, rows in sorted(rounds.items()):
        given = [marks.get(row.item_id, []) for row in rows]
        done = [
            _round(row, items[row.item_id], own, wanted[row.item_id], splitter)
            for row, own in zip(rows, given, strict=True)
        ]
        outcome, why = closed[root]
        first = items[root]
        record = Refinement(first.prompt, tuple(done), tuple(checks.get(root, ())), outcome, why)
        found.append(
            Standing(
                root,
                tuple(row.item_id for row in rows),
                tuple(items[row.item_id].responses[0] for row in rows),
                first.split,
                any(items[row.item_id].redacted for row in rows),
                record,
                given[-1][0].splitter if given[-1] else splitter,
                rules,
                any(one.answer.finish == "bad-problem" for one in given[-1]),
            )
        )
    return found


def settled(marks: Sequence[Marks]) -> tuple[Marks, tuple[StepMark, ...]]:
    """Whose answer speaks for a round, and the marks that hold: an adjudication; one answer as it is; of several the weighted
    majority of each step, with the words of the first (the weightiest, the earliest) whose root is the majority's."""
    first = next((one for one in marks if one.settles), marks[0])
    if first.settles or len(marks) == 1:
        return first, first.answer.marks
    longest = max(len(one.answer.marks) for one in marks)
    labels = [_majority(marks, step) for step in range(longest)]
    wrong = labels.index(-1) if -1 in labels else None
    ranked = sorted(marks, key=lambda one: -one.weight)
    spoken = next((one for one in ranked if _first_root(one) == wrong), ranked[0])
    words = {mark.step: mark for mark in spoken.answer.marks if mark.label == -1}
    held = tuple(
        words[step]
        if label == -1 and step in words
        else StepMark.model_validate({"step": step, "label": label})
        for step, label in enumerate(labels)
    )
    return spoken, tuple(_without_a_cause_that_holds(held))


def _without_a_cause_that_holds(marks: Sequence[StepMark]) -> list[StepMark]:
    """A wrong step follows from an earlier one only where that is wrong, too."""
    wrong = {mark.step for mark in marks if mark.label == -1}
    return [
        mark
        if mark.caused_by in wrong or mark.caused_by is None
        else mark.model_copy(update={"caused_by": None})
        for mark in marks
    ]


def _majority(marks: Sequence[Marks], step: int) -> int:
    total = sum(one.weight * one.answer.marks[step].label for one in marks if step < len(one.answer.marks))
    return (total > 0) - (total < 0)


def _first_root(one: Marks) -> int | None:
    return next((mark.step for mark in one.answer.marks if mark.label == -1 and mark.caused_by is None), None)


def _round(row: Any, item: ItemContent, marks: Sequence[Marks], wanted: int, splitter: Splitter) -> Round:
    """`wanted`: answers that the item waits for; with fewer nothing is said of its steps yet."""
    text, finish = item.texts[0], item.finishes[0]
    unmarked = Round(
        tuple(map(MarkedStep, split_steps(text, splitter))), row.how, row.since, row.correct, finish
    )
    if not marks or (len(marks) < wanted and not any(one.settles for one in marks)):
        return unmarked
    spoken, held = settled(marks)
    texts = split_steps(text, spoken.splitter)
    by_step = {mark.step: mark for mark in held}
    steps = tuple(marked_step(step, by_step.get(number)) for number, step in enumerate(texts))
    rewrites = sum(mark.rewrite is not None for mark in held)
    return Round(
        steps,
        row.how,
        row.since,
        _said_right(steps, spoken) if row.correct is None else row.correct,
        finish,
        spoken.by,
        spoken.role,
        calls=len(marks) + rewrites,
        minutes=sum(one.minutes for one in marks),
    )


def _said_right(steps: tuple[MarkedStep, ...], spoken: Marks) -> bool | None:
    """What whoever marked every step as sound says of the answer; where nothing else says whether it is right."""
    if not Round(steps).sound:
        return None
    return {"solution": True, "found-error": False}.get(spoken.answer.finish)


def marks_of(steps: Sequence[MarkedStep]) -> tuple[StepMark, ...]:
    """What is said of the steps, up to the first that nobody marked, as an answer has it: the inverse of `marked_step`."""
    return tuple(
        StepMark(
            step=number,
            label=step.label,
            reason=step.explanation,
            rewrite=step.rewrite,
            caused_by=step.caused_by,
            error=step.error,
        )
        for number, step in enumerate(takewhile(lambda step: step.label is not None, steps))
        if step.label is not None
    )


def marked_step(text: str, mark: StepMark | None) -> MarkedStep:
    """A step and its mark as a record."""
    if mark is None:
        return MarkedStep(text)
    return MarkedStep(text, mark.label, mark.reason, mark.rewrite, mark.caused_by, mark.error)


# rows -----------------------------------------------------------------------------------------------------------------


def _rounds(connection: Connection, project_id: int) -> Mapping[int, list[Any]]:
    rows: dict[int, list[Any]] = defaultdict(list)
    query = select(RefinementRound.__table__).join(Item, Item.id == RefinementRound.item_id)
    for row in connection.execute(query.where(Item.project_id == project_id).order_by(RefinementRound.n)):
        rows[row.root_id].append(row)
    return rows


def _closed(connection: Connection, project_id: int) -> dict[int, tuple[Any, str]]:
    query = select(RefinementRow.__table__).join(Item, Item.id == RefinementRow.item_id)
    rows = connection.execute(query.where(Item.project_id == project_id))
    return {row.item_id: (row.outcome, row.why) for row in rows}


def _checks(connection: Connection, project_id: int) -> Mapping[int, list[bool]]:
    found: dict[int, list[bool]] = defaultdict(list)
    query = select(RefinementCheck.item_id, RefinementCheck.correct).order_by(RefinementCheck.n)
    query = query.join(Item, Item.id == RefinementCheck.item_id)
    query = query.where(Item.project_id == project_id, RefinementCheck.correct.is_not(None))
    for row in connection.execute(query):
        found[row.item_id].append(row.correct)
    return found


def _wanted(connection: Connection, project_id: int) -> dict[int, int]:
    """item -> answers that it waits for; one that is out of the queue goes by what it has."""
    query = select(Item.id, Item.overlap, Item.closed).join(
        RefinementRound, RefinementRound.item_id == Item.id
    )
    rows = connection.execute(query.where(Item.project_id == project_id))
    return {row.id: 1 if row.closed else row.overlap for row in rows}


def _marks(
    connection: Connection, project_id: int, only: Collection[int] | None = None
) -> Mapping[int, list[Marks]]:
    """item -> the current answers to it, in the order of their making."""
    rows = _answered(connection, project_id, only)
    weights = read_weights(connection, project_id)
    answers = read_answers(connection, [row.id for row in rows])
    now_asked = current_schema(connection, project_id)[1].splitter
    found: dict[int, list[Marks]] = defaultdict(list)
    for row in rows:
        answer = answers[row.id]
        assert isinstance(answer, StepAnswer)
        asked = Schema.model_validate(row.content).splitter if row.content else now_asked
        minutes = (row.active_ms or 0) / 60_000
        weight = weights.get(row.name, 1.0)
        settles = row.role == "adjudication"
        found[row.item_id].append(Marks(row.name, _role(row), answer, asked, weight, minutes, settles))
    return found


def _answered(connection: Connection, project_id: int, only: Collection[int] | None) -> Sequence[Any]:
    """The rows of the current answers to rounds, in the order of their making."""
    named = true() if only is None else Annotation.item_id.in_(only)
    query = (
        select(
            Annotation.id,
            Annotation.item_id,
            Annotation.role,
            Annotation.active_ms,
            Annotator.name,
            Annotator.kind,
            Annotator.profile,
            SchemaVersion.content,
            Membership.role.label("member"),
        )
        .select_from(Annotation)
        .join(RefinementRound, RefinementRound.item_id == Annotation.item_id)
        .join(Item, Item.id == Annotation.item_id)
        .join(Annotator, Annotator.id == Annotation.annotator_id)
        .outerjoin(Assignment, Assignment.id == Annotation.assignment_id)
        .outerjoin(SchemaVersion, SchemaVersion.id == Assignment.schema_version_id)
        .outerjoin(Account, Account.annotator_id == Annotator.id)
        .outerjoin(Membership, (Membership.account_id == Account.id) & (Membership.project_id == project_id))
        .where(
            named, Item.project_id == project_id, or_(Annotation.role == "answer", IS_SETTLING), IS_CURRENT
        )
        .order_by(Annotation.id)
    )
    return connection.execute(query).all()


def _role(row: Any) -> Role:
    """What a program's profile says; of a member, whether they are one of many (annotators) or know (all others)."""
    said: Role | None = row.profile.get("role")
    if said is not None:
        return said
    return "crowd" if row.member == "annotator" else ROLES[row.kind]
