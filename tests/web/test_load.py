"""Nothing lost over HTTP: eight annotators at full speed, the server killed with -9 again and again in between."""

from __future__ import annotations

import socket
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select

from tests.databases import fresh_database, postgres_server
from tests.processes import Started
from tests.web.kit import make_world
from tutelage.feedback.people.tokens import create_token
from tutelage.store.database import Database
from tutelage.store.schema import Annotation, Item
from tutelage.web.client import Client, Unreachable

PEOPLE = 8
# How many answers are given and how often the server is killed. A kill is the same for both, and what is done again after
# it is, too: only a transaction that is cut is the database's own.
GIVEN = {"sqlite": (400, 3), "postgresql": (200, 1)}


class Served:
    """A server process that is killed and started again on the same port."""

    def __init__(self, store: str, port: int, said: Path) -> None:
        self._words, self._said = ["serve", f"store={store}", f"port={port}"], said
        self.kills = 0
        self.start()

    @property
    def pid(self) -> int:
        return self._process.pid

    def start(self) -> None:
        self._said.unlink(missing_ok=True)
        self._process = Started(self._words, self._said)
        self._process.says("serves")

    def kill(self) -> None:
        self._process.kill()
        self.kills += 1


@pytest.fixture(params=["sqlite", "postgresql"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "sqlite":
        yield str(tmp_path / "store.sqlite")
        return
    with postgres_server() as server, fresh_database(server) as url:
        yield url


def annotate(port: int, token: str) -> list[tuple[int, int]]:
    """Answer until nothing is left: what the server said it stored, as (item, annotation)."""
    acknowledged: list[tuple[int, int]] = []
    task: dict[str, Any] | None = None  # in hand until its answer is acknowledged
    empty = 0
    with Client(f"http://127.0.0.1:{port}", token) as client:
        while empty < 4:
            try:
                task = task or client.next("load")
                if task is None:
                    empty += 1
                    time.sleep(0.1)
                    continue
                empty = 0
                answer = {"type": "pair", "preference": 1 + task["item_id"] % 3}
                receipt = client.submit(task, answer, key=f"{token[-8:]}/{task['assignment_id']}")
                acknowledged.append((task["item_id"], receipt["annotation_id"]))
                task = None
            except Unreachable:
                time.sleep(0.05)
    return acknowledged


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def stored(database: Database) -> int:
    with database.read() as connection:
        return connection.scalar(select(func.count(Annotation.id))) or 0


@pytest.mark.slow
def test_every_acknowledged_answer_is_there_once(store: str, tmp_path: Path) -> None:
    """Each acknowledged answer is stored, none twice, every overlap exact."""
    overlap, (wanted, kills) = 2, GIVEN["sqlite" if store.endswith(".sqlite") else "postgresql"]
    world = make_world(store)
    prompts = [f"Question {n}?" for n in range(wanted // overlap)]
    answers = [(f"Yes {n}.", f"No {n}.") for n in range(wanted // overlap)]
    world.project("load", {"acceptable": False}, {"overlap": overlap, "lease_seconds": 60}, prompts, answers)
    people = [world.user(f"worker-{n}", "load") for n in range(PEOPLE)]
    tokens = [create_token(world.database, user, "load", ("label",)) for user in people]
    world.close()

    port = free_port()
    server = Served(store, port, tmp_path / "said.txt")
    with ThreadPoolExecutor(PEOPLE) as pool:
        working = [pool.submit(annotate, port, token) for token in tokens]
        with closing(
            Database(store)
        ) as database:  # it is killed while answers come in, each time after as many more
            for number in range(1, kills + 1):
                while stored(database) < number * wanted // (kills + 2):
                    assert not all(one.done() for one in working)
                    time.sleep(0.02)
                server.kill()
                server.start()
        acknowledged = [pair for one in working for pair in one.result()]
    server.kill()

    database = Database(store)
    with database.read() as connection:
        rows = connection.execute(
            select(Annotation.id, Annotation.item_id, Annotation.annotator_id, Annotation.role)
        ).all()
        overlaps = {row.id: row.overlap for row in connection.execute(select(Item.id, Item.overlap))}
    database.close()
    assert server.kills == kills + 1
    assert len(acknowledged) == len(set(acknowledged)) == wanted
    assert set(acknowledged) <= {(row.item_id, row.id) for row in rows}
    assert len({(row.item_id, row.annotator_id) for row in rows}) == len(rows) == wanted
    assert Counter(row.item_id for row in rows if row.role == "answer") == Counter(overlaps)
