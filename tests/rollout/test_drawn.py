"""Prompts that are drawn because the responses to others were all worth the same."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from tutelage.records import Prompt, Response, Score
from tutelage.rollout.drawn import Drawn, filled_up, further_rows

WORTH: dict[int, list[float | None]] = {
    0: [1.0, 1.0],
    1: [0.0, 1.0],
    2: [0.0, 0.0],
    3: [2.0, 1.0],
    4: [None, 1.0],
    5: [1.0, 0.0],
    6: [0.5, 0.5],
    7: [1.0, 0.0],
}


def drawn(rows: Sequence[int]) -> Drawn:
    """Two responses to each prompt, of as many tokens as its row and one."""
    worth = [value for row in rows for value in WORTH[row]]
    responses = [
        Response(Prompt(str(row)), "", (1,), (3,) * (row + 1), (0.0,) * (row + 1), "eos")
        for row in rows
        for _ in range(2)
    ]
    return Drawn(list(rows), responses, [Score(value or 0.0) for value in worth], worth, [])


def test_prompts_that_teach_nothing_are_replaced_until_the_batch_is_full() -> None:
    asked: list[list[int]] = []

    def draw(rows: Sequence[int]) -> Drawn:
        asked.append(list(rows))
        return drawn(rows)

    found, metrics = filled_up(drawn([0, 1, 2]), [4, 3, 6, 5, 7], 5, draw)
    assert asked == [[4, 3], [6], [5]]  # as many as are missing; of row 4 one response is all there is
    assert found.rows == [1, 3, 5] and [r.prompt.text() for r in found.responses] == list("113355")
    assert found.worth == [0.0, 1.0, 2.0, 1.0, 1.0, 0.0] and found.samples == 2
    assert metrics["dynamic_sampling/draws"] == 3 and metrics["dynamic_sampling/dropped"] == 4
    assert metrics["frac_reward_zero_std"] == pytest.approx(4 / 7)
    assert metrics["completions/tokens"] == 2 * (7 + 0 + 1 + 2 + 4 + 3 + 6 + 5)
    assert metrics["dynamic_sampling/scores"] == pytest.approx((2 + 1 + 0 + 1 + 3 + 1 + 1) / 14)


@pytest.mark.parametrize(
    ("further", "draws", "rows", "made"),
    [([4, 3, 6, 5], 1, [1, 3], 1), ([6], 9, [1], 1), ([], 9, [1], 0), ([5, 7], 9, [1, 5, 7], 1)],
)
def test_it_ends_when_draws_or_rows_do(further: list[int], draws: int, rows: list[int], made: int) -> None:
    found, metrics = filled_up(drawn([0, 1, 2]), further, draws, drawn)
    assert found.rows == rows and metrics["dynamic_sampling/draws"] == made


def test_where_nothing_differs_the_first_stay() -> None:
    found, metrics = filled_up(drawn([0, 2]), [6, 4], 3, drawn)
    assert found.rows == [0, 2] and metrics["frac_reward_zero_std"] == 1.0


def test_further_rows_are_others_and_depend_on_the_step_and_the_seed_alone() -> None:
    found = further_rows(50, [3, 4, 4, 5], 20, 0, 7)
    assert len(found) == len(set(found)) == 20 and not {3, 4, 5} & set(found)
    assert found == further_rows(50, [3, 4, 4, 5], 20, 0, 7)
    assert found != further_rows(50, [3, 4, 4, 5], 20, 0, 8) != further_rows(50, [3, 4, 4, 5], 20, 1, 8)
    assert sorted(further_rows(5, [1, 2], 20, 0, 0)) == [0, 3, 4]
    assert further_rows(2, [0, 1], 20, 0, 0) == []
