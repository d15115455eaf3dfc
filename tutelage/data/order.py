"""In which order rows are visited.  A step's rows depend only on (step, seed), so that resume needs no iterator state."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from tutelage.seeds import rng

AT_ONCE = 2**20
"""Tokens of a pass over all rows that are in memory at the same time."""

TOGETHER = 2
"""So many single responses to one prompt are visited together, as in a pair; more would leave a batch with few prompts."""


@dataclass(frozen=True, eq=False)
class Groups:
    """Rows that are visited one after the other.  of: int64 [n], the number of each row's group, from 0."""

    of: np.ndarray

    def together(self, order: np.ndarray) -> np.ndarray:
        """The permutation `order` [n] with each group where its first row stands, and its rows in the order they have there."""
        groups = self.of[order]
        first = np.full(int(groups.max(initial=0)) + 1, len(order))
        np.minimum.at(first, groups, np.arange(len(order)))
        return order[np.argsort(first[groups], kind="stable")]


@lru_cache(maxsize=2)  # a step may span two epochs; of ten million rows each takes 80 MB
def epoch_order(n: int, seed: int, epoch: int, groups: Groups | None = None) -> np.ndarray:
    """The order of `n` rows in one epoch: an int64 permutation [n] (read-only, because it is cached)."""
    order = rng(seed, "order", epoch).permutation(n)
    order = order if groups is None else groups.together(order)
    order.setflags(write=False)
    return order


def rows_for_step(n: int, batch_size: int, step: int, seed: int, groups: Groups | None = None) -> list[int]:
    """The rows of step 0, 1, 2...: epochs one after the other, each row once per epoch; a batch's end may part a group.

    A batch that reaches the end of an epoch is filled up from the next one, so every batch has `batch_size` rows (and
    may hold a row twice).  Raises ValueError when there are no rows.
    """
    if n < 1:
        raise ValueError("there are no rows to train on")
    assert batch_size >= 1 and step >= 0
    rows: list[int] = []
    position = step * batch_size
    while len(rows) < batch_size:
        epoch, offset = divmod(position + len(rows), n)
        rows += epoch_order(n, seed, epoch, groups)[offset : offset + batch_size - len(rows)].tolist()
    return rows


def in_parts(sizes: np.ndarray, at_once: int = AT_ONCE) -> Iterator[slice]:
    """All rows in order, as many at a time as have at most `at_once` tokens together (always at least one)."""
    ends = np.cumsum(sizes, dtype=np.int64)
    start = held = 0
    while start < len(ends):
        stop = max(int(np.searchsorted(ends, held + at_once, side="right")), start + 1)
        yield slice(start, stop)
        start, held = stop, int(ends[stop - 1])


def rows_until(n: int, batch_size: int, steps: int, seed: int, groups: Groups | None = None) -> np.ndarray:
    """int64: the different rows that the first `steps` steps of `rows_for_step` visit, ascending."""
    return np.sort(epoch_order(n, seed, 0, groups)[: min(n, batch_size * steps)])
