"""The token table: tokenised examples on disk, read through a memory map; what is not being looked at takes no memory.

An example (a unit) is k sequences: one, or the two of a pair.  A table is a folder of plain arrays in native byte order:

    ids        uint16 [N], or uint32 for vocabularies of more than 65,536 tokens: all sequences, one after the other
    loss_mask  one bit per token [N], the lowest bit of a byte first; True = trained on
    ends       int64 [S]: where each sequence ends in `ids`
    trained    int32 [S]: how many tokens of each sequence are trained on
    rows       int64 [U]: the row that each unit was made of, counted over all rows read, from 0
    files, lines  int64 [U]: where that row stands: which of the files in table.json, and its number there (-1: nowhere)
    NAME       float64 [U]: numbers that belong to units (p_chosen, margin)
    records    JSON texts one after the other, `record_ends` int64 [U]: what units were made of, where that is needed
    table.json what is what, and the report of the preflight
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Generic, TypeVar, overload

import numpy as np

from tutelage.data.batch import Tokens
from tutelage.data.order import in_parts
from tutelage.files import move_folder, write_json_atomic
from tutelage.records import Place

E = TypeVar("E")
DESCRIPTION, STATE = "table.json", "state.json"
_TYPES = {
    "ends": np.int64,
    "trained": np.int32,
    "rows": np.int64,
    "files": np.int64,
    "lines": np.int64,
    "record_ends": np.int64,
}


class Table:
    """A finished table, open for reading.  Stays readable when its folder is removed meanwhile."""

    def __init__(self, folder: Path) -> None:
        description = json.loads((folder / DESCRIPTION).read_text(encoding="utf-8"))
        self.report: dict[str, Any] = description["report"]
        self.sequences_per_unit: int = description["sequences_per_unit"]
        self._ids = _map(folder / "ids", np.dtype(description["ids"]))
        self._bits = _map(folder / "loss_mask", np.dtype(np.uint8))
        self._arrays = {name: _map(folder / name, np.dtype(dtype)) for name, dtype in _TYPES.items()}
        self._numbers = {name: _map(folder / name, np.dtype(np.float64)) for name in description["numbers"]}
        self._records = _map(folder / "records", np.dtype(np.uint8))
        self._files: list[tuple[str, str]] = [(name, unit) for name, unit in description["files"]]

    def __len__(self) -> int:
        """The number of units."""
        return len(self.rows)

    @property
    def rows(self) -> np.ndarray:
        """int64 [U]: the row that each unit was made of."""
        return self._arrays["rows"]

    def place(self, unit: int) -> Place | None:
        """Where the row stands that a unit was made of; None where it comes from no file."""
        file = int(self._arrays["files"][unit])
        if file < 0:
            return None
        name, of = self._files[file]
        return Place(name, int(self._arrays["lines"][unit]), of)

    @cached_property
    def lengths(self) -> np.ndarray:
        """int32 [S]: tokens of each sequence."""
        ends = self._arrays["ends"]
        return np.diff(ends, prepend=0).astype(np.int32) if len(ends) else np.empty(0, np.int32)

    @property
    def trained(self) -> np.ndarray:
        """int32 [S]: how many tokens of each sequence are trained on."""
        return self._arrays["trained"]

    def numbers(self, name: str) -> np.ndarray:
        """float64 [U]: one of the numbers that belong to units."""
        return self._numbers[name]

    def unit(self, unit: int) -> list[Tokens]:
        """The sequences of a unit (copies: nothing of the map is kept)."""
        k = self.sequences_per_unit
        return [self.sequence(unit * k + j) for j in range(k)]

    def sequence(self, number: int, start: int = 0, stop: int | None = None) -> Tokens:
        """Tokens `start` to `stop` of one sequence."""
        first, end = _span(self._arrays["ends"], number)
        low, high = first + start, end if stop is None else first + stop
        bits = np.unpackbits(self._bits[low // 8 : -(-high // 8)], bitorder="little")
        mask = bits[low % 8 : low % 8 + high - low].astype(bool)
        return Tokens(self._ids[low:high].astype(np.int32), mask)

    def record(self, unit: int) -> Any:
        """What `Writer.add` was given as the unit's record."""
        start, stop = _span(self._arrays["record_ends"], unit)
        return json.loads(self._records[start:stop].tobytes())


