"""A store as it is after years of work: prompts with a pair each, ten annotators wanted for every pair, most pairs complete.

Rows go in by COPY (PostgreSQL) or executemany (SQLite), past the code that is measured; the same numbers make the same store.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
from sqlalchemy import Connection, text

from tutelage.feedback.asking.payloads import ProjectSettings, Schema
from tutelage.feedback.people.invitations import accept_invitation, first_owner_invitation
from tutelage.feedback.projects import projects
from tutelage.feedback.projects.projects import standing
from tutelage.seeds import rng
from tutelage.store import ModelInfo
from tutelage.store.database import Database
from tutelage.store.generations import insert_generation_run
from tutelage.store.schema import Base

PROJECT, PASSWORD = "scale", "a password for a benchmark"
OVERLAP, PEOPLE = 10, 200  # annotators wanted for every pair; annotators in all
COMPLETE = 0.9  # share of the pairs that have all their answers; of the others some have a few
CARE = 0.75  # how often an annotator names the better response
AT_ONCE = 20_000  # pairs
BEGAN = datetime(2026, 1, 1, tzinfo=UTC)
_PROMPT = "Question {n}: what would you tell somebody who asks you about the matter that has this number?"
_ANSWER = "Answer {k} to question {n}. " + "It goes on for some words that nobody need read, " * 4

Row = tuple[Any, ...]


def fill(place: str, answers: int) -> None:
    """A project `scale` with about that many answers, owned by `owner`.  Raises ValueError for a store that is in use."""
    database = Database(place)
    secret = first_owner_invitation(database)
    if secret is None:
        raise ValueError(f"store={place} is in use already: give one that does not exist yet.")
    owner = accept_invitation(database, secret, "owner", PASSWORD)
    settings = ProjectSettings(overlap=OVERLAP, dwell_seconds=0)
    member = projects.create_project(database, owner, PROJECT, settings, Schema(acceptable=False))
    with database.write() as connection:
        schema = standing(connection, member.project_id).schema_id
        run = insert_generation_run(connection, ModelInfo("model-0"), "local", {"seed": 0})
        other = insert_generation_run(connection, ModelInfo("model-1"), "local", {"seed": 1})
        first = _people(connection, member.project_id)
        for start in range(0, max(1, answers // OVERLAP), AT_ONCE):
            stop = min(start + AT_ONCE, max(1, answers // OVERLAP))
            said = _preferences(range(start, stop))
            _pairs(connection, member.project_id, (run, other), range(start, stop), said)
            _answers(connection, first, schema, range(start, stop), said)
        _counters(connection)
    analyse(database)
    database.close()


def analyse(database: Database) -> None:
    """What a server does by itself after a while: look at the tables, so that it plans well."""
    with database.write() as connection:
        connection.execute(text("ANALYZE"))


def _people(connection: Connection, project: int) -> int:
    """Annotators with accounts, as members; the number of the first one."""
    first = 1 + (connection.scalar(text("SELECT max(id) FROM annotator")) or 0)
    account = 1 + (connection.scalar(text("SELECT max(id) FROM account")) or 0)
    names = [(n, f"annotator-{n}") for n in range(PEOPLE)]
    _copy(
        connection,
        "annotator",
        "id name kind profile created_at",
        ((first + n, name, "human", "{}", BEGAN) for n, name in names),
    )
    _copy(
        connection,
        "account",
        "id name annotator_id administrator active created_at",
        ((account + n, name, first + n, False, True, BEGAN) for n, name in names),
    )
    _copy(
        connection,
        "membership",
        "project_id account_id role team created_at",
        ((project, account + n, "annotator", "", BEGAN) for n, _ in names),
    )
    return first


def _pairs(
    connection: Connection, project: int, runs: tuple[int, int], numbers: range, said: np.ndarray
) -> None:
    """Prompts, two responses each, and their pairs: prompt and item n + 1, responses 2n + 1 and 2n + 2."""
    prompts = ((n, _PROMPT.format(n=n)) for n in numbers)
    _copy(
        connection,
        "prompt",
        "id project_id content task split digest search",
        (
            (n + 1, project, json.dumps(said), "", "train", key("prompt", n), said.lower())
            for n, said in prompts
        ),
    )
    responses = ((n, k, _ANSWER.format(k=k, n=n)) for n in numbers for k in (0, 1))
    _copy(
        connection,
        "response",
        "id prompt_id generation_run_id sample_index text finish_reason n_tokens digest search",
        (
            (2 * n + k + 1, n + 1, runs[k], 0, said, "eos", 50, key("response", n, k), said.lower())
            for n, k, said in responses
        ),
    )
    items = ((n, key("item", n)) for n in numbers)
    _copy(
        connection,
        "item",
        "id project_id type prompt_id overlap digest created_at priority n_done spread closed reserved",
        (
            (
                n + 1,
                project,
                "pair",
                n + 1,
                OVERLAP,
                name,
                BEGAN,
                0.0,
                done,
                _spread(votes[:done]),
                False,
                False,
            )
            for votes, (n, name) in zip(said, items, strict=True)
            for done in [answers_of(name)]
        ),
    )
    _copy(
        connection,
        "item_response",
        "item_id slot response_id",
        ((n + 1, k, 2 * n + k + 1) for n in numbers for k in (0, 1)),
    )


def answers_of(item: str) -> int:
    """How many answers a pair of this digest has: those that come first in the queue have all."""
    place = int(item[:8], 16) / 16**8
    return OVERLAP if place >= 1 - COMPLETE else int(OVERLAP * max(0.0, place / (1 - COMPLETE) - 0.5))


def _spread(votes: np.ndarray) -> int:
    """How far the answers to a pair lie apart: 2 where both responses were preferred."""
    return int(np.ptp(np.sign(votes))) if len(votes) else 0


def _answers(connection: Connection, first: int, schema: int, numbers: range, said: np.ndarray) -> None:
    """The answers to some pairs with their assignments; an answer's number is its pair's times ten, and its place there."""
    drawn = rng(0, "scale", str(numbers.start))
    shown = drawn.integers(0, 2, (len(numbers), OVERLAP))
    seconds = drawn.gamma(4, 5_000, (len(numbers), OVERLAP)).astype(int)
    step = 1 + drawn.integers(0, PEOPLE // OVERLAP, len(numbers))  # so that ten of them are ten people
    begin = drawn.integers(0, PEOPLE, len(numbers))
    given = [
        (n, row, k, first + int(begin[row] + k * step[row]) % PEOPLE)
        for row, n in enumerate(numbers)
        for k in range(answers_of(key("item", n)))
    ]
    _copy(
        connection,
        "assignment",
        "id item_id annotator_id status lease_expires_at presented_order order_seed schema_version_id assigned_at",
        (
            (n * OVERLAP + k + 1, n + 1, who, "done", BEGAN, "[0, 1]", 0, schema, BEGAN)
            for n, _, k, who in given
        ),
    )
    _copy(
        connection,
        "annotation",
        "id item_id annotator_id role preference first_shown client_key submitted_at assignment_id active_ms",
        (
            (
                n * OVERLAP + k + 1,
                n + 1,
                who,
                "answer",
                int(said[row, k]),
                int(shown[row, k]),
                f"scale/{n * OVERLAP + k}",
                BEGAN + timedelta(seconds=3 * n + k),
                n * OVERLAP + k + 1,
                int(seconds[row, k]),
            )
            for n, row, k, who in given
        ),
    )


def _preferences(numbers: range) -> np.ndarray:
    """int [N, 10]: -3 to 3 without 0, on the better side three times of four."""
    drawn = rng(0, "scale", "said", str(numbers.start))
    better = drawn.integers(0, 2, len(numbers))
    right = drawn.random((len(better), OVERLAP)) < CARE
    side = np.where(right, 2 * better[:, None] - 1, 1 - 2 * better[:, None])
    return side * drawn.integers(1, 4, (len(better), OVERLAP))


def key(*parts: object) -> str:
    """16 hex digits, as good as random."""
    return hashlib.sha256("/".join(map(str, parts)).encode()).hexdigest()[:16]


def _copy(connection: Connection, table: str, names: str, rows: Iterable[Row]) -> None:
    """Insert rows by the shortest way that the database has."""
    columns = names.split()
    raw: Any = connection.connection.dbapi_connection
    if connection.dialect.name == "sqlite":
        marks = ", ".join("?" * len(columns))
        with_times = (tuple(_plain(value) for value in row) for row in rows)
        raw.cursor().executemany(f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({marks})", with_times)
        return
    with raw.cursor().copy(f"COPY {table} ({', '.join(columns)}) FROM STDIN") as copy:
        for row in rows:
            copy.write_row(
                [value.replace(tzinfo=None) if isinstance(value, datetime) else value for value in row]
            )


def _plain(value: Any) -> Any:
    return value.strftime("%Y-%m-%d %H:%M:%S.%f") if isinstance(value, datetime) else value


def _counters(connection: Connection) -> None:
    """PostgreSQL: the next row that is inserted as usual gets a number behind those that were given here."""
    if connection.dialect.name == "sqlite":
        return
    for table in _numbered():
        last = f"(SELECT max(id) FROM {table})"
        connection.execute(
            text(f"SELECT setval(pg_get_serial_sequence('{table}', 'id'), coalesce({last}, 1))")
        )


def _numbered() -> Iterator[str]:
    copied = ("annotator", "account", "prompt", "response", "item", "assignment", "annotation")
    yield from (table for table in copied if table in Base.metadata.tables)
