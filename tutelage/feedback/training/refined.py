"""What the refinements of a project give trainers, beside what else people said in it."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Generic, NamedTuple, TypeVar

from sqlalchemy import Connection

from tutelage.feedback.refining import lessons
from tutelage.feedback.refining.reading import Standing, read_refinements
from tutelage.records import Comparison, Demonstration, Refinement
from tutelage.settings.groups import RefinedPairs, RefinedRows

R = TypeVar("R", bound=Comparison | Demonstration)
REDACTED = "redacted"
UNSOUND = "refinement without a sound solution"
NOTHING_NEW = "refinement whose first solution was not found wrong"


class Lesson(NamedTuple, Generic[R]):
    """A row that a refinement gives, or why it gives none; its problem (a prompt's id) and that problem's split; whose word it
    rests on."""

    problem: str
    split: str
    row: R | str
    by: str = ""


def pairs(connection: Connection, project_id: int, kind: RefinedPairs) -> list[Lesson[Comparison]]:
    """steps: each corrected step against the original one; solutions: the last solution against the first; none."""
    return [] if kind == "none" else list(_lessons(connection, project_id, kind))


def _lessons(connection: Connection, project_id: int, kind: RefinedPairs) -> Iterator[Lesson[Comparison]]:
    for one in read_refinements(connection, project_id):
        refinement = one.refinement
        if one.redacted:
            yield Lesson(one.digest, one.split, REDACTED)
        elif kind == "steps":
            for each in lessons.corrections_of(refinement):
                row = lessons.step_pair(refinement.prompt, each)
                yield Lesson(one.digest, one.split, row, each.before.by)
        else:
            pair = lessons.solution_pair(refinement)
            yield Lesson(one.digest, one.split, pair or _why_no_pair(refinement), _vouches(refinement))


def _why_no_pair(refinement: Refinement) -> str:
    return UNSOUND if lessons.solution(refinement) is None else NOTHING_NEW


def _vouches(refinement: Refinement) -> str:
    """Whose word it is that the last solution is the better one: who marked it, else who found the one before wrong."""
    return next((one.by for one in reversed(refinement.rounds) if one.by), "")


def demonstrations(
    connection: Connection, project_id: int, kind: RefinedRows
) -> Iterator[Lesson[Demonstration]]:
    """solutions: each sound solution; corrections: what a refiner learns; none."""
    for one in read_refinements(connection, project_id) if kind != "none" else ():
        if one.redacted:
            yield Lesson(one.digest, one.split, REDACTED)
            continue
        for row in _demonstrations(one, kind):
            yield Lesson(one.digest, one.split, row)


def _demonstrations(one: Standing, kind: RefinedRows) -> list[Demonstration] | list[str]:
    if kind == "corrections":
        return lessons.rewrites(one.refinement)
    found = lessons.solution(one.refinement)
    return [UNSOUND] if found is None else [found]


def held_out(found: Collection[Lesson[R]], problems: Collection[str]) -> list[Lesson[R]]:
    """The lessons, with those about some problems held out, whatever their split is here."""
    return [one._replace(split="held out") if one.problem in problems else one for one in found]
