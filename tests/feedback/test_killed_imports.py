"""An import that is killed again and again: whole transactions are there, and run once more it is as if nothing had been."""

from __future__ import annotations

import json
import random
import signal
import sqlite3
import time
from contextlib import closing
from pathlib import Path

import pytest

from tests.databases import fresh_sqlite
from tests.feedback.test_upkeep import run
from tests.processes import Started
from tutelage.feedback.imports.importing import AT_ONCE
from tutelage.settings.feedback import FeedbackDoctorSettings
from tutelage.store import Store

ROWS, KILLS = 1_000, 1


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


def importing(store: Path, file: Path) -> Started:
    words = ["feedback", "import", f"store={store}", f"file={file}", "kind=preference"]
    return Started(words, store.with_suffix(".txt"))


def whole_import(store: Path, file: Path) -> str:
    """What it says."""
    process = importing(store, file)
    assert process.wait(120) == 0, process.said
    return process.said


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
    assert f"{ROWS} lines are new" in whole_import(whole, file)
    path, moments, before = fresh_sqlite(tmp_path / "store.sqlite"), random.Random(11), 0
    for _ in range(KILLS):
        process = importing(path, file)
        until = min(before + AT_ONCE, ROWS - 1)
        while stored(path) < until:
            time.sleep(0.01)
        time.sleep(moments.random() * 0.1)
        process.kill()
        assert process.wait() == -signal.SIGKILL, "it ended before it was killed: more rows are needed"
        there = stored(path)
        assert before < there < ROWS and there % AT_ONCE == 0
        before = there
    said = whole_import(path, file)
    assert f"{ROWS - before} lines are new, {before} were there already" in said
    assert contents(path) == contents(whole)
    assert "nothing wrong" in run("feedback doctor", FeedbackDoctorSettings(store=str(path)))
