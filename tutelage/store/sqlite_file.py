"""The file of an SQLite store: where it may lie, who may read it, copies of it, its log, and having it alone.

A store's file is opened through SQLite only (but by `alone`): closing any other handle on it would drop the locks that
SQLite has in this process, as POSIX locks belong to the process.
"""

from __future__ import annotations

import fcntl
import itertools
import os
import sqlite3
import struct
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote

from tutelage.store.sentences import BUSY_SECONDS, explained

# File systems over a network: the locks and the shared memory that WAL needs cannot be relied on there.
NETWORKS = frozenset(
    {"nfs", "nfs4", "cifs", "smb3", "smbfs", "ncpfs", "afs", "ceph", "lustre", "beegfs", "gpfs", "glusterfs"}
    | {f"fuse.{name}" for name in ("sshfs", "glusterfs", "s3fs", "rclone", "ceph")}
)
# The bytes that SQLite locks (start, length): in the file, every connection inside a transaction holds some of them, and
# in write-ahead logging every connection at all times; in the shared memory, every connection that has used the log.
FILE_LOCKS = (0x40000000, 512)
SHARED_MEMORY_LOCKS = (120, 9)
UNREADABLE = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def beside(path: Path) -> dict[str, Path]:
    """The files that SQLite keeps beside its file: log, shared memory and journal, by the ending of their names."""
    return {ending: path.with_name(path.name + ending) for ending in ("-wal", "-shm", "-journal")}


def check_path(path: Path) -> None:
    """Raises ValueError where no store can be; makes the folder."""
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


def check_there(path: Path) -> None:
    """Raises ValueError where there is no file."""
    if not path.exists():
        raise ValueError(
            f"there is no store at {path}: set store= to the file that `sample` or `serve` wrote."
        )


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


# who may read it: it holds hashes of passwords ------------------------------------------------------------------------


def make_private(path: Path) -> bool:
    """Make an empty file that only its owner can read, whatever the umask; False if there is one already.

    SQLite gives the files beside it the same mode.
    """
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    except FileExistsError:
        return False
    except OSError as error:
        raise ValueError(f"{path} cannot be made: {error.strerror}.") from error
    return True


def hide(path: Path) -> None:
    """Take an existing file, and those beside it, from the eyes of others, where we may."""
    for file in open_to_all(path):
        with suppress(OSError):
            file.chmod(private_mode(file.stat().st_mode))


def private_mode(mode: int) -> int:
    """The mode of a file that others shall not read; a group that may write has been let in on purpose."""
    return mode & 0o770 if mode & 0o020 or not mode & 0o007 else 0o600


def open_to_all(path: Path) -> list[Path]:
    """Which of an SQLite file and those beside it people can read who are neither its owner nor in its group."""
    files = (path, *beside(path).values())
    return [file for file in files if file.exists() and file.stat().st_mode & 0o007]


# copies and the log ---------------------------------------------------------------------------------------------------


def free_name(path: Path, what: str) -> Path:
    """A name beside a file, that is not taken, for what it was until now: NAME.WHAT-20261231-235959 (UTC)."""
    name = f"{path.name}.{what}-{datetime.now(UTC):%Y%m%d-%H%M%S}"
    names = (
        path.with_name(name + more) for more in itertools.chain([""], (f"-{n}" for n in itertools.count(2)))
    )
    return next(candidate for candidate in names if not candidate.exists())


def copy_compact(path: Path, out: Path) -> None:
    """Write a compact copy of an SQLite file, as it is at one moment, to the new file `out`, private to its owner.

    Others may go on writing.  The copy has no log.
    """
    out.unlink(missing_ok=True)  # what a process of the same number has left
    make_private(out)
    with explained(path), closing(connect(path, "mode=rw")) as source, explained(out):
        source.execute("VACUUM INTO ?", (str(out),))


def copy_pages(path: Path, out: Path) -> None:
    """Write a copy of an SQLite file page by page, as it is at one moment, with all that may be wrong with it."""
    make_private(out)
    with explained(path), closing(connect(path, "mode=rw")) as source, closing(connect(out)) as target:
        source.backup(target)


def mark(path: Path) -> None:
    """Give a file that nobody uses a number of its own, by which its log will be known (`has_foreign_log`)."""
    number = int.from_bytes(os.urandom(4), "big") >> 1 or 1
    with explained(path), closing(connect(path)) as connection:
        connection.execute(f"PRAGMA user_version={number}")


def write_ahead(path: Path) -> None:
    """Put a file that nobody uses into write-ahead logging, so that whoever opens it holds a lock from then on."""
    with explained(path), closing(connect(path)) as connection:
        connection.execute("PRAGMA journal_mode=WAL").fetchall()


