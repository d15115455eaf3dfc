"""The columns of a data set: in how many rows, of what types, used or not."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tutelage.data.reading.cells import blank
from tutelage.inspect.facts import Column

EXAMPLE = 80  # characters
MOST = 200  # columns that are told apart


@dataclass
class _Count:
    rows: int = 0
    blank: int = 0
    types: Counter[str] = field(default_factory=Counter)
    unused: int = 0
    example: str = ""


class Columns:
    """Counts columns.  `beyond` columns were not counted: a file has that many when its rows are keyed by values."""

    def __init__(self) -> None:
        self._counts: dict[str, _Count] = {}
        self.beyond = False

    def add(self, columns: Mapping[str, Any], unused: Iterable[str]) -> None:
        """unused: the columns that no command uses in this row (and what in them: "messages: id")."""
        for name, value in columns.items():
            count = self._of(name)
            count.rows += 1
            empty = blank(value)
            count.blank += empty
            count.types[type_of(value)] += 1
            if not count.example and not empty:
                count.example = shortened(value)
        for name in unused:
            count = self._of(name)
            count.unused += 1
            if name not in columns:  # something inside a column
                count.rows += 1

    def _of(self, name: str) -> _Count:
        if name not in self._counts and len(self._counts) >= MOST:
            self.beyond = True
            return _Count()
        return self._counts.setdefault(name, _Count())

    @property
    def found(self) -> tuple[Column, ...]:
        """In the order in which they came."""
        return tuple(
            Column(name, count.rows, count.blank, dict(count.types), count.unused, count.example)
            for name, count in self._counts.items()
        )


def type_of(value: Any) -> str:
    """The type of a cell, as people call it."""
    if isinstance(value, bool):
        return "true or false"
    if isinstance(value, str):
        return "text"
    if isinstance(value, int | float):
        return "number"
    if isinstance(value, list):
        return f"list of {_inner(value)}" if value else "empty list"
    return "object" if isinstance(value, dict) else type(value).__name__


def _inner(value: list[Any]) -> str:
    first = value[0]
    if isinstance(first, dict):
        return "messages" if {"role", "from"} & first.keys() else "objects"
    return {"text": "texts", "number": "numbers"}.get(type_of(first), "lists")


def shortened(value: Any) -> str:
    """A cell on one line."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return one_line(text, EXAMPLE)


def one_line(text: str, limit: int) -> str:
    """The start of a text, white space as single spaces."""
    text = " ".join(text[: 4 * limit].split())
    return text if len(text) <= limit else text[: limit - 1].rstrip() + "…"
