"""Backups verify, the doctor finds what was broken on purpose, and the commands say one clear sentence."""

from __future__ import annotations

import hashlib
import json
import os
import resource
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from rich.console import Console

from tests.databases import fresh_sqlite, prepared_sqlite
from tests.feedback.kit import hand_in, join, start, take, vote
from tests.feedback.test_load import begin, collect
from tests.store.making import new_vote
from tutelage.feedback.asking.payloads import PairAnswer
from tutelage.feedback.backups import backup
from tutelage.feedback.upkeep import examine, recount_all
from tutelage.feedback.work import queue
from tutelage.launch import launch
from tutelage.settings.base import Settings
from tutelage.settings.feedback import (
    FeedbackBackupSettings,
    FeedbackDoctorSettings,
    FeedbackExportSettings,
    FeedbackImportSettings,
    FeedbackStatusSettings,
)
from tutelage.store import Store
from tutelage.store.database import Database
from tutelage.store.sqlite_file import NETWORKS, filesystem


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return fresh_sqlite(tmp_path / "store.sqlite")


@pytest.fixture
def used(path: Path) -> Iterator[Database]:
    """A store with people's answers, a revision and votes of programs."""
    database = Database(prepared_sqlite(path, "used", fill_it))
    yield database
    database.close()


def fill_it(path: Path) -> None:
    with Store(path) as store, closing(Database(path)) as database:
        olga = start(store, database, overlap=2)
        ben = join(database, olga.user, "main", "ben")
        for who in (olga, ben):
            for preference in (-1, 2, 0):
                vote(database, who, preference)
        queue.skip(database, olga, take(database, olga).assignment_id, "too-hard")
        last = store.unlabelled_pairs("main")[-1]
        store.add_votes("main", [new_vote(last.item_id, "ann", 1)])


def run(name: str, settings: Settings) -> str:
    """What a command prints."""
    with open(os.devnull, "w") as nowhere:
        console = Console(record=True, width=200, file=nowhere)
        launch(name, settings, console)
    return console.export_text()


# backup ---------------------------------------------------------------------------------------------------------------


def test_a_backup_is_the_store_and_carries_its_hash(used: Database, path: Path, tmp_path: Path) -> None:
    out = tmp_path / "copies" / "copy.sqlite"
    done = backup(path, out)
    assert hashlib.sha256(out.read_bytes()).hexdigest() == done.sha256
    assert out.with_name("copy.sqlite.sha256").read_text() == f"{done.sha256}  copy.sqlite\n"
    assert sorted(entry.name for entry in out.parent.iterdir()) == ["copy.sqlite", "copy.sqlite.sha256"]
    with Store(out) as copied, Store(path) as store:
        assert copied.votes("main") == store.votes("main") and done.answers == 7
    with pytest.raises(ValueError, match="there already: a backup never replaces anything"):
        backup(path, out)


@pytest.mark.slow
def test_a_backup_of_a_store_in_use_is_whole(used: Database, path: Path, tmp_path: Path) -> None:
    """Somebody votes all the while: the copy holds the answers up to some moment, and nothing half."""
    process = begin(str(path), "ben")
    while process.poll() is None and not queue_has_moved(path):
        time.sleep(0.05)
    done = backup(path, tmp_path / "copy.sqlite")
    acknowledged = collect(process)
    copy = Database(tmp_path / "copy.sqlite")
    assert [finding for finding in examine(copy) if finding.wrong] == [] and done.answers >= 8
    with Store(tmp_path / "copy.sqlite") as copied:
        there = {stored.id for stored in copied.votes("main")} & set(acknowledged)
    assert there == set(sorted(acknowledged)[: len(there)])
    copy.close()


def queue_has_moved(path: Path) -> bool:
    with Store(path) as store:
        return store.counts("main").votes > 7


def test_a_backup_to_a_full_disk_leaves_nothing(used: Database, path: Path, tmp_path: Path) -> None:
    folder = tmp_path / "full"
    folder.mkdir()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size // 2, limits[1]))
    try:
        with pytest.raises((ValueError, OSError)) as caught:
            backup(path, folder / "copy.sqlite")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert "\n" not in str(caught.value) and list(folder.iterdir()) == []


# doctor ---------------------------------------------------------------------------------------------------------------

