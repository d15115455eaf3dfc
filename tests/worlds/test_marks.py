"""What the expert of the embedded world says of the steps of a solution."""

from __future__ import annotations

import pytest

from tutelage.worlds.gold_maths import mark
from tutelage.worlds.world import marked_solutions

REFERENCE = {"steps": [[2, "*", 3, 6], [6, "+", 3, 9]], "answer": 9}


@pytest.mark.parametrize(
    ("steps", "marks"),
    [
        (["1. 2*3=6.", "2. 6+3=9.", "Answer: 9."], [1, 1, 1]),
        (["1. 3*2=6.", "2. 3+6=9.", "Answer: 9."], [1, 1, 1]),  # the other way round
        (["1. 2*3=5.", "2. 5+3=8.", "Answer: 8."], [-1, None, None]),
        (["1. 2*3=6.", "2. 6-3=3.", "Answer: 3."], [1, -1, None]),
        (["I like this question.", "1. 2*3=6.", "2. 6+3=9.", "Answer: 8."], [0, 1, 1, -1]),
        (["1. 2*3=6.", "Answer: 9."], [1, -1]),  # a step is missing
        (["1. 2*3=6.", "2. 6+3=9.", "3. 9+0=9.", "Answer: 9."], [1, 1, -1, None]),  # nobody asked for it
    ],
)
def test_marks_by_hand(steps: list[str], marks: list[int | None]) -> None:
    assert mark(REFERENCE, steps) == marks


def test_half_have_an_error_and_the_others_none() -> None:
    rows = list(marked_solutions(0, 400))
    wrong = [row for row in rows if row.first_error is not None]
    assert 160 < len(wrong) < 240 and all(
        row.labels == (1,) * len(row.steps) for row in rows if row not in wrong
    )
    assert all(row.outcome for row in rows if row not in wrong)
