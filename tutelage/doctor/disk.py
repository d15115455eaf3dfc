"""Where runs and the cache are written: room, speed, and whether the file system does what atomic writing needs."""

from __future__ import annotations

import fcntl
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tutelage.cache import cache_folder
from tutelage.doctor.asked import Asked
from tutelage.doctor.check import GIB, Check, fail, ok, warn
from tutelage.store.sqlite_file import NETWORKS, filesystem

PIECE = 32 * 2**20
"""Bytes that are written to measure: seconds even where a disk is slow."""
SLOW = 50e6
"""Bytes per second below which a checkpoint of a billion parameters takes minutes."""
FEW = 10_000
"""Files that may still be made."""
LITTLE = 2 * GIB
IN_MEMORY = ("tmpfs", "ramfs")

StatVFS = Callable[[Path], Any]


def checks(asked: Asked) -> Iterator[Check]:
    yield from folder("out", asked.out, asked.needs)
    yield from folder("cache", cache_folder(), 0)


def folder(name: str, path: Path, needs: float, statvfs: StatVFS = os.statvfs) -> Iterator[Check]:
    """The checks of one folder, which need not exist yet; what is written to measure is removed."""
    place = nearest(path)
    if not os.access(place, os.W_OK | os.X_OK):
        yield fail(
            f"{name} folder",
            f"{place} cannot be written",
            f"choose another {_setting(name)}, or change its permissions",
        )
        return
    yield room(name, path, place, needs, statvfs)
    try:
        yield _works(name, place)
        yield _speed(name, place)
    except OSError as error:
        yield fail(
            f"{name} disk", f"{place}: {error.strerror or error}", "free some room, or choose another folder"
        )


def nearest(path: Path) -> Path:
    """The folder itself, or the one above it that exists."""
    path = path.absolute()
    return next(folder for folder in (path, *path.parents) if folder.is_dir())


def room(name: str, path: Path, place: Path, needs: float, statvfs: StatVFS = os.statvfs) -> Check:
    """Free space against what is needed there."""
    stat = statvfs(place)
    free, files = stat.f_frsize * stat.f_bavail, stat.f_favail
    facts = {"free_gib": free / GIB, "needs_gib": needs / GIB, "filesystem": filesystem(place)}
    said = f"{path}: {free / GIB:.1f} GiB free"
    if needs:
        said += f", of which {needs / GIB:.1f} will be taken"
    if free < max(needs, 1):
        return fail(
            f"{name} room",
            said,
            f"free {(needs - free) / GIB:.1f} GiB, or choose another {_setting(name)}",
            **facts,
        )
    if stat.f_files and files < FEW:
        return fail(
            f"{name} room",
            f"{said}, but only {files} files can be made",
            "remove files that are not needed",
            **facts,
        )
    if free < LITTLE or free < 1.2 * needs:
        return warn(
            f"{name} room", said, "a little more would be wise: metrics and samples come on top", **facts
        )
    if facts["filesystem"] in IN_MEMORY:
        return warn(
            f"{name} room",
            f"{said}, in memory",
            f"it is gone after a restart: choose another {_setting(name)}",
            **facts,
        )
    return ok(f"{name} room", said, **facts)


def _works(name: str, place: Path) -> Check:
    """Renaming over a file and locking one, which writing whole files and holding a run folder need."""
    kind = filesystem(place)
    with tempfile.TemporaryDirectory(prefix=".tutelage-doctor-", dir=place) as inside:
        one, two = Path(inside) / "one", Path(inside) / "two"
        one.write_text("new")
        two.write_text("old")
        os.replace(one, two)
        if two.read_text() != "new" or one.exists():
            return fail(
                f"{name} files",
                f"{kind}: a file cannot take another's place",
                "choose a folder on another disk",
            )
        if not _locks(two):
            do = "mount it with locks (NFS: without nolock), or choose a local disk"
            return fail(
                f"{name} files", f"{kind}: a lock does not keep another process out", do, filesystem=kind
            )
    if kind in NETWORKS:
        do = "keep the store on a local disk or in PostgreSQL; checkpoints may lie here"
        return warn(
            f"{name} files", f"{kind}, a network file system; renaming and locking work", do, filesystem=kind
        )
    return ok(f"{name} files", f"{kind or 'file system'}: renaming and locking work", filesystem=kind)


def _locks(path: Path) -> bool:
    """Whether a second handle is kept out while a first one holds the lock."""
    with path.open("a") as first, path.open("a") as second:
        fcntl.flock(first, fcntl.LOCK_EX)
        try:
            fcntl.flock(second, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def _speed(name: str, place: Path) -> Check:
    """Writing until it is on the disk."""
    piece = os.urandom(2**20) * (PIECE // 2**20)
    with tempfile.TemporaryFile(prefix=".tutelage-doctor-", dir=place) as file:
        started = time.perf_counter()
        file.write(piece)
        file.flush()
        os.fsync(file.fileno())
        rate = PIECE / (time.perf_counter() - started)
    said = f"{rate / 1e6:,.0f} MB/s written and flushed"
    if rate < SLOW:
        do = "a checkpoint of a billion parameters (12 GB) takes minutes here: save_every higher, or a faster disk"
        return warn(f"{name} speed", said, do, bytes_per_second=rate)
    return ok(f"{name} speed", said, bytes_per_second=rate)


def _setting(name: str) -> str:
    return "folder (TUTELAGE_CACHE)" if name == "cache" else "out"
