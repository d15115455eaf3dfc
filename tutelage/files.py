"""Files that are either there and whole, or not there: written under another name, flushed to disk, renamed."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any


def write_text_atomic(path: str | Path, text: str) -> Path:
    """Write `text` (UTF-8) to `path`: a reader, or a restart after a crash, sees the old file or the new one.

    Missing parent folders are created. Raises OSError that names `path` when the disk is full or refuses.
    """
    return _write_atomic(Path(path), (text,))


def write_json_atomic(path: str | Path, value: Any) -> Path:
    """Write `value` as indented JSON to `path`, atomically."""
    return write_text_atomic(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def write_jsonl_atomic(path: str | Path, rows: Iterable[Any]) -> Path:
    """Write one JSON value per line to `path`, atomically; `rows` may be a generator and is never held whole."""
    return _write_atomic(Path(path), (json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


@contextmanager
def file_atomic(path: str | Path) -> Iterator[Path]:
    """Yield a name to write a file under; on success it is flushed to disk and takes the place of `path`.

    When the body raises, what it wrote is removed and `path` stays as it was. Missing parent folders are created.
    """
    path = Path(path)
    partial = path.parent / f".{path.name}.{os.getpid()}.partial"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield partial
        _flush(partial)
        os.replace(partial, path)
        _flush(path.parent)
    except OSError as error:
        _remove(partial)
        raise _named(error, path) from error
    except BaseException:
        _remove(partial)
        raise


@contextmanager
def folder_atomic(path: str | Path) -> Iterator[Path]:
    """Yield an empty folder to fill; on success it is flushed to disk and takes the place of `path`.

    When the body raises, the half-written folder is removed and `path` stays as it was. A process killed in the body
    leaves `.NAME.partial`, which the next write to the same `path` clears; so one process at a time may write a folder.
    Replacing an existing folder takes two renames: killed between them, `recover` takes the second one.
    """
    path = Path(path)
    partial, old = _beside(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        recover(path)
        _clear(path)
        partial.mkdir()
        yield partial
        _flush_all(partial)
        if path.exists():
            path.rename(old)
            _flush(path.parent)
        recover(path) if old.exists() else partial.rename(path)
        _flush(path.parent)
        _clear(path)
    except OSError as error:
        _give_up(path)
        raise _named(error, path) from error
    except BaseException as error:
        refusal = _disk_refuses(partial) if isinstance(error, Exception) else None
        _give_up(path)
        if refusal:
            raise OSError(refusal.errno, refusal.strerror, str(path)) from error
        raise


def move_folder(partial: Path, path: Path) -> None:
    """Flush the folder `partial` to disk and give it the name `path`, which is not taken: it is there and whole at once."""
    try:
        _flush_all(partial)
        partial.rename(path)
        _flush(path.parent)
    except OSError as error:
        raise _named(error, path) from error


def recover(path: str | Path) -> Path:
    """`path`, put back if a `folder_atomic` was killed while it replaced it: whoever reads such a folder calls this first.

    `.NAME.old` without NAME is what is left between the two renames, when the new folder was already whole and flushed:
    it takes its place now (a reader may do that while the writer lives: both want the same). Where it is gone, the earlier
    folder comes back.
    """
    path = Path(path)
    partial, old = _beside(path)
    if old.exists() and not path.exists():
        try:
            (partial if partial.exists() else old).rename(path)
        except OSError:
            if not path.exists():  # else another process was quicker
                raise
    return path


def sha256_of(path: str | Path) -> str:
    """Hex sha256 of a file's bytes; of a folder: of the sorted (relative name, content hash) of every file below it.

    Raises FileNotFoundError when there is nothing at `path`.
    """
    path = Path(path)
    if path.is_dir():
        digest = hashlib.sha256()
        for file in sorted(p for p in path.rglob("*") if p.is_file()):
            digest.update(f"{file.relative_to(path).as_posix()}\0{sha256_of(file)}\n".encode())
        return digest.hexdigest()
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _write_atomic(path: Path, pieces: Iterable[str]) -> Path:
    with file_atomic(path) as partial, partial.open("w", encoding="utf-8", newline="\n") as stream:
        stream.writelines(pieces)
    return path


def _beside(path: Path) -> tuple[Path, Path]:
    """(where the new folder is filled, where the earlier one waits): the second one is always whole."""
    return path.parent / f".{path.name}.partial", path.parent / f".{path.name}.old"


def _clear(path: Path) -> None:
    """Remove what is left beside `path`; the earlier folder gets the other's name first, so that no half of it is taken
    for a whole."""
    partial, old = _beside(path)
    _remove(partial)
    if path.exists() and old.exists():
        with suppress(OSError):
            old.rename(partial)
        _remove(partial)


def _give_up(path: Path) -> None:
    """Leave `path` as it was."""
    _remove(_beside(path)[0])
    with suppress(OSError):
        recover(path)


def _flush_all(folder: Path) -> None:
    """Flush every file below a folder, and the folders."""
    for below, _, names in os.walk(folder):
        for name in names:
            _flush(Path(below) / name)
        _flush(Path(below))


def _flush(path: Path) -> None:
    """Flush a file or a folder's list of names to the disk: without it a rename can survive a power cut and the bytes not."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _remove(path: Path) -> None:
    with suppress(OSError):
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def _disk_refuses(folder: Path) -> OSError | None:
    """Why `folder` takes no more bytes, if it does not: torch and safetensors report a full disk as errors of their own."""
    probe = folder / ".probe"
    try:
        with probe.open("wb") as stream:
            stream.write(b"0" * 65536)
            stream.flush()
            os.fsync(stream.fileno())
    except OSError as error:
        return error
    probe.unlink()
    return None


def _named(error: OSError, path: Path) -> OSError:
    """A full disk is reported by write(), which does not know the file's name; a user needs it."""
    return error if error.filename else OSError(error.errno, error.strerror or str(error), str(path))