BROKEN = {
    "counts of answers are right": "UPDATE item SET n_done = 5 WHERE id = 1",
    "every reference leads somewhere": "DELETE FROM annotator WHERE name = 'ann'",
    "answers are protected against change": "DROP TRIGGER rating_no_delete",
    "nobody has two answers to one item": (
        "DROP INDEX annotation_once; INSERT INTO annotation (item_id, annotator_id, role, preference, first_shown, "
        "client_key, submitted_at) SELECT item_id, annotator_id, role, preference, first_shown, 'x', submitted_at "
        "FROM annotation LIMIT 1"
    ),
    "revisions form lines": (
        "INSERT INTO annotation (item_id, annotator_id, role, preference, first_shown, client_key, submitted_at, "
        "supersedes_id) SELECT (SELECT min(id) FROM item WHERE id <> item_id), annotator_id, role, preference, first_shown, 'y', "
        "submitted_at, id FROM annotation LIMIT 1"
    ),
    "items have the responses that their type wants": "DELETE FROM item_response WHERE item_id = 3 AND slot = 0",
    "answers have what their type asks for": (
        "DROP TRIGGER annotation_no_update; UPDATE annotation SET preference = NULL, first_shown = NULL WHERE id = 2; "
        "CREATE TRIGGER annotation_no_update BEFORE UPDATE ON annotation BEGIN SELECT RAISE(ABORT, 'no'); END"
    ),
    "what was shown fits what was answered": "UPDATE assignment SET presented_order = '[1, 1]' WHERE id = 1",
    "assignments and answers belong together": (
        "UPDATE assignment SET status = 'done' WHERE status = 'skipped'"
    ),
    "contents are what was stored": "UPDATE response SET text = text || '!' WHERE id = 1",
    "somebody is in charge": "UPDATE account SET administrator = 0",
}


@pytest.mark.parametrize("check", BROKEN)
def test_the_doctor_finds_what_is_broken(used: Database, path: Path, check: str) -> None:
    assert [finding for finding in examine(used) if finding.wrong] == []
    raw = sqlite3.connect(path)
    raw.executescript(BROKEN[check])
    raw.close()
    wrong = {finding.check: finding for finding in examine(used) if finding.wrong}
    assert check in wrong and wrong[check].example
    with pytest.raises(ValueError, match=r"checks of .* failed: make a backup"):
        run("feedback doctor", FeedbackDoctorSettings(store=str(path)))


def test_counts_can_be_repaired(used: Database, path: Path) -> None:
    raw = sqlite3.connect(path)
    raw.execute("UPDATE item SET n_done = n_done + 1 WHERE id < 4")
    raw.execute("UPDATE item SET spread = spread + 1 WHERE id BETWEEN 3 AND 5")
    raw.commit()
    raw.close()
    found = {finding.check: finding for finding in examine(used)}["counts of answers are right"]
    assert found.wrong == 6
    said = run("feedback doctor", FeedbackDoctorSettings(store=str(path), repair=True))
    assert "5 items had a wrong count" in said and "nothing wrong" in said
    assert recount_all(used) == 0


# commands -------------------------------------------------------------------------------------------------------------


def test_status_counts_the_work(used: Database, path: Path) -> None:
    said = run("feedback status", FeedbackStatusSettings(store=str(path), project="main"))
    numbers = {words[0]: words[1] for line in said.splitlines() if len(words := line.split()) == 2}
    assert numbers["project"] == "main"
    wanted = {"items": "18", "complete": "3", "answers": "7", "extra": "0", "revisions": "0"}
    assert wanted.items() <= numbers.items()
    assert [line.split()[1] for line in said.splitlines() if "human" in line] == ["ben", "olga"]


def test_there_and_back_through_the_commands(used: Database, path: Path, tmp_path: Path) -> None:
    out = tmp_path / "rows.jsonl"
    said = run("feedback export", FeedbackExportSettings(store=str(path), out=out))
    assert (
        f"1 row in {out}" in said and json.loads((tmp_path / "rows.jsonl.manifest.json").read_text())["rows"]
    )
    other = str(tmp_path / "other.sqlite")
    take_in = FeedbackImportSettings(store=other, file=out, kind="preference", project="copy")
    assert "4 lines are new" in run("feedback import", take_in) or "lines are new" in run(
        "feedback import", take_in
    )
    with Store(other) as copied, Store(path) as store:
        kept = {(row.prompt, row.chosen, row.rejected) for row in store.comparisons("main", ties="drop")}
        assert {(row.prompt, row.chosen, row.rejected) for row in copied.comparisons("copy")} == kept
    out.write_text(out.read_text() + "{\n")
    with pytest.raises(ValueError, match=r"1 line of .* was not taken: mend it and"):
        run("feedback import", take_in)
    run("feedback backup", FeedbackBackupSettings(store=other, out=tmp_path / "copy.sqlite"))


