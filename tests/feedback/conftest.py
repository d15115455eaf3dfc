"""Stores with people in them: `address` is an SQLite file and a PostgreSQL database in turn."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.databases import fresh_database, fresh_sqlite, postgres_server, template_database
from tests.feedback.kit import _cheap_passwords as _cheap_passwords
from tests.feedback.kit import make_busy
from tutelage.feedback.people.access import Member
from tutelage.store import Store
from tutelage.store.database import Database


@pytest.fixture(scope="session")
def postgres() -> Iterator[tuple[str | None, str]]:
    """A server, and the name of a database with our tables on it."""
    with postgres_server() as server:
        yield server, template_database(server) if server else ""


@pytest.fixture(params=["sqlite", "postgresql"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "sqlite":
        yield str(fresh_sqlite(tmp_path / "store.sqlite"))
        return
    server, template = request.getfixturevalue("postgres")
    with fresh_database(server, template) as url:
        yield url


@pytest.fixture
def store(address: str) -> Iterator[Store]:
    with Store(address) as opened:
        yield opened


@pytest.fixture
def database(address: str) -> Iterator[Database]:
    opened = Database(address)
    yield opened
    opened.close()


@pytest.fixture
def busy(store: Store, database: Database) -> Member:
    """A project with every type of item, revisions, an extra answer and an adjudication."""
    return make_busy(store, database)
