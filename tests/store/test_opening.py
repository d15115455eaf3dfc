"""Opening a store: by many at once, without changing it, and for nobody else's eyes; texts that every database keeps."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from rich.console import Console

from tests.databases import fresh_database, fresh_sqlite, postgres_server
from tests.store.making import fill, new_vote, prompt, response
from tutelage.feedback.backups import backup
from tutelage.feedback.upkeep import examine
from tutelage.launch import launch
from tutelage.records import Prompt
from tutelage.settings.feedback import FeedbackDoctorSettings, FeedbackExportSettings, FeedbackStatusSettings
from tutelage.store import ModelInfo, Store
from tutelage.store.database import Database, migrations
from tutelage.store.schema import REVISIONS
from tutelage.store.sql import is_storable, storable

ROOT = Path(__file__).parents[2]


@pytest.fixture(params=["sqlite", "postgresql"])
def either(request: pytest.FixtureRequest, path: Path) -> Iterator[str]:
    """The address of a database without tables."""
    if request.param == "sqlite":
        yield str(path)
        return
    with postgres_server() as server, fresh_database(server) as url:
        yield url


def down(address: str | Path) -> None:
    """Bring a store to the schema before this one."""
    from alembic import command

    with closing(Database(address)) as database, database.write() as connection:
        command.downgrade(migrations(connection), REVISIONS[-2])


@pytest.fixture
def older(path: Path) -> Path:
    """A store of the schema before this one, with two votes."""
    with Store(fresh_sqlite(path)) as store:
        fill(store)
        items = [pair.item_id for pair in store.pairs("main")]
        store.add_votes("main", [new_vote(item, "ann", 1) for item in items[:2]])
    down(path)
    return path


# many at once -----------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_four_processes_open_a_fresh_database_at_once(either: str) -> None:
    code = "import sys; from tutelage.store.database import Database; print(Database(sys.argv[1]).identity)"
    command = [sys.executable, "-c", code, either]
    opening = [
        subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    said = [process.communicate(timeout=60) for process in opening]
    assert [process.returncode for process in opening] == [0] * 4, said
    assert len({identity for identity, _ in said}) == 1


# an older store -------------------------------------------------------------------------------------------------------


def launched(name: str, settings: object) -> str:
    with open(os.devnull, "w") as nowhere:
        console = Console(record=True, width=300, file=nowhere)
        launch(name, settings, console)  # type: ignore[arg-type]
    return console.export_text()


def test_reading_commands_read_an_older_store_and_leave_it_as_it_is(older: Path, tmp_path: Path) -> None:
    before = older.read_bytes()
    out = tmp_path / "files"
    assert "answers" in launched("feedback status", FeedbackStatusSettings(store=str(older)))
    assert "nothing wrong" in launched("feedback doctor", FeedbackDoctorSettings(store=str(older)))
    launched("feedback export", FeedbackExportSettings(store=str(older), out=out / "rows.jsonl"))
    assert len((out / "rows.jsonl").read_text().splitlines()) == 2
    with Store(older, migrate=False) as store:
        assert len(store.votes("main")) == 2
    assert backup(older, out / "copy.sqlite").answers == 2
    assert older.read_bytes() == before
    assert [file.name for file in older.parent.iterdir() if file != out] == [older.name]
    with closing(Database(out / "copy.sqlite", migrate=False)) as copy, copy.read() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM annotation").scalar() == 2


def test_an_older_store_is_kept_before_it_is_changed(older: Path, caplog: pytest.LogCaptureFixture) -> None:
    with Store(older) as store:
        assert len(store.votes("main")) == 2
    (kept,) = older.parent.glob(f"*.schema-{REVISIONS[-2]}-*")
    assert f"is brought up to date; as it was, it is {kept}." in caplog.text
    assert kept.stat().st_mode & 0o777 == 0o600
    with closing(Database(kept, migrate=False)) as opened, opened.read() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM annotation").scalar() == 2
    Store(older).close()
    assert len(list(older.parent.iterdir())) == 2  # once is enough


def test_reading_makes_no_store(path: Path) -> None:
    for options in ({"migrate": False}, {"create": False}):
        with pytest.raises(ValueError, match="there is no store at"):
            Database(path.parent / "folder" / "store.sqlite", **options)
        assert list(path.parent.iterdir()) == []
    path.touch()
    with pytest.raises(ValueError, match=r"there is no store at .* empty database"):
        Database(path, migrate=False)


@pytest.mark.slow
def test_an_older_database_on_a_server_is_refused_by_who_reads(either: str) -> None:
    if "://" not in either:
        pytest.skip("for servers")
    down(either)
    with pytest.raises(
        ValueError, match=r"is of an older Tutelage .*: back it up .* brings it up to date\.$"
    ):
        Store(either, migrate=False)
    Store(either).close()
    Store(either, migrate=False).close()


def test_a_copy_of_a_backup_writes_ahead_like_any_store(path: Path, tmp_path: Path) -> None:
    """Copies are in SQLite's older mode, in which idle servers hold no lock and readers stop writers."""
    backup(fresh_sqlite(path), tmp_path / "copy.sqlite")
    with closing(Database(tmp_path / "copy.sqlite")) as database, database.read() as connection:
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"


