"""What a file is: the kind of file by its first bytes and its name, and what its rows hold by their columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import PurePath

from tutelage.data.reading.cells import Skip
from tutelage.data.reading.encodings import likely
from tutelage.data.reading.rows import READERS, BadRow, Row
from tutelage.feedback.imports.lines import OWN, Kind, parse_row

SNIFFED = 65_536  # bytes
LOOKED_AT = 20  # rows
TEXT_KINDS = {".csv": "CSV", ".tsv": "TSV", ".json": "JSON", ".jsonl": "JSON lines", ".ndjson": "JSON lines"}
# What a row must have to be of a kind, beside being readable as it; the first that fits most rows is it.
TELLING: tuple[tuple[Kind, tuple[str, ...]], ...] = (
    ("raw", ("kind",)),
    ("suggestions", ("answer", "source")),
    ("refinements", ("rounds",)),
    ("scores", ("score",)),
    ("preference", ()),
    ("responses", ()),
    ("prompts", ()),
)


def name_of(content: bytes, name: str) -> str:
    """The name of a file with an ending that says how it is read, which its first bytes decide where they can.

    Raises ValueError, one sentence, for what is no table of rows.
    """
    ending = PurePath(name).suffix.lower()
    if content.startswith(b"PAR1"):
        return name if ending == ".parquet" else f"{name}.parquet"
    if content.startswith((b"PK\x03\x04", b"\xd0\xcf\x11\xe0")):
        raise ValueError(
            f"{name} is an Excel workbook or another archive: save the table as CSV UTF-8, and import that"
        )
    if ending == ".parquet":
        return name  # the reader says what is wrong with it
    start = content[:SNIFFED].decode(likely(content[:SNIFFED]), "replace").lstrip("\ufeff \t\r\n")
    if "\0" in start:
        raise ValueError(f"{name} is no text and no Parquet file: import JSON, CSV, TSV or Parquet")
    if start.startswith(("{", "[")):
        return name if ending in (".json", ".jsonl", ".ndjson") else f"{name}.json"
    if ending in READERS and ending != ".txt":
        return name
    first = start.split("\n", 1)[0]
    if not any(mark in first for mark in "\t,;"):
        raise ValueError(f"{name} holds no rows that can be told apart: import JSON, CSV, TSV or Parquet")
    return f"{name}.tsv" if "\t" in first else f"{name}.csv"


def file_kind(name: str) -> str:
    """What a file with this name is, for people."""
    return TEXT_KINDS.get(PurePath(name).suffix.lower(), "Parquet")


def kind_of_rows(rows: Sequence[Row | BadRow], columns: Mapping[str, str]) -> Kind:
    """What rows hold.  Raises ValueError, one sentence, where no kind reads any of them."""
    some = [row for row in rows[:LOOKED_AT] if isinstance(row, Row)]
    read = {kind: sum(_reads(kind, names, row, columns) for row in some) for kind, names in TELLING}
    best = max(read, key=lambda kind: read[kind])  # of equally many the first
    if not read[best]:
        names = ", ".join(dict.fromkeys(name for row in some for name in list(row.columns)[:20]))[:300]
        raise ValueError(
            f"no kind of rows has these columns ({names or 'none that can be read'}): say what is what with columns"
        )
    return best


def _reads(kind: Kind, names: Sequence[str], row: Row, columns: Mapping[str, str]) -> bool:
    own = {
        name: theirs for name, theirs in columns.items() if kind == "raw" or name in OWN[kind].model_fields
    }
    if not all(name in row.columns or name in own for name in names):
        return False
    with suppress(ValueError, Skip):
        return bool(parse_row(kind, row, {} if kind == "raw" else columns)[0])
    return False
