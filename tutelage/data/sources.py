"""Where rows come from: local files (JSONL, JSON, parquet, text, each but parquet also .gz), patterns, hub data sets.

A row is a dictionary of columns together with where it stands ("data.jsonl line 3"), so that every later complaint about
it can say so.  Rows are read one at a time: a large file is never in memory as a whole (a JSON array is).
"""

from __future__ import annotations

import codecs
import glob
import gzip
import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from tutelage.files import sha256_of
from tutelage.hub import hub

Source = str | Path | Sequence[str | Path]

HUB = "hub:"
SUFFIXES = (".jsonl", ".ndjson", ".json", ".parquet", ".txt")
DOCUMENT_SEPARATOR = (
    "<|endoftext|>"  # in .txt files; GPT-2's own, and what TinyStories and others are published with
)
BLOCK = 2**20  # bytes read at once
ROWS_AT_ONCE = 1024  # of a parquet file


@dataclass(frozen=True)
class Row:
    """One row of a data set.  `where` names it for people, `columns` leaves out those that are null."""

    where: str
    columns: dict[str, Any]


def read_rows(source: Source) -> Iterator[Row]:
    """All rows of a source, lazily: a path, a pattern, `hub:owner/name[:split[:config]]`, or several of these.

    Raises ValueError (one sentence: file, line, what to do) for what is missing, empty, unreadable or malformed.
    """
    parts = [source] if isinstance(source, str | Path) else list(source)
    if not parts:
        raise ValueError("no data was given: name a file, a pattern such as data/*.jsonl, or hub:owner/name")
    for part in parts:
        if str(part).startswith(HUB):
            yield from _read_hub(str(part))
        else:
            for path in local_paths(part):
                yield from _read_file(path)


def local_paths(source: Source) -> list[Path]:
    """The files that a source stands for, patterns expanded and sorted; hub data sets have none.

    Raises ValueError where a file does not exist or a pattern matches nothing.
    """
    if not isinstance(source, str | Path):
        return [path for part in source for path in local_paths(part)]
    if str(source).startswith(HUB):
        return []
    path = Path(source).expanduser()
    if path.is_dir():
        raise ValueError(f"{path} is a folder: name its files, for example {path}/*.jsonl")
    if path.exists():
        return [path]
    if glob.has_magic(str(path)):
        found = sorted(Path(p) for p in glob.glob(str(path), recursive=True) if Path(p).is_file())
        if not found:
            raise ValueError(f"no file matches the pattern {path}: check the folder and the ending")
        return found
    raise ValueError(f"the file {path} does not exist: check the path (relative to {Path.cwd()})")


def content_hash(source: str | Path) -> str | None:
    """sha256 (hex) of what a source or a model folder holds: a file, a folder, or all files of a pattern by name.

    None for what is not on this machine: hub names, and what does not exist.
    """
    path = Path(source).expanduser()
    if path.exists():
        return sha256_of(path)
    try:
        lines = [f"{found.name}\0{sha256_of(found)}\n" for found in local_paths(source)]
    except ValueError:
        return None
    return hashlib.sha256("".join(lines).encode()).hexdigest() if lines else None


def any_hub(source: Source) -> bool:
    """Whether a source, or a part of it, is a hub data set."""
    parts = [source] if isinstance(source, str | Path) else source
    return any(str(part).startswith(HUB) for part in parts)


def _read_file(path: Path) -> Iterator[Row]:
    kind = _suffix(path)
    reader: Callable[[Path], Iterator[Row]]
    if kind == ".parquet":
        reader = _read_parquet
    elif kind == ".txt":
        reader = _read_text
    else:
        reader = _read_json
    count = 0
    try:
        for row in reader(path):
            count += 1
            yield row
    except (gzip.BadGzipFile, EOFError) as error:
        raise ValueError(
            f"{path} is not a complete gzip file ({error}): copy or download it again"
        ) from error
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror or error}") from error
    if count == 0:
        raise ValueError(f"{path} is empty: it holds no rows")


def _suffix(path: Path) -> str:
    name = path.name.removesuffix(".gz")
    suffix = Path(name).suffix.lower()
    if suffix not in SUFFIXES or (suffix == ".parquet" and name != path.name):
        known = ", ".join(SUFFIXES)
        raise ValueError(
            f"{path} is of an unknown kind: files end in one of {known} (all but parquet also with .gz)"
        )
    return suffix


