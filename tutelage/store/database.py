"""How the store reaches its database: engines, transactions, migrations, and errors as sentences.

SQLite is used as measured in docs/decisions/0005-store.md: WAL, `synchronous=FULL`, `BEGIN IMMEDIATE` for writes (a
writer waits for its turn at the start, never fails in the middle), plain `BEGIN` for reads, foreign keys on.
"""

from __future__ import annotations

import logging
import sqlite3
import tempfile
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import URL, Connection, Engine, create_engine, event, inspect, make_url, text
from sqlalchemy.exc import ArgumentError, NoSuchModuleError

from tutelage.files import file_atomic
from tutelage.store import schema_calls as schema_calls  # their tables belong to the metadata
from tutelage.store import schema_feedback as schema_feedback
from tutelage.store import schema_refining as schema_refining
from tutelage.store import sqlite_file
from tutelage.store.origins import identity
from tutelage.store.schema import REVISIONS
from tutelage.store.sentences import BUSY_SECONDS, explained
from tutelage.store.turns import Turns

if TYPE_CHECKING:
    from alembic.config import Config

# A name of our own, so that another program's Alembic table is not mistaken for it.
VERSION_TABLE = "tutelage_schema"
# Of one engine at most: more than a web server has threads, so that none waits for a connection.
CONNECTIONS = 48
LOG = logging.getLogger(__name__)
MIGRATING = 0x7475746C  # the number of PostgreSQL's lock for whoever makes or changes the tables


