"""The guards of append-only tables, set aside for the two things that may remove what was stored: purging, redacting."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Connection, text

from tutelage.store.schema_feedback import APPEND_ONLY


@contextmanager
def unguarded(connection: Connection) -> Iterator[None]:
    """Inside, and in this transaction only, rows of append-only tables can be changed; then the guards stand again."""
    if connection.dialect.name != "sqlite":
        for table in APPEND_ONLY:
            connection.execute(text(f"ALTER TABLE {table} DISABLE TRIGGER {table}_append_only"))
        yield
        for table in APPEND_ONLY:
            connection.execute(text(f"ALTER TABLE {table} ENABLE TRIGGER {table}_append_only"))
        return
    guards = []
    for name in (f"{table}_no_{change}" for table in APPEND_ONLY for change in ("update", "delete")):
        found = text("SELECT sql FROM sqlite_master WHERE type = 'trigger' AND name = :name")
        if (guard := connection.scalar(found, {"name": name})) is not None:
            guards.append(guard)
            connection.execute(text(f"DROP TRIGGER {name}"))
    yield
    for guard in guards:
        connection.exec_driver_sql(guard)
