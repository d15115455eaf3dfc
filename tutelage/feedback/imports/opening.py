"""Imported refinements as rows: solutions, rounds, marks of annotators of their own, checks, outcome.

Raises ValueError where a row does not fit what is there.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from sqlalchemy import Connection, select

from tutelage.feedback.asking.answer_rows import read_answers, write_answer
from tutelage.feedback.asking.payloads import Answer, Schema, Splitter, StepAnswer, StepMark
from tutelage.feedback.imports.lines import ResponseColumns, ResponseLine
from tutelage.feedback.imports.refinements import RefinementLine, cut, fitting
from tutelage.feedback.imports.rows import VOTER, prompt_row, store_response_to
from tutelage.feedback.projects.projects import current_schema, insert_schema
from tutelage.feedback.refining import rows
from tutelage.feedback.refining.reading import marks_of
from tutelage.records import Refinement, Role, Round
from tutelage.store.counting import recount
from tutelage.store.current import IS_CURRENT
from tutelage.store.origins import with_origin
from tutelage.store.schema import Annotation, Annotator, Item, ItemResponse, ResponseRow, digest, now
from tutelage.store.schema_feedback import Assignment, SchemaVersion
from tutelage.store.schema_refining import RefinementCheck, RefinementRound, RefinementRow
from tutelage.store.sql import insert_one

KINDS: dict[Role, str] = {
    "expert": "human",
    "crowd": "human",
    "verifier": "rule",
    "process-model": "rule",
    "judge": "judge",
}
"""The kind of an annotator in a role."""


class Stored(NamedTuple):
    """Whether anything of a row was new, and what was mended in it, in sentences."""

    new: bool
    mended: list[str]


class _There(NamedTuple):
    """A refinement that is in the project: the items of its rounds, what they say, its checks, its outcome."""

    items: list[int]
    rounds: list[dict[str, Any]]
    checks: tuple[bool, ...]
    outcome: str | None


def store_refinement(connection: Connection, key: int, line: RefinementLine) -> Stored:
    """Open a refinement in the project, or go on with the one that began with the same solution."""
    record, mended = cut(line, _splitter(connection, key, line))
    prompt_id = prompt_row(connection, key, record.prompt, line.said.split)
    solutions = [_solution(connection, prompt_id, line, one) for one in record.rounds]
    there = _there(connection, key, solutions[0])
    _check_begun(record, there)
    new = not there.items
    root = rows.open_refinement(connection, key, rows.Written(solutions[0], record.rounds[0].right))
    items = there.items or [root]
    for n, one in enumerate(record.rounds, 1):
        if n > len(items):
            _refuse_closed(there, n)
            written = rows.Written(solutions[n - 1], one.right)
            items.append(rows.add_round(connection, root, n, written, one.how, one.since))
            new = True
        new = _mark(connection, key, items[n - 1], one, record.outcome == "broken") or new
    new = _end(connection, root, record, there, solutions[-1]) or new
    recount(connection, items)
    return Stored(new, mended)


def _splitter(connection: Connection, key: int, line: RefinementLine) -> Splitter:
    """The project's; one in which nobody has asked anything yet asks about steps from now on, cut as this row does."""
    version, schema = current_schema(connection, key)
    if version:
        return schema.splitter
    found = fitting(line)
    insert_schema(connection, key, Schema(type="step", splitter=found), None)
    return found


def _solution(connection: Connection, prompt_id: int, line: RefinementLine, one: Round) -> int:
    """The project's response of this text, whoever wrote it; made where there is none."""
    same = (ResponseRow.prompt_id == prompt_id, ResponseRow.digest == digest(one.text))
    query = select(ResponseRow.id).where(*same, ResponseRow.finish_reason == one.finish)
    found = connection.scalar(query.order_by(ResponseRow.id).limit(1))
    if found is not None:
        return found
    said = ResponseColumns(split=line.said.split, model=line.said.model)
    return store_response_to(connection, prompt_id, ResponseLine(line.prompt, one.text, one.finish, said))[0]


def _there(connection: Connection, key: int, first: int) -> _There:
    """The refinement that began with a response; nothing where there is none."""
    begun = select(RefinementRound.root_id).join(Item, Item.id == RefinementRound.item_id)
    begun = begun.join(ItemResponse, ItemResponse.item_id == Item.id)
    root = connection.scalar(
        begun.where(Item.project_id == key, RefinementRound.n == 1, ItemResponse.response_id == first)
    )
    if root is None:
        return _There([], [], (), None)
    query = (
        select(RefinementRound.__table__, ResponseRow.text)
        .join(ItemResponse, ItemResponse.item_id == RefinementRound.item_id)
        .join(ResponseRow, ResponseRow.id == ItemResponse.response_id)
        .where(RefinementRound.root_id == root)
    )
    found = connection.execute(query.order_by(RefinementRound.n)).all()
    said = [{"text": row.text, "how": row.how, "since": row.since, "right": row.correct} for row in found]
    checks = select(RefinementCheck.correct).where(RefinementCheck.item_id == root)
    said_of = connection.scalars(checks.order_by(RefinementCheck.n))
    given = tuple(right for right in said_of if right is not None)  # None: nobody has said yet
    outcome = connection.scalar(select(RefinementRow.outcome).where(RefinementRow.item_id == root))
    return _There([row.item_id for row in found], said, given, outcome)