class Examples(Sequence[E], Generic[E]):
    """The units of a table as the examples that a trainer asks for; each is read when it is asked for."""

    def __init__(self, table: Table, read: Callable[[Table, int], E]) -> None:
        self.table, self._read = table, read

    def __len__(self) -> int:
        return len(self.table)

    @overload
    def __getitem__(self, index: int) -> E: ...
    @overload
    def __getitem__(self, index: slice) -> list[E]: ...
    def __getitem__(self, index: int | slice) -> E | list[E]:
        found = range(len(self))[index]
        return (
            [self._read(self.table, i) for i in found]
            if isinstance(found, range)
            else self._read(self.table, found)
        )

    def parts(self) -> Iterator[slice]:
        """All examples in order, some at a time: what a pass over them has in memory."""
        return in_parts(self.table.lengths.reshape(-1, self.table.sequences_per_unit).sum(1))

    def __iter__(self) -> Iterator[E]:
        return (self._read(self.table, i) for i in range(len(self)))


class Writer:
    """A table being made, in a folder of its own until it is whole.

    `mark(state)` makes what was added until then, and `state`, outlive this process: a writer of the same folder goes on
    from there, and finds it in `state`.  What was added after the last mark is forgotten.
    """

    def __init__(
        self,
        folder: Path,
        vocabulary: int,
        sequences_per_unit: int = 1,
        numbers: Sequence[str] = (),
    ) -> None:
        """vocabulary: one more than the highest token id."""
        folder.mkdir(parents=True, exist_ok=True)
        ids = np.uint16 if vocabulary <= 2**16 else np.uint32
        self._folder, self._numbers = folder, tuple(numbers)
        self._description = {
            "sequences_per_unit": sequences_per_unit,
            "ids": np.dtype(ids).name,
            "numbers": list(numbers),
        }
        path = folder / STATE
        found = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        self.state: dict[str, Any] | None = found.get("state")
        self._files = {(name, unit): number for number, (name, unit) in enumerate(found.get("files", []))}
        types: dict[str, Any] = {
            "ids": ids,
            **_TYPES,
            "records": np.uint8,
            **dict.fromkeys(numbers, np.float64),
        }
        sizes = found.get("sizes", {})
        self._columns = {
            name: _Column(folder / name, dtype, sizes.get(name, 0)) for name, dtype in types.items()
        }
        self._mask = _Bits(folder / "loss_mask", sizes.get("loss_mask", 0), found.get("bits", []))

    @property
    def units(self) -> int:
        """How many units were added."""
        return self._columns["rows"].length

    def add(
        self,
        row: int,
        sequences: Sequence[Tokens],
        numbers: Mapping[str, float] | None = None,
        record: Any = None,
        place: Place | None = None,
    ) -> None:
        """A unit: its sequences, its numbers, a JSON value that says what it was made of (None keeps nothing), its place."""
        columns = self._columns
        for tokens in sequences:
            columns["ids"].extend(tokens.ids)
            columns["ends"].extend([columns["ids"].length])
            columns["trained"].extend([int(tokens.loss_mask.sum())])
            self._mask.extend(tokens.loss_mask)
        columns["rows"].extend([row])
        file = -1 if place is None else self._files.setdefault((place.file, place.unit), len(self._files))
        columns["files"].extend([file])
        columns["lines"].extend([-1 if place is None else place.number])
        for name in self._numbers:
            assert numbers is not None
            columns[name].extend([numbers[name]])
        text = (
            b"" if record is None else json.dumps(record, ensure_ascii=False).encode("utf-8", "surrogatepass")
        )
        columns["records"].extend(np.frombuffer(text, np.uint8))
        columns["record_ends"].extend([columns["records"].length])

    def flush(self) -> None:
        """Hand what was added to the system, so that it takes no memory here."""
        for column in (*self._columns.values(), self._mask):
            column.flush()

    def mark(self, state: Mapping[str, Any]) -> None:
        """Make what was added so far outlive this process, together with `state` (JSON)."""
        self.flush()
        sizes = {name: column.sync() for name, column in {**self._columns, "loss_mask": self._mask}.items()}
        found = {"sizes": sizes, "bits": self._mask.rest, "files": list(self._files), "state": state}
        write_json_atomic(self._folder / STATE, found)

    def lengths(self) -> tuple[np.ndarray, np.ndarray]:
        """int32 [S] each: tokens of each sequence, and how many of them are trained on."""
        self.flush()
        ends, trained = (_map(self._folder / name, np.dtype(_TYPES[name])) for name in ("ends", "trained"))
        return np.diff(ends, prepend=0).astype(np.int32), trained

    def finish(self, path: Path, report: Mapping[str, Any]) -> Table:
        """Close the table with the report, and move it to `path`."""
        self._mask.close()
        for column in self._columns.values():
            column.close()
        (self._folder / STATE).unlink(missing_ok=True)
        write_json_atomic(
            self._folder / DESCRIPTION,
            {**self._description, "files": list(self._files), "report": dict(report)},
        )
        move_folder(self._folder, path)
        return Table(path)


