"""The two databases that tests run on.  PostgreSQL needs a server: TUTELAGE_TEST_POSTGRES names one, or one is started here
where its programs are installed; else those tests are skipped, with the reason."""

from __future__ import annotations

import contextlib
import functools
import os
import pwd
import shutil
import socket
import sqlite3
import subprocess
import tempfile
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, create_engine, inspect, make_url, text, update
from sqlalchemy.engine.default import DefaultDialect
from sqlalchemy.util import LRUCache

from tutelage.store import database
from tutelage.store.database import Database
from tutelage.store.schema import StoreInfo

WHERE = "TUTELAGE_TEST_POSTGRES"
TEMPLATE = "tutelage_test_template"
MIGRATE = database._upgrade


@contextlib.contextmanager
def postgres_server() -> Iterator[str | None]:
    """The URL of a server where databases can be made; None where there is none."""
    given = os.environ.get(WHERE)
    programs = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb")) or [
        Path(shutil.which("initdb") or "")
    ]
    if given or not programs[-1].name:
        yield given
        return
    folder = Path(tempfile.mkdtemp(prefix="tutelage-postgres-"))
    run = _as_user(folder)
    binaries, port = programs[-1].parent, _free_port()
    options = f"-p {port} -k {folder} -c listen_addresses=127.0.0.1 -c fsync=off"
    try:
        run([str(binaries / "initdb"), "-D", f"{folder}/data", "-A", "trust", "-U", "postgres"])
        run(
            [
                str(binaries / "pg_ctl"),
                "-D",
                f"{folder}/data",
                "-o",
                options,
                "-l",
                f"{folder}/log",
                "-w",
                "start",
            ]
        )
        yield f"postgresql+psycopg://postgres@127.0.0.1:{port}/postgres"
    finally:
        with contextlib.suppress(subprocess.CalledProcessError):
            run([str(binaries / "pg_ctl"), "-D", f"{folder}/data", "-m", "immediate", "stop"])
        shutil.rmtree(folder, ignore_errors=True)


@functools.cache
def _sqlite_template() -> bytes:
    """A file with our tables, made once per process: copying it is much faster than migrating."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "store.sqlite"
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(database, "_upgrade", MIGRATE)
            Database(path).close()
        assert [file.name for file in path.parent.iterdir()] == [path.name], "nothing waits in another file"
        return path.read_bytes()


def fresh_sqlite(path: Path) -> Path:
    """`path`, with our tables in it, and a store's name of its own."""
    path.write_bytes(_sqlite_template())
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        own = "UPDATE store_info SET value = ? WHERE key = 'identity'"
        connection.execute(own, (uuid.uuid4().hex,))
    return path


_made: dict[str, bytes] = {}


def prepared_sqlite(path: Path, name: str, make: Callable[[Path], None]) -> Path:
    """`path`, with what `make` puts into a store; it is called once per `name` and process, and the file copied after.

    `make` closes what it opens, so that nothing waits in another file.
    """
    if name not in _made:
        make(fresh_sqlite(path))
        assert not path.with_name(f"{path.name}-wal").exists()
        _made[name] = path.read_bytes()
    path.write_bytes(_made[name])
    return path


@functools.cache
def _statements() -> list[str]:
    """What makes of an empty SQLite file what all migrations make of it."""
    content = bytearray(_sqlite_template())
    content[18:20] = b"\1\1"  # no write-ahead log, which memory has not
    with contextlib.closing(sqlite3.connect(":memory:")) as connection:
        connection.deserialize(content)
        return [line for line in connection.iterdump() if line not in ("BEGIN TRANSACTION;", "COMMIT;")]


def make_tables_at_once() -> None:
    """In this process new SQLite files get their tables as they are, not by all the migrations, which take 50 times as
    long; `tests/store`, which is about the migrations, undoes this."""

    def make(connection: Connection) -> None:
        new = connection.dialect.name == "sqlite" and not inspect(connection).get_table_names()
        if not new:
            return MIGRATE(connection)
        for statement in _statements():
            connection.exec_driver_sql(statement)
        own = update(StoreInfo).where(StoreInfo.key == "identity").values(value=uuid.uuid4().hex)
        connection.execute(own)

    database._upgrade = make


def compile_statements_once() -> None:
    """In this process a statement is compiled once for each kind of database.

    SQLAlchemy keeps what it compiled for as long as an engine lives, and every test has engines of its own: a third of the
    time of a test with a store went there.
    """
    compiled = LRUCache(5_000)
    make = Engine.__init__

    def shared(self: Engine, *args: Any, **options: Any) -> None:
        make(self, *args, **options)
        self._compiled_cache = compiled

    def same(one: DefaultDialect, other: object) -> bool:
        kind = type(one) is type(other)
        return kind and one.server_version_info == getattr(other, "server_version_info", None)

    patched: Any = DefaultDialect
    patched.__eq__, patched.__hash__ = same, lambda dialect: hash(type(dialect))
    patched_engine: Any = Engine
    patched_engine.__init__ = shared


def template_database(server: str) -> str:
    """The name of a database with our tables, made once: copying it is much faster than migrating."""
    admin = create_engine(server, isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        there = connection.execute(
            text("SELECT 1 FROM pg_database WHERE datname = :name"), {"name": TEMPLATE}
        )
        if there.scalar() is not None:
            connection.execute(text(f"DROP DATABASE {TEMPLATE} WITH (FORCE)"))
        connection.execute(text(f"CREATE DATABASE {TEMPLATE}"))
    admin.dispose()
    Database(make_url(server).set(database=TEMPLATE).render_as_string(hide_password=False)).close()
    return TEMPLATE


@contextlib.contextmanager
def fresh_database(server: str | None, template: str = "template1") -> Iterator[str]:
    """The URL of a new database on a server; skips the test where there is no server."""
    if server is None:
        pytest.skip(f"no PostgreSQL server: install postgresql, or set {WHERE} to the URL of one")
    pytest.importorskip("psycopg", reason="the extra `postgres` is not installed")
    name = f"tutelage_test_{uuid.uuid4().hex[:12]}"
    admin = create_engine(server, isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name} TEMPLATE {template}"))
    try:
        yield make_url(server).set(database=name).render_as_string(hide_password=False)
    finally:
        with admin.connect() as connection:
            connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
        admin.dispose()


def _as_user(folder: Path):  # type: ignore[no-untyped-def]
    """How to run the server's programs: they refuse to run as root, so root lends them to the user `postgres`."""
    user = None
    if os.getuid() == 0:
        entry = pwd.getpwnam("postgres")
        os.chown(folder, entry.pw_uid, entry.pw_gid)
        user = "postgres"
    return lambda command: subprocess.run(
        command, check=True, user=user, cwd=folder, stdout=subprocess.DEVNULL
    )


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
