"""One walk through the data, and everything that is found on it."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from rich.console import Console

from tutelage.data.preflight.progress import watched
from tutelage.data.reading.formats import Record
from tutelage.data.reading.layouts import Purpose
from tutelage.data.reading.rows import BadRow, Row, kind_of
from tutelage.data.reading.sources import HUB, Source, read_rows, shown
from tutelage.data.reading.spellings import check_columns, renamed
from tutelage.inspect.columns import Columns, one_line
from tutelage.inspect.facts import Facts, File, Mistake, Seen, Shown, Use
from tutelage.inspect.importing import Importing
from tutelage.inspect.layouts import Layouts
from tutelage.inspect.lengths import Characters
from tutelage.inspect.mistakes import Mistakes
from tutelage.inspect.mistakes.common import EXAMPLES, rows
from tutelage.inspect.overlap import MOST_ROWS, HeldOut
from tutelage.inspect.repeats import Keys
from tutelage.inspect.shown import Evenly, turns_of
from tutelage.inspect.uses import COMMANDS, RICHEST, Reading, checked
from tutelage.inspect.views import View, is_answered, view_of

KINDS = {
    ".jsonl": "JSON lines",
    ".ndjson": "JSON lines",
    ".json": "JSON",
    ".csv": "CSV",
    ".tsv": "TSV",
    ".parquet": "Parquet",
    ".txt": "text",
}


def look(
    source: Source,
    *,
    columns: Mapping[str, str] | None = None,
    model: str = "",
    against: Source = "",
    max_length: int = 1024,
    cut_responses: Literal["keep", "drop"] = "keep",
    max_dropped_share: float = 0.1,
    heldout_share: float = 0.05,
    split_seed: int = 0,
    console: Console | None = None,
) -> Facts:
    """What the data hold and how every command would read them.

    model: whose tokenizer and chat template show rows as training makes them ("": characters and turns).  against:
    held-out rows that the data must not hold.  The others are the settings of the same names.  Raises ValueError (one
    sentence) for a source that is missing, empty, or of an unknown kind.
    """
    _refuse_store(source)
    _refuse_store(against)
    ours = dict(columns or {})
    check_columns(ours)
    held_out = _held_out(against, console) if against else None
    walk = _Walk(ours, cut_responses, split_seed, held_out)
    for row in watched(read_rows(source), "looking at the rows", console):
        walk.take(row)
    facts = walk.facts(shown(source), heldout_share, max_dropped_share)
    purpose = walk.purpose
    if not model or purpose is None:
        return facts
    from tutelage.inspect.tokens import tokenised

    found = tokenised(
        purpose, source, model, ours, max_length=max_length, cut_responses=cut_responses, console=console
    )
    uses = tuple(
        checked(replace(use, records=found.records, dropped=found.dropped), max_dropped_share)
        if use.commands == COMMANDS[purpose]
        else use
        for use in facts.uses
    )
    return replace(
        facts,
        model=model,
        uses=uses,
        lengths=(*facts.lengths, found.lengths),
        shown=found.shown,
        notes=(*facts.notes, f"Tokens and rows are those of {', '.join(COMMANDS[purpose])}.", *found.notes),
    )


class _Walk:
    """What is collected on the way."""

    def __init__(
        self, columns: Mapping[str, str], cut_responses: str, split_seed: int, held_out: HeldOut | None
    ) -> None:
        self._ours, self._held_out = columns, held_out
        self._readings = {purpose: Reading(purpose, cut_responses) for purpose in COMMANDS}
        self._importing = Importing(columns)
        self._files: Counter[tuple[str, str]] = Counter()
        self._damaged: list[Seen] = []
        self._damaged_rows = self._rows = self._records = self._again = 0
        self._columns, self._layouts = Columns(), Layouts()
        self._characters, self._keys, self._mistakes = Characters(), Keys(split_seed), Mistakes()
        self._languages: Counter[str] = Counter()
        self._shown: Evenly[Shown] = Evenly()
        self._answered = False
        self._looked_as: Counter[Purpose] = Counter()

    def take(self, row: Row | BadRow) -> None:
        read = {purpose: reading.read(row, self._ours) for purpose, reading in self._readings.items()}
        if row.place.copy:  # a part that counts several times is looked at once
            self._again += 1
            return
        self._importing.take(row, read)
        self._rows += 1
        self._files[row.place.file, row.place.unit] += 1
        if isinstance(row, BadRow):
            if row.stops:
                self._damage(row)
            return
        found = renamed(row.columns, self._ours) if self._ours else row.columns
        unused = [set(left) for _, left in read.values() if left is not None]
        self._columns.add(row.columns, set.intersection(*unused) if unused else ())
        self._layouts.add(row.place, found, self._ours)
        purpose = next((purpose for purpose in RICHEST if read[purpose][0]), None)
        if purpose:
            self._looked_as[purpose] += 1
            self._look_at(read[purpose][0], found)

    def _damage(self, row: BadRow) -> None:
        self._damaged_rows += 1
        if len(self._damaged) < EXAMPLES:
            self._damaged.append(Seen(row.place, one_line(row.why, 200)))

    def _look_at(self, records: list[Record], columns: Mapping[str, Any]) -> None:
        for number, record in enumerate(records):
            view = view_of(record)
            self._records += 1
            self._answered |= is_answered(record)
            self._characters.add(view)
            self._languages[view.language] += 1
            self._keys.add(view, first=number == 0)
            self._mistakes.add(view, columns, first=number == 0)
            self._shown.add(turns_of(view))
            if self._held_out:
                self._held_out.ask(view)

    @property
    def purpose(self) -> Purpose | None:
        """What most rows are looked at as, of what a command would start with."""
        ordered = (purpose for purpose, _ in self._looked_as.most_common())
        return next((purpose for purpose in ordered if not self._readings[purpose].why_not), None)

    def facts(self, source: str, heldout_share: float, max_dropped_share: float) -> Facts:
        return Facts(
            source=source,
            model="",
            files=tuple(_file(*name, count) for name, count in self._files.items()),
            rows=self._rows,
            records=self._records,
            damaged=tuple(self._damaged),
            damaged_rows=self._damaged_rows,
            layouts=self._layouts.found,
            columns=self._columns.found,
            uses=self._uses(max_dropped_share),
            lengths=(self._characters.found,) if self._records else (),
            languages={name or "not known": count for name, count in self._languages.most_common()},
            repeats=self._keys.repeats(self._answered),
            split=self._keys.split(heldout_share),
            overlap=self._held_out.overlap if self._held_out else None,
            mistakes=(*self._contradictions(), *self._mistakes.found),
            shown=tuple(self._shown.chosen),
            notes=tuple(self._notes()),
        )

    def _uses(self, max_dropped_share: float) -> tuple[Use, ...]:
        trainers = (reading.use(max_dropped_share) for reading in self._readings.values())
        return (*trainers, self._importing.use)

    def _contradictions(self) -> Iterator[Mistake]:
        count, pairs = self._keys.contradictions()
        if count:
            says = f"In {count:,} of {rows(self._records)} chosen and rejected stand the other way round than in an earlier one."
            advice = (
                "Write such votes as one row with p_chosen, their share; or look which of the two is right."
            )
            seen = tuple(Seen(pair.other, f"against {pair.one}") for pair in pairs[:EXAMPLES])
            yield Mistake("contradicting pairs", "mistake", says, advice, count, self._records, seen)

    def _notes(self) -> Iterator[str]:
        if self._again:
            yield f"{rows(self._again)} of parts that count several times were looked at once."
        if self._columns.beyond:
            yield "The rows have more columns than are told apart here: are values used as names?"
        if self._held_out and self._held_out.left:
            yield f"Of the held-out rows the first {MOST_ROWS:,} at most were looked at; {self._held_out.left:,} were not."


def _refuse_store(source: Source) -> None:
    names = [source] if isinstance(source, str | Path) else source
    for name in map(str, names):
        if name.startswith("store:"):
            project = name.removeprefix("store:") or "main"
            raise ValueError(
                f"{name} is a project of a feedback store, not a file: write its answers into one with "
                f"'tutelage feedback export project={project}', or see 'tutelage feedback status'"
            )


def _held_out(against: Source, console: Console | None) -> HeldOut:
    return HeldOut(shown(against), _views(against, console))


def _views(source: Source, console: Console | None) -> Iterator[View]:
    """The rows of a held-out file, as what they can be read."""
    readings = [Reading(purpose, "keep") for purpose in RICHEST]
    for row in watched(read_rows(source), "reading the held-out rows", console):
        if not row.place.copy:
            found = next((records for reading in readings if (records := reading.read(row, {})[0])), [])
            yield from map(view_of, found)


def _file(name: str, unit: str, count: int) -> File:
    if name.startswith(HUB):
        return File(name, "hub data set", None, count)
    kind = KINDS[kind_of(name)]
    if kind.startswith("JSON") and unit == "row":
        kind = "one JSON value"
    elif kind == "JSON":
        kind = "JSON lines"
    return File(name, kind + (", gzip" if name.endswith(".gz") else ""), os.stat(name).st_size, count)