class _Column:
    """An array that grows at its end: collected in memory, appended to a file."""

    def __init__(self, path: Path, dtype: Any, length: int) -> None:
        """length: how many elements of the file to go on from; what stands after them is cut off."""
        self._dtype = np.dtype(dtype)
        self.length = length
        self._file = path.open("ab")
        self._file.truncate(length * self._dtype.itemsize)
        self._waiting: list[np.ndarray] = []

    def extend(self, values: Sequence[float] | np.ndarray) -> None:
        self._waiting.append(np.asarray(values, dtype=self._dtype))
        self.length += len(values)

    def flush(self) -> None:
        self._file.write(b"".join(values.tobytes() for values in self._waiting))
        self._file.flush()
        self._waiting = []

    def sync(self) -> int:
        """Have the system write it to the disk; returns the length."""
        os.fsync(self._file.fileno())
        return self.length

    def close(self) -> None:
        self.flush()
        self._file.close()


class _Bits(_Column):
    """Bits, eight to a byte; `rest` are those that do not fill one yet."""

    def __init__(self, path: Path, bytes_there: int, rest: Sequence[bool]) -> None:
        super().__init__(path, np.uint8, bytes_there)
        self._bits = [np.array(rest, dtype=bool)]

    @property
    def rest(self) -> list[bool]:
        return [bool(bit) for bits in self._bits for bit in bits]

    def extend(self, values: Sequence[float] | np.ndarray) -> None:
        self._bits.append(np.asarray(values, dtype=bool))

    def flush(self) -> None:
        bits = np.concatenate(self._bits)
        whole = len(bits) // 8 * 8
        super().extend(np.packbits(bits[:whole], bitorder="little"))
        self._bits = [bits[whole:]]
        super().flush()

    def close(self) -> None:
        self.flush()
        super().extend(np.packbits(self._bits[0], bitorder="little"))
        super().flush()
        self._file.close()


def _map(path: Path, dtype: np.dtype) -> np.ndarray:
    """The array in a file, read when it is looked at."""
    if not path.stat().st_size:
        return np.empty(0, dtype)
    return np.memmap(path, dtype=dtype, mode="r").view(np.ndarray)


def _span(ends: np.ndarray, number: int) -> tuple[int, int]:
    return int(ends[number - 1]) if number else 0, int(ends[number])
