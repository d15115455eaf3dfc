"""Migrations, append-only votes, and what is said of a database that cannot be used."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine, inspect, select, update
from sqlalchemy.dialects import postgresql
from sqlalchemy.exc import DBAPIError
from sqlalchemy.schema import CreateIndex, CreateTable

from tests.databases import fresh_database, postgres_server, prepared_sqlite
from tests.store.making import fill, new_vote
from tutelage.records import Help, Vote
from tutelage.store import NewVote, Store, Unsure
from tutelage.store.calls import read_budgets
from tutelage.store.database import VERSION_TABLE, Database, migrations
from tutelage.store.leaving import Left, read_left
from tutelage.store.pairing import pair_query
from tutelage.store.schema import REVISIONS, Annotation, Base, Item, Project, now
from tutelage.store.sql import insert_one


@pytest.fixture
def voted(path: Path) -> Path:
    """The path of a closed store with data in every table, a revision included."""
    return prepared_sqlite(path, "voted", fill_it)


def fill_it(path: Path) -> None:
    with Store(path) as store:
        fill(store)
        item = store.pairs("main")[0].item_id
        store.add_votes("main", [new_vote(item, "ann", 1)])
        store.add_votes(
            "main", [new_vote(item, "ann", -1, key="again", supersedes=store.votes("main")[0].id)]
        )


def test_the_migrations_make_the_models(path: Path) -> None:
    Store(path).close()
    with create_engine(f"sqlite:///{path}").connect() as connection:
        context = MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE})
        assert compare_metadata(context, Base.metadata) == []
        made = {
            (name, constraint["sqltext"])
            for name in Base.metadata.tables
            for constraint in inspect(connection).get_check_constraints(name)
        }
        indexes = {index["name"] for index in inspect(connection).get_indexes("annotation")}
    assert (
        len(made) == 22 and {("annotation", "preference BETWEEN -3 AND 3"), ("item", "overlap >= 1")} < made
    )
    assert {"annotation_once", "annotation_settled_once"} <= indexes


def test_the_code_knows_every_migration(path: Path) -> None:
    with Database(path).read() as connection:
        script = ScriptDirectory.from_config(migrations(connection))
        assert tuple(r.revision for r in script.walk_revisions())[::-1] == REVISIONS


def test_down_and_up_with_data(voted: Path) -> None:
    database = Database(voted)
    with database.write() as connection:
        command.downgrade(migrations(connection), "base")
    with database.read() as connection:
        assert inspect(connection).get_table_names() == [VERSION_TABLE]
    database.close()
    with Store(voted) as store:  # opening migrates up again
        fill(store)
        assert store.counts("main").pairs == 18
    assert [entry.name for entry in voted.parent.iterdir()] == [voted.name]  # no -wal, no -shm left behind


def test_a_failed_migration_leaves_nothing_behind(voted: Path) -> None:
    database = Database(voted)
    with pytest.raises(RuntimeError, match="power cut"), database.write() as connection:
        command.downgrade(migrations(connection), "base")
        raise RuntimeError("power cut")
    with Store(voted) as store:
        assert len(store.votes("main", revisions=True)) == 2


@pytest.mark.parametrize("statement", ["UPDATE annotation SET preference = 3", "DELETE FROM annotation"])
def test_votes_are_append_only_for_every_program(voted: Path, statement: str) -> None:
    raw = sqlite3.connect(voted)
    with pytest.raises(sqlite3.IntegrityError, match="annotation are append-only"):
        raw.execute(statement)
    raw.close()
    with Store(voted) as store:
        assert [v.vote.preference for v in store.votes("main", revisions=True)] == [1, -1]


@pytest.mark.parametrize(
    "values",
    [
        "1, 1, 1, 0, 'new', NULL",
        "1, 2, 4, 0, 'new', NULL",
        "1, 2, 1, 2, 'new', NULL",
        "1, 2, 1, 0, 'again', NULL",
    ],
    ids=["second first vote", "preference", "first shown", "key"],
)
def test_the_database_itself_refuses(voted: Path, values: str) -> None:
    raw = sqlite3.connect(voted)
    raw.execute("PRAGMA foreign_keys=ON")
    item = raw.execute("SELECT item_id FROM annotation").fetchone()[0]
    columns = "item_id, annotator_id, preference, first_shown, client_key, supersedes_id, submitted_at"
    with pytest.raises(sqlite3.IntegrityError):
        raw.execute(f"INSERT INTO annotation ({columns}) VALUES ({item}{values[1:]}, '2026-01-01')")
    raw.execute(f"INSERT INTO annotation ({columns}) VALUES ({item}, 2, 1, 0, 'fine', NULL, '2026-01-01')")
    raw.close()


def test_sqlite_is_set_up_for_safety(path: Path) -> None:
    database = Database(path)
    for transaction in (database.read, database.write):
        with transaction() as connection:
            modes = [connection.exec_driver_sql(f"PRAGMA {name}").scalar() for name in PRAGMAS]
        assert modes == ["wal", 2, 1, 30_000]  # 2 = FULL
    database.close()


PRAGMAS = ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")


def test_postgresql_can_say_all_of_it() -> None:
    """Compiled only: no column, index or query uses what SQLite alone has."""
    dialect = postgresql.dialect()
    script = [str(CreateTable(table).compile(dialect=dialect)) for table in Base.metadata.sorted_tables]
    script += [
        str(CreateIndex(i).compile(dialect=dialect)) for t in Base.metadata.tables.values() for i in t.indexes
    ]
    assert "WHERE supersedes_id IS NULL" in "".join(script)
    assert "JOIN" in str(pair_query(1).limit(3).compile(dialect=dialect))


# databases that cannot be used: one sentence each, and the file is left as it was -----------------------------------


def assert_refused(path: Path | str, reason: str, busy_seconds: float = 1.0) -> None:
    before = Path(path).read_bytes() if Path(path).is_file() else None
    with pytest.raises(ValueError, match=reason) as caught:
        Store(path, busy_seconds)
    assert "\n" not in str(caught.value) and str(caught.value).endswith(".")
    assert before is None or Path(path).read_bytes() == before


def test_a_file_that_is_no_database(path: Path) -> None:
    path.write_text("prompt,chosen,rejected\n" * 100)
    assert_refused(path, "is not an SQLite database: choose another store=")


def test_the_database_of_another_program(path: Path) -> None:
    raw = sqlite3.connect(path)
    raw.execute("CREATE TABLE alembic_version (version_num TEXT)")
    raw.close()
    assert_refused(path, "is the database of another program .*'alembic_version'")


def test_a_newer_schema(voted: Path) -> None:
    raw = sqlite3.connect(voted)
    raw.execute(f"UPDATE {VERSION_TABLE} SET version_num = '0099'")
    raw.commit()
    raw.close()
    assert_refused(
        voted, "written by a newer Tutelage .schema 0099, this one knows up to 0012.: update Tutelage"
    )


def test_a_folder_and_a_file_in_the_way(tmp_path: Path) -> None:
    assert_refused(tmp_path, "is a folder, but the store is one file")
    (tmp_path / "file").write_text("x")
    assert_refused(tmp_path / "file" / "store.sqlite", "cannot be made")


@pytest.mark.parametrize("cut", ["middle", "end"])
def test_a_damaged_file(voted: Path, cut: str) -> None:
    content = bytearray(voted.read_bytes())
    if cut == "end":
        content = content[: len(content) // 2]
    else:
        content[4096 : len(content) - 4096] = b"\xa5" * (len(content) - 8192)
    voted.write_bytes(content)
    with (
        pytest.raises(
            ValueError, match=r"is damaged .*: put a backup in its place .*, or choose another store=.$"
        ),
        Store(voted) as store,
    ):
        store.comparisons("main")


def test_a_locked_database(voted: Path) -> None:
    raw = sqlite3.connect(voted, isolation_level=None)
    raw.execute("BEGIN IMMEDIATE")
    with Store(voted, busy_seconds=0.1) as store:
        assert len(store.votes("main")) == 1  # readers are not stopped by a writer
        with pytest.raises(ValueError, match=r"has been locked by another process for 0\.1 s: wait"):
            store.add_prompts("main", [])
    raw.execute("ROLLBACK")
    raw.close()


def test_a_full_disk(voted: Path) -> None:
    with Store(voted) as store:
        with store._database.write() as connection:
            pages = connection.exec_driver_sql("PRAGMA page_count").scalar()
            connection.exec_driver_sql(f"PRAGMA max_page_count={pages}")
        with pytest.raises(ValueError, match=r"no space left to write .*: free some"):
            fill(store, "another", prompts=500)
        assert store.counts("main").votes == 1 and store.projects() == ["main"]


def test_addresses_that_are_no_store(tmp_path: Path) -> None:
    assert_refused("sqlite://", "names no file")
    assert_refused("nonsense://x/y", "is no database URL that is known here")
    assert_refused("mysql+nodriver://x/y", "is no database URL|is not installed")


def test_opening_needs_neither_torch_nor_alembic(voted: Path) -> None:
    code = (
        "import sys; from tutelage.store import Store; Store(sys.argv[1]).counts('main');"
        "print([name for name in ('torch', 'alembic', 'transformers') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(voted)],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "[]"


# 0001 and 0002 ------------------------------------------------------------------------------------------------------


def contents(database: Database, *tables: str) -> dict[str, list[tuple[object, ...]]]:
    """Every row of some tables, in the columns that 0001 knows."""
    with database.read() as connection:
        return {
            table: [
                tuple(row)
                for row in connection.exec_driver_sql(f"SELECT {COLUMNS[table]} FROM {table} ORDER BY 1")
            ]
            for table in tables
        }


COLUMNS = {
    "project": "id, name, created_at",
    "item": "id, project_id, type, prompt_id, overlap, digest, created_at",
    "item_response": "item_id, slot, response_id",
    "vote": "id, item_id, annotator_id, preference, first_shown, client_key, submitted_at, supersedes_id",
    "annotation": "id, item_id, annotator_id, preference, first_shown, client_key, submitted_at, supersedes_id",
}
SHARED = ("project", "item", "item_response")


@pytest.fixture(params=["sqlite", "postgresql"])
def either(request: pytest.FixtureRequest, path: Path) -> Iterator[str]:
    if request.param == "sqlite":
        yield str(path)
        return
    with postgres_server() as server, fresh_database(server) as url:
        yield url


def test_0001_becomes_0002_and_0001_again(either: str) -> None:
    """An old store keeps all it has; what 0001 knows of a new one is kept on the way down."""
    with Store(either) as store:
        fill(store)
        item = store.pairs("main")[0].item_id
        store.add_votes("main", [new_vote(item, "ann", 1), new_vote(item, "bob", 0)])
        store.add_votes(
            "main", [new_vote(item, "ann", -1, key="again", supersedes=store.votes("main")[0].id)]
        )
        votes = store.votes("main", revisions=True)
    database = Database(either)
    with database.write() as connection:
        command.downgrade(migrations(connection), "0001")
    old = contents(database, *SHARED, "vote")
    assert [row[0] for row in old["vote"]] == [vote.id for vote in votes] and len(old["item"]) == 18
    database.close()
    upgraded = Database(either)  # opening migrates
    new = contents(upgraded, *SHARED, "annotation")
    assert new["annotation"] == old["vote"] and [new[t] for t in SHARED] == [old[t] for t in SHARED]
    with upgraded.read() as connection:
        counts = select(Item.n_done).where(Item.n_done > 0)
        assert list(connection.scalars(counts)) == [2]  # the revision is no second answer
        if upgraded.is_sqlite:
            assert connection.exec_driver_sql("PRAGMA foreign_key_check").all() == []
    upgraded.close()
    with Store(either) as store:
        assert store.votes("main", revisions=True) == votes
        store.add_votes("main", [new_vote(item, "cat", 1)])  # ids go on where they were
        assert store.votes("main")[-1].id > votes[-1].id


def test_down_keeps_counted_pair_answers_only(either: str) -> None:
    with Store(either) as store:
        fill(store)
        store.add_votes("main", [new_vote(store.pairs("main")[0].item_id, "ann", 1)])
    database = Database(either)
    with database.write() as connection:
        item = connection.scalar(select(Annotation.item_id))
        common = {"item_id": item, "preference": 1, "first_shown": 0}
        insert_one(connection, Annotation, **common, annotator_id=2, role="extra", client_key="extra")
        insert_one(
            connection, Annotation, **common, annotator_id=3, role="adjudication", client_key="settled"
        )
        prompt_id = connection.scalar(select(Item.prompt_id))
        chat = insert_one(
            connection, Item, project_id=1, type="chat", prompt_id=prompt_id, overlap=1, digest="chat"
        )
        below = insert_one(
            connection,
            Item,
            project_id=1,
            type="pair",
            prompt_id=prompt_id,
            overlap=1,
            digest="t",
            parent_id=chat,
        )
        insert_one(connection, Annotation, item_id=chat, annotator_id=1, client_key="chat")
        command.downgrade(migrations(connection), "0001")
    after = contents(database, *SHARED, "vote")
    assert [row[5] for row in after["vote"]] == [f"ann/{item}"]
    assert [row[0] for row in after["item"] if row[0] > 18] == [below]
    database.close()
    Database(either).close()


@pytest.mark.slow
def test_0002_knows_no_tombstones(either: str) -> None:
    """Down and up again a deleted project is an ordinary one; every other row is as it was."""
    with Store(either) as store:
        fill(store)
        store.add_votes("main", [new_vote(store.pairs("main")[0].item_id, "ann", 1)])
    database = Database(either)
    before = contents(database, *SHARED, "annotation")
    with database.write() as connection:
        connection.execute(update(Project).values(deleted_at=now()))
        command.downgrade(migrations(connection), "0002")
        columns = {column["name"] for column in inspect(connection).get_columns("project")}
    assert columns == {"id", "name", "created_at", "settings"}
    database.close()
    upgraded = Database(either)
    assert contents(upgraded, *SHARED, "annotation") == before
    upgraded.close()
    with Store(either) as store:
        assert store.projects() == ["main"]


def test_0003_knows_no_shares(either: str) -> None:
    """An old store keeps its votes on the way up; on the way down a share is the vote of seven steps that stands beside it."""
    with Store(either) as store:
        fill(store)
        first, second = (pair.item_id for pair in store.pairs("main")[:2])
        store.add_votes("main", [new_vote(first, "ann", 1)])
    database = Database(either)
    with database.write() as connection:
        command.downgrade(migrations(connection), "0003")
    old = contents(database, *SHARED, "annotation")
    database.close()
    with Store(either) as store:  # opening migrates up again
        soft = NewVote(second, Vote("bob", -2, 0, 0.7, 0.5), "soft")
        assert store.add_votes("main", [soft, soft]) == 1
        assert [vote.vote for vote in store.votes("main")] == [Vote("ann", 1, 0), soft.vote]
    database = Database(either)
    assert contents(database, *SHARED) == {name: old[name] for name in SHARED}
    for statement in ("UPDATE soft_vote SET share = 1", "DELETE FROM soft_vote"):
        with (
            pytest.raises(DBAPIError, match="rows of soft_vote are append-only"),
            database.write() as connection,
        ):
            connection.exec_driver_sql(statement)
    with pytest.raises(DBAPIError), database.write() as connection:
        connection.exec_driver_sql("INSERT INTO soft_vote (annotation_id, share, margin) VALUES (1, 0.3, 0)")
    with database.write() as connection:
        command.downgrade(migrations(connection), "0003")
    assert len(contents(database, "annotation")["annotation"]) == 2
    database.close()
    with Store(either) as store:
        assert [vote.vote.share for vote in store.votes("main")] == [None, None]


def test_0006_knows_no_budgets(either: str) -> None:
    """On the way down budgets and what was left to people are forgotten, and the items wait as before."""
    with Store(either) as store:
        fill(store)
        first, second = (pair.item_id for pair in store.pairs("main")[:2])
        store.ask_people("main", "llm", [Unsure(first, 4, 0.5)])
        store.note_left("main", "llm", [second])
        store.set_budget("main", "llm", 2.5)
    database = Database(either)
    old = contents(database, *SHARED)
    for table, count in (("judge_left", 2), ("judge_budget", 1)):
        with database.read() as connection:
            assert len(connection.exec_driver_sql(f"SELECT * FROM {table}").all()) == count
    with database.write() as connection:
        command.downgrade(migrations(connection), "0006")
    with database.read() as connection:
        assert not {"judge_left", "judge_budget"} & set(inspect(connection).get_table_names())
    assert contents(database, *SHARED) == old
    database.close()
    with Store(either) as store:  # opening migrates up again
        store.set_budget("main", "llm", 0.5)
        store.note_left("main", "llm", [first])
        with store.reading("main") as (connection, key):
            assert read_budgets(connection, key) == {"llm": 0.5}
            assert read_left(connection, key) == {"llm": Left(1, 0, 1)}
    database = Database(either)
    assert contents(database, *SHARED) == old
    database.close()


def test_0008_knows_no_help(either: str) -> None:
    """On the way down what was told is forgotten, and the votes stay; rows of it are append-only."""
    help = Help("adversarial", "runs/policy", ("This is wrong.", "Every step is right."), 1, "pointing-1")
    with Store(either) as store:
        fill(store)
        first, second = (pair.item_id for pair in store.pairs("main")[:2])
        store.add_votes(
            "main", [NewVote(first, Vote("ann", 1, 0, help=help), "k"), new_vote(second, "ann", -1)]
        )
        assert [vote.vote.help for vote in store.votes("main")] == [help, None]
    database = Database(either)
    for statement in ("UPDATE vote_help SET arm = 'none'", "DELETE FROM vote_help"):
        with (
            pytest.raises(DBAPIError, match="rows of vote_help are append-only"),
            database.write() as connection,
        ):
            connection.exec_driver_sql(statement)
    with database.write() as connection:
        command.downgrade(migrations(connection), "0008")
    database.close()
    with Store(either) as store:
        assert [vote.vote for vote in store.votes("main")] == [
            Vote("ann", 1, 0),
            new_vote(second, "ann", -1).vote,
        ]


def test_a_share_goes_with_its_side(path: Path) -> None:
    with Store(path) as store:
        fill(store)
        item = store.pairs("main")[0].item_id
        for preference, share in ((0, 0.7), (1, 0.5)):
            with pytest.raises(
                ValueError, match=f"a share of {share} does not go with preference {preference}"
            ):
                store.add_votes("main", [NewVote(item, Vote("ann", preference, 0, share, 0.0), "k")])
        store.add_votes("main", [NewVote(item, Vote("ann", 1, 0, 0.7, 0.0), "k")])
        with pytest.raises(ValueError, match="client_key 'k' is that of another vote"):
            store.add_votes("main", [NewVote(item, Vote("ann", 1, 0, 0.8, 0.0), "k")])


def test_the_migrations_make_the_models_on_postgresql() -> None:
    with postgres_server() as server, fresh_database(server) as url:
        database = Database(url)
        with database.read() as connection:
            context = MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE})
            assert compare_metadata(context, Base.metadata) == []
        for statement in ("UPDATE annotation SET preference = 3", "DELETE FROM annotation"):
            with database.write() as connection:
                connection.exec_driver_sql(statement)  # no rows: nothing to refuse
        with Store(url) as store:
            fill(store)
            store.add_votes("main", [new_vote(store.pairs("main")[0].item_id, "ann", 1)])
        with (
            pytest.raises(DBAPIError, match="rows of annotation are append-only"),
            database.write() as connection,
        ):
            connection.exec_driver_sql("UPDATE annotation SET preference = 3")
        database.close()
