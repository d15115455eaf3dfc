"""Figures of a process reward model against counts by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tutelage.evals.process_model import UNMARKED, Classes, Solution, auc, evaluate

NONE = float("nan")


def solution(right, labels, first_error=None, outcome=None, prompt="p") -> Solution:
    return Solution(np.array(right), np.array(labels), first_error, float(np.prod(right)), outcome, prompt)


ROWS = [
    solution([0.9, 0.2, 0.9], [1, 0, NONE], 1, False, "a"),  # found
    solution([0.9, 0.8, 0.1], [1, 0, NONE], 1, False, "b"),  # found one too late
    solution([0.9, 0.7], [1, 1], None, True, "c"),  # sound, and taken for it
    solution([0.4, 0.9], [1, 1], None, True, "d"),  # sound, taken for wrong
    solution([0.9, 0.9], [1, 1], None, False, "e"),  # sound, and its answer is wrong
    solution([0.9, 0.3], [1, NONE], None, None, "f"),  # not marked to its end: neither sound nor wrong
]


def test_by_hand() -> None:
    """Of 11 marked steps 9 are right: 8 of them found; 1 of 2 wrong ones found, 1 right one taken for wrong."""
    found = {row.metric: row for row in evaluate("process", ROWS)}
    right, wrong = 2 * 8 / (2 * 8 + 1 + 1), 2 * 1 / (2 * 1 + 1 + 1)
    assert found["step_f1_right"].value == pytest.approx(right)
    assert found["step_f1_wrong"].value == pytest.approx(wrong)
    assert found["step_f1"].value == pytest.approx((right + wrong) / 2) and found["step_f1"].n == 11
    assert found["step_accuracy"].value == pytest.approx(9 / 11)
    assert (found["first_error_accuracy"].value, found["first_error_accuracy"].n) == (0.5, 2)
    assert found["sound_accuracy"].value == pytest.approx(2 / 3)
    assert found["first_error_f1"].value == pytest.approx(2 * 0.5 * (2 / 3) / (0.5 + 2 / 3))
    # scores .63 and .36 are right, .162, .072 and .81 wrong: 4 of 6 pairs are in order
    assert found["solution_auc"].value == pytest.approx(4 / 6) and found["solution_auc"].n == 5
    for row in found.values():
        assert row.low is None or row.low <= row.value <= row.high


def test_calibration() -> None:
    """Probabilities of .8 are calibrated where four in five rollouts come out right; where all do they are .2 off."""
    for label, expected in ((0.8, 0.0), (1.0, 0.2)):
        figures = evaluate("m", [solution([0.8] * 5, [label] * 5)])
        [row] = [row for row in figures if row.metric == "step_calibration_error"]
        assert row.value == pytest.approx(expected, abs=1e-9)


def test_auc_counts_ties_half() -> None:
    scores, outcomes = np.array([0.1, 0.5, 0.5, 0.9]), np.array([False, True, False, True])
    pairs = [(p > n) + (p == n) / 2 for p in scores[outcomes] for n in scores[~outcomes]]
    assert auc(scores, outcomes) == np.mean(pairs)
    assert np.isnan(auc(scores, np.ones(4, bool)))


def test_nothing_known_is_no_row() -> None:
    assert evaluate("m", []) == []
    names = {row.metric for row in evaluate("m", [solution([0.5], [1.0])])}
    assert "solution_auc" not in names and "step_f1" in names


def test_f1_by_class_is_scikit_learns() -> None:
    """With what nobody marked left out, and a class that never occurs."""
    from sklearn.metrics import f1_score

    draw = np.random.default_rng(0)
    for classes in (3, 2):
        said, true = draw.integers(3 - classes, 3, 60), draw.integers(3 - classes, 3, 60)
        true[::7] = UNMARKED
        rows = [
            replace(solution([0.5] * 6, [1.0] * 6, prompt=str(i)), classes=Classes(said[part], true[part]))
            for i in range(10)
            for part in [slice(6 * i, 6 * i + 6)]
        ]
        found = {row.metric: row.value for row in evaluate("m", rows)}
        there = true != UNMARKED
        expected = f1_score(true[there], said[there], average=None)
        names = ["wrong", "neutral", "right"][3 - classes :]
        assert [found[f"class_f1/{name}"] for name in names] == pytest.approx(expected.tolist())
        assert found["class_f1"] == pytest.approx(expected.mean())
        assert sum(name.startswith("class_f1/") for name in found) == classes
    assert not any(name.startswith("class_f1") for name in (row.metric for row in evaluate("m", ROWS)))