@pytest.mark.parametrize(
    ("name", "settings", "reason"),
    [
        ("feedback status", FeedbackStatusSettings(store="{dir}/none.sqlite"), "there is no store at"),
        ("feedback status", FeedbackStatusSettings(store="{path}", project="mian"), "did you mean 'main'"),
        ("feedback export", FeedbackExportSettings(store="{path}", project="nope"), "has no project 'nope'"),
        ("feedback export", FeedbackExportSettings(store="{path}", format="stepwise", out="{dir}/x"),
         r"x holds no rows: format=stepwise is made of answers to items of type step, and project 'main' has .* of type pair"),
        ("feedback doctor", FeedbackDoctorSettings(store="{dir}/text"), "is not an SQLite database"),
        ("feedback backup", FeedbackBackupSettings(store="{dir}/none", out="{dir}/b"), "there is no store at"),
        ("feedback status", FeedbackStatusSettings(store="postgresql://u@127.0.0.1:9/x"), "no server answers|is not installed"),
    ],
    ids=["no store", "near project", "no project", "nothing to write", "no database", "no store to copy", "no server"],
)  # fmt: skip
def test_mistakes_are_one_sentence(
    used: Database, path: Path, tmp_path: Path, name: str, settings: Settings, reason: str
) -> None:
    (tmp_path / "text").write_text("hello " * 100)
    values = {
        key: str(value).format(dir=tmp_path, path=path) if isinstance(value, str | Path) else value
        for key, value in settings.model_dump().items()
    }
    with pytest.raises(ValueError, match=reason) as caught:
        run(name, type(settings)(**values))
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "none.sqlite").exists()


@pytest.mark.slow
def test_the_command_ends_with_one_line_on_standard_error(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tutelage", "feedback", "status", f"store={tmp_path}/none.sqlite"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[2])
    assert done.returncode == 1 and done.stdout == "" and done.stderr.count("\n") == 1


# databases that cannot be trusted -----------------------------------------------------------------------------------


def test_network_file_systems_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mounts = tmp_path / "mountinfo"
    mounts.write_text(
        "22 1 254:1 / / rw,relatime shared:1 - ext4 /dev/vda1 rw\n"
        f"40 22 0:50 / {tmp_path} rw - nfs4 server:/home rw\n"
        f"41 40 0:51 / {tmp_path}/local\\040disk rw - xfs /dev/sdb rw\n"
    )
    assert filesystem(Path("/etc/hosts"), mounts) == "ext4"
    assert filesystem(tmp_path / "deep" / "s.sqlite", mounts) == "nfs4"
    assert filesystem(tmp_path / "local disk" / "s.sqlite", mounts) == "xfs"
    assert filesystem(tmp_path, tmp_path / "absent") == ""
    assert filesystem(tmp_path) not in NETWORKS  # here and now, from the system
    monkeypatch.setattr("tutelage.store.sqlite_file.filesystem", lambda path: filesystem(path, mounts))
    with pytest.raises(ValueError, match=r"network file system \(nfs4\), where SQLite can lose answers: put"):
        Store(tmp_path / "s.sqlite")
    assert not (tmp_path / "s.sqlite").exists()


def test_a_full_disk_refuses_the_answer_and_keeps_the_rest(used: Database, path: Path) -> None:
    from tutelage.feedback.projects.projects import member

    with Store(path) as store:
        before = store.votes("main")
    olga = member(used, _user(used, "olga"), "main")
    task = take(used, olga)
    queue.save_draft(used, olga, task.assignment_id, {"reason": "x" * 1000})
    with used.write() as connection:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar()
        connection.exec_driver_sql(f"PRAGMA max_page_count={pages}")
    with pytest.raises(ValueError, match="no space left to write"):
        hand_in(used, olga, task, PairAnswer(preference=1, reason="y" * 90_000))
    with used.write() as connection:
        connection.exec_driver_sql("PRAGMA max_page_count=1000000")
    assert queue.task(used, olga, task.assignment_id).draft == {"reason": "x" * 1000}
    hand_in(used, olga, task, PairAnswer(preference=1, reason="y" * 90_000))
    with Store(path) as store:
        assert len(store.votes("main")) == len(before) + 1


def test_a_copy_without_its_log_is_still_sound(used: Database, path: Path, tmp_path: Path) -> None:
    """Somebody copies only the file itself, without -wal: older, perhaps, but never half an answer."""
    used.close()
    shutil.copy(path, tmp_path / "plain.sqlite")
    copy = Database(tmp_path / "plain.sqlite")
    assert [finding for finding in examine(copy) if finding.wrong] == []
    copy.close()


def _user(database: Database, name: str):
    from tutelage.feedback.people.users import named

    with database.read() as connection:
        return named(connection, name)
