"""The study on GSM8K, on hand-made rows: planted errors, by hand, and the figures."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
import pytest

from studies.choosing import auc, best_of, within
from studies.gsm8k import (
    StudySettings,
    Written,
    as_human,
    marked,
    planted_files,
    real_solutions,
    without_model,
)
from studies.planting import KINDS, computed, planted, sound
from tutelage.refine.sums import checked_sums
from tutelage.seeds import rng

ASKED = "Ann has 48 clips and buys half as many in each of 5 weeks. How many has she?"
ANSWER = """In a week she buys 48/2 = <<48/2=24>>24 clips.
That makes 24 x 5 = <<24*5=120>>120 clips.
She has $48 + $120 = $<<48+120=168>>168.00 now.
#### 168"""


def test_a_solution_that_cannot_be_followed_is_left_out() -> None:
    assert sound(ANSWER) is not None
    for broken in ("#### 5", "He has 3.\n#### 3", ANSWER.replace("#### 168", "#### 169"), ANSWER + "\n<<"):
        assert sound(broken) is None
    assert sound(ANSWER.replace("=120>>", "=121>>")) is None


def test_left_out_steps_by_hand() -> None:
    """Either of two steps can be: 24 becomes 48 (2 is not in the question), or 120 becomes 5 (24 is not in it)."""
    worked = sound(ANSWER)
    assert worked is not None
    found = {planted(ASKED, worked, "left out", rng(seed, "t")) for seed in range(20)}
    by_hand = [
        "That makes 48 x 5 = <<48*5=240>>240 clips.",
        "She has $48 + $240 = $<<48+240=288>>288.00 now.",
        "#### 288",
    ]
    other = [
        "In a week she buys 48/2 = <<48/2=24>>24 clips.",
        "She has $48 + $5 = $<<48+5=53>>53.00 now.",
        "#### 53",
    ]
    assert {(one.steps, one.wrong) for one in found if one} == {(tuple(by_hand), 0), (tuple(other), 1)}


@pytest.mark.parametrize("kind", KINDS)
def test_errors_are_of_sense_and_never_of_sums(kind: str) -> None:
    """What follows from an error follows: every sum holds, in the marks and outside, and all before the error stays."""
    worked = sound(ANSWER)
    assert worked is not None
    seen = set()
    for seed in range(30):
        found = planted(ASKED, worked, kind, rng(seed, "t"))  # type: ignore[arg-type]
        if found is None:
            continue
        seen.add(found)
        assert found.wrong is not None and found.wrong < len(found.steps) - 1
        assert all(checked_sums(step).label == 1 for step in found.steps[:-1])
        assert found.steps[: found.wrong] == worked.steps[: found.wrong]
        assert found.steps[-1] != worked.steps[-1]
        said = found.steps[-2].split(">>")[1].split(" ")[0]
        assert float(found.steps[-1].removeprefix("#### ")) == float(said.replace(",", ""))
    assert len(seen) >= 2


def test_a_result_that_is_also_given_is_not_changed() -> None:
    """Which 48 the last step means is not known."""
    worked = sound("He has 24*2 = <<24*2=48>>48.\nWith 48 more it is 48+48 = <<48+48=96>>96.\n#### 96")
    assert worked is not None
    found = [planted("24 boxes of 2 and 48 more?", worked, "operation", rng(seed, "t")) for seed in range(20)]
    assert all(one is None or one.wrong == 1 for one in found) and any(found)


def test_sums_are_computed() -> None:
    assert computed("2+3*4-6/3") == 12
    assert computed("10/3") is None and computed("3-5") is None and computed("1/0") is None
    assert computed("2*(3)") is None


def test_files_keep_the_last_problems_apart(tmp_path: Path) -> None:
    rows = [{"question": ASKED.replace("Ann", f"Ann {n}"), "answer": ANSWER} for n in range(9)]
    (tmp_path / "t.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    settings = StudySettings(
        train=str(tmp_path / "t.jsonl"), solutions="", out=tmp_path, heldout=2, problems=6
    )
    files = planted_files(settings)
    learnt = [json.loads(line) for line in Path(files["learn"]).read_text(encoding="utf-8").splitlines()]
    kept = [json.loads(line) for line in Path(files["all"]).read_text(encoding="utf-8").splitlines()]
    assert {row["prompt"] for row in learnt} == {row["question"] for row in rows[:6]}
    assert {row["prompt"] for row in kept} == {row["question"] for row in rows[-2:]}
    assert len(learnt) == 12 and sum(row["outcome"] for row in learnt) == 6
    for row in learnt:
        wrong = row["marks"].index(-1) if -1 in row["marks"] else len(row["marks"])
        assert row["marks"][:wrong] == [1] * wrong and set(row["marks"][wrong + 1 :]) <= {None}


def test_real_solutions_are_read_in_the_form_of_human_ones(tmp_path: Path) -> None:
    one = {"is_correct": False, "solution": "50 / 2 = <<50/2=25.0>>25.0, 1.05 each\nA: 25"}
    path = tmp_path / "s.jsonl.gz"
    with gzip.open(path, "wt", encoding="utf-8") as stream:
        stream.write(
            json.dumps({"question": "Q?", "ground_truth": "x", "6b": one, "175b": one | {"is_correct": True}})
        )
    [(question, found)] = real_solutions(str(path))
    text = "50 / 2 = <<50/2=25>>25, 1.05 each\n#### 25"
    assert question == "Q?" and found == [Written("6b", text, False), Written("175b", text, True)]
    assert as_human("A: 7") == "#### 7"
    path.unlink()
    (tmp_path / "t.jsonl").write_text('{"question": "Q?"}\n', encoding="utf-8")
    with pytest.raises(ValueError, match="example solutions"):
        real_solutions(str(tmp_path / "t.jsonl"))


def test_figures_by_hand() -> None:
    right = np.array([[1.0, 0.0], [0.0, 0.0], [1.0, 0.0]])
    scores = np.array([[0.9, 0.1], [0.5, 0.2], [0.3, 0.3]])
    assert best_of(scores, right).tolist() == [1, 0, 0.5]
    wins, pairs = within(scores, right)
    assert wins.tolist() == [1, 0, 0.5] and pairs.tolist() == [1, 0, 1]
    # 0.9 above all four; 0.3 above 0.1 and 0.2, even with 0.3, below 0.5.
    assert auc(scores, right) == pytest.approx((4 + 2.5) / 8)
    twice = np.concatenate([scores, scores[:1]]), np.concatenate([right, right[:1]])
    assert auc(scores, right, np.array([2, 1, 1])) == pytest.approx(auc(*twice))


def test_what_needs_no_model() -> None:
    own = [Written("a", "3+2=6\n#### 6", False), Written("b", "3+2=5\nso 5\n#### 5", True)]
    found = without_model([("Q?", own)])
    assert found["sums hold"].tolist() == [[0, 1]] and found["fewer steps"].tolist() == [[-1, -2]]
    assert found["agreement"].tolist() == [[1, 1]] and found["always b"].tolist() == [[0, 1]]
    assert marked("Q?", sound(ANSWER)).labels == (1, 1, 1, 1)  # type: ignore[arg-type]
