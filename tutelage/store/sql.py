"""Small helpers around SQL that every writer of the store uses."""

from __future__ import annotations

import difflib
import itertools
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from sqlalchemy import Connection, insert, select

from tutelage.records import Prompt
from tutelage.store.schema import Base, Project

CHUNK = 1000  # values in one IN (...): far below what any database takes
_UNSTORABLE = re.compile("[\0\ud800-\udfff]")
T = TypeVar("T")


def chunks(values: Sequence[T]) -> Iterator[Sequence[T]]:
    """Cut a sequence into pieces that fit into one statement."""
    for start in range(0, len(values), CHUNK):
        yield values[start : start + CHUNK]


def batched(rows: Iterable[T], at_once: int = CHUNK) -> Iterator[list[T]]:
    """The same of what comes one after the other."""
    rest = iter(rows)
    while some := list(itertools.islice(rest, at_once)):
        yield some


def insert_rows(connection: Connection, table: type[Base], rows: list[dict[str, Any]]) -> None:
    """Insert many rows at once."""
    if rows:
        connection.execute(insert(table), rows)


def insert_one(connection: Connection, table: type[Base], **values: Any) -> int:
    """Insert a row and return its id."""
    key = connection.execute(insert(table), values).inserted_primary_key
    assert key is not None
    return key[0]


def takes_turns(connection: Connection) -> bool:
    """Whether writers of this database come one after the other anyway (SQLite): then no row needs a lock of its own."""
    return connection.dialect.name == "sqlite"


def project_id(connection: Connection, name: str, place: str, deleted: bool = False) -> int:
    """The id of a project, also of a deleted one if asked for.

    Raises ValueError that names the nearest one in the store at `place`, or says that it was deleted.
    """
    row = connection.execute(select(Project.id, Project.deleted_at).where(Project.name == name)).one_or_none()
    if row is not None and (row.deleted_at is None or deleted):
        return row.id
    if row is not None:
        raise ValueError(
            f"project '{name}' of {place} was deleted: bring it back with `tutelage feedback undelete`, or take "
            "another name."
        )
    names = sorted(connection.scalars(select(Project.name).where(Project.deleted_at.is_(None))))
    near = difflib.get_close_matches(name, names, n=1)
    hint = f"did you mean '{near[0]}'?" if near else f"it has {', '.join(names) or 'none yet'}."
    raise ValueError(f"{place} has no project '{name}': {hint}")


def lock_project(connection: Connection, name: str, place: str, create: bool = False) -> int:
    """The id of a project whose writers now take turns (SQLite has one writer anyway, PostgreSQL locks the row).

    Rows that point at the project can still be inserted: that is what `key_share` allows.
    """
    locked = select(Project.id, Project.deleted_at).where(Project.name == name)
    row = connection.execute(locked.with_for_update(key_share=True)).one_or_none()
    if row is not None and row.deleted_at is None:
        return row.id
    if row is not None or not create:
        return project_id(connection, name, place)
    if not name or name != name.strip():
        raise ValueError(
            f"project='{name}' is no usable name: it must not be empty, nor begin or end with a space."
        )
    return insert_one(connection, Project, name=name)


def storable(text: str) -> str:
    """A text as every database keeps it: U+FFFD stands for NUL (PostgreSQL) and for half characters (lone surrogates).

    For what models write; what people and files bring is refused instead (`is_storable`).
    """
    return _UNSTORABLE.sub("\N{REPLACEMENT CHARACTER}", text)


def is_storable(value: Any) -> bool:
    """Whether all texts in a JSON value are kept by every database as they are."""
    if isinstance(value, str):
        return _UNSTORABLE.search(value) is None
    if isinstance(value, Mapping):
        return all(is_storable(key) and is_storable(inner) for key, inner in value.items())
    return not isinstance(value, list | tuple) or all(map(is_storable, value))


def shown(prompt: Prompt) -> str:
    """The beginning of a prompt, for a message."""
    text = " ".join(prompt.text().split())
    return f"'{text[:57]}...'" if len(text) > 60 else f"'{text}'"
