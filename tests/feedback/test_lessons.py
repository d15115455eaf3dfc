"""What refinements teach: rows written by hand, and invariances."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from tutelage.feedback.refining import lessons
from tutelage.records import (
    Comparison,
    Demonstration,
    MarkedStep,
    Outcome,
    Prompt,
    Refinement,
    Round,
    StepMarks,
)

PROMPT = Prompt("3 bags with 2 eggs. How many?", "sums", {"answer": "6"})
READ = MarkedStep("I read.\n\n", 1)
FALSE = MarkedStep("3+2=5.\n\n", -1, "in each bag means times", "3*2=6.", error="reasoning")
SINCE = MarkedStep("Answer: 5.", -1, caused_by=1)
TRUE, RIGHT = MarkedStep("3*2=6.\n\n", 1), MarkedStep("Answer: 6.", 1)
BEFORE = Round((READ, FALSE, SINCE), right=False, by="ann", role="expert")
AFTER = Round((READ, TRUE, RIGHT), "rewritten", 1, True, by="ann", role="expert")


def refinement(*rounds: Round, outcome: Outcome | None = "accepted") -> Refinement:
    return Refinement(PROMPT, rounds, (True, True), outcome)


DONE = refinement(BEFORE, AFTER)


def test_the_solution_is_learnt_without_the_feedback() -> None:
    assert lessons.solution(DONE) == Demonstration(PROMPT, "I read.\n\n3*2=6.\n\nAnswer: 6.")
    for outcome in ("sound", "written"):
        assert lessons.solution(refinement(BEFORE, AFTER, outcome=outcome)) is not None  # type: ignore[arg-type]
    for outcome in (None, "handed-up", "broken"):
        assert lessons.solution(refinement(BEFORE, AFTER, outcome=outcome)) is None  # type: ignore[arg-type]
    assert lessons.solution(refinement(BEFORE, replace(AFTER, right=False))) is None


def test_a_corrected_step_is_better_than_the_original_one() -> None:
    [pair] = lessons.step_pairs(DONE)
    assert pair == Comparison(
        PROMPT,
        "I read.\n\n3*2=6.\n\n",
        "I read.\n\n3+2=5.\n\n",
        chosen_finish="length",
        rejected_finish="length",
    )


def test_the_last_step_ends_its_solution() -> None:
    end = Round((READ, MarkedStep("So 5.", -1, rewrite="So 6.")), by="ann", role="expert")
    now = Round((READ, MarkedStep("So 6.", 1)), "rewritten", 1)
    [pair] = lessons.step_pairs(refinement(end, now))
    assert (pair.chosen, pair.rejected) == ("I read.\n\nSo 6.", "I read.\n\nSo 5.")
    assert (pair.chosen_finish, pair.rejected_finish) == ("eos", "eos")
    on = Round((READ, MarkedStep("So 6.\n\n", 1), MarkedStep("Done", 1)), "regenerated", 1, finish="length")
    [pair] = lessons.step_pairs(refinement(replace(end, finish="length"), on))
    assert (pair.chosen_finish, pair.rejected_finish) == ("length", "length")
    assert pair.chosen == "I read.\n\nSo 6.\n\n"


@pytest.mark.parametrize(
    ("before", "after", "gives"),
    [
        (BEFORE, replace(AFTER, how="explained"), 1),
        (BEFORE, replace(AFTER, how="regenerated"), 1),
        (BEFORE, replace(AFTER, steps=(READ, replace(TRUE, label=0), RIGHT)), 1),
        (
            BEFORE,
            replace(AFTER, steps=(READ, replace(TRUE, label=-1), RIGHT)),
            0,
        ),  # the rewrite is wrong, too
        (BEFORE, replace(AFTER, steps=(READ, replace(TRUE, label=None), RIGHT)), 1),  # a person wrote it
        (
            replace(BEFORE, role="judge"),
            replace(AFTER, steps=(READ, replace(TRUE, label=None), RIGHT)),
            0,
        ),
        (BEFORE, replace(AFTER, how="explained", steps=(READ, replace(TRUE, label=None), RIGHT)), 0),
        (BEFORE, replace(AFTER, since=0), 0),  # the step before it was written anew
        (BEFORE, replace(AFTER, how="written", since=1), 0),
        (BEFORE, replace(AFTER, steps=(replace(READ, text="I look.\n\n"), TRUE, RIGHT)), 0),
        (BEFORE, replace(AFTER, steps=(READ, replace(FALSE, label=1), RIGHT)), 0),  # nothing was changed
        (replace(BEFORE, steps=(READ, TRUE, RIGHT)), AFTER, 0),  # nothing was wrong
    ],
)
def test_what_is_a_correction(before: Round, after: Round, gives: int) -> None:
    assert len(lessons.step_pairs(refinement(before, after, outcome=None))) == gives


def test_every_round_teaches_its_correction() -> None:
    worse = MarkedStep("Answer: 7.", -1, rewrite="Answer: 6.")
    middle = replace(AFTER, steps=(READ, TRUE, worse))
    last = Round((READ, TRUE, RIGHT), "rewritten", 2, True, by="ann", role="expert")
    pairs = lessons.step_pairs(refinement(BEFORE, middle, last))
    assert [(pair.chosen[-9:], pair.rejected[-9:]) for pair in pairs] == [
        ("\n3*2=6.\n\n", "\n3+2=5.\n\n"),
        ("nswer: 6.", "nswer: 7."),
    ]


def test_labels_stop_at_the_first_wrong_step() -> None:
    first, second = lessons.step_marks(DONE)
    assert first == StepMarks(
        PROMPT, ("I read.\n\n", "3+2=5.\n\n", "Answer: 5."), (1, -1, None), outcome=False
    )
    assert second == StepMarks(PROMPT, ("I read.\n\n", "3*2=6.\n\n", "Answer: 6."), (1, 1, 1), outcome=True)
    unmarked = Round(tuple(MarkedStep(step.text) for step in AFTER.steps), "rewritten", 1)
    assert len(lessons.step_marks(refinement(BEFORE, unmarked))) == 1


def test_a_later_look_at_the_same_step_holds() -> None:
    """Round 2 finds the step wrong that both begin with: round 1 may not teach that it is right."""
    misread = replace(READ, label=-1)
    first, second = lessons.step_marks(refinement(BEFORE, replace(AFTER, steps=(misread, TRUE, RIGHT))))
    assert first.labels == (-1, None, None) and second.labels == (-1, None, None)
    # The same step, called wrong first and right later: what was said behind it is taken back.
    same = replace(AFTER, steps=(READ, replace(FALSE, label=1), MarkedStep("Answer: 6.", -1)))
    first, second = lessons.step_marks(refinement(BEFORE, same))
    assert first.labels == (1, 1, None) and second.labels == (1, 1, -1)
    neutral = replace(AFTER, steps=(replace(READ, label=0), TRUE, RIGHT))
    first, _ = lessons.step_marks(refinement(BEFORE, neutral))
    assert first.labels == (1, -1, None)  # neutral contradicts nothing


def test_the_last_solution_is_better_than_the_first() -> None:
    pair = lessons.solution_pair(DONE)
    assert pair == Comparison(PROMPT, "I read.\n\n3*2=6.\n\nAnswer: 6.", "I read.\n\n3+2=5.\n\nAnswer: 5.")
    sound = replace(BEFORE, steps=(READ, TRUE, replace(RIGHT, text="Answer:  6.")), right=True)
    assert lessons.solution_pair(refinement(sound, AFTER)) is None  # nothing was wrong with it
    assert lessons.solution_pair(refinement(replace(sound, right=False), AFTER)) is not None
    assert lessons.solution_pair(refinement(BEFORE, replace(BEFORE, how="regenerated", right=True))) is None
    assert lessons.solution_pair(refinement(BEFORE, AFTER, outcome="handed-up")) is None
    assert lessons.solution_pair(refinement(replace(sound, right=True))) is None


def test_the_edit_distance_is_that_of_another_library() -> None:
    nltk = pytest.importorskip("nltk.metrics.distance")
    chance = random.Random(7)
    for _ in range(200):
        a, b = ([chance.choice("abcd") for _ in range(chance.randrange(9))] for _ in range(2))
        expected = nltk.edit_distance(a, b) / max(len(a), len(b), 1)
        assert lessons.edit_distance(" ".join(a), "  ".join(b)) == pytest.approx(expected)
    assert lessons.edit_distance("", "") == 0 and lessons.edit_distance("a b", "c d") == 1
    assert lessons.edit_distance("one two three four", "one 2 three four") == 0.25


def test_a_refiner_learns_the_rewrites_of_people_and_judges() -> None:
    [row] = lessons.rewrites(DONE)
    assert row.response == "3*2=6." and row.finish == "eos"
    assert row.prompt.content == (
        "3 bags with 2 eggs. How many?\nI read.\n\n3+2=5.\nTeacher: step 2: in each bag means times\n"
    )
    assert lessons.rewrites(refinement(replace(BEFORE, role="judge")))
    assert not lessons.rewrites(refinement(replace(BEFORE, role="verifier")))
    assert not lessons.rewrites(refinement(replace(BEFORE, steps=(READ, replace(FALSE, rewrite=None)))))
    refused = replace(AFTER, steps=(READ, replace(TRUE, label=-1), RIGHT))
    assert not lessons.rewrites(refinement(BEFORE, refused))
