"""Verified copies of a store (SQLite), and putting one in the store's place."""

from __future__ import annotations

import glob
import os
import shutil
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass
from pathlib import Path

from tutelage.feedback.upkeep import examine
from tutelage.files import file_atomic, sha256_of, write_text_atomic
from tutelage.store import sqlite_file
from tutelage.store.database import VERSION_TABLE, Database, resolve
from tutelage.store.schema import REVISIONS
from tutelage.store.sentences import explained


@dataclass(frozen=True)
class Backup:
    """A verified copy."""

    file: Path
    sha256: str
    bytes: int
    answers: int


@dataclass(frozen=True)
class Restored:
    """A store that is now a backup's copy; kept: the file that it was before, None where there was none.

    hash_checked: whether the backup had its hash beside it.
    """

    answers: int
    kept: Path | None
    hash_checked: bool


def backup(address: str | Path, out: Path) -> Backup:
    """Copy an SQLite store as it is at one moment to `out`, verify the copy, and write `out`.sha256.

    People may go on working meanwhile, and nothing of the store is changed, whatever its schema.  The copy appears under
    its name only when it is whole.  Raises ValueError when there is something at `out`, when there is no store, when it is
    no SQLite file, when the disk is full, or when the copy does not verify.
    """
    store = _file(address, "back it up with the server's own tool, such as pg_dump")
    sqlite_file.check_there(store)
    sqlite_file.check_log(store)
    if out.exists():
        raise ValueError(f"{out} is there already: a backup never replaces anything, name another file.")
    before = _verify(store, thoroughly=False)
    with file_atomic(out) as partial:
        sqlite_file.copy_compact(store, partial)
        sqlite_file.mark(partial)
        answers = _verify(partial)
        if not before <= answers <= _verify(store, thoroughly=False):
            raise ValueError(f"the copy of {store} holds {answers} answers, but {before} were there.")
        sha256 = sha256_of(partial)
    write_text_atomic(_hash_file(out), f"{sha256}  {out.name}\n")
    return Backup(out, sha256, out.stat().st_size, answers)


def restore_backup(address: str | Path, backup: Path) -> Restored:
    """Put a backup in an SQLite store's place, once it is verified: its hash, SQLite's checks and those of `examine`.

    What was there (also what SQLite keeps beside it) is copied to names that say when, byte by byte, and never deleted.
    Killed at any moment, the old store is there or the new one, each whole; repeated, it begins anew.

    Raises ValueError when another process has the store open, when the backup is not sound, and for a store on a server.
    """
    store = _file(address, "restore it with the server's own tool, such as pg_restore")
    sqlite_file.check_path(store)
    _check_backup(backup, store)
    with sqlite_file.alone(store) as held:
        for left in store.parent.glob(f".{glob.escape(store.name)}.*.partial*"):  # by one that was killed
            left.unlink(missing_ok=True)
        with file_atomic(store) as new:
            hash_checked = _copy_checked(backup, new)
            answers = _verify_copy(new, backup)
            _take_after(store, new)
            kept = _keep(store, held)
            sqlite_file.settle(store, held)  # one file: from here on a single renaming makes it the new one
    return Restored(answers, kept, hash_checked)


def _file(address: str | Path, instead: str) -> Path:
    place, path, _ = resolve(address)
    if path is None:
        raise ValueError(f"{place} is on a server: {instead}.")
    return path


def _hash_file(backup: Path) -> Path:
    return backup.with_name(f"{backup.name}.sha256")


