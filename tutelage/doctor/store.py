"""The feedback store: whether it opens, is of this version, lets one write, and has connections for all who will come."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from tutelage.doctor.asked import Asked
from tutelage.doctor.check import Check, fail, ok, warn

OLDEST = 14
"""Major version of PostgreSQL that its makers still mend (until November 2026: 14)."""


def checks(asked: Asked) -> Iterator[Check]:
    from tutelage.store.database import resolve

    try:
        place, path, url = resolve(asked.store)
        yield from _file(path, asked.timeout) if path else _server(place, url, asked)
    except ValueError as error:
        yield fail("store", str(error).rstrip("."), "see there")


def _file(path: Path, timeout: float) -> Iterator[Check]:
    from tutelage.store import sqlite_file
    from tutelage.store.sentences import explained

    if not path.exists():
        yield warn("store", f"there is none at {path} yet", "the first command that writes to it makes it")
        return
    kind = sqlite_file.filesystem(path)
    if kind in sqlite_file.NETWORKS:
        do = "put it on a local disk, or use store=postgresql://..."
        yield fail("store", f"{path} is on a network file system ({kind}), where SQLite can lose answers", do)
        return
    sqlite_file.check_log(path)
    with explained(path, timeout), closing(sqlite_file.connect(path, "mode=rw")) as connection:
        connection.execute(f"PRAGMA busy_timeout={int(1000 * timeout)}")
        yield _version(str(path), _version_of_file(connection))
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("ROLLBACK")
    yield ok("store transaction", "begins and ends", filesystem=kind)


def _version_of_file(connection: sqlite3.Connection) -> str | None:
    """The revision of the schema; None for an empty file.  Raises ValueError for another program's."""
    from tutelage.store.database import VERSION_TABLE

    tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
    if VERSION_TABLE in tables:
        row = connection.execute(f"SELECT version_num FROM {VERSION_TABLE}").fetchone()
        return str(row[0]) if row else None
    if tables:
        raise ValueError(f"it is the database of another program (it has a table '{tables[0]}')")
    return None


def _version(place: str, version: str | None) -> Check:
    """The state of the migrations."""
    from tutelage.store.schema import REVISIONS

    if version is None:
        return warn("store", f"{place} is empty", "the first command that writes to it makes its tables")
    if version not in REVISIONS:
        said = f"{place} was written by a newer Tutelage (schema {version}, this one knows up to {REVISIONS[-1]})"
        return fail("store", said, "update Tutelage", version=version)
    behind = len(REVISIONS) - 1 - REVISIONS.index(version)
    if behind:
        said = f"{place} is {behind} migrations behind (schema {version} of {REVISIONS[-1]})"
        do = "back it up (`tutelage feedback backup`, pg_dump): the next command that writes to it brings it up to date"
        return warn("store", said, do, version=version, behind=behind)
    return ok("store", f"{place}, schema {version}", version=version)


def _server(place: str, url: Any, asked: Asked) -> Iterator[Check]:
    from sqlalchemy import create_engine, inspect, text

    from tutelage.store.database import CONNECTIONS, VERSION_TABLE
    from tutelage.store.sentences import explained

    url = url.set(drivername="postgresql+psycopg") if url.drivername == "postgresql" else url
    try:
        engine = create_engine(url, connect_args={"connect_timeout": max(int(asked.timeout), 1)})
    except ModuleNotFoundError as error:
        yield fail(
            "store",
            f"the driver is not installed (no module '{error.name}')",
            'pip install "tutelage[postgres]"',
        )
        return
    try:
        with explained(place), engine.connect() as connection:
            version = None
            if VERSION_TABLE in inspect(connection).get_table_names():
                version = connection.execute(text(f"SELECT version_num FROM {VERSION_TABLE}")).scalar()
            yield _version(place, version)
            number = int(connection.execute(text("SHOW server_version_num")).scalar_one())
            yield server_version(number)
            names = ("max_connections", "superuser_reserved_connections")
            most, kept = (int(connection.execute(text(f"SHOW {name}")).scalar_one()) for name in names)
            used = int(connection.execute(text("SELECT count(*) FROM pg_stat_activity")).scalar_one())
            yield connections(most, kept, used, asked.workers, CONNECTIONS)
            connection.rollback()
            connection.execute(text("CREATE TEMPORARY TABLE tutelage_doctor (one integer) ON COMMIT DROP"))
            connection.execute(text("INSERT INTO tutelage_doctor VALUES (1)"))
            connection.commit()
            yield ok("store transaction", "writes and commits")
    finally:
        engine.dispose()


def server_version(number: int) -> Check:
    """number: as PostgreSQL says it, 160004 for 16.4."""
    said = f"PostgreSQL {number // 10000}.{number % 10000}"
    if number // 10000 < OLDEST:
        return warn(
            "store server", said, f"use {OLDEST} or later: this one is no longer mended", version=number
        )
    return ok("store server", said, version=number)


def connections(most: int, kept: int, used: int, workers: int, each: int) -> Check:
    """What the server lets in, against what the processes may ask for together."""
    wanted, left = workers * each, most - kept - used
    said = f"{left} of {most} connections are left, and {workers} processes may take {wanted}"
    facts = {"max": most, "used": used, "wanted": wanted}
    if wanted > left:
        do = f"set max_connections={used + kept + wanted} at the server, put a pooler before it, or start fewer processes"
        return warn("store connections", said, do, **facts)
    return ok("store connections", said, **facts)
