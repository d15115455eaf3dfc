"""The cells of one row: typed, and remembered once they were asked for, so that what nobody asked for can be said."""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, NoReturn

from tutelage.data.reading.rows import parse
from tutelage.records import Finish, Place


class Skip(Exception):
    """This row holds no record; the text goes on after "a row" ("with an empty prompt")."""


class LeftOut(Skip):
    """This row says itself that it is not to be used: no fault of it."""


def shown(value: Any) -> str:
    """A value in a reason: short, so that reasons can be counted."""
    text = repr(value)
    return text if len(text) <= 40 else text[:36] + "..." + text[-1]


def blank(value: Any) -> bool:
    """Whether a cell says nothing."""
    return value is None or (not value.strip() if isinstance(value, str) else value in ([], {}, ()))


class Cells:
    """The columns of a row by name.  A wrong type is a `Skip` that names the column."""

    def __init__(self, columns: Mapping[str, Any], place: Place | None = None) -> None:
        self.columns, self.place = columns, place
        self._asked: set[str] = set()
        self._odd: set[str] = set()

    def has(self, *names: str) -> bool:
        """Whether all these columns are there.  Does not count as asking for them."""
        columns = self.columns
        return all(name in columns for name in names) if len(names) > 1 else names[0] in columns

    def first(self, names: tuple[str, ...]) -> str:
        """The first of these columns that is there, "" where none is."""
        return next(filter(self.columns.__contains__, names), "")

    def get(self, name: str) -> Any:
        """The cell, None where the column is missing."""
        value = self.columns.get(name)
        if value is not None:
            self._asked.add(name)
        return value

    def within(self, columns: Mapping[str, Any]) -> Cells:
        """The cells of what a cell holds: what is noted there is noted here."""
        inner = Cells(columns, self.place)
        inner._odd = self._odd
        return inner

    def made_into(self, columns: Mapping[str, Any]) -> Cells:
        """Other columns that were made of this row's: what is asked for there is asked for here."""
        inner = self.within(columns)
        inner._asked = self._asked
        return inner

    def note(self, name: str) -> None:
        """Something inside a cell that nobody uses."""
        self._odd.add(name)

    @property
    def unused(self) -> list[str]:
        """The columns that say something and that nobody asked for, and what was noted."""
        left = [name for name in self.columns if name not in self._asked and not blank(self.columns[name])]
        return left + sorted(self._odd) if self._odd else left

    def text(self, name: str) -> str:
        """A text; "" where the column is missing."""
        if name not in self.columns:
            return ""
        value = self.get(name)
        if not isinstance(value, str):
            wrong(name, "text", value)
        return value

    def number(self, name: str, default: float) -> float:
        """A finite number, also as text (a CSV file knows nothing else)."""
        if name not in self.columns:
            return default
        value = self.get(name)
        if blank(value):
            return default
        found = math.nan
        if isinstance(value, int | float | str) and not isinstance(value, bool):
            with suppress(ValueError, OverflowError):
                found = float(value)
        if not math.isfinite(found):
            wrong(name, "a finite number", value)
        return found

    def truth(self, name: str) -> bool | None:
        """True or false, in the ways in which people write it; None where it is something else, or missing."""
        if name not in self.columns:
            return None
        found = TRUTHS.get(str(self.columns[name]).strip().lower())
        if found is not None:
            self._asked.add(name)
        return found

    def object(self, name: str) -> dict[str, Any] | None:
        """A JSON object, or its text: in Parquet, objects of different shapes have no common type."""
        value = parsed(self.get(name), "{")
        if blank(value):
            return None
        if not isinstance(value, dict):
            wrong(name, "a JSON object", value)
        return value

    def finish(self, name: str) -> Finish:
        """How a response ended: "eos", also written "stop", or "length"."""
        if name not in self.columns:
            return "eos"
        value = self.get(name)
        if blank(value) or value in ("eos", "stop"):
            return "eos"
        if value == "length":
            return "length"
        wrong(name, '"eos" (it ended) or "length" (it was cut)', value)


TRUTHS = {"true": True, "1": True, "1.0": True, "false": False, "0": False, "0.0": False}


def parsed(value: Any, *starts: str) -> Any:
    """A cell, or the JSON in it where it is text that begins so."""
    found, fault = opened(value, *starts)
    if fault:
        raise Skip(fault)
    return found


def opened(value: Any, *starts: str) -> tuple[Any, str]:
    """As `parsed`, and why what was found cannot be used, "" where it can."""
    if isinstance(value, str) and value.lstrip().startswith(starts):
        with suppress(ValueError):
            return parse(value)
    return value, ""


def wrong(name: str, expected: str, value: Any) -> NoReturn:
    """Skip the row for a cell of a wrong type."""
    what = (
        f"{type(value).__name__} {shown(value)}"
        if isinstance(value, str | int | float)
        else type(value).__name__
    )
    raise Skip(f"whose {name} must be {expected}, not {what}")
