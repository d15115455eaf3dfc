"""A backup in a store's place: whole or not at all, whoever is about, and whatever was there."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from tests.databases import fresh_sqlite
from tests.feedback.test_upkeep import run
from tests.store.making import fill, new_vote
from tutelage.cli import build_app
from tutelage.feedback.backups import backup, restore_backup
from tutelage.feedback.upkeep import examine
from tutelage.settings.feedback import FeedbackDoctorSettings, FeedbackRestoreBackupSettings
from tutelage.store import Store
from tutelage.store.database import VERSION_TABLE, Database

ROOT = Path(__file__).parents[2]
FEW, ALL = 3, 12  # answers in the backup; in the store, most of them only in its log


def python(code: str, *args: object, **more: Any) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", code, *map(str, args)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, **more)


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a store as a killed process leaves it, with its log, and an earlier backup."""
    path = fresh_sqlite(tmp_path_factory.mktemp("alive") / "store.sqlite")
    with Store(path) as store:
        fill(store)
        items = [pair.item_id for pair in store.pairs("main")]
        store.add_votes("main", [new_vote(item, "ann", 1) for item in items[:FEW]])
        backup(path, path.with_name("backup.sqlite"))
    with Store(path) as store:
        fill(store, "later", prompts=40)  # the file grows: by its size a log can be known
        for item in items[FEW:ALL]:
            store.add_votes("main", [new_vote(item, "ann", -1)])
        folder = shutil.copytree(path.parent, tmp_path_factory.mktemp("killed") / "stores")
    assert (folder / "store.sqlite-wal").stat().st_size > 0
    return folder


@pytest.fixture
def folder(killed: Path, tmp_path: Path) -> Path:
    return shutil.copytree(killed, tmp_path / "stores")


@pytest.fixture
def store(folder: Path) -> Path:
    return folder / "store.sqlite"


@pytest.fixture
def copy(folder: Path) -> Path:
    return folder / "backup.sqlite"


def answers(path: Path) -> int:
    """How many there are in a store; it must be sound, and its identity is asked for, too."""
    with closing(Database(path)) as database:
        assert [finding for finding in examine(database) if finding.wrong] == [] and database.identity
    with Store(path) as store:
        return len(store.votes("main"))


def names(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.iterdir())


# what was there is kept ---------------------------------------------------------------------------------------------


def test_a_backup_copied_over_a_store_with_a_log_is_noticed_and_mended(store: Path, copy: Path) -> None:
    """The log would be replayed over the copy: damage, or the old answers again."""
    log = store.with_name("store.sqlite-wal").read_bytes()
    shutil.copy(copy, store)
    for _ in range(2):
        with pytest.raises(ValueError, match=r"-wal is the log of another file .* restore-backup`\.$"):
            Database(store)
        with pytest.raises(ValueError, match="is the log of another file"):
            run("feedback doctor", FeedbackDoctorSettings(store=str(store)))
        with pytest.raises(ValueError, match="is the log of another file"):
            backup(store, store.with_name("another.sqlite"))
    assert (store.read_bytes(), store.with_name("store.sqlite-wal").read_bytes()) == (copy.read_bytes(), log)
    said = run("feedback restore-backup", FeedbackRestoreBackupSettings(store=str(store), backup=copy))
    assert f"{FEW} answers" in said and "is kept as" in said and answers(store) == FEW
    (kept,) = store.parent.glob("*replaced-*-wal")
    assert kept.read_bytes() == log


def test_a_log_of_its_own_is_no_other_file_s(store: Path) -> None:
    assert answers(store) == ALL


def test_a_log_that_is_in_the_file_already_is_no_other_file_s(tmp_path: Path) -> None:
    """It tells of a time when the file was smaller."""
    path = fresh_sqlite(tmp_path / "store.sqlite")
    with Store(path) as store:
        fill(store)
    with Store(path) as store:
        store.add_votes("main", [new_vote(store.pairs("main")[0].item_id, "ann", 1)])
        size = path.stat().st_size
        fill(store, "large", prompts=100)
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
        assert path.stat().st_size > size
        Store(path).close()  # one at work is not in the way
        shutil.copytree(tmp_path, tmp_path / "killed")
    assert answers(tmp_path / "killed" / "store.sqlite") == 1


def test_what_was_there_is_kept_as_it_was_and_opens(store: Path, copy: Path) -> None:
    store.chmod(0o644)
    was = store.read_bytes()
    done = restore_backup(store, copy)
    assert done.kept is not None and (done.answers, done.hash_checked) == (FEW, True)
    assert done.kept.read_bytes() == was and answers(store) == FEW and answers(done.kept) == ALL
    assert restore_backup(store, copy).kept != done.kept  # at the same second, too
    made = [file for file in store.parent.iterdir() if file.suffix != ".sha256" and file != copy]
    assert {file.stat().st_mode & 0o777 for file in made} == {0o600}
    assert not any(file.name.startswith(".") for file in made)


