"""How `feedback import` would take the data: by its own reader, each row as the kind that fits it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from tutelage.data.preflight.unfit import IDENTICAL
from tutelage.data.reading.cells import Skip
from tutelage.data.reading.rows import BadRow, Row
from tutelage.data.reading.spellings import LABELS
from tutelage.data.reading.steps import published
from tutelage.feedback.imports.lines import Kind, PreferenceLine, parse_row, why_not
from tutelage.inspect.facts import Drop, Use
from tutelage.inspect.uses import PLACES, Dropping, Reads
from tutelage.records import Place

WHAT: dict[Kind, str] = {
    "preference": "comparisons",
    "responses": "responses",
    "prompts": "prompts",
    "refinements": "refinements",
    "raw": "answers",
}


class Importing:
    """Bad rows are listed by the import, and the others taken: nothing stops it."""

    def __init__(self, columns: Mapping[str, str]) -> None:
        self._columns = columns
        self._taken: Counter[Kind] = Counter()
        self._rows: dict[Kind, list[Place]] = {}
        self._bad: dict[Kind, Dropping] = {}
        self._why_not = ""

    def take(self, row: Row | BadRow, read: Mapping[Reads, tuple[list[Any], Any]]) -> None:
        """read: what trainers read from the row."""
        commonest: list[tuple[Kind, int]] = self._taken.most_common(1)
        kind = _kind(row, read) or (commonest[0][0] if commonest else "prompts")
        try:
            if isinstance(row, BadRow):
                raise Skip(row.why)
            lines, _ = parse_row(kind, row, {} if kind == "raw" else self._columns)
            if any(map(_is_identical, lines)):
                raise Skip(IDENTICAL)
            self._taken[kind] += len(lines)
            places = self._rows.setdefault(kind, [])
            if len(places) < PLACES:
                places.append(row.place)
        except (ValueError, Skip, OverflowError) as error:
            self._why_not = self._why_not or f"{row.place}: {why_not(error, row.place)}"
            said = str(error) if isinstance(error, Skip) else f"refused: {why_not(error, row.place)}"
            self._bad.setdefault(kind, Dropping()).drop(row.place, said)

    @property
    def use(self) -> Use:
        """As the kind of most rows; rows of another kind are bad ones then."""
        taken = self._taken.most_common()
        if not taken or not taken[0][1]:
            return Use(("feedback import",), "prompts", 0, (), self._why_not or "there are no rows", 1)
        (kind, count), *others = taken
        drops = self._bad[kind].drops if kind in self._bad else ()
        mixed = tuple(
            Drop(f"that hold {WHAT[other]}", number, False, tuple(self._rows[other]))
            for other, number in others
            if number
        )
        return Use((f"feedback import kind={kind}",), WHAT[kind], count, (*drops, *mixed))


def _is_identical(line: Any) -> bool:
    """A pair of one text, which the store refuses."""
    return isinstance(line, PreferenceLine) and line.comparison.chosen == line.comparison.rejected


def _kind(row: Row | BadRow, read: Mapping[Reads, tuple[list[Any], Any]]) -> Kind | None:
    """What the row holds most of; None where no trainer reads it, either."""
    if isinstance(row, BadRow):
        return None
    if row.columns.get("kind") in ("questions", "guidelines", "answer"):
        return "raw"
    if "rounds" in row.columns:
        return "refinements"
    if read["comparisons"][0]:
        return "preference"
    labelled = any(name in row.columns for name in LABELS) and not published(row.columns)
    if read["demonstrations"][0] or (read["prompts"][0] and labelled):
        return "responses"  # a bad one, too
    return "prompts" if read["prompts"][0] else None
