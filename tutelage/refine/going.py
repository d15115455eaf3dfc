"""The loop: all refinements of a run, wave by wave, each as far as it goes without people.

What a wave has come to stands in the store before the next begins, each group in one transaction: a run that was killed goes on
with what is there, draws the same solutions, and asks nobody twice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from sqlalchemy import Connection, select

from tutelage.feedback.asking.answer_rows import write_answer
from tutelage.feedback.asking.payloads import StepAnswer
from tutelage.feedback.errors import Refused
from tutelage.feedback.refining import rows
from tutelage.feedback.refining.reading import Standing, marks_of, read_refinements
from tutelage.feedback.refining.rules import Next, Rules, next_of
from tutelage.records import MarkedStep, Refinement
from tutelage.refine.markers import Marker, Solution, upright
from tutelage.refine.writing import Going, Writer, Written
from tutelage.store import ModelInfo, Store
from tutelage.store.counting import recount
from tutelage.store.generations import insert_generation_run, insert_next
from tutelage.store.schema import Annotation, Annotator, Item, now

GROUP = 64
"""Refinements that are taken on at once: what a crash makes to do again."""

Named = tuple[Standing, Next]


class Origin(NamedTuple):
    """What the store says of who writes: the model and how it draws."""

    model: ModelInfo
    params: dict[str, Any]


class Loop:
    """Takes refinements on until they are closed, or wait for people.

    roots: the refinements that it is about.  told: called with the closed ones after every group.
    """

    def __init__(
        self,
        store: Store,
        project: str,
        roots: Sequence[int],
        rules: Rules,
        writer: Writer,
        marker: Marker | None,
        origin: Origin,
        use_rewrites: bool = True,
        told: Callable[[int], None] = lambda closed: None,
    ) -> None:
        self._store, self._project, self._roots = store, project, frozenset(roots)
        self._rules, self._writer, self._marker, self._origin = rules, writer, marker, origin
        self._use_rewrites, self._told = use_rewrites, told
        self._silent: set[int] = set()  # items about which the marker says nothing

    def standing(self) -> list[Standing]:
        """All of them, as they are now."""
        with self._store.reading(self._project) as (connection, key):
            return read_refinements(connection, key, self._roots)

    def run(self) -> list[Standing]:
        """Go on as far as can be; returns how they stand then."""
        before: list[Standing] = []
        while True:
            found = self.standing()
            if found == before:  # what is left wants more answers than this marker gives
                return found
            before = found
            wanted = [(one, move) for one in found if (move := self._next(one)) is not None]
            self._told(sum(one.refinement.outcome is not None for one in found))
            if not wanted:
                return found
            for some in _grouped(wanted):
                self._take_on(some)

    def _next(self, one: Standing) -> Next | None:
        """What is to be done here about a refinement; None: nothing, or people are waited for."""
        if one.redacted:
            return None
        if one.refinement.outcome is None and one.broken:
            return Next("close", outcome="broken", why="whoever marked it says that the problem is")
        move = next_of(self._seen(one.refinement), self._rules)
        if move is None or move.what != "mark":
            return move
        if one.items[-1] in self._silent:
            return Next("close", outcome="handed-up", why="whoever marks has no verdict on its steps")
        return None if self._marker is None else move

    def _seen(self, refinement: Refinement) -> Refinement:
        """Without the rewrites, where they are not to be put in."""
        if self._use_rewrites:
            return refinement
        bare = (
            replace(one, steps=tuple(replace(step, rewrite=None) for step in one.steps))
            for one in refinement.rounds
        )
        return replace(refinement, rounds=tuple(bare))

    def _take_on(self, some: Sequence[Named]) -> None:
        what = some[0][1].what
        if what == "mark":
            self._mark([one for one, _ in some])
        elif what == "go on":
            self._go_on(some)
        elif what == "check":
            self._check([one for one, _ in some])
        else:
            with self._store.writing(self._project) as (connection, _):
                for one, move in some:
                    assert move.outcome is not None
                    rows.close(connection, one.root, move.outcome, move.why)

    # marks ------------------------------------------------------------------------------------------------------------

    def _mark(self, some: Sequence[Standing]) -> None:
        """All answers that are wanted about last rounds, but those that are there."""
        assert self._marker is not None
        for name in self._marker.names:
            asked = self._unanswered(some, name)
            solutions = [_solution(one) for one in asked]
            found = self._marker.mark(solutions, name)
            with self._store.writing(self._project) as (connection, key):
                who = connection.scalar(select(Annotator.id).where(Annotator.name == name))
                meanwhile = _answered(connection, key, name)  # by the same command, started twice
                for one, solution, steps in zip(asked, solutions, found, strict=True):
                    if one.items[-1] in meanwhile:
                        continue
                    if steps is None:
                        self._silent.add(one.items[-1])
                        continue
                    write_answer(
                        connection,
                        answer_of(upright(steps)),
                        solution.steps,
                        0,
                        item_id=one.items[-1],
                        annotator_id=who,
                        role="answer",
                        client_key=f"{self._project}/refine/{one.items[-1]}/{name}",
                        submitted_at=now(),
                    )
                recount(connection, [one.items[-1] for one in asked])

    def _unanswered(self, some: Sequence[Standing], name: str) -> list[Standing]:
        with self._store.reading(self._project) as (connection, key):
            done = _answered(connection, key, name)
        return [one for one in some if one.items[-1] not in done]

    # what is written --------------------------------------------------------------------------------------------------

    def _go_on(self, some: Sequence[Named]) -> None:
        going = [
            Going(
                one.refinement.prompt,
                one.refinement.rounds[-1],
                len(one.items) + 1,
                move.step,
                move.how or "regenerated",
                one.splitter,
            )
            for one, move in some
        ]
        wrote = self._writer.go_on(going)
        with self._store.writing(self._project) as (connection, _):
            for (one, _), asked, written in zip(some, going, wrote, strict=True):
                if written.fault:
                    rows.close(connection, one.root, "handed-up", written.fault)
                    continue
                origin = {"goes_on": asked.how, "round": asked.number}
                try:
                    with connection.begin_nested():
                        response = self._insert(connection, one, written, origin)
                        solution = rows.Written(response, written.right)
                        rows.add_round(connection, one.root, asked.number, solution, asked.how, asked.step)
                except Refused:  # somebody else has gone on: theirs stands, and this was never written
                    continue

    def _check(self, some: Sequence[Standing]) -> None:
        numbers = [len(one.refinement.checks) + 1 for one in some]
        wrote = self._writer.without_help([one.refinement.prompt for one in some], numbers)
        with self._store.writing(self._project) as (connection, _):
            for one, number, written in zip(some, numbers, wrote, strict=True):
                if written.right is None:
                    rows.close(
                        connection,
                        one.root,
                        "sound",
                        "nobody can say whether the model is right without help",
                    )
                    continue
                if rows.is_checked(connection, one.root, number):
                    continue
                response = self._insert(connection, one, written, {"check": number})
                rows.add_check(connection, one.root, number, response, written.right)

    def _insert(self, connection: Any, one: Standing, written: Written, origin: dict[str, Any]) -> int:
        run_id = insert_generation_run(
            connection, self._origin.model, "local", {**self._origin.params, **origin}
        )
        prompt_id = connection.scalar(select(Item.prompt_id).where(Item.id == one.root))
        return insert_next(connection, run_id, prompt_id, written.text, written.finish, written.tokens)


def _answered(connection: Connection, project_id: int, name: str) -> set[int]:
    """The items of a project about which somebody has answered."""
    query = select(Annotation.item_id).join(Annotator, Annotator.id == Annotation.annotator_id)
    query = query.join(Item, Item.id == Annotation.item_id).where(Item.project_id == project_id)
    return set(connection.scalars(query.where(Annotator.name == name)))


def answer_of(steps: Sequence[MarkedStep]) -> StepAnswer:
    """Marked steps as an answer, up to the first that was not marked."""
    marks = marks_of(steps)
    wrong = any(mark.label == -1 for mark in marks)
    return StepAnswer(marks=marks, finish="found-error" if wrong else "solution")


def _solution(one: Standing) -> Solution:
    last = one.refinement.rounds[-1]
    return Solution(one.refinement.prompt, tuple(step.text for step in last.steps), last.finish)


def _grouped(wanted: Sequence[Named]) -> Iterator[list[Named]]:
    """Groups of those that want the same."""
    for what in ("close", "mark", "go on", "check"):
        own = [named for named in wanted if named[1].what == what]
        for start in range(0, len(own), GROUP):
            yield own[start : start + GROUP]
