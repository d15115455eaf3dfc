"""Files are there and whole, or not there: also when the writer raises, is killed, or the disk is full."""

from __future__ import annotations

import hashlib
import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tutelage.files import (
    folder_atomic,
    recover,
    sha256_of,
    write_json_atomic,
    write_jsonl_atomic,
    write_text_atomic,
)
from tutelage.runs import result_folder


def test_text_json_and_lines(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "a.txt"
    assert write_text_atomic(path, "é\n") == path and path.read_bytes() == "é\n".encode()
    write_json_atomic(path, {"b": [1, None], "a": "ü"})
    assert json.loads(path.read_text()) == {"b": [1, None], "a": "ü"} and "ü" in path.read_text()
    write_jsonl_atomic(path, ({"n": n, "s": "two\nlines"} for n in range(3)))
    assert [json.loads(line)["n"] for line in path.read_text().splitlines()] == [0, 1, 2]
    assert [p.name for p in path.parent.iterdir()] == ["a.txt"]


def test_a_writer_that_raises_harms_nothing(tmp_path: Path) -> None:
    path = write_text_atomic(tmp_path / "a.jsonl", "old")

    def rows() -> Iterator[int]:
        yield 1
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        write_jsonl_atomic(path, rows())
    with pytest.raises(TypeError):
        write_json_atomic(path, {1, 2})
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


def test_folder_takes_the_place_of_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "step-1"
    for content in ("old", "new"):
        with folder_atomic(path) as folder:
            (folder / "sub").mkdir()
            (folder / "sub" / f"{content}.txt").write_text(content)
            assert not (path / "sub" / f"{content}.txt").exists()
    assert [p.name for p in (path / "sub").iterdir()] == ["new.txt"]
    assert list(path.parent.iterdir()) == [path]


def test_folder_whose_body_raises_stays_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "model"
    with folder_atomic(path) as folder:
        (folder / "a").write_text("old")
    with pytest.raises(RuntimeError, match="ours"), folder_atomic(path) as folder:
        (folder / "a").write_text("half")
        raise RuntimeError("ours")
    assert (path / "a").read_text() == "old" and list(tmp_path.iterdir()) == [path]


def test_leftovers_of_a_killed_writer_are_cleared(tmp_path: Path) -> None:
    path = tmp_path / "model"
    (tmp_path / ".model.partial").mkdir()
    (tmp_path / ".model.partial" / "junk").write_text("half")
    (tmp_path / ".model.old").mkdir()
    for _ in range(2):
        with folder_atomic(path) as folder:
            assert list(folder.iterdir()) == []
            (folder / "a").write_text("new")
    assert list(tmp_path.iterdir()) == [path]


KILLED = """
import sys
from tutelage.files import folder_atomic, write_text_atomic
n = 0
while True:
    n += 1
    write_text_atomic(sys.argv[1] + "/file", f"{n}\\n" * 20000)
    with folder_atomic(sys.argv[1] + "/folder") as folder:
        for part in "ab":
            (folder / part).write_text(f"{n}\\n" * 20000)
    print(n, flush=True)
"""


@pytest.mark.parametrize("moment", [0.0, 0.003, 0.011, 0.027])
def test_killed_at_any_moment_what_is_there_is_whole(tmp_path: Path, moment: float) -> None:
    process = subprocess.Popen([sys.executable, "-c", KILLED, str(tmp_path)], stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    process.stdout.readline()
    time.sleep(moment)
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()

    def whole(path: Path) -> str:
        lines = path.read_text().splitlines()
        assert len(lines) == 20000 and len(set(lines)) == 1
        return lines[0]

    assert int(whole(tmp_path / "file")) >= 2
    folder = recover(tmp_path / "folder")
    assert whole(folder / "a") == whole(folder / "b")


class Killed(BaseException):
    """Stands for a process that is no more."""


@contextmanager
def killed_before(change: int) -> Iterator[list[bool]]:
    """From its `change`-th change to the disk on (from 0) nothing that the body does, or what cleans up after it, takes
    place any more.  The list tells afterwards whether it came so far."""
    count, died = 0, [False]

    def counted(real: Callable[..., object]) -> Callable[..., object]:
        def call(*args: object, **kwargs: object) -> object:
            nonlocal count
            if count == change:
                died[0] = True
                raise Killed
            count += 1
            return real(*args, **kwargs)

        return call

    with pytest.MonkeyPatch.context() as patch:
        for name in ("rename", "mkdir", "rmdir", "unlink", "fsync"):
            patch.setattr(os, name, counted(getattr(os, name)))
        with suppress(Killed):
            yield died


def put(path: Path, content: str) -> None:
    with folder_atomic(path) as folder:
        for part in "ab":
            (folder / part).write_text(content)


def test_a_folder_is_never_lost_whenever_its_writer_dies(tmp_path: Path) -> None:
    path, seen = tmp_path / "model", []
    for change in range(100):
        put(path, "old")
        with killed_before(change) as died:
            put(path, "new")
        if not died[0]:
            break
        states = sorted(p.name for p in tmp_path.iterdir())
        contents = {(recover(path) / part).read_text() for part in "ab"}
        assert len(contents) == 1 and contents <= {"old", "new"}, (change, states)
        with killed_before(0) as died:
            recover(path)
        assert not died[0]  # a second time there is nothing to do
        seen.append((states, contents.pop()))
        put(path, "next")
        assert [(p.name, (p / "b").read_text()) for p in tmp_path.iterdir()] == [("model", "next")]
    assert (path / "a").read_text() == "new" and 10 < change < 99
    assert ([".model.old", ".model.partial"], "new") in seen  # between the two renames
    contents_in_order = [content for _, content in seen]
    assert contents_in_order == sorted(contents_in_order, reverse=True)  # old up to a point, new from there


def test_a_recovery_that_dies_loses_nothing(tmp_path: Path) -> None:
    for change in range(20):
        path = tmp_path / str(change) / "model"
        for name, content in ((".model.old", "old"), (".model.partial", "new")):
            put(path.parent / name, content)
        with killed_before(change):
            put(path, "newer")
        assert (recover(path) / "b").read_text() in ("new", "newer")


def test_a_refused_second_rename_brings_the_earlier_folder_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, rename = tmp_path / "model", os.rename
    put(path, "old")

    def refuse(source: Path, target: Path) -> None:
        if Path(source).name == ".model.partial":
            raise PermissionError(13, "Permission denied", str(source))
        rename(source, target)

    monkeypatch.setattr(os, "rename", refuse)
    with pytest.raises(PermissionError):
        put(path, "new")
    assert [(p.name, (p / "a").read_text()) for p in tmp_path.iterdir()] == [("model", "old")]


def test_models_are_found_where_a_killed_writer_left_them(tmp_path: Path) -> None:
    put(tmp_path / "run" / ".model.old", "old")
    put(tmp_path / "run" / ".model.partial", "new")
    assert result_folder(tmp_path / "run") == str(tmp_path / "run" / "model")
    assert (tmp_path / "run" / "model" / "a").read_text() == "new"


@pytest.fixture
def no_big_files() -> Iterator[None]:
    """A stand-in for a full disk: the system refuses files above 100 kB."""
    before, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
    signal.signal(signal.SIGXFSZ, handler)


@pytest.mark.usefixtures("no_big_files")
def test_a_disk_that_refuses_is_named_and_harms_nothing(tmp_path: Path) -> None:
    path, folder = tmp_path / "a.txt", tmp_path / "model"
    write_text_atomic(path, "old")
    with folder_atomic(folder) as inside:
        (inside / "a").write_text("old")

    def fill() -> None:
        with folder_atomic(folder) as inside:
            (inside / "a").write_bytes(b"x" * 1_000_000)

    writers: list[Callable[[], object]] = [lambda: write_text_atomic(path, "x" * 1_000_000), fill]
    for writer, name in zip(writers, (path, folder)):
        with pytest.raises(OSError) as caught:
            writer()
        assert caught.value.filename == str(name) and caught.value.strerror
    assert path.read_text() == "old" and (folder / "a").read_text() == "old"
    assert sorted(tmp_path.iterdir()) == [path, folder]


def test_a_full_disk_behind_another_librarys_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """torch.save reports a full disk as RuntimeError; the user is told about the disk."""

    def refuse(folder: Path) -> OSError:
        return OSError(28, "No space left on device")

    monkeypatch.setattr("tutelage.files._disk_refuses", refuse)
    with pytest.raises(OSError, match="No space left") as caught, folder_atomic(tmp_path / "model"):
        raise RuntimeError("PytorchStreamWriter failed writing file")
    assert caught.value.filename == str(tmp_path / "model")
    assert list(tmp_path.iterdir()) == []


def test_sha256_of_files_and_folders(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x").write_bytes(b"one")
    (tmp_path / "a" / "y").write_bytes(b"two")
    assert sha256_of(tmp_path / "a" / "x") == hashlib.sha256(b"one").hexdigest()
    first = sha256_of(tmp_path / "a")
    assert first == sha256_of(
        (tmp_path / "a").rename(tmp_path / "b")
    )  # what is in it counts, not where it is
    (tmp_path / "b" / "y").rename(tmp_path / "b" / "z")
    renamed = sha256_of(tmp_path / "b")
    (tmp_path / "b" / "z").write_bytes(b"twO")
    assert len({first, renamed, sha256_of(tmp_path / "b")}) == 3
    with pytest.raises(FileNotFoundError):
        sha256_of(tmp_path / "none")
