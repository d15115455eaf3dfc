"""Rows as a file: JSON lines, Parquet or CSV.  What a column holds is said here, once, for the two that have columns.

JSON lines hold rows as they are.  In Parquet a column has one type, which does not depend on which row comes first:
where some prompts are conversations, all are written as conversations, a plain prompt as one user's turn; where some have
tools or more than words, all are JSON.  In CSV what nests inside a cell is JSON.  In both, ratings have a column per
criterion.
"""

from __future__ import annotations

import csv
import itertools
import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tutelage.data.reading.rankings import ATTRIBUTES, WIDE
from tutelage.feedback.errors import Refused
from tutelage.feedback.exports.current import RowDict
from tutelage.feedback.exports.spec import ExportSpec, Format
from tutelage.feedback.training.kept import kept
from tutelage.files import file_atomic, write_jsonl_atomic

if TYPE_CHECKING:
    import pyarrow

Columns = dict[str, str]  # name -> what it holds, one of these
# What the columns of these names hold, whichever format has them; "turns" are prompts of which some have tools.
_HOLDS = {
    "prompt": "prompt",
    "response": "chosen rejected completion",
    "responses": "responses",
    "text": "item split task response response_finish chosen_finish rejected_finish completion_finish annotator kind store "
    "markdown type annotator_kind role key supersedes submitted_at chosen_model chosen_model_sha256 rejected_model "
    "rejected_model_sha256",
    "texts": "responses_finish completions annotators",
    "number": "p_chosen margin share agreement",
    "count": "n slot overlap active_ms questions guidelines round",
    "counts": "ranks shown_order",
    "flag": "label withdrawn settled",
    "flags": "labels",
    "json": "reference content answer",
}
_KIND: Columns = {name: kind for kind, names in _HOLDS.items() for name in names.split()}


def _columns(names: str) -> Columns:
    return {name: _KIND[name] for name in names.split()}


COLUMNS: dict[Format, Columns] = {
    "preference": _columns(
        "prompt chosen rejected task reference p_chosen margin chosen_finish rejected_finish item split"
    ),
    "hh": _columns("chosen rejected"),
    "unpaired": _columns("prompt task reference completion completion_finish label item split"),
    "ranked": _columns("prompt task reference responses responses_finish ranks item split"),
    "stepwise": _columns("prompt task reference completions labels completion_finish item split"),
    "sft": _columns("prompt task reference completion split"),
    "ratings": _columns("prompt task reference response response_finish item split slot annotator n"),
    "raw": _columns(
        "kind store n content markdown item type overlap prompt task reference split responses annotator annotator_kind "
        "role answer share margin shown_order key supersedes withdrawn submitted_at active_ms questions guidelines"
    )
    | {"responses": "json", "help": "json"},  # with where they come from; what an assistant had said
    "orca": dict.fromkeys(("system", "question", "chosen", "rejected"), "text"),
    "helpsteer": dict.fromkeys(("prompt", "response"), "text"),
    "math-shepherd": dict.fromkeys(("input", "label", "task"), "text"),
    "processbench": dict.fromkeys(("id", "generator", "problem"), "text")
    | {"steps": "texts", "label": "count"},
}
PROVENANCE = _columns(
    "chosen_model chosen_model_sha256 rejected_model rejected_model_sha256 round annotators settled agreement"
)
NESTED: tuple[Format, ...] = (
    "ranked",
    "stepwise",
    "processbench",
)  # rows of lists: CSV has no place for them
AT_ONCE = 10_000  # rows in a group of a Parquet file

# What makes a spreadsheet take a cell for a formula, also behind the quotes that we put before it.
FORMULA = re.compile(r"'*[=+\-@\t\r＝＋－＠]")
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")


def require_room(spec: ExportSpec) -> None:
    """Refused: invalid, where the kind of file has no place for the rows."""
    if spec.file_format != "jsonl" and spec.format not in COLUMNS:
        raise Refused(
            "invalid",
            f"format={spec.format} has objects within its rows, which {spec.file_format} has no place for: choose jsonl.",
        )
    if spec.file_format == "csv" and spec.format in NESTED:
        raise Refused(
            "invalid",
            f"format={spec.format} has lists in every row, which CSV has no place for: choose jsonl or parquet.",
        )
    if spec.part != "all" and spec.format != "refinements":
        raise Refused(
            "invalid", f"part={spec.part} is for format=refinements, not for {spec.format}: leave it out."
        )
    if spec.provenance and spec.format != "preference":
        raise Refused(
            "invalid", f"provenance=true is for format=preference, not for {spec.format}: leave it out."
        )


def write_rows(out: Path, rows: Iterable[RowDict], spec: ExportSpec, criteria: Sequence[str]) -> int:
    """Write a file, atomically; returns the number of rows.  `criteria`: of ratings, in the order of their columns."""
    if spec.file_format == "jsonl":
        count = itertools.count()
        write_jsonl_atomic(out, (row for row, _ in zip(rows, count, strict=False)))
        return next(count)
    held = kept(rows)  # columns hang on all rows
    columns = columns_of(spec, held, criteria)
    with file_atomic(out) as partial:
        if spec.file_format == "csv":
            _write_csv(partial, held, columns)
        else:
            _write_parquet(partial, held, columns)
    return len(held)


