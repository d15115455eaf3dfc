"""Who comes with a file: nobody of this store; and one raw file in several projects of one store."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from sqlalchemy import text, update

from tests.databases import fresh_sqlite
from tests.feedback.kit import join, make_busy, start
from tutelage.feedback.exports import exporting
from tutelage.feedback.exports.exporting import ExportSpec
from tutelage.feedback.imports import importing
from tutelage.feedback.imports.importing import Imported
from tutelage.feedback.people.access import Member
from tutelage.feedback.projects import projects
from tutelage.store import Store
from tutelage.store.database import Database
from tutelage.store.origins import identity, is_foreign, with_origin
from tutelage.store.schema import StoreInfo


def lines(database: Database, who: Member, **spec: object) -> bytes:
    found = exporting.rows(database, who, ExportSpec(format="raw", **spec))
    return "".join(json.dumps(row) + "\n" for row in found).encode()


def take(database: Database, project: str, content: bytes, kind: str = "raw") -> Imported:
    who = projects.local_member(database, project, create=True)
    return importing.import_stream(database, who, kind, io.BytesIO(content), "rows.jsonl")  # type: ignore[arg-type]


def answers(database: Database, project: str) -> list[dict]:
    who = projects.local_member(database, project)
    found = exporting.rows(database, who, ExportSpec(format="raw", names=True))
    return [row for row in found if row["kind"] == "answer"]


@pytest.mark.slow
def test_a_second_project_holds_all_answers(store: Store, database: Database) -> None:
    content = lines(database, make_busy(store, database))
    total = content.count(b"\n")
    first, second = take(database, "one", content), take(database, "two", content)
    assert (first.new, first.bad) == (second.new, second.bad) == (total, [])
    assert answers(database, "one") == answers(database, "two") and len(answers(database, "one")) > 20
    for project in ("one", "two"):
        again = take(database, project, content)
        assert (again.new, again.there, again.bad) == (0, total, [])
    assert store.comparisons("one") == store.comparisons("two") == store.comparisons("main")


@pytest.mark.slow
def test_keys_of_before_are_known(store: Store, database: Database) -> None:
    """Answers that an older version imported are there, under their old keys."""
    content = lines(database, make_busy(store, database))
    take(database, "one", content)
    if not database.is_sqlite:
        pytest.skip("the trigger is taken off by SQLite's way")
    with database.write() as connection:
        trigger = connection.execute(
            text("SELECT name FROM sqlite_master WHERE type = 'trigger' AND tbl_name = 'annotation'")
        ).scalars()
        for name in list(trigger):
            connection.execute(text(f"DROP TRIGGER {name}"))
        connection.execute(
            text(
                "UPDATE annotation SET client_key = 'raw/' || substr(client_key, instr(client_key, '/') + 1) "
                "WHERE client_key LIKE 'raw:%'"
            )
        )
    again = take(database, "one", content)
    assert (again.new, again.bad) == (0, []) and take(database, "two", content).bad == []


@pytest.mark.slow
def test_people_of_two_stores_are_two_people(tmp_path: Path) -> None:
    files = []
    for name in ("a", "b"):
        path = fresh_sqlite(tmp_path / f"{name}.sqlite")
        database = Database(path)
        with database.write() as connection:  # tests copy one store
            connection.execute(update(StoreInfo).values(value=name * 32))
        with Store(path) as store:
            pseudonyms = lines(database, make_busy(store, database))
            named = lines(database, projects.local_member(database, "main"), names=True)
            files.append((pseudonyms, named))
        database.close()
    third = Database(fresh_sqlite(tmp_path / "c.sqlite"))
    for number, (pseudonyms, _) in enumerate(files):
        assert take(third, f"p{number}", pseudonyms).bad == []
    origins = [{row["annotator"] for row in answers(third, f"p{number}")} for number in (0, 1)]
    assert origins[0].isdisjoint(origins[1]) and all(map(is_foreign, origins[0] | origins[1]))
    # Under their names, too; and whoever joins here under one of them is somebody else.
    olga = start_in(third)
    assert take(third, "named", files[0][1]).bad == []
    names = {row["annotator"] for row in answers(third, "named")}
    assert any(name.startswith("ben@") for name in names)
    ben = join(third, olga.user, "main", "ben")
    assert ben.user.name == "ben" and "ben" not in names
    # What goes on from there keeps the origin that it has.
    again = lines(third, projects.local_member(third, "named"), names=True)
    fourth = Database(fresh_sqlite(tmp_path / "d.sqlite"))
    assert take(fourth, "main", again).bad == []
    assert {row["annotator"] for row in answers(fourth, "main")} == names
    for database in (third, fourth):
        database.close()


def start_in(database: Database) -> Member:
    with Store(database.place) as store:
        return start(store, database, prompts=1)


def test_names_in_a_preference_file_are_nobody_here(store: Store, database: Database) -> None:
    olga = start(store, database, prompts=1)
    joan = join(database, olga.user, "main", "joan")
    row = {"prompt": "Q?", "chosen": "A", "rejected": "B", "annotator": "joan", "annotator_kind": "human"}
    late = row | {"annotator": "late"}
    content = "".join(json.dumps(one) + "\n" for one in (row, late)).encode()
    assert take(database, "main", content, "preference").new == 2
    assert take(database, "main", content, "preference").there == 2
    voters = {stored.vote.annotator for stored in store.votes("main")}
    assert voters == {"joan@import", "late@import"} and joan.user.name not in voters
    assert join(database, olga.user, "main", "late").user.name == "late"


def test_a_name_keeps_the_origin_that_it_has(database: Database) -> None:
    with database.read() as connection:
        own = identity(connection)
    assert with_origin("joan", own) == f"joan@{own[:8]}" == with_origin(f"joan@{own[:8]}", "f" * 32)
    assert with_origin("joan@example.com") == "joan@example.com@import" and not is_foreign("joan@example.com")
