"""How the store reaches its database: engines, transactions, migrations, and errors as sentences.

SQLite is used as measured in docs/decisions/0005-store.md: WAL, `synchronous=FULL`, `BEGIN IMMEDIATE` for writes (a
writer waits for its turn at the start, never fails in the middle), plain `BEGIN` for reads, foreign keys on.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import URL, Connection, Engine, create_engine, event, inspect, make_url, select, text
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError

from tutelage.store import schema_feedback as schema_feedback  # its tables belong to the metadata
from tutelage.store.schema import REVISIONS, StoreInfo
from tutelage.store.turns import Turns

if TYPE_CHECKING:
    from alembic.config import Config

VERSION_TABLE = (
    "tutelage_schema"  # a name of our own, so that another program's Alembic table is not mistaken for it
)
BUSY_SECONDS = 30.0  # how long a statement waits for another process's transaction to end
CONNECTIONS = (
    48  # of one engine at most: more than a web server has threads, so that none waits for a connection
)

# File systems over a network: the locks and the shared memory that WAL needs cannot be relied on there.
NETWORKS = frozenset(
    {"nfs", "nfs4", "cifs", "smb3", "smbfs", "ncpfs", "afs", "ceph", "lustre", "beegfs", "gpfs", "glusterfs"}
    | {f"fuse.{name}" for name in ("sshfs", "glusterfs", "s3fs", "rclone", "ceph")}
)

_SENTENCES = (  # what SQLite says -> what is wrong and what to do
    ("not a database", "{place} is not an SQLite database: choose another store=."),
    ("malformed", "{place} is damaged ({said}): restore it from a backup, or choose another store=."),
    (
        "locked",
        "{place} has been locked by another process for {busy:g} s: wait for that process, or end it.",
    ),
    ("full", "no space left to write {place}: free some and repeat the command; what was stored is safe."),
    ("readonly", "{place} cannot be written: change its permissions, or choose another store=."),
    ("unable to open", "{place} cannot be opened: check that the folder exists and can be written."),
    ("connection refused", "no server answers at {place}: start it, or correct store=."),
    ("password authentication failed", "{place} refuses the name or the password: correct store=."),
    ("could not translate host name", "the host of {place} is not known: correct store=."),
    ("failed to resolve host", "the host of {place} is not known: correct store=."),
    (
        "no space left",
        "no space left to write {place}: free some and repeat the command; what was stored is safe.",
    ),
    ("disk i/o", "{place}: the disk reports an error ({said}): check the disk, then repeat the command."),
)


class Database:
    """Two engines on one database: `read()` and `write()` give a connection inside a transaction.

    `address` is the path of an SQLite file (made if missing, with its folder) or a database URL.  Raises ValueError
    with one sentence for whatever is not a database of ours that this code can use.
    """

    def __init__(self, address: str | Path, busy_seconds: float = BUSY_SECONDS) -> None:
        self._busy = busy_seconds
        self._turns = Turns()
        self.place, path, url = _resolve(address)
        if path is not None:
            _check_path(path)
            self._reader = _sqlite_engine(path, "BEGIN", busy_seconds)
            self._writer = _sqlite_engine(path, "BEGIN IMMEDIATE", busy_seconds)
        else:
            self._reader, self._writer = _server_engines(url)
        try:
            self._prepare(path is not None)
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
        return self._reader.dialect.name == "sqlite"

    @cached_property
    def identity(self) -> str:
        """The store's own name, 32 hex digits that no other store has; a copy of its file has the same."""
        with self.read() as connection:
            return connection.execute(select(StoreInfo.value).where(StoreInfo.key == "identity")).scalar_one()

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

    def copy_into(self, path: Path) -> None:
        """Write a compact copy of an SQLite database, as it is at one moment, to a file that is not there yet."""
        assert self.is_sqlite
        with self._explained(str(path)), self._reader.connect() as connection:
            raw = connection.connection.dbapi_connection  # no transaction: SQLite refuses VACUUM in one
            assert raw is not None
            raw.cursor().execute("VACUUM INTO ?", (str(path),))

    def vacuum(self) -> None:
        """Leave nothing of deleted rows in an SQLite file and its log; what a server keeps is the server's business."""
        if not self.is_sqlite:
            return
        with self._explained(), self._turn(), self._writer.connect() as connection:
            raw = connection.connection.dbapi_connection  # no transaction: SQLite refuses VACUUM in one
            assert raw is not None
            raw.cursor().execute("VACUUM")
            raw.cursor().execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    def close(self) -> None:
        """Close all connections."""
        self._reader.dispose()
        self._writer.dispose()

    def _prepare(self, sqlite: bool) -> None:
        """Refuse foreign and newer databases untouched, then bring the schema up to date."""
        with self.read() as connection:
            version = self._version(connection)
        if version == REVISIONS[-1]:
            return
        if sqlite and version is None:
            self._enter_wal()
        with self.write() as connection:
            if self._version(connection) != REVISIONS[-1]:  # another process may have been faster
                _upgrade(connection)

    def _version(self, connection: Connection) -> str | None:
        """The schema's revision, None for an empty database."""
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

    def _enter_wal(self) -> None:
        """Switch the file to write-ahead logging (kept in the file); SQLite does not wait for others here, we do."""
        deadline = time.monotonic() + self._busy
        while True:
            try:
                with self._explained(), self._reader.connect() as connection:
                    raw = (
                        connection.connection.dbapi_connection
                    )  # no transaction: SQLite refuses the switch in one
                    assert raw is not None
                    raw.cursor().execute("PRAGMA journal_mode=WAL")
                return
            except ValueError as error:
                if "locked" not in str(error) or time.monotonic() > deadline:
                    raise
                time.sleep(0.02)

    @contextmanager
    def _explained(self, place: str = "") -> Iterator[None]:
        """Turn what the database says into one sentence, where we know what it means; `place`: what it is about."""
        try:
            yield
        except (DBAPIError, sqlite3.Error) as error:
            said = str(error.orig if isinstance(error, DBAPIError) else error)
            for sign, sentence in _SENTENCES:
                if sign in said.lower():
                    message = sentence.format(place=place or self.place, said=said, busy=self._busy)
                    raise ValueError(message) from error
            raise


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


