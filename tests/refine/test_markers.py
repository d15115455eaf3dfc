"""Who marks: sums that do not hold, causes that do, a process model by its probabilities."""

from __future__ import annotations

import pytest

from tutelage.records import MarkedStep
from tutelage.refine.markers import _below, checked_sums, upright


@pytest.mark.parametrize(
    ("step", "label", "rewrite"),
    [
        ("1. Anna: 3*2=6.\n", 1, None),
        ("1. Anna: 3+2=6.\n", -1, "1. Anna: 3+2=5."),
        ("He reads the problem.", 0, None),
        ("It costs $3 x 4 = $12 and 12-2=11.", -1, "It costs $3 x 4 = $12 and 12-2=10."),
        ("<<1,200/4=300>>300 each", 1, None),
        ("2+3*4 = 14", 1, None),
        ("2+3*4 = 20", -1, "2+3*4 = 14"),
        ("10/3 = 3.33 dollars", 1, None),
        ("20% * 50 = 10", 1, None),
        ("20+10% = 22", 0, None),
        ("5/0 = 7", 0, None),
        ("x = 4+1 and y=3+2=5", 1, None),
        ("A says 8, 6+2=8: right.", 1, None),
        ("66 fish * 1/3 = 22 fish", 0, None),
    ],
)
def test_false_sums_are_found(step: str, label: int, rewrite: str | None) -> None:
    found = checked_sums(step)
    assert (found.text, found.label, found.rewrite) == (step, label, rewrite)
    assert (found.error == "calculation") == (label == -1)


def test_a_cause_holds_only_where_it_is_wrong() -> None:
    steps = (
        MarkedStep("a", 1, caused_by=0),
        MarkedStep("b", -1, caused_by=0),
        MarkedStep("c", -1, caused_by=1),
        MarkedStep("d", -1, caused_by=9),
    )
    assert [step.caused_by for step in upright(steps)] == [None, None, 1, None]


def test_the_first_step_below_the_threshold_is_wrong() -> None:
    found = _below(("a", "b", "c"), [0.9, 0.4, 0.1], 0.5)
    assert found == (MarkedStep("a", 1), MarkedStep("b", -1), MarkedStep("c"))
    assert _below(("a", "b"), [0.9, 0.5], 0.5) == (MarkedStep("a", 1), MarkedStep("b", 1))
    assert _below(("a", "b"), [0.9], 0.5) is None and _below(("a",), None, 0.5) is None
