"""How each command would read the data: the reader and the rules of the trainers, asked row by row."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from tutelage.commands import answering
from tutelage.data.preflight.unfit import (
    CUT,
    why_not_comparison,
    why_not_demonstration,
    why_not_document,
    why_not_prompt,
    why_not_solution,
    why_not_step_marks,
)
from tutelage.data.reading.cells import LeftOut, Skip
from tutelage.data.reading.formats import Record, WrongColumns, read_row
from tutelage.data.reading.layouts import Purpose
from tutelage.data.reading.rows import BadRow, Row
from tutelage.inspect.facts import Drop, Use
from tutelage.records import Labelled, Place, Rating

PLACES = 1000  # of dropped rows that are kept, for each reason
REASONS = 1000  # reasons that are told apart
ENOUGH = 50  # rows of other columns, and none of the right ones: this is another kind of file

Reads = Purpose | Literal["solutions"]
"""What rows are read as; solutions (`mark`) are marked steps, or else demonstrations."""

COMMANDS: dict[Reads, tuple[str, ...]] = {
    "pretraining text": ("pretrain",),
    "demonstrations": ("sft",),
    "comparisons": ("reward", "dpo"),
    "labelled responses": ("kto",),
    "ratings": ("reward learn_from=ratings",),
    "prompts": answering(),
    "step marks": ("process",),
    "solutions": ("mark data=",),
}
RICHEST: tuple[Purpose, ...] = ("comparisons", "demonstrations", "prompts", "pretraining text", "step marks")
"""What a row is looked at as: the first of these that it can be read as."""


@dataclass
class _Dropped:
    rows: int = 0
    meant: bool = False
    places: list[Place] = field(default_factory=list)


class Dropping:
    """Rows that give no record, by reason."""

    def __init__(self) -> None:
        self.dropped: dict[str, _Dropped] = {}

    def drop(self, place: Place, reason: str, meant: bool = False) -> None:
        if reason not in self.dropped and len(self.dropped) >= REASONS:
            reason = "for other reasons"
        found = self.dropped.setdefault(reason, _Dropped(meant=meant))
        found.rows += 1
        if len(found.places) < PLACES and not place.copy:
            found.places.append(place)

    @property
    def drops(self) -> tuple[Drop, ...]:
        """The commonest reason first."""
        return tuple(
            Drop(reason, found.rows, found.meant, tuple(found.places))
            for reason, found in sorted(self.dropped.items(), key=lambda item: -item[1].rows)
        )


class Reading(Dropping):
    """One purpose, row by row, also behind the rows with which a command would stop."""

    def __init__(self, reads: Reads, cut_responses: str) -> None:
        super().__init__()
        self.reads, self.damage, self.records, self.stops = reads, "", 0, 0
        self.unfit = _rules(cut_responses)[reads]
        self._misfits = Dropping()  # rows of other columns: dropped, unless no row has the right ones
        self._misfit, self._given, self._rows = "", False, 0

    def read(self, row: Row | BadRow, columns: Mapping[str, str]) -> tuple[list[Record], list[str] | None]:
        """What the row holds, also what would be dropped later, and its columns that were not used (None: not read)."""
        self._rows += 1
        if self._rows > ENOUGH and self._misfit and not self._given:
            return [], None
        if isinstance(row, BadRow):
            if row.stops:
                self.damage = self.damage or f"{row.place}: {row.why}"
                self.stops += 1
            else:
                self.drop(row.place, row.why)
            return [], None
        try:
            records, unused = self._read_row(row, columns)
        except Skip as reason:
            self.drop(row.place, str(reason), isinstance(reason, LeftOut))
            return [], None
        except WrongColumns as error:
            self._misfit = self._misfit or str(error)
            self._misfits.drop(row.place, error.reason)
            return [], None
        self._given = self._given or bool(records)
        for record in records:
            unfit = self.unfit(record)
            if unfit is None:
                self.records += 1
            else:
                self.drop(row.place, unfit)
        return records, unused

    def _read_row(self, row: Row, columns: Mapping[str, str]) -> tuple[list[Record], list[str]]:
        if self.reads != "solutions":
            return read_row(row, self.reads, columns)
        try:
            return read_row(row, "step marks", columns)
        except WrongColumns:
            return read_row(row, "demonstrations", columns)

    @property
    def why_not(self) -> str:
        """The sentence with which a command would stop reading, "" where it would not."""
        return self.damage or ("" if self._given else self._misfit)

    def use(self, max_dropped_share: float) -> Use:
        """The facts; where more would be dropped than may be, why the commands would not start."""
        drops = (*self.drops, *self._misfits.drops) if self._given else self.drops
        use = Use(COMMANDS[self.reads], self.reads, self.records, drops, self.why_not, self.stops)
        return use if use.why_not else checked(use, max_dropped_share)


def checked(use: Use, max_dropped_share: float) -> Use:
    """The use with the sentence why its commands would not start, where too much is dropped or nothing is left."""
    meant = use.records + use.faults
    why = ""
    if not use.records:
        why = "there are no rows"
        if use.dropped:
            reason = f" {use.dropped[0].reason}" if len(use.dropped) == 1 else ""
            why = f"nothing is left: every row would be dropped{',' if reason else ''}{reason}"
    elif use.faults > max_dropped_share * meant:
        why = (
            f"{use.faults:,} of {meant:,} would be dropped, more than max_dropped_share={max_dropped_share:g}: "
            "correct these rows or raise max_dropped_share"
        )
    return Use(use.commands, use.what, use.records, use.dropped, why)


def _rules(cut_responses: str) -> dict[Reads, Callable[[Any], str | None]]:
    return {
        "pretraining text": why_not_document,
        "prompts": why_not_prompt,
        "demonstrations": lambda record: why_not_demonstration(record, cut_responses),
        "comparisons": lambda record: why_not_comparison(record, cut_responses),
        "labelled responses": lambda record: _why_cut(record, cut_responses),
        "ratings": lambda record: _why_cut(record, cut_responses),
        "step marks": lambda record: why_not_step_marks(record, "steps", "positive"),
        "solutions": why_not_solution,
    }


def _why_cut(record: Labelled | Rating, cut_responses: str) -> str | None:
    return CUT if record.finish == "length" and cut_responses == "drop" else None
