"""The loop: nothing is asked or drawn twice, a killed one ends as one that was not, and what cannot be mended is handed up."""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from pathlib import Path

from tests.processes import CONTEXT
from tests.refine.solver import RIGHT, WRONG, Knows, Solver, refined
from tutelage.feedback.refining.reading import Standing
from tutelage.feedback.refining.rules import Rules
from tutelage.records import MarkedStep, Response
from tutelage.refine.markers import Solution
from tutelage.rollout.generator import Prefix, Sampling

P, T = 0.2, 6
RULES = Rules(rounds=20, checks=2)


def test_whoever_goes_on_asks_nothing_twice(tmp_path: Path) -> None:
    solver, marker = Solver(P, T), Knows()
    before = refined(tmp_path / "s.sqlite", solver, RULES, marker, count=30)
    drawn, asked = solver.calls, len(marker.asked)
    again = refined(tmp_path / "s.sqlite", solver, RULES, marker, count=30)
    assert [one.refinement for one in again] == [one.refinement for one in before]
    assert (solver.calls - drawn, len(marker.asked) - asked) == (
        30,
        0,
    )  # the first solutions, which `refined` draws
    assert {one.refinement.outcome for one in again} == {"accepted", "sound"}  # right twice in a row, or not
    assert all(one.refinement.checks in ((True, True), (False,), (True, False)) for one in again)


class Dies(Solver):
    """Kills its process with its n-th call from a beginning."""

    def continue_from(self, prefixes: Sequence[Prefix], sampling: Sampling) -> list[Response]:
        if self.calls >= 120:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().continue_from(prefixes, sampling)


def _until_killed(path: str) -> None:
    refined(Path(path), Dies(P, T), RULES, Knows(), count=60)


def test_a_killed_loop_ends_as_one_that_was_not(tmp_path: Path) -> None:
    process = CONTEXT.Process(target=_until_killed, args=(str(tmp_path / "killed.sqlite"),))
    process.start()
    process.join(120)
    assert process.exitcode == -signal.SIGKILL
    solver, marker = Solver(P, T), Knows()
    found = refined(tmp_path / "killed.sqlite", solver, RULES, marker, count=60)
    whole_solver, whole_marker = Solver(P, T), Knows()
    whole = refined(tmp_path / "whole.sqlite", whole_solver, RULES, whole_marker, count=60)
    assert records(found) == records(whole)
    assert len(marker.asked) <= len(whole_marker.asked) - 60  # all first solutions were marked before
    assert solver.calls < whole_solver.calls


def records(found: Sequence[Standing]) -> list[object]:
    return [one.refinement.to_json() for one in found]


class Silent(Knows):
    """Has nothing to say of solutions with an error."""

    def mark(self, solutions: Sequence[Solution], name: str) -> list[tuple[MarkedStep, ...] | None]:
        found = super().mark(solutions, name)
        return [None if WRONG in one.text else marks for one, marks in zip(solutions, found, strict=True)]


def test_what_cannot_be_mended_is_handed_up(tmp_path: Path) -> None:
    silent = refined(tmp_path / "silent.sqlite", Solver(0.5, 3), RULES, Silent(), count=20)
    why = {one.refinement.why for one in silent if one.refinement.outcome == "handed-up"}
    assert why == {"whoever marks has no verdict on its steps"}
    never = Rules(rounds=3, checks=0, fallback="never")
    unwritten = refined(tmp_path / "never.sqlite", Solver(1.0, 3), never, Knows(rewrites=False), count=2)
    assert {one.refinement.why for one in unwritten} == {"nobody has rewritten step 1"}
    stuck = Rules(rounds=9, checks=0, stuck=2, fallback="regenerated")
    still = refined(tmp_path / "stuck.sqlite", Solver(1.0, 3), stuck, Knows(rewrites=False), count=2)
    assert {one.refinement.why for one in still} == {"step 1 was wrong 3 times, rewritten or not"}
    assert {len(one.items) for one in still} == {3}
    short = refined(tmp_path / "few.sqlite", Solver(1.0, 6), Rules(rounds=2, checks=0), Knows(), count=2)
    assert {one.refinement.why for one in short} == {"step 3 is still wrong after 2 corrections"}


class Long(Knows):
    """Rewrites a step as two."""

    def mark(self, solutions: Sequence[Solution], name: str) -> list[tuple[MarkedStep, ...] | None]:
        return [
            tuple(
                MarkedStep(step.text, step.label, "why", f"{RIGHT}{RIGHT}", step.caused_by)
                if step.is_root
                else step
                for step in marks or ()
            )
            for marks in super().mark(solutions, name)
        ]


def test_a_rewrite_of_two_steps_is_handed_up(tmp_path: Path) -> None:
    found = refined(tmp_path / "s.sqlite", Solver(1.0, 3), RULES, Long(), count=1)
    assert found[0].refinement.why.startswith("the rewrite of step 1 has 2 steps, and must be one")


def test_what_is_too_long_to_go_on_from_is_handed_up(tmp_path: Path) -> None:
    found = refined(tmp_path / "s.sqlite", Solver(1.0, 60), Rules(rounds=90, checks=0), Knows(), count=1)
    assert found[0].refinement.why == "the steps that stay leave no room for more within max_new_tokens=200"
