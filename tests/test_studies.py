"""The figures of the studies, by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from studies.maths import Solution
from studies.process import StudySettings, affordable, auc, figures
from studies.size_labels import gained, ordered_alike
from tutelage.records import Message, Prompt

ASKED = Prompt(
    (Message("user", "Ben has 3 coins. Ben gets 2 more. How many coins does Ben have now?"),),
    "maths",
    {"steps": [[3, "+", 2, 5], [5, "-", 1, 4]], "answer": 4},
)
SOUND = Solution(ASKED, "1. 3+2=5.\n2. 5-1=4.\nAnswer: 4.", "eos")
LUCKY = Solution(ASKED, "1. 3+2=5.\nAnswer: 4.", "eos")
WRONG = Solution(ASKED, "1. 3+2=6.\n2. 6-1=5.\nAnswer: 5.", "eos")


def test_a_right_answer_without_all_steps_is_unsound() -> None:
    assert [(one.right, one.sound) for one in (SOUND, LUCKY, WRONG)] == [
        (True, True),
        (True, False),
        (False, False),
    ]
    assert figures([SOUND, LUCKY, WRONG, WRONG]) == {
        "right": 0.5,
        "sound": 0.25,
        "unsound_of_right": 0.5,
        "n": 4,
    }
    assert auc([0.9, 0.2, 0.2, 0.1], [SOUND, LUCKY, WRONG, WRONG]) == (1 + 1 + 0.5 + 1) / 4


def test_minutes_buy_fewer_marks_on_steps_than_on_answers() -> None:
    """Half a minute an answer; three steps cost three quarters more, a wrong first one a quarter."""
    settings = StudySettings(out=Path("unused"))
    pool = [SOUND] * 40
    assert len(affordable(settings, pool, "outcome", 10, 0)) == 20
    assert len(affordable(settings, pool, "steps", 10, 0)) == 8
    assert len(affordable(settings, [WRONG] * 40, "steps", 10, 0)) == 13
    with pytest.raises(ValueError, match="write more"):
        affordable(settings, pool, "outcome", 21, 0)


def test_order_and_gain_by_hand() -> None:
    gold = np.array([[3.0, 1.0, 1.0], [0.0, 2.0, 5.0]])
    by = np.array([[0.1, 0.3, 0.2], [0.1, 0.1, 0.2]])
    # First prompt: 3 > 1 twice, both the other way round; the equal pair does not count.  Second: a tie, and two right.
    assert ordered_alike(by, gold) == (0 + 0 + 0.5 + 1 + 1) / 5
    assert gained(by, gold) == (1.0 + 5.0) / 2


def test_every_study_stands_in_the_index_of_the_documentation() -> None:
    root = Path(__file__).parent.parent
    runnable = [path.stem for path in (root / "studies").glob("*.py") if "__main__" in path.read_text()]
    index = (root / "docs" / "index.md").read_text()
    assert len(runnable) >= 2 and all(f"`python -m studies.{name}`" in index for name in runnable)
