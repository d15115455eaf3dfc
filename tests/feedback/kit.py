"""A project with people in it, on SQLite or, where there is a server, on PostgreSQL."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import update

from tests.store.making import fill
from tutelage.feedback import accounts, answers, projects, queue
from tutelage.feedback.access import Member
from tutelage.feedback.payloads import (
    Answer,
    PairAnswer,
    ProjectSettings,
    Receipt,
    Role,
    Schema,
    Submission,
    Task,
)
from tutelage.records import Prompt
from tutelage.store import Store
from tutelage.store.database import Database
from tutelage.store.schema import now
from tutelage.store.schema_feedback import Assignment

PASSWORD = "correct horse battery"
keys = (f"key-{number:08d}" for number in itertools.count())


@pytest.fixture(autouse=True)
def _cheap_passwords(monkeypatch: pytest.MonkeyPatch) -> None:
    """Argon2 with the least work, so that a test with ten users does not take a second for their passwords."""
    cheap = accounts.PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
    monkeypatch.setattr(accounts, "HASHER", cheap)
    monkeypatch.setattr(accounts, "NOBODY", cheap.hash("nobody"))


def owner(database: Database, name: str = "olga") -> accounts.User:
    """The first administrator."""
    secret = accounts.first_owner_invitation(database)
    assert secret is not None
    return accounts.accept_invitation(database, secret, name, PASSWORD)


def join(database: Database, by: accounts.User, project: str, name: str, role: Role = "annotator") -> Member:
    """A new member of a project."""
    user = accounts.accept_invitation(database, accounts.invite(database, by, project, role), name, PASSWORD)
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


def text_by_slot(store: Store, item_id: int) -> tuple[str, str]:
    """The texts of a pair in canonical slots."""
    return next(pair.texts for pair in store.pairs("main") if pair.item_id == item_id)


def ask(number: int, text: str = "") -> Prompt:
    """A plain prompt."""
    return Prompt(text or f"plain question {number}")
