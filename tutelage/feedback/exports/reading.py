"""Reading exports back: the file is what its manifest says, and its rows are records again.

`preference`, `hh` and `sft` rows are read by `data.formats` like anybody's; what is here has no trainer yet.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from tutelage.data.reading.cells import parsed
from tutelage.data.reading.rows import is_conversation
from tutelage.feedback.exports.files import RATING
from tutelage.files import sha256_of
from tutelage.records import Prompt


@dataclass(frozen=True)
class Unpaired:
    """A single response, good or not."""

    prompt: Prompt
    response: str
    label: bool


@dataclass(frozen=True)
class Ranked:
    """Responses with their ranks: 1 = best, equal ranks are ties."""

    prompt: Prompt
    responses: tuple[str, ...]
    ranks: tuple[int, ...]


@dataclass(frozen=True)
class Stepwise:
    """The steps of a response, each right or not, as far as they were marked."""

    prompt: Prompt
    steps: tuple[str, ...]
    labels: tuple[bool, ...]


@dataclass(frozen=True)
class Rated:
    """A response with its values by criterion: means over `n` annotators, or one annotator's (n = 1)."""

    prompt: Prompt
    response: str
    n: int
    values: dict[str, float]


Row = Unpaired | Ranked | Stepwise | Rated


def read_export(path: Path) -> list[Row]:
    """The rows of an export of format unpaired, ranked, stepwise or ratings.

    Raises ValueError when the manifest is missing or of another format, when the file is not the one it describes
    (by hash), for CSV, and for a row of the wrong shape, with its number.
    """
    manifest = path.with_name(f"{path.name}.manifest.json")
    if not manifest.exists():
        raise ValueError(f"{path} has no manifest {manifest.name} beside it: keep the two together.")
    told = json.loads(manifest.read_text(encoding="utf-8"))
    if told["sha256"] != sha256_of(path):
        raise ValueError(f"{path} is not the file that {manifest.name} describes: export it again.")
    reader = READERS.get(told["spec"]["format"])
    if reader is None:
        raise ValueError(
            f"{path} holds rows of format {told['spec']['format']}: read it as data=, or import it."
        )
    kind = told["spec"].get("file_format", "jsonl")
    if kind == "csv":
        raise ValueError(
            f"{path} is CSV, which is for spreadsheets: export it as jsonl or parquet to read it."
        )
    return list(_rows(path, _parquet(path) if kind == "parquet" else _lines(path), reader))


def _rows(
    path: Path, found: Iterable[Callable[[], dict[str, Any]]], reader: Callable[[dict[str, Any]], Row]
) -> Iterator[Row]:
    for number, row in enumerate(found, start=1):
        try:
            yield reader(row())
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{path}, row {number}: not a row of this format ({error}).") from error


def _lines(path: Path) -> Iterator[Callable[[], dict[str, Any]]]:
    with path.open(encoding="utf-8") as stream:
        for line in stream:
            yield partial(json.loads, line)


def _parquet(path: Path) -> Iterator[Callable[[], dict[str, Any]]]:
    """Rows as JSON lines would have them."""
    import pyarrow.parquet

    for batch in pyarrow.parquet.ParquetFile(path).iter_batches():
        for row in batch.to_pylist():
            yield partial(_from_columns, row)


def _from_columns(row: dict[str, Any]) -> dict[str, Any]:
    if row["reference"] is not None:
        row["reference"] = json.loads(row["reference"])
    turns = parsed(row["prompt"], "[", "{")
    if is_conversation(turns) or isinstance(turns, dict):
        row["prompt"] = turns
    rated = {name: value for name, value in row.items() if name.startswith(RATING) and value is not None}
    return row | {"values": {name.removeprefix(RATING): value for name, value in rated.items()}}


def _unpaired(row: dict[str, Any]) -> Unpaired:
    return Unpaired(_prompt(row), _text(row["completion"]), bool(row["label"]))


def _ranked(row: dict[str, Any]) -> Ranked:
    return Ranked(_prompt(row), tuple(map(_text, row["responses"])), tuple(row["ranks"]))


def _stepwise(row: dict[str, Any]) -> Stepwise:
    return Stepwise(_prompt(row), tuple(row["completions"]), tuple(row["labels"]))


def _rated(row: dict[str, Any]) -> Rated:
    return Rated(_prompt(row), row["response"], row["n"], dict(row["values"]))


def _prompt(row: dict[str, Any]) -> Prompt:
    return Prompt.from_json(row["prompt"], row.get("task", ""), row.get("reference"))


def _text(value: Any) -> str:
    """Text, or the content of one assistant message."""
    if isinstance(value, str):
        return value
    (message,) = value
    return str(message["content"])


READERS: dict[str, Callable[[dict[str, Any]], Row]] = {
    "unpaired": _unpaired,
    "ranked": _ranked,
    "stepwise": _stepwise,
    "ratings": _rated,
}
