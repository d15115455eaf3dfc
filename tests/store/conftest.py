"""A store with one small project: three prompts, four responses each, all pairs, three annotators."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.databases import MIGRATE, fresh_sqlite
from tests.store.making import fill
from tutelage.store import Store, database


@pytest.fixture(autouse=True)
def _by_migrations(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "_upgrade", MIGRATE)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store.sqlite"


@pytest.fixture
def store(path: Path) -> Iterator[Store]:
    with Store(fresh_sqlite(path)) as opened:
        fill(opened)
        yield opened
