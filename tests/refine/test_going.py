"""The loop: nothing is asked or drawn twice, a killed one ends as one that was not, and what cannot be mended is handed up."""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import pytest
from sqlalchemy import func, select

from tests.processes import CONTEXT
from tests.refine.solver import RIGHT, WRONG, Answers, Knows, Solver, refined
from tutelage.feedback.refining.reading import Standing
from tutelage.feedback.refining.rules import Rules
from tutelage.records import MarkedStep, Prompt, Response, Round
from tutelage.refine.markers import Solution
from tutelage.refine.writing import Going, Writer
from tutelage.rollout.generator import Prefix, Sampling
from tutelage.store import Store
from tutelage.store.schema import ResponseRow

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


@pytest.mark.slow
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


@pytest.mark.slow
def test_what_is_too_long_to_go_on_from_is_handed_up(tmp_path: Path) -> None:
    found = refined(tmp_path / "s.sqlite", Solver(1.0, 60), Rules(rounds=90, checks=0), Knows(), count=1)
    assert found[0].refinement.why == "the steps that stay leave no room for more within max_new_tokens=200"


def test_steps_are_written_again_by_their_own_round() -> None:
    """After a kill, refinements of several rounds stand in one group: each draws what it would have drawn alone."""
    solver = Solver(0.5, 1)
    writer = Writer(
        cast(Any, solver), cast(Any, solver), Answers(), Sampling(max_new_tokens=200, seed=3), 0.5
    )
    last = Round((MarkedStep(WRONG, -1, "it is bad"),), "first", 0, False, "eos")
    going = [
        Going(Prompt(f"Problem {n}"), last, number, 0, "explained", "lines")
        for n in range(20)
        for number in (2, 3)
    ]
    together = writer.steps_again(going)
    assert together == [writer.steps_again([one])[0] for one in going]
    assert together[::2] != together[1::2]  # the rounds draw differently


class Meanwhile(Solver):
    """While it goes on for the first time, the same command comes to its end elsewhere."""

    path: Path

    def continue_from(self, prefixes: Sequence[Prefix], sampling: Sampling) -> list[Response]:
        found = super().continue_from(prefixes, sampling)
        if sampling.step == 2 and not getattr(self, "there", False):
            self.there = True
            self.other = refined(self.path, Solver(P, T), RULES, Knows(), count=10)
        return found


class MarkedMeanwhile(Knows):
    """The same, while it marks."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path, self.there = path, False

    def mark(self, solutions: Sequence[Solution], name: str) -> list[tuple[MarkedStep, ...] | None]:
        if not self.there:
            self.there = True
            self.other = refined(self.path, Solver(P, T), RULES, Knows(), count=10)
        return super().mark(solutions, name)


def test_the_same_loop_twice_at_once_ends_as_one(tmp_path: Path) -> None:
    solver, marker = Meanwhile(P, T), MarkedMeanwhile(tmp_path / "marked.sqlite")
    solver.path = tmp_path / "went.sqlite"
    alone = records(refined(tmp_path / "alone.sqlite", Solver(P, T), RULES, Knows(), count=10))
    went = refined(solver.path, solver, RULES, Knows(), count=10)
    marked = refined(marker.path, Solver(P, T), RULES, marker, count=10)
    assert records(went) == records(solver.other) == records(marked) == records(marker.other) == alone
    for name in ("went", "marked"):  # nothing stands twice
        assert _responses(tmp_path / f"{name}.sqlite") == _responses(tmp_path / "alone.sqlite")


def _responses(path: Path) -> int:
    with Store(path) as store, store.reading("p") as (connection, _):
        return connection.scalar(select(func.count()).select_from(ResponseRow)) or 0
