"""The gold standard of maths with steps: every step computed again, the answer, and the form."""

from __future__ import annotations

import re

from .maths import compute
from .parse import LONGEST

_STEP = re.compile(r"(\d{1,3}) ?([-+*]) ?(\d{1,3}) ?= ?(\d{1,4})(?!\d)")
_LINE = re.compile(r"(\d)\. \d{1,3}[-+*]\d{1,3}=\d{1,4}\.")
_ANSWER = re.compile(r"Answer: (\d{1,4})(?!\d)")
_LAST_LINE = re.compile(r"Answer: \d{1,4}\.")


def _same(found: tuple[int, str, int, int], step: list) -> bool:
    a, op, b, result = step
    return (
        found[1] == op
        and found[3] == result
        and (found[0], found[2]) in ((a, b), (b, a) if op != "-" else (a, b))
    )


def _in_order(found: list[tuple[int, str, int, int]], steps: list) -> int:
    """How many of the wanted steps are there, in their order."""
    at = 0
    for one in found:
        if at < len(steps) and _same(one, steps[at]):
            at += 1
    return at


def grade(reference: dict, text: str) -> dict[str, float]:
    """The parts of the score; `value` is made of them."""
    read = text[:LONGEST]
    found = [(int(a), op, int(b), int(c)) for a, op, b, c in _STEP.findall(read)]
    wanted = reference["steps"]
    answers = _ANSWER.findall(read)
    lines = [line.strip() for line in read.splitlines() if line.strip()]
    numbers = [int(match[1]) for line in lines if (match := _LINE.fullmatch(line))]
    good = sum(number == place for place, number in enumerate(numbers, start=1))
    good += bool(lines and _LAST_LINE.fullmatch(lines[-1]) and len(answers) == 1)
    valid = sum(compute(a, op, b) == c for a, op, b, c in found)
    return {
        "answer": float(set(answers) == {str(reference["answer"])}),
        "steps": _in_order(found, wanted) / max(len(wanted), len(found)),
        "valid": valid / len(found) if found else 0.0,
        "form": (good / max(len(lines), len(wanted) + 1)) ** 2 if len(text) <= LONGEST else 0.0,
    }


def value(parts: dict[str, float]) -> float:
    """Steps and answer are worth three fifths; valid arithmetic and form count in the measure of the steps and the answer."""
    core = 0.5 * parts["steps"] + 0.5 * parts["answer"]
    return core * (0.6 + 0.2 * parts["form"] + 0.2 * parts["form"] * parts["valid"])


def mark(reference: dict, steps: list[str]) -> list[int | None]:
    """What an expert says of each line of a solution: 1 right, 0 neither helps nor harms, -1 wrong; nothing after that.

    A step is right if it is the next one that the problem calls for; the answer if it is right and no step is missing.
    """
    marks: list[int | None] = []
    done, wanted = 0, reference["steps"]
    for line in steps:
        found = [(int(a), op, int(b), int(c)) for a, op, b, c in _STEP.findall(line)]
        answers = _ANSWER.findall(line)
        if found:
            right = done + len(found) <= len(wanted)
            right = right and all(map(_same, found, wanted[done : done + len(found)]))
            done += len(found)
        else:
            right = done == len(wanted) and answers == [str(reference["answer"])]
        marks.append(0 if not found and not answers else 1 if right else -1)
        if marks[-1] == -1:
            break
    return marks + [None] * (len(steps) - len(marks))