# for nobody else's eyes -----------------------------------------------------------------------------------------------


def modes(folder: Path) -> dict[str, int]:
    return {file.name: file.stat().st_mode & 0o777 for file in folder.iterdir() if file.suffix != ".sha256"}


def test_files_are_private_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        with closing(Database(tmp_path / "store.sqlite")) as database, database.write():
            backup(tmp_path / "store.sqlite", tmp_path / "copy.sqlite")
            found = modes(tmp_path)
    finally:
        os.umask(before)
    assert found == dict.fromkeys(
        ("store.sqlite", "store.sqlite-wal", "store.sqlite-shm", "copy.sqlite"), 0o600
    )


@pytest.mark.parametrize(("was", "becomes"), [(0o644, 0o600), (0o664, 0o660), (0o640, 0o640)])
def test_a_file_that_all_can_read_is_mended(path: Path, was: int, becomes: int) -> None:
    fresh_sqlite(path).chmod(was)
    with closing(Database(path, migrate=False)):
        assert path.stat().st_mode & 0o777 == was
    if was == 0o644:
        with pytest.raises(ValueError, match=r"1 of .* checks"):
            launched("feedback doctor", FeedbackDoctorSettings(store=str(path)))
    with closing(Database(path)):
        assert set(modes(path.parent).values()) == {becomes}


# texts ------------------------------------------------------------------------------------------------------------------


def test_a_response_with_what_no_database_keeps_loses_no_batch(either: str) -> None:
    if "://" not in either:
        fresh_sqlite(Path(either))
    asked = prompt(0)
    texts = ["fine", "a\0b", "half \ud800 a character", "𝄞 whole", "back\\u0000slash"]
    with Store(either) as store:
        store.add_prompts("main", [asked])
        run = store.add_generation_run(ModelInfo("m"), "local", {})
        written = [response(asked, index, text) for index, text in enumerate(texts)]
        assert store.add_responses("main", run, written) == 5
        assert store.add_responses("main", run, written) == 0
        store.build_pairs("main", 0, 1)
        there = {text for pair in store.pairs("main") for text in pair.texts}
    assert there == {"fine", "a�b", "half � a character", "𝄞 whole", "back\\u0000slash"}
    with closing(Database(either)) as database:
        assert [finding for finding in examine(database) if finding.wrong] == []


@pytest.mark.parametrize("bad", ["a\0b", "half \ud800"])
def test_a_prompt_with_what_no_database_keeps_is_refused(path: Path, bad: str) -> None:
    with Store(fresh_sqlite(path)) as store:
        for asked in (Prompt(bad), Prompt("x", reference={"answer": [bad]})):
            with pytest.raises(ValueError, match=r"holds a NUL or half a character .* take it out"):
                store.add_prompts("main", [prompt(1), asked])
        assert store.projects() == []


def test_what_is_storable() -> None:
    assert is_storable({"a": ["b", 1, None, {"c": "𝄞"}]})
    assert not any(map(is_storable, ["\0", ["\udfff"], {"\0": 1}, {"a": {"b": ("\0",)}}]))
    assert json.dumps(storable("\0\ud800x")) == '"\\ufffd\\ufffdx"'
