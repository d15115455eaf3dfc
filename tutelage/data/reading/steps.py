"""Steps with marks under the names of those who publish them, put into TRL's: completions, and labels or marks.

    labels  true, false, or the probability (0 to 1) that a step is right
    marks   1 (right), 0 (neutral), -1 (wrong), null (not marked)

Each `_NAME` takes a row's columns and gives new ones, one mapping for each chain of steps; what it used is not among them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from tutelage.data.reading.cells import Cells, LeftOut, Skip, parsed, shown, wrong
from tutelage.data.reading.spellings import MARKS, STEPS, respell

Columns = dict[str, Any]
OUTCOMES = ("outcome", "final_answer_correct")
TAG = "ки"  # ends every step in Math-Shepherd
_FIRST_STEP = re.compile(r"\s*(?=\bStep 1\b)")
_PRACTICE = ("is_quality_control_question", "is_initial_screening_question")


def is_marked(cells: Cells) -> bool:
    """Whether there are steps and labels."""
    return bool(cells.first(STEPS) and cells.first(MARKS))


def published(columns: Mapping[str, Any]) -> Published | None:
    """The form of published step marks that a row has; None where its columns are ours, or mean something else."""
    there = (form for form in FORMS if all(name in columns for name in form.columns))
    return next((form for form in there if form.is_it(columns)), None)


def corrected_steps(columns: Mapping[str, Any]) -> Sequence[Mapping[str, Any]] | None:
    """The pairs of a PRM800K row, each as columns under our names; None for a row of any other form.

    A step that was gone on from (a person's own, or one rated right) is better than each that was rated wrong beside it, behind
    the same steps (Lai et al. 2024, arXiv 2406.18629).  Steps end with a line break where they bring no white space.
    """
    form = published(columns)
    return list(_prm800k_pairs(dict(columns))) if form and form.put is _prm800k else None


def respell_steps(columns: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    """The chains of steps of a row, each as columns under our names; the row itself where it has them already."""
    form = published(columns)
    return list(form.put(dict(columns))) if form else [respell(columns)]


# ---- our columns -------------------------------------------------------------------------------------------------------


def steps_in(cells: Cells) -> tuple[str, ...]:
    """The texts of the steps, each of which says something."""
    name = cells.first(STEPS)
    found = parsed(cells.get(name), "[")
    if not isinstance(found, list) or not all(isinstance(step, str) for step in found):
        wrong(name, "a list of texts", found)
    if not found:
        raise Skip("with no step")
    empty = next((number for number, step in enumerate(found, 1) if not step.strip()), 0)
    if empty:
        raise Skip(f"whose step {empty} is empty")
    return tuple(found)


def labels_in(cells: Cells) -> tuple[tuple[float | None, ...], bool]:
    """(labels, whether they are probabilities) as `StepMarks` has them; true and false are right and wrong."""
    name = cells.first(MARKS)
    found = parsed(cells.get(name), "[")
    if not isinstance(found, list):
        wrong(name, "a list", found)
    said = [label for label in found if label is not None]
    if all(isinstance(label, bool) for label in said):
        return tuple(label if label is None else 2 * label - 1 for label in found), False
    scale = (-1, 0, 1) if name == "marks" else None
    for label in said:
        if isinstance(label, bool) or not isinstance(label, int | float):
            raise Skip(f"whose {name} hold {shown(label)}, which is no label")
        if label not in scale if scale else not 0 <= label <= 1:
            expected = (
                "1, 0 or -1"
                if scale
                else "true, false or a probability (for 1, 0 and -1 call the column marks)"
            )
            raise Skip(f"whose {name} hold {shown(label)}, but a label is {expected}")
    return tuple(found), scale is None


# ---- other names -------------------------------------------------------------------------------------------------------


def _processbench(columns: Columns) -> Iterator[Columns]:
    """ProcessBench: the number (from 0) of the first wrong step, or -1."""
    first, steps = columns.pop("label"), parsed(columns.pop("steps"), "[")
    if not isinstance(steps, list):
        wrong("steps", "a list of texts", steps)
    if isinstance(first, bool) or not isinstance(first, int) or not -1 <= first < len(steps):
        raise Skip(f"whose label is {shown(first)}, but it is the number of a step from 0, or -1")
    marks = [1] * len(steps) if first < 0 else [1] * first + [-1]
    yield columns | {"completions": steps, "marks": marks}


def _of_prm800k(columns: Columns) -> tuple[Columns, Mapping[str, Any]]:
    """What was asked, beside all other columns, and what PRM800K says of the steps."""
    label, question = columns.pop("label"), columns.pop("question")
    if any(columns.pop(name, False) is True for name in _PRACTICE):
        raise LeftOut("that was there to look at its annotator, not at a model")
    asked: Columns = {"instruction": question.get("problem")}
    if question.get("ground_truth_answer") is not None:
        asked["reference"] = question["ground_truth_answer"]
    return columns | asked, label


def _prm800k_pairs(columns: Columns) -> Iterator[Columns]:
    """PRM800K: see `corrected_steps`."""
    whole, label = _of_prm800k(columns)
    before, found = "", False
    for number, step in enumerate(_objects(label.get("steps"), "label.steps"), 1):
        tried, taken = _tried(step, number)
        if taken is None:
            break
        better = before + _ended(taken[0])
        by_hand = step.get("chosen_completion") is None and step.get("human_completion") is not None
        for text, rating in tried if taken[1] == 1 or (by_hand and taken[1] is None) else ():
            if rating == -1 and text.strip() != taken[0].strip():
                found = True
                ends = {"chosen_finish": "length", "rejected_finish": "length"}
                yield whole | {"chosen": better, "rejected": before + _ended(text)} | ends
        before = better
    if not found:
        raise LeftOut("in which no wrong step was put right")


def _ended(step: str) -> str:
    return step if step[-1:].isspace() else f"{step}\n"


def _prm800k(columns: Columns) -> Iterator[Columns]:
    """PRM800K: the chain of steps that were gone on from; each that was not is the end of a chain of its own.

    What stands before such an end was marked in the main chain: there it is marked once.
    """
    whole, label = _of_prm800k(columns)
    solved = label.get("finish_reason") == "solution"
    main: list[tuple[str, Any]] = []
    ends: list[tuple[list[str], str, Any]] = []
    for number, step in enumerate(_objects(label.get("steps"), "label.steps"), 1):
        tried, taken = _tried(step, number)
        said = [text for text, _ in main]
        ends += [(said, *one) for one in tried if one is not taken and one[1] is not None]
        if taken is None:
            solved = False
            break
        main.append(taken)
    if main or not ends:
        rated = {"completions": [text for text, _ in main], "marks": [rating for _, rating in main]}
        yield whole | rated | {"completion_finish": "eos" if solved else "length"}
    for before, text, rating in ends:
        rated = {"completions": [*before, text], "marks": [*[None] * len(before), rating]}
        yield whole | rated | {"completion_finish": "length"}


def _tried(step: Mapping[str, Any], number: int) -> tuple[list[tuple[str, Any]], tuple[str, Any] | None]:
    """The completions of PRM800K's `number`-th step, each (text, rating), and the one that was gone on from, if any."""
    where = f"step {number}"
    tried = [(_text_of(one, where), one.get("rating")) for one in _objects(step.get("completions"), where)]
    chosen, human = step.get("chosen_completion"), step.get("human_completion")
    if chosen is not None:
        if not isinstance(chosen, int) or not 0 <= chosen < len(tried):
            raise Skip(f"whose {where} has the chosen completion {shown(chosen)} of {len(tried)}")
        return tried, tried[chosen]
    if human is None:
        return tried, tried[0] if len(tried) == 1 else None
    if not isinstance(human, dict):
        wrong(f"human_completion of {where}", "an object with a text", human)
    return tried, (_text_of(human, where), human.get("rating", 1))


def _objects(value: Any, where: str) -> list[Mapping[str, Any]]:
    found = [] if value is None else value
    if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
        wrong(where, "a list of objects", value)
    return found


def _text_of(one: Mapping[str, Any], where: str) -> str:
    text = one.get("text")
    if not isinstance(text, str):
        raise Skip(f"whose {where} has a completion with no text")
    return text


def _math_shepherd(columns: Columns) -> Iterator[Columns]:
    """Math-Shepherd: a text in which a tag ends every step, and the same with + or - in its place (or a list of labels)."""
    text, label = columns.pop("input"), columns.pop("label")
    asked, *rest = _FIRST_STEP.split(text, maxsplit=1)
    if not rest or not asked.strip():
        raise Skip("whose input has no question before Step 1")
    steps = [step.strip() for step in rest[0].split(TAG)]
    if steps[-1]:
        raise Skip("whose last step has no tag")
    found = {"instruction": asked.strip(), "completions": steps[:-1]}
    if not isinstance(label, str):
        yield columns | found | {"labels": label}
        return
    yield columns | found | {"labels": [sign == "+" for sign in _signs(text, label)]}


def _signs(text: str, label: str) -> list[str]:
    """What stands in `label` where the tags stand in `text`."""
    signs, at, fault = [], 0, "whose label is not its input with + or - in the place of each tag"
    *pieces, rest = text.split(TAG)
    for piece in pieces:
        at += len(piece)
        if label[at - len(piece) : at] != piece or label[at : at + 1] not in ("+", "-"):
            raise Skip(fault)
        signs.append(label[at])
        at += 1
    if label[at:].strip() != rest.strip():
        raise Skip(fault)
    return signs


class Published(NamedTuple):
    """Step marks as somebody publishes them.

    is_it: whether a row that has these columns is one of theirs.  put: its chains of steps under our names.
    """

    name: str
    columns: tuple[str, ...]
    is_it: Callable[[Mapping[str, Any]], bool]
    put: Callable[[Columns], Iterator[Columns]]


def _is_prm800k(columns: Mapping[str, Any]) -> bool:
    return isinstance(columns["question"], dict) and isinstance(columns["label"], dict)


def _is_math_shepherd(columns: Mapping[str, Any]) -> bool:
    return isinstance(columns["input"], str) and TAG in columns["input"]


FORMS = (
    Published("ProcessBench", ("problem", "steps", "label"), lambda columns: True, _processbench),
    Published("PRM800K", ("question", "label"), _is_prm800k, _prm800k),
    Published("Math-Shepherd", ("input", "label"), _is_math_shepherd, _math_shepherd),
)
