"""Packing for pretraining: documents put together into rows of at most `max_length` tokens, nearly all of them full.

A row is a list of segments.  Batches keep the segments' lengths (flat layout), so that attention never crosses from one
document to another; packing only makes every step about equally large.  Best-fit decreasing: longest first, each into
the fullest row that still has room (Johnson 1974; for language models Ding et al. 2024, arXiv 2404.10830).
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from tutelage.data.order import rows_for_step
from tutelage.seeds import rng


class Segment(NamedTuple):
    """Tokens `start` to `stop` of a document."""

    document: int
    start: int
    stop: int


class Packing:
    """How documents of the given lengths (tokens) share rows.

    A document longer than `max_length` is cut; the next piece starts with the last token of the one before, as context,
    so that each token but a document's first is predicted exactly once.  How many rows there are, and how long the
    segments in each are, is the same in every epoch; which document of a length goes where is drawn from (seed, epoch).

    pieces: all segments, document by document.  waste: the share of the rows' room that stays empty.
    """

    def __init__(self, lengths: Sequence[int], max_length: int, seed: int = 0) -> None:
        if max_length < 2:
            raise ValueError(f"max_length is {max_length}, but a row needs room for at least 2 tokens")
        self.max_length, self.seed = max_length, seed
        self.pieces = [
            piece for number, length in enumerate(lengths) for piece in _cut(number, length, max_length)
        ]
        self._sizes = np.array([piece.stop - piece.start for piece in self.pieces], dtype=np.int64)
        self._layout = _best_fit(self._sizes.tolist(), max_length)
        self.waste = 1.0 - int(self._sizes.sum()) / (len(self) * max_length) if len(self) else 0.0
        self._epochs: dict[int, list[list[Segment]]] = {}

    def __len__(self) -> int:
        """The number of rows, the same in every epoch."""
        return len(self._layout)

    def rows(self, epoch: int) -> list[list[Segment]]:
        """The rows of one epoch (in no particular order: `for_step` shuffles them)."""
        if epoch not in self._epochs:
            previous = {e: rows for e, rows in self._epochs.items() if e == epoch - 1}  # a step may span two
            self._epochs = previous | {epoch: self._fill(epoch)}
        return self._epochs[epoch]

    def for_step(self, step: int, rows_per_step: int) -> list[Segment]:
        """The segments of one step: `rows_per_step` rows, as `order.rows_for_step` walks them."""
        rows = rows_for_step(len(self), rows_per_step, step, self.seed)
        first = step * rows_per_step
        return [segment for i, row in enumerate(rows) for segment in self.rows((first + i) // len(self))[row]]

    def _fill(self, epoch: int) -> list[list[Segment]]:
        """The layout, with pieces of equal length changing places."""
        shuffled = rng(self.seed, "packing", epoch).permutation(len(self.pieces))
        placed = np.empty(len(self.pieces), dtype=np.int64)
        by_size = shuffled[
            np.argsort(self._sizes[shuffled], kind="stable")
        ]  # sorted, in random order within a size
        placed[np.argsort(self._sizes, kind="stable")] = by_size
        return [[self.pieces[placed[slot]] for slot in row] for row in self._layout]


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
