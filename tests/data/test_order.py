"""Order depends only on (step, seed): epochs without gaps or repeats, whatever the batch size."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tutelage.data.order import Groups, TaskOrder, epoch_order, in_parts, rows_for_step


@given(st.integers(1, 40), st.integers(1, 60), st.integers(0, 5))
def test_every_epoch_holds_every_row_once(n: int, batch_size: int, seed: int) -> None:
    steps = 3 * n // batch_size + 2
    walked = [row for step in range(steps) for row in rows_for_step(n, batch_size, step, seed)]
    assert len(walked) == steps * batch_size
    for epoch in range(len(walked) // n):
        assert Counter(walked[epoch * n : epoch * n + n]) == Counter(range(n))


@given(st.lists(st.integers(0, 9), min_size=1, max_size=40), st.integers(0, 5))
def test_groups_are_visited_one_after_the_other(of: list[int], seed: int) -> None:
    """By a dictionary: groups as their first rows come, and their rows as they come."""
    plain: dict[int, list[int]] = {}
    for row in epoch_order(len(of), seed, 0).tolist():
        plain.setdefault(of[row], []).append(row)
    together = epoch_order(len(of), seed, 0, Groups(np.array(of))).tolist()
    assert together == [row for rows in plain.values() for row in rows]
    assert rows_for_step(len(of), len(of), 0, seed, Groups(np.array(of))) == together


def test_same_rows_for_another_batch_size() -> None:
    by_four = [row for step in range(6) for row in rows_for_step(10, 4, step, seed=3)]
    by_six = [row for step in range(4) for row in rows_for_step(10, 6, step, seed=3)]
    assert by_four == by_six


def test_epochs_and_seeds_differ_and_repeat() -> None:
    orders = [tuple(epoch_order(50, seed, epoch)) for seed in (0, 1) for epoch in (0, 1)]
    assert len(set(orders)) == 4
    epoch_order.cache_clear()
    assert tuple(epoch_order(50, 1, 1)) == orders[3]
    with pytest.raises(ValueError):
        epoch_order(50, 0, 0)[0] = 1  # cached, so nobody may change it


TASKS = ["maths"] * 64 + ["chat"] * 16 + ["poem"] * 4


@pytest.mark.parametrize(
    ("alpha", "shares"),
    [(1.0, (64 / 84, 16 / 84, 4 / 84)), (0.5, (8 / 14, 4 / 14, 2 / 14)), (0.0, (1 / 3, 1 / 3, 1 / 3))],
)
def test_tasks_are_drawn_in_proportion_to_a_power_of_their_rows(
    alpha: float, shares: tuple[float, ...]
) -> None:
    """In every stretch of the way, not on average alone."""
    order = TaskOrder(TASKS, alpha, seed=1)
    drawn = [TASKS[row] for step in range(60) for row in order.rows_for_step(14, step)]
    for begin in range(0, 840, 140):
        counts = Counter(drawn[begin : begin + 140])
        for task, share in zip(("maths", "chat", "poem"), shares, strict=True):
            assert counts[task] == pytest.approx(140 * share, abs=3), (begin, task)
    assert order.shares == pytest.approx(dict(zip(("maths", "chat", "poem"), shares, strict=True)))


@given(st.floats(0, 1), st.integers(1, 30), st.integers(0, 5))
def test_each_task_has_epochs_of_its_own_and_batches_change_nothing(
    alpha: float, size: int, seed: int
) -> None:
    order = TaskOrder(TASKS, alpha, seed)
    walked = [row for step in range(200 // size + 1) for row in order.rows_for_step(size, step)]
    assert walked[:200] == [row for step in range(200) for row in order.rows_for_step(1, step)]
    for task in set(TASKS):
        rows = [row for row in walked if TASKS[row] == task]
        n = TASKS.count(task)
        for epoch in range(len(rows) // n):
            assert sorted(rows[epoch * n : epoch * n + n]) == [
                i for i, name in enumerate(TASKS) if name == task
            ]


def test_seeds_visit_tasks_and_rows_otherwise() -> None:
    ways = [TaskOrder(TASKS, 0.5, seed).rows_for_step(40, 3) for seed in (0, 1, 1)]
    assert ways[0] != ways[1] and ways[1] == ways[2]


def test_no_rows() -> None:
    with pytest.raises(ValueError, match="no rows to train on"):
        rows_for_step(0, 4, 0, 0)


@given(st.lists(st.integers(0, 12), max_size=30), st.integers(1, 20))
def test_parts_hold_all_rows_in_order_and_no_more_than_asked_for(sizes: list[int], at_once: int) -> None:
    parts = list(in_parts(np.array(sizes, dtype=np.int32), at_once))
    assert [row for part in parts for row in range(len(sizes))[part]] == list(range(len(sizes)))
    for number, part in enumerate(parts):
        held = sizes[part]
        assert held and (sum(held) <= at_once or len(held) == 1)
        following = sizes[parts[number + 1]][:1] if number + 1 < len(parts) else []
        assert not following or sum(held + following) > at_once  # no part is smaller than it must be
