"""Packing for pretraining: documents put together into rows of at most `max_length` tokens, nearly all of them full.

A row is a list of segments.  Batches keep the segments' lengths (flat layout), so that attention never crosses from one
document to another; packing only makes every step about equally large.  Best-fit decreasing: longest first, each into
the fullest row that still has room (Johnson 1974; for language models Ding et al. 2024, arXiv 2404.10830).
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from tutelage.data.order import in_parts, rows_for_step
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
    Some 16 bytes are kept for a piece, and 4 more for each of its two last epochs.

    waste: the share of the rows' room that stays empty.
    """

    def __init__(self, lengths: Sequence[int] | np.ndarray, max_length: int, seed: int = 0) -> None:
        if max_length < 2:
            raise ValueError(f"max_length is {max_length}, but a row needs room for at least 2 tokens")
        self.max_length, self.seed = max_length, seed
        self._documents, self._starts, self._sizes = _cut(np.asarray(lengths, dtype=np.int64), max_length)
        self._slots, self._row_starts = _best_fit(self._sizes, max_length)
        self.waste = 1.0 - int(self._sizes.sum()) / (len(self) * max_length) if len(self) else 0.0
        self._epochs: dict[int, np.ndarray] = {}

    def __len__(self) -> int:
        """The number of rows, the same in every epoch."""
        return len(self._row_starts) - 1

    def parts(self) -> Iterator[list[Segment]]:
        """All segments, document by document, some at a time."""
        for part in in_parts(self._sizes):
            yield [self._segment(piece) for piece in range(part.start, part.stop)]

    def row(self, epoch: int, row: int) -> list[Segment]:
        """The segments of one row in one epoch (rows come in no particular order: `for_step` shuffles them)."""
        if epoch not in self._epochs:
            previous = {
                e: placed for e, placed in self._epochs.items() if e == epoch - 1
            }  # a step may span two
            self._epochs = previous | {epoch: self._fill(epoch)}
        slots = self._slots[self._row_starts[row] : self._row_starts[row + 1]]
        return [self._segment(piece) for piece in self._epochs[epoch][slots].tolist()]

    def for_step(self, step: int, rows_per_step: int) -> list[Segment]:
        """The segments of one step: `rows_per_step` rows, as `order.rows_for_step` walks them."""
        rows = rows_for_step(len(self), rows_per_step, step, self.seed)
        first = step * rows_per_step
        return [segment for i, row in enumerate(rows) for segment in self.row((first + i) // len(self), row)]

    def _segment(self, piece: int) -> Segment:
        start = int(self._starts[piece])
        return Segment(int(self._documents[piece]), start, start + int(self._sizes[piece]))

    def _fill(self, epoch: int) -> np.ndarray:
        """The piece in each slot of the layout: pieces of equal length change places."""
        shuffled = rng(self.seed, "packing", epoch).permutation(len(self._sizes))
        placed = np.empty(len(self._sizes), dtype=np.int32)
        by_size = shuffled[
            np.argsort(self._sizes[shuffled], kind="stable")
        ]  # sorted, in random order within a size
        placed[np.argsort(self._sizes, kind="stable")] = by_size
        return placed


def _cut(lengths: np.ndarray, max_length: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(document, start, size) of every piece, document by document; int32."""
    counts = np.maximum(-(-(lengths - 1) // (max_length - 1)), 1)
    documents = np.repeat(np.arange(len(lengths), dtype=np.int32), counts)
    within = np.arange(len(documents)) - np.repeat(np.cumsum(counts) - counts, counts)
    starts = within * (max_length - 1)
    sizes = np.minimum(lengths[documents] - starts, max_length)
    return documents, starts.astype(np.int32), sizes.astype(np.int32)


def _best_fit(sizes: np.ndarray, capacity: int) -> tuple[np.ndarray, np.ndarray]:
    """Which pieces share a row, none over `capacity`: (pieces, row by row; where each row starts, and the end).

    All pieces of one size are placed at once.  The fullest row with room for one takes the next ones until it has no
    room for another; of equally full rows the last one that became so is the first.
    """
    order = np.argsort(-sizes, kind="stable").astype(np.int32)
    row_of = np.empty(len(sizes), dtype=np.int32)  # of the pieces in that order
    waiting = _Waiting(capacity)
    counts = np.bincount(sizes, minlength=capacity + 1)
    place = rows = 0
    for size in np.flatnonzero(counts)[::-1].tolist():
        left = int(counts[size])
        while left:
            room = waiting.least(size)
            each = room // size
            wanted = -(-left // each)
            if room == capacity:
                taken = np.arange(rows, rows + wanted, dtype=np.int32)
                rows += wanted
            else:
                taken = waiting.take(room, wanted)
            placed = min(left, len(taken) * each)
            row_of[place : place + placed] = np.repeat(taken, each)[:placed]
            last = placed - (len(taken) - 1) * each  # the last row may get fewer
            waiting.add(room - each * size, taken if last == each else taken[:-1])
            if last < each:
                waiting.add(room - last * size, taken[-1:])
            place, left = place + placed, left - placed
    by_row = np.argsort(row_of, kind="stable")
    starts = np.concatenate([[0], np.cumsum(np.bincount(row_of, minlength=rows))])
    return order[by_row], starts


class _Waiting:
    """Rows that have room left, by how much: of each amount a stack."""

    def __init__(self, capacity: int) -> None:
        self._stacks: dict[int, list[np.ndarray]] = {}
        self._rooms = [capacity]  # sorted; an empty row can always be had

    def least(self, size: int) -> int:
        """The smallest room that a piece of this size fits into."""
        return self._rooms[bisect_left(self._rooms, size)]

    def take(self, room: int, count: int) -> np.ndarray:
        """Up to `count` rows with this room, the last added first."""
        stack, taken = self._stacks[room], []
        while stack and count:
            rows = stack.pop()
            kept = max(len(rows) - count, 0)
            if kept:
                stack.append(rows[:kept])
            taken.append(rows[kept:][::-1])
            count -= len(rows) - kept
        if not stack:
            del self._stacks[room], self._rooms[bisect_left(self._rooms, room)]
        return np.concatenate(taken)

    def add(self, room: int, rows: np.ndarray) -> None:
        if room and len(rows):
            if room not in self._stacks:
                insort(self._rooms, room)
            self._stacks.setdefault(room, []).append(rows)
