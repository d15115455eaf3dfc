"""Which steps of a solution are wrong by themselves: what somebody sees who verifies one step, and nothing else.

A step is verified against the problem and the line before it, so that one that goes on rightly from an earlier error is right.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from tutelage.records import Prompt

from . import gold_options
from .maths import compute

_LINE = re.compile(r"\d\. (\d{1,3})([-+*])(\d{1,3})=(\d{1,4})\.")
_ANSWER = re.compile(r"Answer: (\d{1,4})\.")
TASKS = ("chain", "maths", "options")


class Faults(NamedTuple):
    """`steps`: for each step that takes work to verify, whether it is wrong by itself.  `plain`: whether something is wrong for
    everybody to see: a line that is none, steps that are missing, an answer that is not what the last step says."""

    steps: tuple[bool, ...]
    plain: bool = False


def faults(prompt: Prompt, text: str) -> Faults:
    """Of a solution of `chain`, `maths` or `options`.  Raises ValueError for a prompt of another task, or without reference."""
    reference = dict(prompt.reference or {})
    known = bool(reference) and (prompt.task == "options" or "steps" in reference)
    if prompt.task not in TASKS or not known:
        what = f"has task {prompt.task!r}" if prompt.task not in TASKS else "has no reference with its steps"
        raise ValueError(
            f"prompt {prompt.id} {what}: the checker verifies steps of {', '.join(TASKS)}, with their reference; leave such "
            "prompts out, or let somebody else judge."
        )
    if prompt.task == "options":
        marks = gold_options.mark(reference, text)
        return Faults(tuple(step.is_root for step in marks), not gold_options.complete(marks))
    return _of_sums(reference["steps"], [line.strip() for line in text.splitlines() if line.strip()])


def _of_sums(wanted: Sequence[Sequence], lines: Sequence[str]) -> Faults:
    last = _ANSWER.fullmatch(lines[-1]) if lines else None
    found = [_LINE.fullmatch(line) for line in (lines[:-1] if last else lines)]
    value = wanted[0][0]
    wrong: list[bool] = []
    for number, line in enumerate(found):
        if line is None:
            wrong.append(True)
            continue
        a, op, b, c = int(line[1]), line[2], int(line[3]), int(line[4])
        called_for = number < len(wanted) and op == wanted[number][1]
        orders = ((a, b),) if op == "-" else ((a, b), (b, a))
        called_for = called_for and (value, wanted[number][2]) in orders
        wrong.append(not (called_for and compute(a, op, b) == c))
        value = c
    plain = last is None or len(found) != len(wanted) or None in found or int(last[1]) != value
    return Faults(tuple(wrong), plain)