def _resolve(address: str | Path) -> tuple[str, Path | None, URL]:
    """The name to show, the file (SQLite only) and the URL that an address means."""
    if "://" not in str(address):
        path = Path(address).expanduser().absolute()
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
    path = Path(url.database).absolute()
    return str(path), path, url


def _check_path(path: Path) -> None:
    if path.is_dir():
        raise ValueError(
            f"{path} is a folder, but the store is one file: name a file in it, such as store.sqlite."
        )
    kind = filesystem(path)
    if kind in NETWORKS:
        raise ValueError(
            f"{path} is on a network file system ({kind}), where SQLite can lose answers: "
            "put the store on a local disk, or use store=postgresql://..."
        )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(
            f"the folder {path.parent} for the store cannot be made: {error.strerror}."
        ) from error


def filesystem(path: Path, mounts: Path = Path("/proc/self/mountinfo")) -> str:
    """The type of the file system that a path lies on, such as ext4; '' where the system does not tell."""
    try:
        lines = mounts.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return ""
    real = Path(os.path.realpath(path))
    best, kind = "", ""
    for line in lines:
        before, _, after = line.partition(" - ")  # the format is described in proc(5)
        point = before.split()[4].encode().decode("unicode_escape")  # spaces are written as \\040
        if real.is_relative_to(point) and len(point) >= len(best):
            best, kind = point, after.split()[0]
    return kind


def _sqlite_engine(path: Path, begin: str, busy_seconds: float) -> Engine:
    """An engine whose transactions start with `begin`; Python's sqlite3 itself starts none."""
    url = URL.create("sqlite", database=str(path))
    engine = create_engine(
        url,
        connect_args={"timeout": busy_seconds, "isolation_level": None},
        pool_size=CONNECTIONS,  # all kept: opening a file anew costs more than most requests
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


def _server_engines(url: URL) -> tuple[Engine, Engine]:
    """For reads, which see one state throughout, and for writes, where one that waited for a lock sees what was
    written before it; both take connections from one pool that keeps them (a new one is a process of the server)."""
    if url.drivername == "postgresql":
        url = url.set(drivername="postgresql+psycopg")
    try:
        engine = create_engine(url, pool_pre_ping=True, pool_size=CONNECTIONS, max_overflow=0)
    except ModuleNotFoundError as error:
        raise ValueError(
            f"the driver for {url.drivername} is not installed (no module '{error.name}'): "
            'install it with pip install "tutelage[postgres]".'
        ) from error
    return (
        engine.execution_options(isolation_level="REPEATABLE READ"),
        engine.execution_options(isolation_level="READ COMMITTED"),
    )
