"""A solver with one hazard meets the closed forms, through the real loop and the real store."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from tests.refine.solver import RIGHT, WRONG, Knows, Solver, refined
from tutelage.feedback.refining.rules import Rules
from tutelage.records import MarkedStep, Round
from tutelage.refine import forms

P, T = 0.2, 6


def within(found: list[float] | list[bool], expected: float, errors: float = 2) -> bool:
    """Within so many standard errors of the mean."""
    values = np.array(found, float)
    return bool(abs(values.mean() - expected) <= errors * values.std(ddof=1) / math.sqrt(len(values)))


def test_the_numbers_of_the_example() -> None:
    found = (
        forms.corrections_put_in(P, T),
        forms.corrections_written_again(P, T),
        forms.corrections_from_scratch(P, T),
    )
    assert [round(one, 2) for one in found] == [1.2, 1.5, 2.81]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("rewrites", "corrections", "form"),
    [
        (True, forms.corrections_put_in, forms.sound_put_in),
        (False, forms.corrections_written_again, forms.sound_written_again),
    ],
    ids=["a right step put in", "the step written again"],
)
def test_a_solver_with_one_hazard_meets_the_forms(
    tmp_path: Path, rewrites: bool, corrections: Any, form: Any
) -> None:
    rules = Rules(rounds=60, checks=0, stuck=60, fallback="regenerated")
    found = refined(tmp_path / "s.sqlite", Solver(P, T), rules, Knows(rewrites), count=300)
    assert {one.refinement.outcome for one in found} == {"accepted"}
    assert within([one.refinement.rounds[0].sound for one in found], forms.sound_from_scratch(P, T))
    assert within([len(one.items) - 1.0 for one in found], corrections(P, T))
    later = [one for standing in found for one in standing.refinement.rounds[1:]]
    other = forms.sound_written_again if rewrites else forms.sound_put_in
    gaps = {
        law: [one.sound - law(P, T, one.since + 1) for one in later] for law in (form, other)
    }  # over all places together, so that the one form can be told from the other
    assert within(gaps[form], 0.0, 3) and not within(gaps[other], 0.0, 3)


def test_what_is_kept_is_kept_word_for_word(tmp_path: Path) -> None:
    found = refined(tmp_path / "s.sqlite", Solver(0.4, 5), Rules(rounds=9, checks=0), Knows(), count=40)
    for one in found:
        for before, after in zip(one.refinement.rounds, one.refinement.rounds[1:], strict=False):
            k = cast(int, before.root)
            kept = "".join(step.text for step in before.steps[:k])
            assert after.text.startswith(kept + RIGHT) and after.since == k and before.steps[k].text == WRONG


def test_the_hazard_counts_steps_that_were_reached() -> None:
    wrong = Round((MarkedStep("a", 1), MarkedStep("b", -1), MarkedStep("c", -1, caused_by=1)), role="expert")
    right = Round((MarkedStep("a", 1), MarkedStep("b", 1), MarkedStep("c", 1)), role="expert")
    found = forms.Hazard([wrong, right, Round((MarkedStep("a"),))])
    assert (found.wrong, found.reached, found.rate) == (1, 5, 0.2)
