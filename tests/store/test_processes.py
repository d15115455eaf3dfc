"""Several processes at once, and processes that are killed: what was acknowledged is there, once."""

from __future__ import annotations

import random
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tutelage.store import Store

PREPARE = "import sys; from tests.store.making import fill, new_vote; from tutelage.store import Store; "
OPEN_AND_VOTE = PREPARE + (
    "store = Store(sys.argv[1]); fill(store, prompts=20, samples=3);\n"
    "for pair in store.pairs('main'):\n"
    "    store.add_votes('main', [new_vote(pair.item_id, sys.argv[2], 1, first_shown=1)])\n"
    "    print(pair.item_id, flush=True)\n"
)


def start(path: Path, annotator: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", OPEN_AND_VOTE, str(path), annotator],
        cwd=Path(__file__).parents[2],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.slow
def test_three_processes_make_one_store_and_lose_no_vote(path: Path) -> None:
    """They also create the file, migrate it and add the same prompts at the same time."""
    processes = [start(path, name) for name in ("ann", "bob", "cat")]
    for process in processes:
        _, errors = process.communicate(timeout=60)
        assert process.returncode == 0, errors
    with Store(path) as store:
        counts = store.counts("main")
        assert (counts.prompts, counts.responses, counts.pairs, counts.votes) == (20, 60, 60, 180)
        assert all(pair.voters == ("ann", "bob", "cat") for pair in store.pairs("main"))


@pytest.mark.slow
def test_kill_9_loses_nothing_that_was_acknowledged(path: Path) -> None:
    moments = random.Random(5)
    acknowledged: set[str] = set()
    kills = 0
    for _ in range(20):
        process = start(path, "ann")
        if kills < 4:
            assert process.stdout is not None
            for _ in range(
                moments.randrange(1, 15)
            ):  # it votes on all pairs again: those there count as acknowledged
                acknowledged.add(process.stdout.readline())
            time.sleep(moments.random() * 0.01)
            process.send_signal(signal.SIGKILL)
            kills += 1
        rest, _ = process.communicate(timeout=60)
        acknowledged |= {line for line in rest.splitlines(keepends=True) if line.endswith("\n")}
        with Store(path) as store:
            stored = [f"{vote.item_id}\n" for vote in store.votes("main")]
        assert acknowledged <= set(stored) and len(stored) == len(set(stored))
        if process.returncode == 0:
            break
    assert kills == 4 and len(stored) == 60
    raw = sqlite3.connect(path)
    assert raw.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    raw.close()
