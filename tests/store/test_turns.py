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


def test_forty_threads_write_without_anyone_waiting_long(tmp_path: Path) -> None:
    """With SQLite's own waiting the slowest of forty hot writers took tens of seconds; in turns nobody is left behind."""
    database = Database(tmp_path / "store.sqlite")
    waits: list[float] = []
    barrier = threading.Barrier(40)

    def write() -> None:
        barrier.wait()
        for _ in range(8):
            began = time.monotonic()
            with database.write() as connection:
                connection.execute(text("SELECT 1"))
                time.sleep(0.002)
            waits.append(time.monotonic() - began)

    threads = [threading.Thread(target=write) for _ in range(40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    database.close()
    assert len(waits) == 320
    assert max(waits) < 6 * sorted(waits)[160]


def test_a_writer_that_never_ends_is_one_sentence(tmp_path: Path) -> None:
    database = Database(tmp_path / "store.sqlite", busy_seconds=0.05)
    with database.write(), pytest.raises(ValueError, match="busy with other writers"), database.write():
        pass
    database.close()
