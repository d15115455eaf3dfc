"""Bytes -> rows: JSON in all its shapes, CSV and TSV, Parquet, text.  Nothing here knows what columns mean.

A row is a dictionary of columns with its place, so that every later complaint about it can say which one it is.  Lines are
read one at a time; what is one JSON value (an array, an object that holds the rows) is in memory as a whole.
"""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import json
import math
import re
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import chain
from pathlib import PurePath
from typing import Any, BinaryIO

from tutelage.data.reading.encodings import AUTO, UTF8, Recoded, check_encoding, marked
from tutelage.records import Place

DOCUMENT_SEPARATOR = (
    "<|endoftext|>"  # in .txt files; GPT-2's own, and what TinyStories and others are published with
)
BLOCK = 2**20  # bytes read at once
ROWS_AT_ONCE = 1024  # of a parquet file
LONGEST_CELL = 2**31 - 1  # characters in a CSV file; the library's own limit is 128 KiB
SHAPES = "a file holds one JSON object a line, or one array of them"


@dataclass(frozen=True)
class Row:
    """One row of a data set; `columns` leaves out those that are null, whose names are `nulls`."""

    place: Place
    columns: dict[str, Any]
    nulls: tuple[str, ...] = field(default=(), compare=False)


@dataclass(frozen=True)
class BadRow:
    """A row that cannot be read: `why` goes on after "a row".  `stops`: what follows it cannot be trusted either."""

    place: Place
    why: str
    stops: bool = False


Rows = Iterator[Row | BadRow]


def read_stream(file: BinaryIO, name: str, encoding: str = AUTO) -> Rows:
    """The rows of an open file whose name says of what kind it is.

    encoding: of text; `auto` is UTF-8, or what a mark at the beginning says (UTF-16).  Rows that are no text in it are bad
    rows.  Raises ValueError (one sentence: file, line, what to do) for a file that is empty, of an unknown kind, or damaged.
    """
    kind = kind_of(name)
    check_encoding(encoding)
    stream: BinaryIO = gzip.GzipFile(fileobj=file) if name.endswith(".gz") else file  # type: ignore[assignment]
    count = 0
    try:
        for row in _read_as(kind, stream, name, encoding):
            count += 1
            yield row
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise ValueError(
            f"{name} is not a complete gzip file ({error}): copy or download it again"
        ) from error
    except OSError as error:
        raise ValueError(f"{name} cannot be read: {error.strerror or error}") from error
    if count == 0:
        raise ValueError(f"{name} is empty: it holds no rows")


def _read_as(kind: str, stream: BinaryIO, name: str, encoding: str) -> Rows:
    """The rows of a file of this kind, recoded where it is text and not UTF-8."""
    if kind == ".parquet":
        yield from READERS[kind](stream, name)
        return
    buffered = io.BufferedReader(stream, BLOCK)  # type: ignore[type-var]
    try:
        found = marked(buffered.peek(4)[:4]) if encoding == AUTO else encoding
        if found in ("", UTF8):
            yield from READERS[kind](buffered, name)
            return
        try:
            for row in READERS[kind](io.BufferedReader(Recoded(buffered, found), BLOCK), name):
                yield replace(row, why=_in(found, row.why)) if isinstance(row, BadRow) else row
        except ValueError as error:
            raise ValueError(_in(found, str(error))) from error
    finally:
        buffered.detach()  # the file is its opener's


def _in(encoding: str, why: str) -> str:
    return why.replace("not UTF-8 text", f"not {encoding} text").replace("save the file as UTF-8, or ", "")


def kind_of(name: str) -> str:
    """The ending that says how a file is read (".gz" left out).  Raises ValueError for an unknown one."""
    bare = name.removesuffix(".gz")
    suffix = PurePath(bare).suffix.lower()
    if suffix not in READERS or (suffix == ".parquet" and bare != name):
        raise ValueError(
            f"{name} is of an unknown kind: files end in one of {', '.join(READERS)} (all but parquet also with .gz)"
        )
    return suffix


# ---- JSON ------------------------------------------------------------------------------------------------------------


def _read_json(file: BinaryIO, name: str) -> Rows:
    """Lines, or values that span lines; told apart by whether the first line is whole, because .json files hold either."""
    lines = _lines(file)
    first = next(lines, None)
    if first is None:
        return
    number, line = first
    try:
        text = line.decode("utf-8-sig")
        value = _parse(text)
    except _Unfinished:
        yield from _spanning(name, number, line + file.read())
        return
    except (_Malformed, UnicodeDecodeError):
        yield from _json_lines(chain([first], lines), name)
        return
    second = next(lines, None)
    if second is None:
        yield from _only_value(value, Place(name, number), _has_escaped_half(text))
    else:
        yield from _json_lines(chain([first, second], lines), name)


