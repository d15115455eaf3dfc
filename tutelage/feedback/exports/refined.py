"""Refinements as files: the records, and the rows that they teach (`refining.lessons`), each readable as data=."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, get_args

from tutelage.feedback.exports.current import RowDict, Source, aliases
from tutelage.feedback.exports.spec import Part
from tutelage.feedback.refining import lessons
from tutelage.feedback.refining.reading import Standing, read_refinements
from tutelage.feedback.training.refined import NOTHING_NEW, UNSOUND
from tutelage.records import Comparison, Demonstration, Message, Prompt, StepMarks

PARTS: tuple[Part, ...] = get_args(Part)[1:]
"""What can be written by itself; the records first."""


def refinements(source: Source) -> Iterator[RowDict]:
    """The rows of a part; all: the records, beside which `export` writes the other parts."""
    spec = source.spec.part
    yield from rows_of("records" if spec == "all" else spec, source)


def rows_of(part: Part, source: Source) -> Iterator[RowDict]:
    """The rows of one part.  Refinements that give none are counted where each could give one."""
    found = read_refinements(source.connection, source.project_id)
    names = aliases(source)
    for one in source.wanted((one.root, one.split, one.redacted, one) for one in found):
        rows = _WRITERS[part](one, names)
        if not rows and part in _NONE:
            source.left_out[_NONE[part]] += 1
        yield from rows


def _records(one: Standing, names: dict[str, str]) -> list[RowDict]:
    said = one.refinement.to_json()
    for each in said["rounds"]:
        each["by"] = names.get(each["by"], each["by"])
    return [said | {"split": one.split}]


def _solutions(one: Standing, names: dict[str, str]) -> list[RowDict]:
    found = lessons.solution(one.refinement)
    return [_shown(found, one.split)] if found else []


def _steps(one: Standing, names: dict[str, str]) -> list[RowDict]:
    """Each corrected step against the original one; how it came about, and which step it is (from 0), beside it."""
    prompt = one.refinement.prompt
    return [
        _compared(lessons.step_pair(prompt, each), one.split)
        | {"step": each.step, "how": each.after.how, "error": each.before.steps[each.step].error}
        for each in lessons.corrections_of(one.refinement)
    ]


def _marks(one: Standing, names: dict[str, str]) -> list[RowDict]:
    return [_marked(row) | {"split": one.split} for row in lessons.step_marks(one.refinement)]


def _pairs(one: Standing, names: dict[str, str]) -> list[RowDict]:
    """The last solution against the first; by how much they differ (0 to 1) beside it."""
    found = lessons.solution_pair(one.refinement)
    if found is None:
        return []
    differ = round(lessons.edit_distance(found.chosen, found.rejected), 6)
    return [_compared(found, one.split) | {"edit_distance": differ}]


def _corrections(one: Standing, names: dict[str, str]) -> list[RowDict]:
    return [_shown(row, one.split) for row in lessons.rewrites(one.refinement)]


_WRITERS: dict[str, Callable[[Standing, dict[str, str]], list[RowDict]]] = {
    "records": _records,
    "solutions": _solutions,
    "steps": _steps,
    "marks": _marks,
    "pairs": _pairs,
    "corrections": _corrections,
}
_NONE: dict[str, str] = {
    "solutions": UNSOUND,
    "pairs": f"{UNSOUND}, or {NOTHING_NEW.removeprefix('refinement ')}",
}


def _shown(row: Demonstration, split: str) -> RowDict:
    said: Any = [Message("assistant", row.response).to_json()] if row.prompt.is_chat else row.response
    return _asked(row.prompt) | {"completion": said, "completion_finish": row.finish, "split": split}


def _asked(prompt: Prompt) -> RowDict:
    return {"prompt": prompt.content_json(), "task": prompt.task, "reference": prompt.reference}


def _compared(row: Comparison, split: str) -> RowDict:
    return row.to_json() | {"split": split}


def _marked(row: StepMarks) -> RowDict:
    return row.to_json()
