"""Rows that may be more than fit into memory: a list while they are few, else in a file, read when they are asked for."""

from __future__ import annotations

import itertools
import os
import pickle
import tempfile
from array import array
from collections.abc import Iterable, Iterator, Sequence
from typing import IO, Any, TypeVar, overload

T = TypeVar("T")
IN_MEMORY = 20_000  # rows; beyond that all of them are on the disk
READ_AHEAD = 500  # rows that are read at once where all are wanted in turn


def kept(rows: Iterable[T]) -> Sequence[T]:
    """All rows, to be read as often as is wanted."""
    keeper: Keeper[T] = Keeper()
    for row in rows:
        keeper.add(row)
    return keeper.rows()


class Keeper(Sequence[T]):
    """Rows as they come, in the order of their coming; a sequence like any other.

    The file has no name, belongs to whoever can read the process's memory anyway, and goes with the last reference.  8 bytes
    of memory a row: where it begins.
    """

    def __init__(self) -> None:
        self._few: list[T] = []
        self._file: IO[bytes] | None = None
        self._starts = array("q", [0])  # of the rows in the file, and where the next will begin

    def add(self, row: T) -> None:
        """Put a row behind the others."""
        if self._file is None and len(self._few) < IN_MEMORY:
            self._few.append(row)
            return
        if self._file is None:
            self._file = tempfile.TemporaryFile(prefix="tutelage-")  # noqa: SIM115  (closed with the last reference)
            for one in self._few:
                self._write(one)
            self._few = []
        self._write(row)

    def rows(self) -> Sequence[T]:
        """What there is: a plain list while it is little."""
        if self._file is None:
            return self._few
        self._file.flush()
        return self

    def __len__(self) -> int:
        return len(self._few) if self._file is None else len(self._starts) - 1

    @overload
    def __getitem__(self, index: int) -> T: ...
    @overload
    def __getitem__(self, index: slice) -> list[T]: ...
    def __getitem__(self, index: int | slice) -> T | list[T]:
        if self._file is None:
            return self._few[index]
        if isinstance(index, int):
            place = range(len(self))[index]
            return self._read(place, place + 1)[0]
        places = range(len(self))[index]
        if places.step == 1:
            return self._read(places.start, places.stop) if places else []
        return [self[place] for place in places]

    def __iter__(self) -> Iterator[T]:
        for start in range(0, len(self), READ_AHEAD):
            yield from self[start : start + READ_AHEAD]

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence) or len(self) != len(other):
            return NotImplemented if not isinstance(other, Sequence) else False
        return all(mine == theirs for mine, theirs in zip(self, other, strict=True))

    __hash__ = None  # type: ignore[assignment]

    def _write(self, row: T) -> None:
        assert self._file is not None
        self._file.write(said := pickle.dumps(row, pickle.HIGHEST_PROTOCOL))
        self._starts.append(self._starts[-1] + len(said))

    def _read(self, start: int, stop: int) -> list[T]:
        """Rows that lie beside each other; by their place, so that threads do not move each other's."""
        assert self._file is not None
        self._file.flush()
        begin, end = self._starts[start], self._starts[stop]
        content = memoryview(_pread(self._file.fileno(), end - begin, begin))
        marks = self._starts[start : stop + 1]
        found: list[Any] = [
            pickle.loads(content[a - begin : b - begin]) for a, b in itertools.pairwise(marks)
        ]
        return found


def _pread(file: int, size: int, place: int) -> bytes:
    """That many bytes, however many the system gives at once."""
    parts: list[bytes] = []
    while size:
        part = os.pread(file, size, place)
        if not part:
            raise OSError("a temporary file has become shorter: is its disk full?")
        parts.append(part)
        size, place = size - len(part), place + len(part)
    return b"".join(parts)