def check_log(path: Path) -> None:
    """Raises ValueError for a file that SQLite would ruin by opening it (`has_foreign_log`)."""
    if has_foreign_log(path):
        raise ValueError(
            f"{path}-wal is the log of another file than {path}, as if somebody had copied a backup over a store: "
            "nothing was changed; put the backup in its place with `tutelage feedback restore-backup`."
        )


def has_foreign_log(path: Path, held: ExitStack | None = None) -> bool:
    """Whether the log beside an SQLite file is known to be another file's: somebody has copied a file over the one that
    the log belonged to, and SQLite would write the pages of the old one into it.

    Known by the size of pages; by the number that backups carry (`mark`), where the log holds the first page; and where
    it does not, by the number of pages, as this stands there.  `held` closes the file later (see `alone`).
    """
    try:
        with ExitStack() as now, beside(path)["-wal"].open("rb") as log:
            magic, _, size, _, salts = struct.unpack(">IIII8s8x", log.read(32))
            if magic & ~1 != 0x377F0682:
                return False
            itself = (held or now).enter_context(closing(connect(path, "immutable=1")))  # without its log
            if not itself.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
                return False
            if size != _number(itself, "page_size"):
                return True
            pages, number = _number(itself, "page_count"), _number(itself, "user_version")
            changed = False
            while len(head := log.read(24)) == 24 and head[8:16] == salts:  # the frames of the last round
                page, pages_then = struct.unpack(">II", head[:8])  # pages_then: 0 within a transaction
                if page == 1:
                    return int.from_bytes(log.read(64)[60:], "big") != number
                changed |= pages_then not in (0, pages)
                log.seek(size, os.SEEK_CUR)
            return changed
    except (OSError, struct.error, sqlite3.Error):  # no log, or no file that could have one
        return False
    return False


def _number(connection: sqlite3.Connection, pragma: str) -> int:
    return int(connection.execute(f"PRAGMA {pragma}").fetchone()[0])


# having it alone ------------------------------------------------------------------------------------------------------


@contextmanager
def alone(path: Path) -> Iterator[ExitStack]:
    """Inside, no other process has the SQLite file at `path` open or can open it; it is made (empty) where there is none.

    The lock is SQLite's own exclusive one, taken without SQLite, so that a damaged file can be locked, too.  It is lost
    when any handle of this process on the file is closed: whoever opens the file gives the handle to the ExitStack.  A
    process that waited for the file while another took its name finds no database in the old one, and opens anew.

    Raises ValueError when another process has the file open, idle or not.
    """
    made = make_private(path)
    with ExitStack() as held:
        try:
            file = _lock(path, FILE_LOCKS, path, held)
            if beside(path)["-shm"].exists():
                _lock(beside(path)["-shm"], SHARED_MEMORY_LOCKS, path, held)
            yield held
        except BaseException:
            if made:
                path.unlink(missing_ok=True)
            raise
        if os.fstat(file).st_nlink == 0:
            os.pwrite(file, b"replaced", 0)


def _lock(file: Path, where: tuple[int, int], path: Path, held: ExitStack) -> int:
    """Lock bytes of a file as nobody else can; returns its handle."""
    try:
        stream = held.enter_context(file.open("r+b", buffering=0))
        fcntl.lockf(stream, fcntl.LOCK_EX | fcntl.LOCK_NB, where[1], where[0])
        if os.path.samestat(os.fstat(stream.fileno()), file.stat()):
            return stream.fileno()
    except BlockingIOError:
        pass
    except OSError as error:
        raise ValueError(f"{file} cannot be written: {error.strerror}.") from error
    raise ValueError(
        f"{path} is in use by another process, such as a running `tutelage serve` or a trainer: end it, then "
        "repeat the command."
    )


def settle(path: Path, held: ExitStack) -> None:
    """Bring the log into the file itself, for whoever has it `alone`, and remove what is beside it.

    What SQLite cannot read stays as it is, without what is beside it; so does a file whose log is another's.
    """
    if path.stat().st_size and not has_foreign_log(path, held):
        connection = held.enter_context(
            closing(connect(path, "vfs=unix-none"))
        )  # it would give our locks away
        try:
            with explained(path):
                for pragma in ("locking_mode=EXCLUSIVE", "synchronous=FULL", "journal_mode=DELETE"):
                    connection.execute(f"PRAGMA {pragma}").fetchall()
        except ValueError as error:
            if getattr(error.__cause__, "sqlite_errorcode", None) not in UNREADABLE:
                raise
    for file in beside(path).values():
        file.unlink(missing_ok=True)


def connect(path: Path, options: str = "") -> sqlite3.Connection:
    """A connection that begins no transactions by itself; `options` of SQLite's file names (sqlite.org/uri.html)."""
    uri = f"file:{quote(os.fsencode(path))}?{options}"
    return sqlite3.connect(uri, uri=True, isolation_level=None, timeout=BUSY_SECONDS)