class Database:
    """Two engines on one database: `read()` and `write()` give a connection inside a transaction.

    `address` is the path of an SQLite file (made with its folder if missing, unless `create=False`) or a database URL.
    An older store is brought up to date, and the file as it was kept beside it (a warning says where).  With
    `migrate=False`, for commands that read, nothing is made or changed: an older SQLite file is read from a copy
    brought up to date, which is gone in the end with what was written to it.  `connections`: at most so many at once.

    Raises ValueError with one sentence for whatever is not a database of ours that this code can use.
    """

    def __init__(
        self,
        address: str | Path,
        busy_seconds: float = BUSY_SECONDS,
        *,
        create: bool = True,
        migrate: bool = True,
        connections: int = CONNECTIONS,
    ) -> None:
        self._busy, self._connections = busy_seconds, connections
        self._turns = Turns()
        self._copy: tempfile.TemporaryDirectory[str] | None = None
        self.place, self.path, url = resolve(address)
        if self.path is not None:
            _check_file(self.path, migrate, create)
            self._connect(self.path)
        else:
            self._reader, self._writer = _server_engines(url, connections)
        try:
            self._prepare(migrate)
        except BaseException:
            self.close()
            raise

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A connection in a transaction that sees one state of the database throughout."""
        with self._explained(), self._reader.begin() as connection:
            yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """A connection in the one write transaction; committed, and on disk, when the block ends well."""
        with self._explained(), self._turn(), self._writer.begin() as connection:
            yield connection

    @property
    def is_sqlite(self) -> bool:
        """Whether the database is a file of SQLite."""
        return self.path is not None

    @cached_property
    def identity(self) -> str:
        """The store's own name, 32 hex digits that no other store has; a copy of its file has the same."""
        with self.read() as connection:
            return identity(connection)

    def vacuum(self) -> None:
        """Leave nothing of deleted rows in an SQLite file and its log; what a server keeps is the server's business."""
        if self.is_sqlite:
            with self._turn():
                self._outside(self._writer, "VACUUM", "PRAGMA wal_checkpoint(TRUNCATE)")

    def close(self) -> None:
        """Close all connections."""
        self._reader.dispose()
        self._writer.dispose()
        if self._copy is not None:
            self._copy.cleanup()

    # opening ----------------------------------------------------------------------------------------------------

    def _connect(self, path: Path) -> None:
        self._reader = _sqlite_engine(path, "BEGIN", self._busy, self._connections)
        self._writer = _sqlite_engine(path, "BEGIN IMMEDIATE", self._busy, self._connections)

    def _prepare(self, migrate: bool) -> None:
        """Refuse foreign and newer databases untouched, then bring the schema up to date."""
        version = self._opened_version(migrate)
        if version == REVISIONS[-1]:
            return
        if not migrate:
            return self._read_a_copy(version)
        kept = None
        with self.write() as connection:
            if not self.is_sqlite:  # SQLite lets one write at a time anyway
                connection.execute(text(f"SELECT pg_advisory_xact_lock({MIGRATING})"))
            version = self._version(connection)
            if version != REVISIONS[-1]:  # else another process was faster
                kept = _keep(self.path, version) if self.path and version else None
                _upgrade(connection)
        if kept:
            LOG.warning(
                "%s was of an older Tutelage and is brought up to date; as it was, it is %s.",
                self.place,
                kept,
            )

    def _opened_version(self, migrate: bool) -> str | None:
        """The schema's revision, None for an empty database.

        From here on the file cannot be exchanged by a restore (`sqlite_file.alone`): a connection is open, and in
        write-ahead logging (which a backup's copy is not in) it holds its lock.  One that was exchanged while we
        waited for it is opened anew.
        """
        while True:
            opened = _inode(self.path)
            try:
                with self.read() as connection:
                    version = self._version(connection)
                if migrate:
                    self._enter_wal()
            except ValueError:
                if _inode(self.path) == opened:
                    raise
            else:
                if _inode(self.path) == opened:
                    return version
            self._reader.dispose()

    def _version(self, connection: Connection) -> str | None:
        tables = inspect(connection).get_table_names()
        if VERSION_TABLE not in tables:
            if tables:
                raise ValueError(
                    f"{self.place} is the database of another program (it has a table '{tables[0]}' but no "
                    f"'{VERSION_TABLE}'): choose another store=."
                )
            return None
        version = connection.execute(text(f"SELECT version_num FROM {VERSION_TABLE}")).scalar()
        if version is not None and version not in REVISIONS:
            raise ValueError(
                f"{self.place} was written by a newer Tutelage (schema {version}, this one knows up to "
                f"{REVISIONS[-1]}): update Tutelage, or choose another store=."
            )
        return version

    def _read_a_copy(self, version: str | None) -> None:
        """Go on with a copy of an older SQLite file that is brought up to date."""
        if version is None:
            raise ValueError(f"there is no store at {self.place} yet: it is an empty database.")
        if self.path is None:
            raise ValueError(
                f"{self.place} is of an older Tutelage (schema {version}): back it up (pg_dump), then start "
                "`tutelage serve` once, which brings it up to date."
            )
        self._reader.dispose()
        self._copy = tempfile.TemporaryDirectory(prefix="tutelage-")
        copy = Path(self._copy.name) / self.path.name
        sqlite_file.copy_pages(self.path, copy)
        self._connect(copy)
        with self.write() as connection:
            _upgrade(connection)

    def _enter_wal(self) -> None:
        """Switch the file to write-ahead logging (kept in the file); SQLite does not wait for others here, we do."""
        deadline = time.monotonic() + self._busy
        while self.is_sqlite:
            try:
                return self._outside(self._reader, "PRAGMA journal_mode=WAL")
            except ValueError as error:
                if "locked" not in str(error) or time.monotonic() > deadline:
                    raise
                time.sleep(0.02)

    # talking to it ----------------------------------------------------------------------------------------------

    def _outside(self, engine: Engine, *statements: str) -> None:
        """Run what SQLite refuses in a transaction."""
        with self._explained(), engine.connect() as connection:
            raw = connection.connection.dbapi_connection
            assert isinstance(raw, sqlite3.Connection)
            for statement in statements:
                raw.execute(statement).fetchall()

    @contextmanager
    def _turn(self) -> Iterator[None]:
        """Before SQLite's own lock, a fair queue of this process's writers; a server has better locks of its own."""
        if not self.is_sqlite:
            yield
            return
        try:
            with self._turns.turn(self._busy):
                yield
        except TimeoutError as error:
            raise ValueError(
                f"{self.place} has been busy with other writers for {self._busy:g} s: try again in a moment."
            ) from error

    def _explained(self) -> AbstractContextManager[None]:
        return explained(self.place, self._busy)


