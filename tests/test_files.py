"""Files are there and whole, or not there: also when the writer raises, is killed, or the disk is full."""

from __future__ import annotations

import hashlib
import json
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tutelage.files import (
    folder_atomic,
    sha256_of,
    write_json_atomic,
    write_jsonl_atomic,
    write_text_atomic,
)


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
    folder = tmp_path / "folder" if (tmp_path / "folder").exists() else tmp_path / ".folder.old"
    assert whole(folder / "a") == whole(folder / "b")


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
