"""In which order rows are visited.  A step's rows depend only on (step, seed), so that resume needs no iterator state."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from tutelage.seeds import rng

AT_ONCE = 2**20
"""Tokens of a pass over all rows that are in memory at the same time."""

GOLDEN = (
    5**0.5 - 1
) / 2  # whose multiples are spread over [0, 1) as evenly as can be, however many there are

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
    return _visited(n, step * batch_size, batch_size, seed, groups)


def _visited(n: int, position: int, count: int, seed: int, groups: Groups | None = None) -> list[int]:
    """So many rows from a position on, epoch after epoch."""
    rows: list[int] = []
    while len(rows) < count:
        epoch, offset = divmod(position + len(rows), n)
        rows += epoch_order(n, seed, epoch, groups)[offset : offset + count - len(rows)].tolist()
    return rows


class TaskOrder:
    """Which rows each step visits where tasks are drawn in proportion to n ** alpha, n being the rows of a task: 1 as they are, 0
    all tasks alike (temperature sampling: Arivazhagan et al. 2019, arXiv 1907.05019, section 4.2, with alpha = 1 / T).

    A task's turns are spread evenly (its k-th at about position k / p: a golden-ratio sequence, moved by the seed), and its rows
    come in epochs of their own, as `rows_for_step` has them.  Depends on nothing but (tasks, alpha, seed, step).
    """

    def __init__(self, tasks: Sequence[str], alpha: float, seed: int) -> None:
        names = sorted(set(tasks))
        if not names:
            raise ValueError("there are no rows to train on")
        of = np.array([names.index(task) for task in tasks])
        self._rows = [np.flatnonzero(of == number) for number in range(len(names))]
        sizes = np.array([len(rows) for rows in self._rows], dtype=float) ** alpha
        self.shares = dict(zip(names, (sizes / sizes.sum()).tolist(), strict=True))
        self._ends = np.cumsum(sizes / sizes.sum())
        self._seeds = [int(rng(seed, "task", name).integers(2**31)) for name in names]
        self._start = float(rng(seed, "tasks").random())

    def rows_for_step(self, batch_size: int, step: int) -> list[int]:
        """`batch_size` rows; a row may come again before the rows of other tasks were all visited."""
        begin = step * batch_size
        turns = self._turns(begin + batch_size)
        found = np.empty(batch_size, dtype=np.int64)
        for task, rows in enumerate(self._rows):
            mine = turns[begin:] == task
            before, now = int(np.count_nonzero(turns[:begin] == task)), int(np.count_nonzero(mine))
            found[mine] = rows[_visited(len(rows), before, now, self._seeds[task])]
        return found.tolist()

    def _turns(self, count: int) -> np.ndarray:
        """int64 [count]: the task of each position."""
        places = (self._start + np.arange(1, count + 1) * GOLDEN) % 1.0
        return np.minimum(np.searchsorted(self._ends, places, side="right"), len(self._ends) - 1)


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
