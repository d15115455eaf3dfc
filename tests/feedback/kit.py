"""A project with people in it, on SQLite or, where there is a server, on PostgreSQL."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import update

from tests.store.making import fill, new_vote
from tutelage.feedback.asking.payloads import (
    Answer,
    PairAnswer,
    ProjectSettings,
    RankAnswer,
    RateAnswer,
    Receipt,
    RewriteAnswer,
    Role,
    Schema,
    StepAnswer,
    StepMark,
    Submission,
    Task,
)
from tutelage.feedback.items import building
from tutelage.feedback.items.changing import Prioritise, change_items
from tutelage.feedback.items.conflicts import next_unsettled
from tutelage.feedback.people import passwords
from tutelage.feedback.people.access import Member, User
from tutelage.feedback.people.invitations import accept_invitation, first_owner_invitation, invite
from tutelage.feedback.projects import projects
from tutelage.feedback.work import answers, queue
from tutelage.records import Prompt
from tutelage.store import Store
from tutelage.store.database import Database
from tutelage.store.schema import now
from tutelage.store.schema_feedback import Assignment

PASSWORD = "correct horse battery"
keys = (f"key-{number:08d}" for number in itertools.count())


def cheap_passwords(patch: pytest.MonkeyPatch) -> None:
    """Argon2 with the least work, so that a test with ten users does not take a second for their passwords."""
    cheap = passwords.PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
    patch.setattr(passwords, "HASHER", cheap)
    patch.setattr(passwords, "NOBODY", cheap.hash("nobody"))


@pytest.fixture(autouse=True)
def _cheap_passwords(monkeypatch: pytest.MonkeyPatch) -> None:
    cheap_passwords(monkeypatch)


def owner(database: Database, name: str = "olga") -> User:
    """The first administrator."""
    secret = first_owner_invitation(database)
    assert secret is not None
    return accept_invitation(database, secret, name, PASSWORD)


def join(database: Database, by: User, project: str, name: str, role: Role = "annotator") -> Member:
    """A new member of a project."""
    user = accept_invitation(database, invite(database, by, project, role), name, PASSWORD)
    return projects.member(database, user, project)


def start(
    store: Store,
    database: Database,
    prompts: int = 3,
    overlap: int = 1,
    schema: Schema | None = None,
    **settings: Any,
) -> Member:
    """Project `main`: prompts with four responses each, all pairs; returns its owner."""
    fill(store, prompts=prompts)
    who = projects.member(database, owner(database), "main")
    projects.set_settings(database, who, ProjectSettings(overlap=overlap, **settings), apply_overlap=True)
    if schema is not None:
        projects.set_schema(database, who, schema)
    return who


def hand_in(database: Database, who: Member, task: Task, answer: Answer, key: str = "") -> Receipt:
    """Submit an answer under a new key."""
    return answers.submit(
        database, who, task.assignment_id, Submission(client_key=key or next(keys), answer=answer)
    )


def take(database: Database, who: Member, besides: Sequence[int] = ()) -> Task:
    """The next task, which must be there."""
    found = queue.next_task(database, who, besides)
    assert found is not None
    return found


def vote(database: Database, who: Member, preference: int = -1) -> Receipt:
    """Answer the next pair."""
    return hand_in(database, who, take(database, who), PairAnswer(preference=preference))


def expire(database: Database, *assignments: int, by: timedelta = timedelta(hours=1)) -> datetime:
    """Let leases have run out `by` ago."""
    moment = now() - by
    with database.write() as connection:
        wanted = Assignment.id.in_(assignments)
        connection.execute(update(Assignment).where(wanted).values(lease_expires_at=moment))
    return moment


def prioritise(database: Database, who: Member, wanted: Mapping[int, float]) -> int:
    """Give some items priorities of their own."""
    changes = ((item, Prioritise(what="priority", priority=value)) for item, value in wanted.items())
    return sum(change_items(database, who, [item], change) for item, change in changes)


def conflicts_left(database: Database, who: Member) -> int:
    """How many conflicts nobody has settled."""
    with database.read() as connection:
        found = next_unsettled(connection, who.project_id)
        return found.left if found else 0


def text_by_slot(store: Store, item_id: int) -> tuple[str, str]:
    """The texts of a pair in canonical slots."""
    return next(pair.texts for pair in store.pairs("main") if pair.item_id == item_id)


def ask(number: int, text: str = "") -> Prompt:
    """A plain prompt."""
    return Prompt(text or f"plain question {number}")


def some_answer(task: Task, name: str, number: int) -> Answer:
    """An answer of the task's type."""
    k = len(task.responses)
    if task.type == "pair":
        return PairAnswer(preference=-1, acceptable=(True, None))
    if task.type == "rank":
        return RankAnswer(ranks=(1, 2, 2, 3)[:k], confidence=7)
    if task.type == "rate":
        return RateAnswer(ratings={c.name: (number % 7 + 1,) * k for c in task.questions.criteria})
    if task.type == "step":
        steps = range(len(task.responses[0].steps))
        return StepAnswer(marks=tuple(StepMark(step=n, label=-1, rewrite="better") for n in steps))
    return RewriteAnswer(text=f"{name[::-1]} writes {number}", reason="more polite")


def make_busy(store: Store, database: Database) -> Member:
    """A project with every type of item, revisions, an extra answer and an adjudication."""
    olga = start(store, database, prompts=2, overlap=2, schema=Schema(acceptable=True, confidence=True))
    ben = join(database, olga.user, "main", "ben")
    store.add_votes("main", [new_vote(pair.item_id, "ann", 1) for pair in store.pairs("main")[:3]])
    projects.set_guideline(database, olga, "# Be fair")
    for type in ("rank", "rate", "step", "rewrite"):
        building.build(database, olga, type)  # type: ignore[arg-type]
    for who in (olga, ben):
        for number in range(14):
            if (task := queue.next_task(database, who)) is None:
                break
            receipt = hand_in(database, who, task, some_answer(task, who.user.name, number))
            if task.type == "pair" and number % 3 == 0:
                again = Submission(
                    client_key=next(keys), answer=PairAnswer(preference=2, reason="second thoughts")
                )
                answers.revise(database, who, receipt.annotation_id, again)
    conflict = answers.next_conflict(database, olga)
    assert conflict is not None
    settled = some_answer(conflict.task, "", 0)
    answers.adjudicate(
        database, olga, conflict.task.assignment_id, Submission(client_key=next(keys), answer=settled)
    )
    return olga