def as_written(rows: Sequence[RowDict], spec: ExportSpec, criteria: Sequence[str]) -> list[RowDict]:
    """Rows as they would stand in a file of their own."""
    if spec.file_format == "jsonl":
        return list(rows)
    columns = columns_of(spec, rows, criteria)
    if spec.file_format == "csv":
        return [dict(zip(columns, _cells(row, columns), strict=True)) for row in rows]
    columns, chat = _for_prompts(rows, columns)
    return [_values(row, columns, chat) for row in rows]


def columns_of(spec: ExportSpec, rows: Iterable[RowDict], criteria: Sequence[str]) -> Columns:
    """The columns of a file, in order."""
    columns = COLUMNS[spec.format] | (PROVENANCE if spec.provenance else {})
    if spec.format == "helpsteer":
        used = {name for row in rows for name in row}
        return columns | {name: "number" for name in ATTRIBUTES if name in used}
    if spec.format == "raw":
        used = {name for row in rows for name in row}
        return {name: kind for name, kind in columns.items() if name != "help" or name in used or not used}
    if spec.format != "ratings":
        return columns
    if spec.aggregation != "all":
        del columns["annotator"]
    used = {name for row in rows for name in row["values"]}
    return columns | {f"{WIDE}{name}": "number" for name in criteria if name in used}


def _value(row: RowDict, name: str) -> Any:
    if name.startswith(WIDE):
        return row["values"].get(name.removeprefix(WIDE))
    return row.get(name)


# CSV ------------------------------------------------------------------------------------------------------------------


def _write_csv(path: Path, rows: Iterable[RowDict], columns: Columns) -> None:
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(columns)
        writer.writerows(_cells(row, columns) for row in rows)


def _cells(row: RowDict, columns: Columns) -> list[str]:
    return [cell(_value(row, name)) for name in columns]


def cell(value: Any) -> str:
    """A value as a cell: nothing for null, true and false, numbers as they are, JSON for what nests."""
    if value is None:
        return ""
    if isinstance(value, str):
        return escaped(value)
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else _json(value)


def escaped(text: str) -> str:
    """Text that no spreadsheet takes for a formula: a quote is put before what begins like one, unless it is a number.

    Reversible: what begins with quotes and then like a formula loses one quote.
    """
    return f"'{text}" if FORMULA.match(text) and not NUMBER.fullmatch(text) else text


# Parquet --------------------------------------------------------------------------------------------------------------


def _write_parquet(path: Path, rows: Sequence[RowDict], columns: Columns) -> None:
    import pyarrow
    import pyarrow.parquet

    columns, chat = _for_prompts(rows, columns)
    schema = _schema(columns, chat)
    with pyarrow.parquet.ParquetWriter(path, schema) as writer:
        for start in range(0, len(rows), AT_ONCE):
            some = [_values(row, columns, chat) for row in rows[start : start + AT_ONCE]]
            writer.write_table(pyarrow.Table.from_pylist(some, schema=schema))


def _schema(columns: Columns, chat: bool) -> pyarrow.Schema:
    import pyarrow as pa

    text, turns = pa.string(), pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))
    said = turns if chat else text
    types: dict[str, pyarrow.DataType] = {
        "text": text,
        "json": text,
        "turns": text,
        "count": pa.int64(),
        "number": pa.float64(),
        "flag": pa.bool_(),
        "prompt": said,
        "response": said,
        "responses": pa.list_(said),
        "texts": pa.list_(text),
        "counts": pa.list_(pa.int64()),
        "flags": pa.list_(pa.bool_()),
    }
    return pa.schema([(name, types[kind]) for name, kind in columns.items()])


def _for_prompts(rows: Sequence[RowDict], columns: Columns) -> tuple[Columns, bool]:
    """The columns, and whether some prompt is a conversation.

    Prompts are JSON where some say more than roles and words: those have no common type.
    """
    chat = False
    if "prompt" in columns:
        for prompt in (row.get("prompt") for row in rows):
            chat = chat or isinstance(prompt, list | dict)
            if _more_than_words(prompt):
                return columns | {"prompt": "turns"}, True
    return columns, chat


def _more_than_words(prompt: Any) -> bool:
    turns = prompt if isinstance(prompt, list) else []
    return isinstance(prompt, dict) or any(turn.keys() != {"role", "content"} for turn in turns)


def _values(row: RowDict, columns: Columns, chat: bool) -> RowDict:
    return {name: _typed(_value(row, name), kind, chat) for name, kind in columns.items()}


def _typed(value: Any, kind: str, chat: bool) -> Any:
    if value is None:
        return None
    if kind == "json":
        return _json(value)
    if kind == "responses":
        return [_typed(one, "response", chat) for one in value]
    if chat and isinstance(value, str) and kind in ("prompt", "response", "turns"):
        value = [{"role": "assistant" if kind == "response" else "user", "content": value}]
    return _json(value) if kind == "turns" else value


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
