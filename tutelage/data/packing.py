"""Packing for pretraining: documents put together into rows of at most `max_length` tokens, nearly all of them full.

A row is a list of segments.  Batches keep the segments' lengths (flat layout), so that attention never crosses from one
document to another; packing only makes every step about equally large.  Best-fit decreasing: longest first, each into
the fullest row that still has room (Johnson 1974; for language models Ding et al. 2024, arXiv 2404.10830).
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import NamedTuple

import numpy as np

from tutelage.data.order import rows_for_step
from tutelage.seeds import rng


class Segment(NamedTuple):
    """Tokens `start` to `stop` of a document."""

    document: int
    start: int
    stop: int

    def __len__(self) -> int:
        return self.stop - self.start


@dataclass(frozen=True)
class Packing:
    """How documents of the given lengths (tokens) share rows.

    A document longer than `max_length` is cut; the next piece starts with the last token of the one before, as context,
    so that each token but a document's first is predicted exactly once.  How many rows there are, and how long the
    segments in each are, is the same in every epoch; which document of a length goes where is drawn from (seed, epoch).
    """

    lengths: Sequence[int]
    max_length: int
    seed: int = 0

    def __post_init__(self) -> None:
        if self.max_length < 2:
            raise ValueError(f"max_length is {self.max_length}, but a row needs room for at least 2 tokens")

    @cached_property
    def pieces(self) -> list[Segment]:
        """All segments, in the order of the documents."""
        return [
            piece
            for document, length in enumerate(self.lengths)
            for piece in _cut(document, length, self.max_length)
        ]

    @cached_property
    def _layout(self) -> list[list[int]]:
        return _best_fit([len(piece) for piece in self.pieces], self.max_length)

    def __len__(self) -> int:
        """The number of rows."""
        return len(self._layout)

    @property
    def waste(self) -> float:
        """The share of the rows' room that stays empty."""
        return 1.0 - sum(map(len, self.pieces)) / (len(self) * self.max_length) if len(self) else 0.0

    @property
    def cut(self) -> int:
        """The number of documents that do not fit in one row."""
        return sum(length > self.max_length for length in self.lengths)

    def rows(self, epoch: int) -> list[list[Segment]]:
        """The rows of one epoch."""
        return _fill(self.pieces, self._layout, self.seed, epoch)

    def for_step(self, step: int, rows_per_step: int) -> list[Segment]:
        """The segments of one step: `rows_per_step` rows, as `order.rows_for_step` walks them."""
        rows = rows_for_step(len(self), rows_per_step, step, self.seed)
        first = step * rows_per_step
        return [
            segment for i, row in enumerate(rows) for segment in self._epoch((first + i) // len(self))[row]
        ]

    @cached_property
    def _epoch(self):  # type: ignore[no-untyped-def]
        return lru_cache(maxsize=2)(self.rows)


def _cut(document: int, length: int, max_length: int) -> list[Segment]:
    starts = range(0, max(length - 1, 1), max_length - 1)
    return [Segment(document, start, min(start + max_length, length)) for start in starts]


def _best_fit(lengths: Sequence[int], capacity: int) -> list[list[int]]:
    """Rows as lists of indices into `lengths`, none over `capacity`."""
    rows: list[list[int]] = []
    with_room: dict[int, list[int]] = {}  # room left -> rows
    rooms: list[int] = []  # the keys of with_room, sorted
    for i in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
        place = bisect_left(rooms, lengths[i])
        if place == len(rooms):
            row, room = len(rows), capacity
            rows.append([])
        else:
            room = rooms[place]
            row = with_room[room].pop()
            if not with_room[room]:
                del with_room[room], rooms[place]
        rows[row].append(i)
        left = room - lengths[i]
        if left > 0:
            if left not in with_room:
                insort(rooms, left)
            with_room.setdefault(left, []).append(row)
    return rows


def _fill(pieces: list[Segment], layout: list[list[int]], seed: int, epoch: int) -> list[list[Segment]]:
    """The layout with pieces of equal length changing places."""
    sizes = np.array([len(piece) for piece in pieces])
    shuffled = rng(seed, "packing", epoch).permutation(len(pieces))
    by_size = shuffled[np.argsort(sizes[shuffled], kind="stable")]  # grouped by length, random within
    slots = np.argsort(sizes, kind="stable")
    placed = np.empty(len(pieces), dtype=np.int64)
    placed[slots] = by_size
    return [[pieces[placed[slot]] for slot in row] for row in layout]
