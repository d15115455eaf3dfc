"""Who marks: causes that hold, a process model by its probabilities."""

from __future__ import annotations

from tutelage.records import MarkedStep
from tutelage.refine.markers import _below, upright


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
