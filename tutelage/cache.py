"""The cache: what can be made again, kept because making it takes long.

It lies in $TUTELAGE_CACHE, else in $XDG_CACHE_HOME/tutelage, else in ~/.cache/tutelage.  An entry is a folder named by a
hash of all that it depends on, so it is never out of date: it may be removed at any time, and so may the whole cache.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

LIMIT = 64 * 2**30  # bytes; a quarter of the disk where that is less
PARTIAL = ".partial"  # ends the name of an entry that is being made


def cache_folder() -> Path:
    """Where the cache lies (it need not exist yet)."""
    if named := os.environ.get("TUTELAGE_CACHE"):
        return Path(named).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "tutelage"


@contextmanager
def claim(kind: str, key: str, wait: Callable[[], None] = lambda: None) -> Iterator[Path]:
    """Hold the entry `key` of one kind and yield its folder, which is whole or not there; the body may make it.

    Only one process at a time holds an entry: others call `wait` once, and wait.  However the holder ends, the system
    lets go for it.  Entries that were not used for longest are removed until all together are within `LIMIT`.
    Raises ValueError where the cache cannot be written.
    """
    folder = cache_folder() / kind / key
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        lock = _lock(folder, wait)
    except OSError as error:
        raise ValueError(
            f"the cache {cache_folder()} cannot be written ({error.strerror or error}): set TUTELAGE_CACHE to a folder "
            "that can"
        ) from error
    assert lock is not None
    there = folder.exists()
    try:
        yield folder
        if folder.exists():
            os.utime(folder)  # used now
            if not there:
                _make_room(keep=folder)
    finally:
        lock.close()


def _lock(folder: Path, wait: Callable[[], None] | None) -> IO[str] | None:
    """The lock of an entry, held; without `wait`, None where another process has it."""
    path = folder.with_name(f"{folder.name}.lock")
    while True:
        lock = path.open("a", encoding="utf-8")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if wait is None:
                lock.close()
                return None
            wait()
            fcntl.flock(lock, fcntl.LOCK_EX)
        with suppress(FileNotFoundError):
            if os.path.samestat(path.stat(), os.fstat(lock.fileno())):
                return lock
        lock.close()  # the entry was removed meanwhile, and its lock with it


def _make_room(keep: Path) -> None:
    """Remove what was not used for longest, but `keep` and what another process holds."""
    entries = [path for path in cache_folder().glob("*/*") if path.is_dir()]
    sizes = {path: _size(path) for path in entries}
    limit = min(LIMIT, shutil.disk_usage(keep).total // 4)
    for path in sorted(entries, key=_last_used):
        if sum(sizes.values()) <= limit:
            return
        folder = path.with_name(path.name.removesuffix(PARTIAL))
        if folder == keep or (lock := _lock(folder, wait=None)) is None:
            continue
        shutil.rmtree(path, ignore_errors=True)
        del sizes[path]
        if not folder.exists():
            folder.with_name(f"{folder.name}.lock").unlink(missing_ok=True)
        lock.close()


def _size(folder: Path) -> int:
    total = 0
    with suppress(FileNotFoundError):  # another process removes it
        for file in folder.iterdir():
            total += file.stat().st_size
    return total


def _last_used(folder: Path) -> float:
    with suppress(FileNotFoundError):
        return folder.stat().st_mtime
    return 0.0
