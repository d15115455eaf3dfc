"""What detectors have in common: counting rows, keeping some of them, saying how many."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any, Literal, Protocol

from tutelage.inspect.columns import one_line
from tutelage.inspect.facts import Mistake, Seen
from tutelage.inspect.views import View
from tutelage.records import Place

EXAMPLES = 50  # rows kept for each mistake
EXCERPT = 90  # characters
MANY = 10  # rows below which nothing is said about all of them

Level = Literal["mistake", "note"]


class Detector(Protocol):
    """Looks at rows one after the other, and says in the end what it found."""

    def add(self, view: View, columns: Mapping[str, Any]) -> None:
        """columns: of the row, where this is its first record."""

    def found(self) -> Iterator[Mistake]: ...


class Tally:
    """The rows in which something was seen, of those in which it could have been."""

    def __init__(self) -> None:
        self.rows = self.of = 0
        self.seen: list[Seen] = []

    def note(self, place: Place, text: str) -> None:
        self.rows += 1
        if len(self.seen) < EXAMPLES:
            self.seen.append(Seen(place, one_line(text, EXCERPT)))

    def reaches(self, share: float) -> bool:
        """Whether it is so many that it is worth saying: at least one, and a share."""
        return self.rows >= max(1, math.ceil(share * self.of))

    def mistake(self, name: str, sentence: str, advice: str, level: Level = "mistake") -> Mistake:
        return Mistake(name, level, sentence, advice, self.rows, self.of, tuple(self.seen))

    def within(self) -> str:
        """For sentences: "In 3 of 1,600 rows"."""
        return f"In {self.rows:,} of {rows(self.of)}"


def rows(number: int) -> str:
    """For sentences: "1 row", "1,600 rows"."""
    return "1 row" if number == 1 else f"{number:,} rows"


def around(text: str, start: int, end: int) -> str:
    """What stands around a place in a text."""
    first = max(0, start - max(0, EXCERPT - (end - start)) // 2)
    last = first + EXCERPT - 2
    return ("…" if first else "") + text[first:last] + ("…" if last < len(text) else "")