def _verify(path: Path, thoroughly: bool = True) -> int:
    """How many answers a store of any of our schemas holds.  Raises ValueError when it is not sound, or not ours."""
    with explained(path), closing(sqlite_file.connect(path, "mode=rw")) as found:
        tables = {row[0] for row in found.execute("SELECT name FROM sqlite_master")}
        if VERSION_TABLE not in tables:
            raise ValueError(
                f"{path} is the database of another program, or empty: it has no '{VERSION_TABLE}'."
            )
        (version,) = found.execute(f"SELECT version_num FROM {VERSION_TABLE}").fetchone()
        if version not in REVISIONS:
            raise ValueError(f"{path} was written by a newer Tutelage (schema {version}): update Tutelage.")
        if thoroughly:
            said = found.execute("PRAGMA integrity_check").fetchone()[0]
            if said != "ok" or found.execute("PRAGMA foreign_key_check").fetchone() is not None:
                raise ValueError(
                    f"{path} does not verify ({said}): run `tutelage feedback doctor` on the store."
                )
        table = "annotation" if "annotation" in tables else "vote"  # as they were called at first
        return int(found.execute(f"SELECT count(*) FROM {table}").fetchone()[0])


# restoring: the steps -------------------------------------------------------------------------------------------------


def _check_backup(backup: Path, store: Path) -> None:
    """Raises ValueError for a backup that is not there, is the store itself, or is in use."""
    if not backup.is_file():
        raise ValueError(
            f"there is no backup at {backup}: set backup= to a file that `feedback backup` wrote."
        )
    if store.exists() and backup.samefile(store):
        raise ValueError(f"{backup} is the store itself: set backup= to a file that `feedback backup` wrote.")
    for file in sqlite_file.beside(backup).values():
        if file.exists() and file.stat().st_size:
            raise ValueError(
                f"{backup} is no backup but a store (it has {file.name} beside it): make a backup of it first, with "
                f"`tutelage feedback backup store={backup}`."
            )


def _copy_checked(backup: Path, new: Path) -> bool:
    """Copy the backup; whether its hash stood beside it.  Raises ValueError when that is another."""
    _copy(backup, new)
    hash_file = _hash_file(backup)
    if not hash_file.exists():
        return False
    wanted = hash_file.read_text(encoding="utf-8", errors="replace").split()[:1]
    if wanted != [sha256_of(new)]:
        raise ValueError(f"{backup} has changed since it was made (see {hash_file}): use another backup.")
    return True


def _verify_copy(new: Path, backup: Path) -> int:
    """How many answers the copy of a backup holds.  Raises ValueError when it is not sound."""
    try:
        answers = _verify(new)
        with closing(Database(new, migrate=False)) as database:
            wrong = [finding for finding in examine(database) if finding.wrong]
        sqlite_file.mark(new)
        sqlite_file.write_ahead(new)
    except ValueError as error:
        raise ValueError(str(error).replace(str(new), str(backup))) from error
    if wrong:
        raise ValueError(
            f"{backup} is not sound ({wrong[0].check}: no; {wrong[0].example}): use another backup; nothing was changed."
        )
    return answers


def _take_after(store: Path, new: Path) -> None:
    """Who may use the store may use the new one, but for people who are neither its owner nor in its group."""
    was = store.stat()
    new.chmod(sqlite_file.private_mode(was.st_mode))
    with suppress(PermissionError):
        os.chown(new, was.st_uid, was.st_gid)


def _keep(store: Path, held: ExitStack) -> Path | None:
    """Copy what is there to names that SQLite takes for one store; None where there is nothing."""
    files = {"": store, **sqlite_file.beside(store)}
    there = {
        end: file for end, file in files.items() if file.exists() and file.stat().st_size and end != "-shm"
    }
    kept = sqlite_file.free_name(store, "replaced")
    with ExitStack() as named:  # all at once, the store last: once it has its name, all of it is there
        for end, file in there.items():
            partial = named.enter_context(file_atomic(kept.with_name(kept.name + end)))
            _copy(file, partial, held)
    return kept if there else None


def _copy(source: Path, target: Path, held: ExitStack | None = None) -> None:
    """Copy bytes to a new file that is private to its owner; `held` closes the source later (see `alone`)."""
    target.unlink(missing_ok=True)
    sqlite_file.make_private(target)
    with ExitStack() as now:
        stream = (held or now).enter_context(source.open("rb"))
        with target.open("wb") as out:
            shutil.copyfileobj(stream, out, 1 << 20)