def _lines(file: Iterable[bytes], first: int = 1) -> Iterator[tuple[int, bytes]]:
    """The lines that are not blank, with their numbers."""
    return ((number, line) for number, line in enumerate(file, first) if line.strip(b" \t\r\n\xef\xbb\xbf"))


def _spanning(name: str, number: int, content: bytes) -> Rows:
    """Values over several lines, from line `number`; or lines, of which the first was cut."""
    try:
        rows = list(_read_values(name, number, _kept(content)))
    except ValueError:
        cut, *others = _lines(io.BytesIO(content), number)
        if not cut[1].lstrip(b"\xef\xbb\xbf \t").startswith(b"{") or not any(map(_whole_object, others)):
            raise
        rows = list(_json_lines(iter([cut, *others]), name))
    yield from rows


def _whole_object(line: tuple[int, bytes]) -> bool:
    """Whether a line is an object of its own, and no part of a longer value (which would have a comma behind it)."""
    try:
        return isinstance(_parse(line[1].decode("utf-8")), dict)
    except ValueError:
        return False


def _json_lines(lines: Iterator[tuple[int, bytes]], name: str) -> Rows:
    for number, line in lines:
        place = Place(name, number)
        try:
            text = _decode(line, str(place))
            yield _row(place, _parse(text), _has_escaped_half(text))
        except _Malformed as error:
            yield BadRow(place, f"{error}: {SHAPES}", stops=True)
        except ValueError as error:  # not UTF-8
            yield BadRow(place, str(error).removeprefix(f"{place}: "), stops=True)


def _read_values(name: str, number: int, text: str) -> Rows:
    """One value, or several one after the other, over any number of lines, of which the first is line `number`."""
    found: list[tuple[int, Any]] = []
    position, line = _start(text, 0), number
    line += text.count("\n", 0, position)
    while position < len(text):
        try:
            value, end = _JSON.raw_decode(text, position)
        except (ValueError, RecursionError) as error:
            raise _malformed_file(name, number, text, position, error) from error
        found.append((line, value))
        following = _start(text, end)
        line, position = line + text.count("\n", position, following), following
    halves = _has_escaped_half(text)
    if len(found) == 1:
        yield from _only_value(found[0][1], Place(name, found[0][0]), halves)
    else:
        for at, value in found:
            yield _row(Place(name, at), value, halves)


def _start(text: str, position: int) -> int:
    """Where the next value begins: after white space, and a comma between values."""
    while position < len(text) and text[position] in " \t\r\n":
        position += 1
    return position


def _malformed_file(name: str, number: int, text: str, position: int, error: Exception) -> ValueError:
    if isinstance(error, json.JSONDecodeError):
        position, what = error.pos, f"{error.msg}, column {error.colno}"
    else:
        what = _said(error)
    line = number + text.count("\n", 0, position)
    return ValueError(f"{name} line {line}: malformed JSON ({what}): {SHAPES}")


def _only_value(value: Any, place: Place, halves: bool) -> Rows:
    """The one value of a file: an array of rows, an object that holds them, a conversation, or a row."""
    inner = value if isinstance(value, list) and not is_conversation(value) else _held(value)
    if inner is None and not place.file.removesuffix(".gz").endswith((".jsonl", ".ndjson")):
        inner = _table(value)  # in a file of lines it is one row, whose cells happen to be lists
    if inner is None:
        yield _row(place, value, halves)
        return
    for number, item in enumerate(inner, 1):
        yield _row(Place(place.file, number, "row"), item, halves)


def _held(value: Any) -> list[Any] | None:
    """The one list of rows in an object."""
    if not isinstance(value, dict):
        return None
    lists = {key: cell for key, cell in value.items() if isinstance(cell, list) and cell}
    holders = [key for key, cell in lists.items() if all(_is_row(item) for item in cell)]
    if len(lists) == len(holders) == 1 and holders[0] not in ONE_ROW:
        return lists[holders[0]]
    return None


def _table(value: Any) -> list[Any] | None:
    """The rows of an object whose cells are the columns (equally long lists), as pandas writes them."""
    if not isinstance(value, dict):
        return None
    if value.keys() == {"columns", "index", "data"}:
        return _split(value["columns"], value["data"])
    cells = _columns(list(value.values()))
    columns = len(value) > 1 and all(isinstance(cell, list) for cell in cells)
    if columns and len({len(cell) for cell in cells}) == 1 and not any(map(is_conversation, cells)):
        return [dict(zip(value, row, strict=True)) for row in zip(*cells, strict=True)]
    return None


def _columns(cells: list[Any]) -> list[Any]:
    """Columns as pandas writes them, {index: cell}, as lists; what is none stays as it is."""
    index = cells[0].keys() if cells and isinstance(cells[0], dict) else ()
    if all(isinstance(cell, dict) and cell.keys() == index and not is_message(cell) for cell in cells):
        return [[cell[key] for key in index] for cell in cells]
    return cells


