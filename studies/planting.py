"""Errors planted in GSM8K's human solutions: one step is made wrong, and all that follows from it follows.

The solutions say in calculator marks what is computed (<<48/2=24>>), so that a changed result can be carried through: every
later number that was the old result becomes the new one, and the sums that have it are computed anew.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple

import numpy as np

Kind = Literal["operation", "number", "left out"]
KINDS: tuple[Kind, ...] = ("operation", "number", "left out")
_MARK = re.compile(r"<<([^<>=]*)=([^<>=]*)>>")
_NUMBER = re.compile(
    r"(?<![\w.,/])(?:\d{1,3}(?:,\d{3})+|\d+)?(?:(?<=\d)\.\d+|\.\d+|(?<=\d))(?![\w/]|[.,]\d|:\d)"
)
_OPERAND = re.compile(r"\d+(?:\.\d+)?|\.\d+")
_SUM = re.compile(r"[\d.]+(?:[-+*/][\d.]+)+")
_EXCHANGED = {"+": "-*", "-": "+", "*": "+/", "/": "*-"}
_HASHES = "#### "


class Worked(NamedTuple):
    """A solution: its steps, the last of which is `#### answer`, and the number (from 0) of the first wrong one, or None."""

    steps: tuple[str, ...]
    wrong: int | None = None


class _Mark(NamedTuple):
    step: int
    sum: str
    value: float


class _Change(NamedTuple):
    """What is done to one sum: written otherwise; and which numbers are others from the beginning."""

    mark: int
    sum: str
    others: dict[float, float]


def sound(answer: str) -> Worked | None:
    """A human solution as it is; None where it is not made of steps, an answer and sums that can be computed."""
    steps = tuple(line.strip() for line in answer.splitlines() if line.strip())
    if len(steps) < 2 or not steps[-1].startswith(_HASHES):
        return None
    marks = _marks(steps)
    last = _number(steps[-1].removeprefix(_HASHES))
    if marks is None or not marks or last is None or not math.isclose(marks[-1].value, last):
        return None
    return Worked(steps)


def planted(question: str, worked: Worked, kind: Kind, generator: np.random.Generator) -> Worked | None:
    """The solution with an error of a kind in a step chosen at random, and another answer; None where none can be planted.

    operation: another one is used.  number: one of the problem is taken for another of it.  left out: a step is, and where its
    result was used stands a number of its own sum.
    """
    marks = _marks(worked.steps)
    assert marks is not None
    given = {value for value in map(_number, _NUMBER.findall(question)) if value is not None}
    changes = list(_changes(marks, kind, given))
    for place in generator.permutation(len(changes)):
        found = _carried(worked, marks, changes[int(place)], kind == "left out", given)
        if found is not None:
            return found
    return None


def _changes(marks: Sequence[_Mark], kind: Kind, given: set[float]) -> Iterator[_Change]:
    for place, mark in enumerate(marks):
        operands = [(match.start(), match.end(), float(match[0])) for match in _OPERAND.finditer(mark.sum)]
        if kind == "operation":
            for at, sign in enumerate(mark.sum):
                for other in _EXCHANGED.get(sign, ""):
                    yield _Change(place, mark.sum[:at] + other + mark.sum[at + 1 :], {})
        elif kind == "number":
            for start, end, value in operands:
                for taken in sorted(given - {value}) if value in given else ():
                    yield _Change(place, mark.sum[:start] + shown(taken) + mark.sum[end:], {})
        elif place + 1 < len(marks) and [one.step for one in marks].count(mark.step) == 1:
            for _, _, operand in operands:
                if operand in given and operand != mark.value:
                    yield _Change(place, mark.sum, {mark.value: operand})


def _carried(
    worked: Worked, marks: Sequence[_Mark], change: _Change, leave_out: bool, given: set[float]
) -> Worked | None:
    """The solution with the change and what follows from it; None where that cannot be said for sure."""
    before = {mark.value for mark in marks[: change.mark]} | given
    if marks[change.mark].value in before:
        return None  # which of the two a later step means is not known
    others = dict(change.others)
    steps: list[str] = []
    wrong: int | None = None
    number = 0
    for at, step in enumerate(worked.steps):
        own = [place for place, mark in enumerate(marks) if mark.step == at]
        if leave_out and change.mark in own:
            continue
        written = _written(step, own, marks, None if leave_out else change, others, before)
        if written is None:
            return None
        if written != step and wrong is None:
            wrong = number
        steps.append(written)
        number += 1
    if wrong is None or wrong == len(steps) - 1 or steps[-1] == worked.steps[-1]:
        return None
    return Worked(tuple(steps), wrong)


def _written(
    step: str,
    own: Sequence[int],
    marks: Sequence[_Mark],
    change: _Change | None,
    others: dict[float, float],
    before: set[float],
) -> str | None:
    """A step with the changed sum and the other numbers; adds to `others` what its sums now give.  None where a result is
    negative or no plain number, or where what stands before a calculator mark is not its sum."""
    done, rest = "", step
    for place in own:
        mark = marks[place]
        match = _MARK.search(rest)
        assert match is not None
        text, rest = rest[: match.start()], rest[match.end() :]
        new = change.sum if change is not None and place == change.mark else _exchanged(mark.sum, others)
        if new == mark.sum:
            done += _exchanged(text, others) + match[0]
            continue
        value = computed(new)
        replaced = _in_words(text, mark.sum, new)
        if value is None or replaced is None or math.isclose(value, mark.value):
            return None
        if mark.value in before or others.get(mark.value, value) != value:
            return None
        others[mark.value] = value
        head, tail = replaced
        done += _exchanged(head, others) + tail + f"<<{new}={shown(value)}>>"
    return done + _exchanged(rest, others)


def _in_words(text: str, old: str, new: str) -> tuple[str, str] | None:
    """(what stands before the sum, the new sum and "=" in the manner of the old one, with its $ and x); None without the sum."""
    was, now = (re.findall(r"[\d.]+|.", one) for one in (old, new))
    parts = [r"([x×*])" if part == "*" else f"({re.escape(part)})" for part in was]
    written = r"(\s*\$?\s*)".join(parts)
    match = re.search(rf"(?<![\d.,)*/+x-])(?<![-+*/x] ){written}(\s*=\s*\$?\s*)$", text)
    if match is None:
        return None
    found = list(match.groups())
    for at, (one, other) in enumerate(zip(was, now, strict=True)):
        if one != other:
            found[2 * at] = "x" if other == "*" and "x" in match[0] else other
    return text[: match.start()], "".join(found)


def _exchanged(text: str, others: dict[float, float]) -> str:
    """The text with other numbers in the place of some."""

    def other(match: re.Match[str]) -> str:
        value = _number(match[0])
        return _alike(others[value], match[0]) if value is not None and value in others else match[0]

    if _SUM.fullmatch(text):
        return _OPERAND.sub(other, text)
    return _NUMBER.sub(other, text) if others else text


def _alike(value: float, other: str) -> str:
    """A number in the manner of another: 1,200 or 18.00."""
    text = f"{value:.2f}" if re.search(r"\.\d\d$", other) else shown(value)
    return f"{int(value):,}" if "," in other and value.is_integer() else text


def _marks(steps: Sequence[str]) -> list[_Mark] | None:
    """What is computed; None where a mark is no plain sum, or says another result than it has."""
    found = []
    for at, step in enumerate(steps):
        for match in _MARK.finditer(step):
            said, value = _number(match[2]), computed(match[1])
            if said is None or value is None or not math.isclose(said, value):
                return None
            found.append(_Mark(at, match[1], said))
        if step.count("<<") != len(_MARK.findall(step)):
            return None
    return found


def computed(text: str) -> float | None:
    """The value of a sum of plain numbers, products first, where that is positive and has two decimals at most."""
    if not _SUM.fullmatch(text):
        return None
    total, sign, product = 0.0, 1.0, 0.0
    parts = re.split(r"([-+*/])", text)
    try:
        product = float(parts[0])
        for operator, number in zip(parts[1::2], map(float, parts[2::2]), strict=True):
            if operator == "*":
                product *= number
            elif operator == "/":
                product /= number
            else:
                total, sign, product = total + sign * product, 1.0 if operator == "+" else -1.0, number
    except (ValueError, ZeroDivisionError):
        return None
    value = total + sign * product
    return round(value, 2) if value > 0 and math.isclose(value, round(value, 2)) else None


def _number(text: str) -> float | None:
    try:
        return float(text.replace(",", "").strip("$ "))
    except ValueError:
        return None


def shown(value: float) -> str:
    """A number without needless decimals."""
    return f"{value:.10g}"
