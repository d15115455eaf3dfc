"""Writers of one process: in order, one at a time, and nobody forgotten."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest
from sqlalchemy import text

from tutelage.store.database import Database
from tutelage.store.turns import Turns


def test_turns_come_in_the_order_of_asking() -> None:
    turns, came = Turns(), []

    def ask(number: int) -> None:
        with turns.turn(10):
            came.append(number)

    with turns.turn(10):
        threads = []
        for number in range(20):
            thread = threading.Thread(target=ask, args=(number,))
            thread.start()
            threads.append(thread)
            while len(turns._queue) < number + 2:
                time.sleep(0.001)
    for thread in threads:
        thread.join()
    assert came == list(range(20))


def test_one_who_gave_up_is_not_waited_for() -> None:
    turns = Turns()
    with turns.turn(1), pytest.raises(TimeoutError), turns.turn(0.01):
        pass
    with turns.turn(0.01):
        pass


def test_writers_of_a_database_are_served_in_the_order_of_asking(tmp_path: Path) -> None:
    """With SQLite's own waiting some writers are overtaken by all others, again and again."""
    database, came = Database(tmp_path / "store.sqlite"), []

    def write(number: int) -> None:
        with database.write() as connection:
            connection.execute(text("SELECT 1"))
            came.append(number)

    with database.write():
        threads = []
        for number in range(40):
            thread = threading.Thread(target=write, args=(number,))
            thread.start()
            threads.append(thread)
            while len(database._turns._queue) < number + 2:
                time.sleep(0.001)
    for thread in threads:
        thread.join()
    database.close()
    assert came == list(range(40))


def test_a_writer_that_never_ends_is_one_sentence(tmp_path: Path) -> None:
    database = Database(tmp_path / "store.sqlite", busy_seconds=0.05)
    with database.write(), pytest.raises(ValueError, match="busy with other writers"), database.write():
        pass
    database.close()
