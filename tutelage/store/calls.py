"""Questions to language models that judge, and their answers: what was asked once is never asked, or paid, again.

A question is written down before it is sent and again when its answer is there, so that a process that is killed loses at most
the answers that were on their way.  What those cost nobody can know: they count as what they may have cost at most until the
question has been asked again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

from sqlalchemy import ColumnElement, Connection, delete, func, select, update

from tutelage.store.schema import now
from tutelage.store.schema_calls import JudgeBudget, JudgeCall
from tutelage.store.sql import chunks, insert_one, insert_rows, storable

Status = Literal["sent", "answered", "refused"]


@dataclass(frozen=True)
class Question:
    """What is going to be asked: `key`, 64 hex digits, is the hash of all that shapes the answer; see `JudgeCall`."""

    key: str
    judge: str
    about: str
    prompt: str
    reserved: float = 0.0


@dataclass(frozen=True)
class Answer:
    """What came back.  `likely`: log-probabilities (nats) of the likeliest first tokens; `seconds`: from sending to the end;
    `cost`: in the unit of the prices."""

    key: str
    status: Status
    text: str = ""
    finish: str = ""
    likely: Mapping[str, float] | None = None
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost: float = 0.0
    seconds: float = 0.0


@dataclass(frozen=True)
class Spent:
    """What a judge's questions have come to.

    lost: questions sent without an answer, or sent again after one was lost; open_cost: the most that those without an answer may
    have cost.
    """

    asked: int = 0
    answered: int = 0
    refused: int = 0
    lost: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost: float = 0.0
    open_cost: float = 0.0
    seconds: float = 0.0


def read_answers(connection: Connection, keys: Sequence[str]) -> dict[str, Answer]:
    """Key -> answer, of those that are there."""
    found = {}
    for some in chunks(keys):
        query = select(JudgeCall).where(JudgeCall.key.in_(some), JudgeCall.status != "sent")
        for row in connection.execute(query.with_only_columns(*JudgeCall.__table__.columns)):
            found[row.key] = Answer(
                row.key,
                row.status,
                row.text or "",
                row.finish or "",
                row.likely,
                row.prompt_tokens or 0,
                row.completion_tokens or 0,
                row.cost,
                row.seconds or 0.0,
            )
    return found


def insert_questions(connection: Connection, project_id: int | None, questions: Sequence[Question]) -> None:
    """Write down that questions are sent; one that was sent before, and got no answer, counts one attempt more."""
    keys = [one.key for one in questions]
    there: set[str] = set()
    for some in chunks(keys):
        there |= set(connection.scalars(select(JudgeCall.key).where(JudgeCall.key.in_(some))))
        again = update(JudgeCall).where(JudgeCall.key.in_(some), JudgeCall.status == "sent")
        connection.execute(again.values(attempts=JudgeCall.attempts + 1, sent_at=now()))
    rows = [
        {
            "key": one.key,
            "project_id": project_id,
            "judge": one.judge,
            "about": storable(one.about),
            "prompt": one.prompt,
            "status": "sent",
            "reserved": one.reserved,
        }
        for one in questions
        if one.key not in there
    ]
    insert_rows(connection, JudgeCall, rows)


def insert_answers(connection: Connection, answers: Sequence[Answer]) -> None:
    """Write down what came back.  An answer that is there already stays: the first one counts."""
    for one in answers:
        values = {
            "status": one.status,
            "text": storable(one.text),
            "finish": one.finish,
            "likely": None if one.likely is None else dict(one.likely),
            "prompt_tokens": one.prompt_tokens,
            "completion_tokens": one.completion_tokens,
            "cost": one.cost,
            "seconds": one.seconds,
            "answered_at": now(),
        }
        mine = (JudgeCall.key == one.key, JudgeCall.status == "sent")
        connection.execute(update(JudgeCall).where(*mine).values(values))


def read_spent(connection: Connection, project_id: int | None) -> dict[str, Spent]:
    """Judge -> what it has come to in a project (None: outside of any)."""
    mine = JudgeCall.project_id.is_(None) if project_id is None else JudgeCall.project_id == project_id

    def count(status: str) -> ColumnElement[int]:
        return func.count(JudgeCall.id).filter(JudgeCall.status == status)

    query = (
        select(
            JudgeCall.judge,
            func.count(JudgeCall.id),
            count("answered"),
            count("refused"),
            count("sent") + func.sum(JudgeCall.attempts - 1),
            func.coalesce(func.sum(JudgeCall.prompt_tokens), 0),
            func.coalesce(func.sum(JudgeCall.completion_tokens), 0),
            func.sum(JudgeCall.cost),
            func.coalesce(func.sum(JudgeCall.reserved).filter(JudgeCall.status == "sent"), 0.0),
            func.coalesce(func.sum(JudgeCall.seconds), 0.0),
        )
        .where(mine)
        .group_by(JudgeCall.judge)
    )
    return {judge: Spent(*cast(Any, counted)) for judge, *counted in connection.execute(query)}


def keep_budget(connection: Connection, project_id: int, judge: str, max_cost: float | None) -> None:
    """What a judge may cost in a project, in place of what was said before (None: no limit)."""
    mine = (JudgeBudget.project_id == project_id, JudgeBudget.judge == judge)
    connection.execute(delete(JudgeBudget).where(*mine))
    if max_cost is not None:
        insert_one(connection, JudgeBudget, project_id=project_id, judge=judge, max_cost=max_cost)


def read_budgets(connection: Connection, project_id: int) -> dict[str, float]:
    """Judge -> what it may cost in a project, of those that have a limit."""
    query = select(JudgeBudget.judge, JudgeBudget.max_cost).where(JudgeBudget.project_id == project_id)
    return dict(connection.execute(query).all())