def _split(names: Any, rows: Any) -> list[Any] | None:
    """Rows of cells apart from their names, as pandas writes them (orient="split")."""
    tables = isinstance(names, list) and isinstance(rows, list) and all(isinstance(n, str) for n in names)
    if tables and all(isinstance(row, list) and len(row) == len(names) for row in rows):
        return [dict(zip(names, row, strict=True)) for row in rows]
    return None


ONE_ROW = (
    "messages",
    "conversation",
    "tools",
    "answers",
    "responses",
    "candidates",
    "summaries",
    "completions",
    "rounds",
)
"""Columns that hold a list of objects in one row."""


def _is_row(value: Any) -> bool:
    return (
        is_conversation(value)
        if isinstance(value, list)
        else isinstance(value, dict) and not is_message(value)
    )


def is_conversation(value: Any) -> bool:
    """Whether a value is a list of messages."""
    return isinstance(value, list) and bool(value) and all(map(is_message, value))


def is_message(value: Any) -> bool:
    """Whether a value looks like a turn: somebody, and what they say or call."""
    return isinstance(value, dict) and bool(
        {"role", "from"} & value.keys() and {"content", "value", "tool_calls", "function_call"} & value.keys()
    )


class _Malformed(ValueError):
    """Text that is no JSON value."""


class _Unfinished(_Malformed):
    """Text that ends before its JSON value does."""


def _parse(text: str) -> Any:
    text = text.strip(" \t\r\n")
    try:
        return _JSON.decode(text)
    except json.JSONDecodeError as error:
        kind = _Unfinished if error.pos >= len(text) else _Malformed
        raise kind(f"malformed JSON ({error.msg}, column {error.colno})") from error
    except (ValueError, RecursionError) as error:
        raise _Malformed(f"malformed JSON ({_said(error)})") from error


def _said(error: Exception) -> str:
    return "nested too deep" if isinstance(error, RecursionError) else str(error)


def _constant(name: str) -> None:
    """What Python and pandas write for a missing number is null."""
    if name != "NaN":
        raise ValueError(f"{name} is no number that JSON knows")


_JSON = json.JSONDecoder(parse_constant=_constant)


def _decode(line: bytes, where: str) -> str:
    try:
        return line.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{where}: {_no_text(error.start)}") from error


def _kept(content: bytes) -> str:
    """Text in which bytes that are none stand as lone surrogates, which their rows are then found by."""
    return content.decode("utf-8-sig", "surrogateescape")


def _no_text(byte: int | str) -> str:
    return f"not UTF-8 text (byte {byte}): save the file as UTF-8, or name its encoding"


def _row(place: Place, value: Any, halves: bool = False) -> Row | BadRow:
    """halves: whether escapes were there that may be half a character (UTF-16 surrogates)."""
    if isinstance(value, list) and is_conversation(value):
        value = {"messages": value}
    if not isinstance(value, dict):
        kind = {list: "a list", str: "a text", bool: "true or false", type(None): "null"}.get(
            type(value), "a number"
        )
        return BadRow(place, f'that is {kind}, not an object such as {{"prompt": "...", ...}}')
    if halves and (half := _half(value)):
        if "\udc80" <= half <= "\udcff":  # what `surrogateescape` makes of a byte
            return BadRow(place, f"that is {_no_text(f'0x{ord(half) - 0xDC00:02x}')}", stops=True)
        return BadRow(place, _HALF.format(ord(half)))
    columns = {str(key): cell for key, cell in value.items() if cell is not None}
    nulls = [str(key) for key, cell in value.items() if cell is None] if len(columns) < len(value) else ()
    return Row(place, columns, tuple(nulls))


_HALF = "with half a character (\\u{:04x}), which is no text"


def parse(text: str) -> tuple[Any, str]:
    """JSON that stands in a cell as text, and why it cannot be used, "" where it can.  Raises ValueError where it is none."""
    value = _parse(text)
    half = _half(value) if _has_escaped_half(text) else ""
    return value, half and _HALF.format(ord(half))


def _has_escaped_half(text: str) -> bool:
    return "\\ud" in text or "\\uD" in text or _ESCAPED_BYTE.search(text) is not None


_ESCAPED_BYTE = re.compile("[\udc80-\udcff]")


def _half(value: Any) -> str:
    """A surrogate that stands alone somewhere in a value, "" where none does."""
    try:
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError as error:
        return str(error.object[error.start])
    return ""


# ---- CSV -------------------------------------------------------------------------------------------------------------