def _check_begun(record: Refinement, there: _There) -> None:
    """Whether a refinement that is there is this one, as far as both go."""
    for n, (one, other) in enumerate(zip(record.rounds, there.rounds, strict=False), 1):
        known = {name: value for name, value in other.items() if (name, value) != ("right", None)}
        what = next((name for name, value in known.items() if value != getattr(one, name)), None)
        if what is not None:
            raise ValueError(
                f"round {n} is in the project with another {what}: mend the row, or use another project"
            )
    both = min(len(record.checks), len(there.checks))
    if record.checks[:both] != there.checks[:both]:
        raise ValueError("its checks are in the project otherwise: mend the row, or use another project")
    if None not in (record.outcome, there.outcome) and record.outcome != there.outcome:
        raise ValueError(
            f"it ended in the project as {there.outcome}, and the row says {record.outcome}: mend one of them"
        )


def _refuse_closed(there: _There, n: int) -> None:
    if there.outcome not in (None, "handed-up"):
        raise ValueError(f"round {n} is new, and the refinement ended in the project as {there.outcome}")


# marks ------------------------------------------------------------------------------------------------------------------


def _mark(connection: Connection, key: int, item_id: int, one: Round, broken: bool) -> bool:
    """Store the marks of a round, unless they are there; whether they were new."""
    if one.role is None:
        return False
    answer, name = _answer(one, broken), with_origin(one.by)
    query = select(Annotation.id, Annotator.name).join(Annotator, Annotator.id == Annotation.annotator_id)
    given = connection.execute(query.where(Annotation.item_id == item_id, IS_CURRENT)).all()
    answers = read_answers(connection, [row.id for row in given])
    if any(_marks(answers[row.id]) == answer.marks for row in given):
        return False
    if any(row.name == name for row in given):
        raise ValueError(f"'{one.by}' has marked this solution otherwise already, and marks it once")
    who = _annotator(connection, name, one.role)
    write_answer(
        connection,
        answer,
        [step.text for step in one.steps],
        0,
        item_id=item_id,
        annotator_id=who,
        assignment_id=_asked(connection, key, item_id, who),
        role="answer",
        client_key=f"{VOTER}/{item_id}/{name}",
        active_ms=round(one.minutes * 60_000),
        submitted_at=now(),
    )
    return True


def _answer(one: Round, broken: bool) -> StepAnswer:
    marks = marks_of(one.steps)
    if broken:
        return StepAnswer(marks=marks, finish="bad-problem")
    if len(marks) == len(one.steps):
        return StepAnswer(marks=marks)
    return StepAnswer(marks=marks, finish="found-error" if marks[-1].label == -1 else "give-up")


def _marks(answer: Answer) -> tuple[StepMark, ...]:
    assert isinstance(answer, StepAnswer)
    return answer.marks


def _annotator(connection: Connection, name: str, role: Role) -> int:
    """An annotator in a role.  Raises ValueError where one of this name has another."""
    found = connection.execute(
        select(Annotator.id, Annotator.profile).where(Annotator.name == name)
    ).one_or_none()
    if found is None:
        return insert_one(connection, Annotator, name=name, kind=KINDS[role], profile={"role": role})
    if found.profile.get("role", role) != role:
        raise ValueError(f"'{name}' is there as {found.profile['role']}, not as {role}: rename one of them")
    return found.id


def _asked(connection: Connection, key: int, item_id: int, annotator_id: int) -> int:
    """That the annotator marked the steps as the present questions cut them: those may change later."""
    newest = select(SchemaVersion.id).where(SchemaVersion.project_id == key)
    moment = now()
    return insert_one(
        connection,
        Assignment,
        item_id=item_id,
        annotator_id=annotator_id,
        status="done",
        lease_expires_at=moment,
        assigned_at=moment,
        presented_order=[0],
        order_seed=0,
        schema_version_id=connection.scalar(newest.order_by(SchemaVersion.n.desc()).limit(1)),
        guideline_version_id=None,
    )


# the end ----------------------------------------------------------------------------------------------------------------


def _end(connection: Connection, root: int, record: Refinement, there: _There, solution: int) -> bool:
    """Checks and outcome; whether any was new.  What the model wrote in a check no record says: it stands under the solution
    that it was asked for."""
    for n, right in enumerate(record.checks[len(there.checks) :], len(there.checks) + 1):
        rows.add_check(connection, root, n, solution, right)
    if record.outcome is not None and there.outcome is None:
        rows.close(connection, root, record.outcome, record.why)
        return True
    return len(record.checks) > len(there.checks)
