"""Four processes, hundreds of submissions, kill -9 in the middle: nothing acknowledged is lost, nothing is there twice.

Processes speak to the services directly; the same over HTTP is in tests/web.
"""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from tests.feedback.kit import join, start
from tutelage.feedback.upkeep import examine
from tutelage.store import Store
from tutelage.store.database import Database

PROCESSES, SUBMISSIONS, OVERLAP, KILLS = 4, 600, 2, 3
WORK = """
import sys
from tutelage.feedback.work import answers
from tutelage.feedback.people.users import named
from tutelage.feedback.projects import projects
from tutelage.feedback.work import queue
from tutelage.feedback.asking.payloads import PairAnswer, Submission
from tutelage.store.database import Database

database = Database(sys.argv[1])
with database.read() as connection:
    user = named(connection, sys.argv[2])
who = projects.member(database, user, "main")
while (task := queue.next_task(database, who)) is not None:
    answer = PairAnswer(preference=-1 if task.item_id % 2 else 2)
    key = f"{user.name}, assignment {task.assignment_id}"  # what a page would keep until it is acknowledged
    receipt = answers.submit(database, who, task.assignment_id, Submission(client_key=key, answer=answer))
    print(receipt.annotation_id, flush=True)
"""


@pytest.mark.slow
def test_nothing_acknowledged_is_lost(store: Store, database: Database, address: str) -> None:
    pairs = SUBMISSIONS // OVERLAP
    olga = start(store, database, prompts=-(-pairs // 6), overlap=OVERLAP, lease_seconds=3600)
    people = [olga, *(join(database, olga.user, "main", f"person-{n}") for n in range(1, PROCESSES))]
    wanted = len(store.pairs("main")) * OVERLAP
    running = {who.user.name: begin(address, who.user.name) for who in people}
    acknowledged: Counter[int] = Counter()
    moments, kills = random.Random(7), 0
    try:
        while running:
            if kills < KILLS:
                while len(store.votes("main")) < (kills + 1) * wanted // (KILLS + 2):
                    assert any(process.poll() is None for process in running.values())
                    time.sleep(0.1)
                time.sleep(moments.random() / 20)
                name = moments.choice(sorted(running))
                running[name].send_signal(signal.SIGKILL)
                kills += 1
                acknowledged.update(collect(running[name]))
                running[name] = begin(address, name)
            else:
                name, process = running.popitem()
                acknowledged.update(collect(process))
    finally:
        for process in running.values():
            process.kill()
    stored = [vote.id for vote in store.votes("main")]
    assert kills == KILLS and set(acknowledged) <= set(stored)
    assert len(stored) == len(set(stored)) == wanted >= SUBMISSIONS
    assert Counter(len(pair.voters) for pair in store.pairs("main")) == {OVERLAP: wanted // OVERLAP}
    assert set(acknowledged.values()) == {1}
    assert [finding for finding in examine(database) if finding.wrong] == []


def begin(address: str, name: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", WORK, address, name],
        cwd=Path(__file__).parents[2],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def collect(process: subprocess.Popen[str]) -> list[int]:
    """The answers that a process, now ended, was told are stored; a line cut off by the kill was not told."""
    out, errors = process.communicate(timeout=600)
    assert process.returncode in (0, -signal.SIGKILL), errors
    return [int(line) for line in out.splitlines(keepends=True) if line.endswith("\n")]