def _read_csv(file: BinaryIO, name: str, delimiters: str) -> Rows:
    """A line of names, then rows of cells, all text; cells may span lines within quotes (RFC 4180)."""
    csv.field_size_limit(LONGEST_CELL)
    text = io.TextIOWrapper(file, encoding="utf-8-sig", errors="surrogateescape", newline="")
    try:
        top = [text.readline()]
        while top[-1] and not top[-1].strip():
            top.append(text.readline())
        delimiter = max(
            delimiters, key=top[-1].count
        )  # of equally many the first: the one that the ending names
        cells = csv.reader(chain(top, text), delimiter=delimiter, strict=True)
        names = _header(next(filter(None, cells), []), name)
        line = cells.line_num + 1
        for values in cells:
            if values:
                yield _csv_row(Place(name, line), names, values)
            line = cells.line_num + 1
    except csv.Error as error:
        why = str(error).replace("'\t'", "a tab")
        raise ValueError(f"{name} line {cells.line_num}: malformed CSV ({why})") from error
    finally:
        text.detach()


def _header(names: list[str], name: str) -> list[str]:
    names = [column.strip() for column in names]
    twice = next((column for column, times in Counter(names).items() if times > 1), None)
    if twice is not None:
        raise ValueError(f"{name} line 1: the column {twice!r} is there twice: rename one of them")
    if lost := _half(names):
        raise ValueError(f"{name} line 1: {_no_text(f'0x{ord(lost) - 0xDC00:02x}')}")
    return names


def _csv_row(place: Place, names: list[str], values: list[str]) -> Row | BadRow:
    if len(values) != len(names):
        return BadRow(
            place,
            f"with {len(values)} cells under {len(names)} names: put cells that hold the separator into quotes",
        )
    halves = any(not value.isascii() and _ESCAPED_BYTE.search(value) for value in values)
    return _row(place, dict(zip(names, values, strict=True)), halves)


# ---- text ------------------------------------------------------------------------------------------------------------


def _read_text(file: BinaryIO, name: str) -> Rows:
    """One document a file, or several with <|endoftext|> between them, which are read one after the other."""
    number, parts, end = 1, [""], ""
    cut = len(DOCUMENT_SEPARATOR) - 1  # so much of a separator may stand at the end of a block
    for block in _decoded(file, name):
        first, *others = (end + block).split(DOCUMENT_SEPARATOR)
        for following in others:
            yield from _document(name, number, "".join([*parts, first]))
            number, parts, first = number + 1, [], following
        parts.append(first[:-cut])
        end = first[-cut:]
    yield from _document(name, number, "".join([*parts, end]))


def _document(name: str, number: int, text: str) -> Iterator[Row]:
    if text.strip():
        yield Row(Place(name, number, "document"), {"text": text.strip("\n")})


def _decoded(file: BinaryIO, name: str) -> Iterator[str]:
    """The text of a file, a block at a time."""
    decoder = codecs.getincrementaldecoder("utf-8-sig")()
    position = 0
    while True:
        block = file.read(BLOCK)
        waiting = len(decoder.getstate()[0])  # bytes of a character that the last block cut
        try:
            yield decoder.decode(block, final=not block)
        except UnicodeDecodeError as error:
            where = position - waiting + error.start
            raise ValueError(f"{name}: {_no_text(where)}") from error
        position += len(block)
        if not block:
            return


# ---- Parquet, and rows that a library has read ------------------------------------------------------------------------


def _read_parquet(file: BinaryIO, name: str) -> Rows:
    import pyarrow
    import pyarrow.parquet

    try:
        found = pyarrow.parquet.ParquetFile(file, buffer_size=BLOCK)  # a row group may be larger than memory
        batches = found.iter_batches(batch_size=ROWS_AT_ONCE)
        yield from loaded((value for batch in batches for value in batch.to_pylist()), name)
    except pyarrow.ArrowInvalid as error:
        raise ValueError(f"{name} is not a readable parquet file: {str(error).splitlines()[0]}") from error


def loaded(values: Iterator[Any], name: str) -> Rows:
    """Rows of what a library has read."""
    return (_row(Place(name, number, "row"), _without_nan(value)) for number, value in enumerate(values, 1))


def _without_nan(value: Any) -> Any:
    """A row in which what pandas writes for a missing cell is null."""
    if not isinstance(value, dict):
        return value
    return {
        key: None if isinstance(cell, float) and math.isnan(cell) else cell for key, cell in value.items()
    }


READERS: dict[str, Callable[[BinaryIO, str], Rows]] = {
    ".jsonl": _read_json,
    ".ndjson": _read_json,
    ".json": _read_json,
    ".csv": partial(_read_csv, delimiters=",;\t"),
    ".tsv": partial(_read_csv, delimiters="\t"),
    ".parquet": _read_parquet,
    ".txt": _read_text,
}
