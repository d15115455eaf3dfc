"""Figures in one grid of a page are equally wide, so that their text is of one size there."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from tests.evals import synthetic
from tests.evals.test_report import Reader
from tutelage.evals import report
from tutelage.evals.card import page
from tutelage.evals.folders import find
from tutelage.evals.process_model import Classes, Solution, evaluate
from tutelage.evals.rows import OVERALL, Row, read, to_json
from tutelage.files import write_json_atomic


@pytest.mark.slow
def test_all_figures_of_a_card_are_of_one_width(tmp_path: Path) -> None:
    rows = read(synthetic.reward(tmp_path / "reward") / "results.json")
    model = rows[0].model
    for n in (1, 2):
        for name in ("score_histogram", "margin_histogram"):
            rows += [Row(model, f"{name}/{n:02}/middle", OVERALL, float(n))]
        for name in (
            "score_histogram/{:02}/chosen",
            "score_histogram/{:02}/rejected",
            "margin_histogram/{:02}/share",
        ):
            rows += [Row(model, name.format(n), OVERALL, 0.5)]
    for name in ("thanks", "flattery"):
        rows += [Row(model, f"probe/{name}/change", OVERALL, 0.2, 0.1, 0.3, n=9)]
    rows += [Row(model, f"accuracy_at_coverage/{n:03}", OVERALL, 0.8, 0.7, 0.9, n=9) for n in (50, 100)]
    drawn = page.draw(rows, model)
    widths = {re.search(r'viewBox="0 0 (\S+) ', svg).group(1) for svg, _ in drawn}  # type: ignore[union-attr]
    assert len(drawn) == 5 and len(widths) == 1


def solutions(n: int = 80) -> list[Solution]:
    """Of two steps each, the second wrong in every other solution, and seen in three of four of these."""
    found = []
    for i in range(n):
        wrong, seen = i % 2 == 1, i % 8 != 1
        right = np.array([0.9, 0.2 if wrong and seen else 0.8])
        said, marked = np.array([2, 0 if wrong and seen else 2]), np.array([2, 0 if wrong else 2])
        classes = Classes(said, marked)
        labels = np.array([1.0, 0.0 if wrong else 1.0])
        found.append(Solution(right, labels, 1 if wrong else None, right.prod(), not wrong, str(i), classes))
    return found


@pytest.mark.slow
def test_a_report_has_a_section_of_each_process_model(tmp_path: Path) -> None:
    folder = synthetic.write_run(
        tmp_path / "process", "process", metrics=synthetic.language_metrics(30, 2, 1)
    )
    write_json_atomic(folder / "results.json", to_json(evaluate("process", solutions())))
    built = report.build(find([tmp_path]), title="T")
    html = report.render(built)
    text = Reader(html).text
    assert "Process reward model" in text and "calibration on held-out steps" in html
    for said in (
        "of the first errors of 40 held-out solutions, and leaves",
        "First errors found",
        "… of wrong steps",
        "F1 of three classes",
    ):
        assert said in text
    assert {row.metric for row in built.rows} >= {"step_f1", "class_f1/wrong", "reliability/01/accuracy"}
    assert any(row.metric == "first_error_accuracy" and row.value == 0.75 for row in built.rows)
