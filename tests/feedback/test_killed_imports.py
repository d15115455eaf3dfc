"""An import that is killed again and again: whole transactions are there, and run once more it is as if nothing had been."""

from __future__ import annotations

import json
import random
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

from tests.databases import fresh_sqlite
from tests.feedback.test_upkeep import run
from tutelage.feedback.imports.importing import AT_ONCE
from tutelage.settings.feedback import FeedbackDoctorSettings
from tutelage.store import Store

ROOT = Path(__file__).parents[2]
ROWS, KILLS = 2_000, 3


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Comparisons, every tenth of them twice: a second vote that names nobody."""
    path = tmp_path / "votes.jsonl"
    with path.open("w") as stream:
        for number in range(ROWS):
            n = number - number % 10 + 1 if number % 10 == 2 else number
            row = {"prompt": f"Question {n}?", "chosen": f"Yes, {n}.", "rejected": f"No, {n}."}
            stream.write(json.dumps(row) + "\n")
    return path


def importing(store: Path, file: Path) -> subprocess.Popen[str]:
    words = ["feedback", "import", f"store={store}", f"file={file}", "kind=preference"]
    command = [sys.executable, "-m", "tutelage", *words]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)


def contents(path: Path) -> list[object]:
    """Pairs with their votes, without the ids of rows."""
    with Store(path) as store:
        return [(found.group, found.texts, found.votes) for found in store.voted_pairs("main")]


def stored(path: Path) -> int:
    with closing(sqlite3.connect(path)) as connection:
        return int(connection.execute("SELECT count(*) FROM annotation").fetchone()[0])


@pytest.mark.slow
def test_killed_imports_lose_nothing_and_double_nothing(tmp_path: Path, file: Path) -> None:
    whole = fresh_sqlite(tmp_path / "whole.sqlite")
    assert f"{ROWS} lines are new" in importing(whole, file).communicate(timeout=120)[0]
    path, moments, before = fresh_sqlite(tmp_path / "store.sqlite"), random.Random(11), 0
    for _ in range(KILLS):
        process = importing(path, file)
        until = min(before + AT_ONCE, ROWS - 1)
        while stored(path) < until:
            time.sleep(0.02)
        time.sleep(moments.random() * 0.2)
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=60)
        assert process.returncode == -signal.SIGKILL, "it ended before it was killed: more rows are needed"
        there = stored(path)
        assert before < there < ROWS and there % AT_ONCE == 0
        before = there
    said, _ = importing(path, file).communicate(timeout=120)
    assert f"{ROWS - before} lines are new, {before} were there already" in said
    assert contents(path) == contents(whole)
    assert "nothing wrong" in run("feedback doctor", FeedbackDoctorSettings(store=str(path)))
