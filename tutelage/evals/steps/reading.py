"""Solutions with marked steps, in ProcessBench's rows or any others that `process` reads, and the subset each belongs to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

from tutelage.data.reading.cells import LeftOut, Skip
from tutelage.data.reading.formats import read_row
from tutelage.data.reading.rows import BadRow
from tutelage.data.reading.sources import Source, read_rows
from tutelage.data.reading.spellings import renamed
from tutelage.evals.process_model import NO_ERROR
from tutelage.records import StepMarks


@dataclass(frozen=True)
class Item:
    """A marked solution.  id, generator: as the file has them, "" without one.  truth: the number (from 0) of its first wrong
    step, or NO_ERROR."""

    marks: StepMarks
    subset: str
    id: str
    generator: str
    truth: int


@dataclass(frozen=True)
class Read:
    """The solutions; how many of a file say neither where the first error is nor that there is none; and how many rows are not
    meant to be used."""

    items: list[Item]
    unsaid: int
    left_out: int


def read(source: Source, columns: Mapping[str, str]) -> Read:
    """All solutions of the files.

    Raises ValueError (file, line) for a row that marks no steps, and where no row says where its first error is.
    """
    found: list[tuple[StepMarks, dict[str, Any]]] = []
    left_out = 0
    for row in read_rows(source):
        if isinstance(row, BadRow):
            raise ValueError(f"{row.place} is a row {row.why}: mend or remove it")
        try:
            records, _ = read_row(row, "step marks", columns)
        except LeftOut:
            left_out += 1
            continue
        except Skip as error:
            raise ValueError(f"{row.place} is a row {error}: mend or remove it") from None
        cells = dict(renamed(row.columns, columns))
        found += [(marks, cells) for marks in records if isinstance(marks, StepMarks)]
    names = _names([marks for marks, _ in found])
    items = [
        Item(marks, _subset(marks, cells, names), _text(cells, "id"), _text(cells, "generator"), truth)
        for marks, cells in found
        if (truth := truth_of(marks)) is not None
    ]
    if not items:
        where = found[0][0].place if found else "the data"
        raise ValueError(
            f"{where}: no solution says which step is its first wrong one, or that all are right: give rows with steps and "
            "label, or with a mark for each step"
        )
    return Read(items, len(found) - len(items), left_out)


def truth_of(marks: StepMarks) -> int | None:
    """The number of the first wrong step, NO_ERROR where every step is marked and none as wrong; None: the marks do not say."""
    if marks.first_error is not None:
        return marks.first_error
    return None if any(label is None for label in marks.labels) else NO_ERROR


def _names(rows: Sequence[StepMarks]) -> dict[str, str]:
    """File -> what its rows are called together: its name, where two files have the same one its path."""
    files = dict.fromkeys(_file(row) for row in rows)
    short = {file: PurePath(file).name.split(".")[0] or file for file in files}
    names = list(short.values())
    return {file: name if names.count(name) == 1 else file for file, name in short.items()}


def _file(row: StepMarks) -> str:
    return row.place.file if row.place else ""


def _subset(marks: StepMarks, cells: Mapping[str, Any], names: Mapping[str, str]) -> str:
    return _text(cells, "subset") or names[_file(marks)]


def _text(cells: Mapping[str, Any], name: str) -> str:
    return str(cells.get(name, ""))
