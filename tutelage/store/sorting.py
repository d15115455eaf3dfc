"""Sorting more than fits into memory: in a file of SQLite's that has no name and is gone afterwards."""

from __future__ import annotations

import pickle
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing
from typing import TypeVar

T = TypeVar("T")


def sorted_apart(rows: Iterable[tuple[str, T]]) -> Iterator[tuple[str, T]]:
    """(key, value) in the order of the keys, which are all different; all are read before the first is given.

    Values wait pickled on the disk (of temporary files) once they are more than a few megabytes.
    """
    with closing(sqlite3.connect("", isolation_level=None, check_same_thread=False)) as disk:
        disk.execute("CREATE TABLE row (key TEXT, value BLOB)")
        disk.execute("BEGIN")
        disk.executemany("INSERT INTO row VALUES (?, ?)", ((key, pickle.dumps(value)) for key, value in rows))
        for key, value in disk.execute("SELECT key, value FROM row ORDER BY key"):
            yield key, pickle.loads(value)
