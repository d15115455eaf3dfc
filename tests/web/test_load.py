"""Nothing lost over HTTP: eight annotators at full speed, the server killed with -9 again and again in between."""

from __future__ import annotations

import multiprocessing
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select

from tests.databases import fresh_database, postgres_server
from tests.web.kit import make_world
from tutelage.feedback.people.tokens import create_token
from tutelage.store.database import Database
from tutelage.store.schema import Annotation, Item
from tutelage.web.client import Client, Unreachable

PEOPLE = 8
KILLS = {"sqlite": 10, "postgresql": 4}  # what is the server's own is the same for both


class Served:
    """A server process that is killed and started again on the same port."""

    def __init__(self, store: str, port: int) -> None:
        self._command = [sys.executable, "-m", "tutelage", "serve", f"store={store}", f"port={port}"]
        self.kills = 0
        self.start()

    def start(self) -> None:
        self._process = subprocess.Popen(self._command, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        assert "serves" in self._process.stdout.readline()

    def kill(self) -> None:
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()
        self._process.stdout.close()
        self.kills += 1


@pytest.fixture(params=["sqlite", "postgresql"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "sqlite":
        yield str(tmp_path / "store.sqlite")
        return
    with postgres_server() as server, fresh_database(server) as url:
        yield url


def annotate(port: int, token: str, done: multiprocessing.Queue[list[tuple[int, int]]]) -> None:
    """Answer until nothing is left; what the server said it stored goes into `done`: (item, annotation)."""
    acknowledged: list[tuple[int, int]] = []
    task: dict[str, Any] | None = None  # in hand until its answer is acknowledged
    empty = 0
    with Client(f"http://127.0.0.1:{port}", token) as client:
        while empty < 8:
            try:
                task = task or client.next("load")
                if task is None:
                    empty += 1
                    time.sleep(0.25)
                    continue
                empty = 0
                answer = {"type": "pair", "preference": 1 + task["item_id"] % 3}
                receipt = client.submit(task, answer, key=f"{token[-8:]}/{task['assignment_id']}")
                acknowledged.append((task["item_id"], receipt["annotation_id"]))
                task = None
            except Unreachable:
                time.sleep(0.2)
    done.put(acknowledged)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def stored(database: Database) -> int:
    with database.read() as connection:
        return connection.scalar(select(func.count(Annotation.id))) or 0


@pytest.mark.slow
def test_every_acknowledged_answer_is_there_once(store: str, pytestconfig: pytest.Config) -> None:
    """Each acknowledged answer is stored, none twice, every overlap exact."""
    overlap, wanted = 2, 600 if store.startswith("postgresql") else 1_200
    world = make_world(store)
    prompts = [f"Question {n}?" for n in range(wanted // overlap)]
    answers = [(f"Yes {n}.", f"No {n}.") for n in range(wanted // overlap)]
    world.project("load", {"acceptable": False}, {"overlap": overlap, "lease_seconds": 60}, prompts, answers)
    people = [world.user(f"worker-{n}", "load") for n in range(PEOPLE)]
    tokens = [create_token(world.database, user, "load", ("label",)) for user in people]
    world.close()

    kills = KILLS["sqlite" if store.endswith(".sqlite") else "postgresql"]
    port = free_port()
    server = Served(store, port)
    context = multiprocessing.get_context("spawn")
    done: multiprocessing.Queue[list[tuple[int, int]]] = context.Queue()
    workers = [context.Process(target=annotate, args=(port, token, done)) for token in tokens]
    over = threading.Event()

    def murder() -> None:
        """Kills while answers come in, each after as many more of them."""
        with closing(Database(store)) as database:
            for number in range(1, kills + 1):
                while stored(database) < number * wanted // (kills + 2):
                    if over.wait(0.05):
                        return
                server.kill()
                server.start()

    for worker in workers:
        worker.start()
    murderer = threading.Thread(target=murder)
    murderer.start()
    acknowledged = [pair for _ in workers for pair in done.get(timeout=600)]
    over.set()
    for worker in workers:
        worker.join(30)
    murderer.join(60)
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
