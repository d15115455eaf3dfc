"""The cache: one makes an entry and the others wait for it; what is used stays, what is not goes."""

from __future__ import annotations

import multiprocessing as mp
import os
import time
from pathlib import Path

import pytest

from tutelage import cache


def make(key: str, size: int = 1, age: float = 0.0) -> Path:
    with cache.claim("things", key) as folder:
        folder.mkdir(exist_ok=True)
        (folder / "data").write_bytes(b"0" * size)
    os.utime(folder, (time.time() - age,) * 2)
    return folder


def slow(folder: str, key: str, log: str) -> None:
    os.environ["TUTELAGE_CACHE"] = folder
    with cache.claim("things", key) as entry:
        if not entry.exists():
            time.sleep(0.2)
            entry.mkdir()
            with open(log, "a") as file:
                file.write("made\n")


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUTELAGE_CACHE", str(tmp_path / "cache"))


def test_where(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert cache.cache_folder() == tmp_path / "cache"
    monkeypatch.delenv("TUTELAGE_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert cache.cache_folder() == Path("/somewhere/tutelage")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache.cache_folder() == Path.home() / ".cache" / "tutelage"


def test_several_processes_make_it_once(tmp_path: Path) -> None:
    context = mp.get_context("spawn")
    log = tmp_path / "log"
    arguments = (str(tmp_path / "cache"), "key", str(log))
    processes = [context.Process(target=slow, args=arguments) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    assert log.read_text() == "made\n"


def test_a_waiter_says_so_and_a_dead_holder_holds_nobody_up(tmp_path: Path) -> None:
    context = mp.get_context("spawn")
    started = tmp_path / "started"
    process = context.Process(target=hold, args=(str(tmp_path / "cache"), str(started)))
    process.start()
    while not started.exists():
        time.sleep(0.01)
    with cache.claim("things", "key", wait=process.kill):  # waits, kills the holder, gets it
        pass
    process.join(60)


def hold(folder: str, started: str) -> None:
    os.environ["TUTELAGE_CACHE"] = folder
    with cache.claim("things", "key"):
        Path(started).touch()
        time.sleep(600)


def test_the_longest_unused_go_first(monkeypatch: pytest.MonkeyPatch) -> None:
    old, older, recent = make("old", 40, 20), make("older", 40, 30), make("recent", 40, 10)
    partial = recent.with_name("abandoned.partial")
    partial.mkdir()
    (partial / "data").write_bytes(b"0" * 10)
    os.utime(partial, (0, 0))
    monkeypatch.setattr(cache, "LIMIT", 130)
    new = make("new", 40)
    assert not older.exists() and not partial.exists() and not older.with_name("older.lock").exists()
    assert old.exists() and recent.exists() and new.exists()
    monkeypatch.setattr(cache, "LIMIT", 10)
    with cache.claim("things", "recent"):
        big = make("big", 50)
        assert big.exists() and recent.exists()  # the one just made, and the one that is held
        assert not old.exists() and not new.exists()


def test_a_cache_that_cannot_be_written(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("TUTELAGE_CACHE", str(tmp_path / "file"))
    with pytest.raises(ValueError, match=r"file cannot be written \(Not a directory\): set TUTELAGE_CACHE"):
        make("key")