def _open(path: Path) -> BinaryIO:
    return gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb")  # type: ignore[return-value]


def _read_json(path: Path) -> Iterator[Row]:
    """JSON lines, or one JSON array; told apart by the first character, because many .json files hold lines."""
    with _open(path) as file:
        for number, line in enumerate(file, 1):
            text = _decode(line, f"{path} line {number}").strip()
            if not text:
                continue
            if text.startswith("["):
                rest = _decode(file.read(), str(path))
                yield from _read_array(path, "\n" * (number - 1) + text + "\n" + rest)
                return
            yield _row(f"{path} line {number}", _parse(text, f"{path} line {number}"))


def _read_array(path: Path, text: str) -> Iterator[Row]:
    try:
        values = json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(
            f"{path} line {error.lineno}: malformed JSON ({error.msg}, column {error.colno})"
        ) from error
    for number, value in enumerate(values, 1):
        yield _row(f"{path} row {number}", value)


def _parse(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"{where}: malformed JSON ({error.msg}, column {error.colno})") from error


def _decode(line: bytes, where: str) -> str:
    try:
        return line.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{where}: not UTF-8 text (byte {error.start}): save the file as UTF-8") from error


def _row(where: str, value: Any) -> Row:
    if not isinstance(value, dict):
        kind = type(value).__name__
        raise ValueError(f'{where}: expected a JSON object such as {{"prompt": "...", ...}}, found a {kind}')
    return Row(where, {key: v for key, v in value.items() if v is not None})


def _read_text(path: Path) -> Iterator[Row]:
    """One document a file, or several with <|endoftext|> between them, which are read one after the other."""
    number, parts, end = 1, [""], ""
    cut = len(DOCUMENT_SEPARATOR) - 1  # so much of a separator may stand at the end of a block
    with _open(path) as file:
        for block in _decoded(file, path):
            first, *others = (end + block).split(DOCUMENT_SEPARATOR)
            for following in others:
                yield from _document(path, number, "".join([*parts, first]))
                number, parts, first = number + 1, [], following
            parts.append(first[:-cut])
            end = first[-cut:]
    yield from _document(path, number, "".join([*parts, end]))


def _document(path: Path, number: int, text: str) -> Iterator[Row]:
    if text.strip():
        yield Row(f"{path} document {number}", {"text": text.strip("\n")})


def _decoded(file: BinaryIO, path: Path) -> Iterator[str]:
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
            raise ValueError(f"{path}: not UTF-8 text (byte {where}): save the file as UTF-8") from error
        position += len(block)
        if not block:
            return


def _read_parquet(path: Path) -> Iterator[Row]:
    import pyarrow
    import pyarrow.parquet

    number = 0
    try:
        file = pyarrow.parquet.ParquetFile(path, buffer_size=BLOCK)  # a row group may be larger than memory
        for batch in file.iter_batches(batch_size=ROWS_AT_ONCE):
            for value in batch.to_pylist():
                number += 1
                yield _row(f"{path} row {number}", value)
    except pyarrow.ArrowInvalid as error:
        raise ValueError(f"{path} is not a readable parquet file: {str(error).splitlines()[0]}") from error


def _read_hub(source: str) -> Iterator[Row]:
    name, _, rest = source.removeprefix(HUB).partition(":")
    split, _, config = rest.partition(":")
    split = split or "train"
    if not name:
        raise ValueError(
            f"{source!r} names no data set: write hub:owner/name, hub:owner/name:split or ...:split:config"
        )
    import datasets

    with hub() as unreachable:
        try:
            rows = datasets.load_dataset(name, config or None, split=split)
        except (
            Exception
        ) as error:  # the library raises many kinds: no such data set, no such split, no network
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            reason += f", and {unreachable}" if unreachable else ""
            raise ValueError(
                f"the hub data set {name} (split {split}) cannot be loaded: {reason}; check the name and the network, "
                "or download it and name the files"
            ) from error
    count = 0
    for count, value in enumerate(rows, 1):
        yield _row(f"{HUB}{name}:{split} row {count}", dict(value))
    if count == 0:
        raise ValueError(f"{HUB}{name}:{split} is empty: it holds no rows")