@pytest.mark.parametrize("was", ["nothing", "empty", "only a log", "text", "cut"])
def test_whatever_is_there(store: Path, copy: Path, was: str) -> None:
    log = store.with_name("store.sqlite-wal")
    content = {"text": b"hello " * 1000, "empty": b"", "cut": store.read_bytes()[: store.stat().st_size // 2]}
    store.unlink() if was in ("nothing", "only a log") else store.write_bytes(content.get(was, b""))
    if was in ("nothing", "text"):
        log.unlink()
    before = {file.suffix[-4:]: file.read_bytes() for file in (store, log) if file.exists()}
    done = restore_backup(store, copy)
    assert answers(store) == FEW
    kept = {file.name[-3:]: file.read_bytes() for file in store.parent.iterdir() if "replaced" in file.name}
    assert sorted(kept.values()) == sorted(content for content in before.values() if content)
    assert (done.kept is None) == (was == "nothing")


def test_a_link_leads_to_the_store(store: Path, copy: Path, tmp_path: Path) -> None:
    link = tmp_path / "link.sqlite"
    link.symlink_to(store)
    restore_backup(link, copy)
    assert link.is_symlink() and answers(store) == answers(link) == FEW


def test_an_older_backup(store: Path, copy: Path) -> None:
    older(copy)
    restore_backup(store, copy)
    assert answers(store) == FEW


def older(path: Path) -> None:
    """Bring a store down to the schema before this one."""
    from alembic import command

    from tutelage.store.database import migrations
    from tutelage.store.schema import REVISIONS

    with closing(Database(path)) as database, database.write() as connection:
        command.downgrade(migrations(connection), REVISIONS[-2])
    path.with_name(path.name + ".sha256").unlink(missing_ok=True)


# what is refused: one sentence, and nothing is changed ----------------------------------------------------------------


def sql(path: Path, statement: str) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(statement)


UNSOUND = {
    "there is no backup": lambda path: path.unlink(),
    "has changed since it was made": lambda path: path.write_bytes(path.read_bytes()[:-1] + b"!"),
    "is no backup but a store .it has backup.sqlite-wal": lambda path: Path(f"{path}-wal").write_text("x"),
    "is damaged|is not an SQLite database": lambda path: path.write_bytes(
        path.read_bytes()[:8192] + b"\xa5" * 100_000
    ),
    "is not an SQLite database": lambda path: path.write_text("hello " * 1000),
    "is the database of another program": lambda path: sql(path, f"DROP TABLE {VERSION_TABLE}"),
    "by a newer Tutelage .schema 0099": lambda path: sql(path, f"UPDATE {VERSION_TABLE} SET version_num='0099'"),
    "counts of answers are right": lambda path: sql(path, "UPDATE item SET n_done = 9 WHERE id = 1"),
}  # fmt: skip


@pytest.mark.parametrize("reason", UNSOUND)
def test_an_unsound_backup(store: Path, copy: Path, reason: str) -> None:
    UNSOUND[reason](copy)
    if "changed" not in reason:
        copy.with_name("backup.sqlite.sha256").unlink()
    before = {file.name: file.read_bytes() for file in store.parent.iterdir()}
    with pytest.raises(ValueError, match=reason) as caught:
        restore_backup(store, copy)
    assert (
        "\n" not in str(caught.value)
        and f"{copy}" in str(caught.value)
        and ".partial" not in str(caught.value)
    )
    assert {file.name: file.read_bytes() for file in store.parent.iterdir()} == before
    with pytest.raises(ValueError, match=reason):  # nor does it make a store where there is none
        restore_backup(store.with_name("none.sqlite"), copy)
    assert names(store.parent) == sorted(before)


def test_the_store_itself_and_a_server(store: Path, copy: Path) -> None:
    with pytest.raises(ValueError, match="is the store itself"):
        restore_backup(store, store)
    with pytest.raises(ValueError, match=r"is on a server: restore it with .* pg_restore"):
        restore_backup("postgresql://u@127.0.0.1:9/x", copy)


def test_restore_alone_says_which_of_two() -> None:
    for words in (["feedback", "restore"], ["restore"]):
        said = " ".join(CliRunner().invoke(build_app(), words).output.replace("│", " ").split())
        assert "`feedback undelete` brings a deleted project back" in said and "restore-backup` puts" in said


# others at work -------------------------------------------------------------------------------------------------------

USERS = {
    "a server with nothing to do": (
        "from tutelage.store.database import Database; held = Database(sys.argv[1])"
    ),
    "a writer in a transaction": (
        "import sqlite3; held = sqlite3.connect(sys.argv[1], isolation_level=None); held.execute('BEGIN IMMEDIATE')"
    ),
    "a reader in a transaction": (
        "import sqlite3; held = sqlite3.connect(sys.argv[1], isolation_level=None); held.execute('BEGIN'); "
        "held.execute('SELECT count(*) FROM item').fetchone()"
    ),
}


@pytest.fixture
def user(request: pytest.FixtureRequest, store: Path) -> Iterator[subprocess.Popen[str]]:
    code = f"import sys; {request.param}; print('open', flush=True); sys.stdin.read()"
    process = python(code, store, stdin=subprocess.PIPE)
    assert process.stdout is not None and process.stdout.readline() == "open\n"
    yield process
    process.communicate()


@pytest.mark.parametrize("user", USERS.values(), ids=USERS, indirect=True)
@pytest.mark.parametrize(
    "moved",
    [
        pytest.param(False, id="its file is there"),
        pytest.param(True, id="its file was taken away", marks=pytest.mark.slow),
    ],
)
def test_a_store_in_use_is_refused(store: Path, copy: Path, user: subprocess.Popen[str], moved: bool) -> None:
    if moved:
        store.rename(store.with_name("elsewhere.sqlite"))
    before = names(store.parent)
    with pytest.raises(
        ValueError, match=r"is in use by another process, .* end it, then repeat the command\.$"
    ):
        restore_backup(store, copy)
    assert names(store.parent) == before
    user.communicate()
    restore_backup(store, copy)
    assert answers(store) == FEW


WAIT = "import sys; from tutelage.store import Store; print(len(Store(sys.argv[1]).votes('main')))"
KNOCK = """
import sqlite3, sys
found = sqlite3.connect(sys.argv[1], timeout=0)
try:
    found.execute("SELECT count(*) FROM annotation").fetchone()
except sqlite3.OperationalError as error:
    print(error)
"""


@pytest.mark.slow
def test_nobody_gets_in_meanwhile_and_who_waits_gets_the_new_one(
    store: Path, copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    knocked, waiting = [], []
    replace = os.replace

    def slowly(source: Path, target: Path) -> None:
        if not waiting:
            waiting.append(python(WAIT, store))
        knocked.append(python(KNOCK, store).communicate()[0])
        if Path(target) == store:
            while not has_open(waiting[0].pid, store):
                assert waiting[0].poll() is None
            time.sleep(0.3)  # now it has the old file open, and asks for its lock again and again
        replace(source, target)

    monkeypatch.setattr("os.replace", slowly)
    restore_backup(store, copy)
    assert knocked == ["database is locked\n"] * 3  # the log, the file, the new file
    assert waiting[0].communicate()[0] == f"{FEW}\n"
    assert answers(store) == FEW


def has_open(pid: int, path: Path) -> bool:
    """Whether a process has a file open."""
    with suppress(FileNotFoundError):  # one that is closed while we look
        return any(os.path.samefile(handle, path) for handle in Path(f"/proc/{pid}/fd").iterdir())
    return False


KILL = """
import os, shutil, sys
from contextlib import closing
from pathlib import Path
from tests.feedback.test_restoring import ALL, FEW, answers
from tutelage.feedback.backups import restore_backup

template, work = Path(sys.argv[1]), Path(sys.argv[2])
store, steps, found = work / "store.sqlite", 0, []

def count(event, args):
    global left
    if event in ("open", "os.rename", "os.remove", "os.chmod", "os.chown", "sqlite3.connect") and left is not None:
        left -= 1
        if left < 0:
            os._exit(9)

left = None
sys.addaudithook(count)
while True:
    shutil.rmtree(work, ignore_errors=True)
    shutil.copytree(template, work)
    child = os.fork()
    if not child:
        left = steps
        restore_backup(store, work / "backup.sqlite")
        os._exit(0)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert status in (0, 9), status
    found.append(answers(store))
    restore_backup(store, work / "backup.sqlite")
    assert answers(store) == FEW
    assert not [file for file in work.iterdir() if file.name.startswith(".")], list(work.iterdir())
    steps += 1
    if status == 0:
        break
assert found == sorted(found, reverse=True) and set(found) == {ALL, FEW}, found
print(steps)
"""


@pytest.mark.slow
def test_killed_at_every_step_the_old_one_or_the_new_one_is_there(killed: Path, tmp_path: Path) -> None:
    said, _ = python(KILL, killed, tmp_path / "work").communicate(timeout=300)
    assert int(said) > 20