def migrations(connection: Connection) -> Config:
    """The Alembic configuration that runs our migrations inside the transaction of `connection`."""
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.attributes["connection"] = connection
    return config


def _upgrade(connection: Connection) -> None:
    from alembic import command

    command.upgrade(migrations(connection), REVISIONS[-1])


def _check_file(path: Path, migrate: bool, create: bool) -> None:
    """Raises ValueError for an SQLite file that cannot be opened; makes one, or mends its mode, where that is wanted."""
    if not (migrate and create):
        sqlite_file.check_there(path)
    sqlite_file.check_path(path)
    sqlite_file.check_log(path)
    if migrate and not sqlite_file.make_private(path):
        sqlite_file.hide(path)


def _inode(path: Path | None) -> int | None:
    """What tells whether a name still means the same file."""
    with suppress(OSError):
        return path.stat().st_ino if path else None
    return None


def _keep(path: Path, version: str) -> Path:
    """Copy an SQLite file as it is before it is migrated."""
    kept = sqlite_file.free_name(path, f"schema-{version}")
    with file_atomic(kept) as partial:
        sqlite_file.copy_compact(path, partial)
    return kept


def resolve(address: str | Path) -> tuple[str, Path | None, URL]:
    """The name to show, the file (SQLite only) and the URL that an address means."""
    if "://" not in str(address):
        path = Path(address).expanduser().resolve()  # SQLite's other files lie beside what a link means
        return str(address), path, URL.create("sqlite", database=str(path))
    try:
        url = make_url(str(address))
        dialect = url.get_dialect().name
    except (ArgumentError, NoSuchModuleError) as error:
        raise ValueError(f"store={address} is no database URL that is known here ({error}).") from error
    if dialect != "sqlite":
        return url.render_as_string(hide_password=True), None, url
    if not url.database or url.database == ":memory:":
        raise ValueError(f"store={address} names no file: a store in memory would be lost, give it a path.")
    path = Path(url.database).resolve()
    return str(path), path, url


def _sqlite_engine(path: Path, begin: str, busy_seconds: float, connections: int) -> Engine:
    """An engine whose transactions start with `begin`; Python's sqlite3 itself starts none."""
    url = URL.create("sqlite", database=str(path))
    engine = create_engine(
        url,
        connect_args={"timeout": busy_seconds, "isolation_level": None},
        pool_size=connections,  # all kept: opening a file anew costs more than most requests
        max_overflow=0,
    )

    @event.listens_for(engine, "connect")
    def _configure(connection: Any, _record: Any) -> None:
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("PRAGMA foreign_keys=ON")

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        connection.exec_driver_sql(begin)

    return engine


def _server_engines(url: URL, connections: int) -> tuple[Engine, Engine]:
    """For reads, which see one state throughout, and for writes, where one that waited for a lock sees what was
    written before it; both take connections from one pool that keeps them (a new one is a process of the server)."""
    if url.drivername == "postgresql":
        url = url.set(drivername="postgresql+psycopg")
    try:
        engine = create_engine(url, pool_pre_ping=True, pool_size=connections, max_overflow=0)
    except ModuleNotFoundError as error:
        raise ValueError(
            f"the driver for {url.drivername} is not installed (no module '{error.name}'): "
            'install it with pip install "tutelage[postgres]".'
        ) from error
    return (
        engine.execution_options(isolation_level="REPEATABLE READ"),
        engine.execution_options(isolation_level="READ COMMITTED"),
    )
