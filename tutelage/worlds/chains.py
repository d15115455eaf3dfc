"""Chains of six small sums: long enough that whoever checks a solution by hand may not look at every step.

    Count: 5 +3 -2 +1 -1 +2 -3.

    1. 5+3=8.
    2. 8-2=6.
    ...
    Answer: 5.

Reference, solutions and grading are those of maths; flawed solutions have one wrong step, which all that follows goes on from.
The text is another than that of the other tasks: solutions, each with a reader's remark on how good it is, and sums.
"""

from __future__ import annotations

import re
from functools import partial

import numpy as np

from . import maths
from .maths import LARGEST, Step, Writer, compute, draw_change
from .words import pick

STEPS = 6
TRIES = 20  # some chains stay above 0 with an error in few of their steps alone
_NEGATIVE = re.compile(r"=-|\. -")


def make(generator: np.random.Generator) -> tuple[str, dict]:
    """A chain, and its steps and answer; no number is below 0 or above `LARGEST`."""
    value = int(generator.integers(2, LARGEST + 1))
    said, steps = [f"Count: {value}"], list[Step]()
    for _ in range(STEPS):
        op, amount = draw_change(generator, value)
        result = compute(value, op, amount)
        said.append(f"{op}{amount}")
        steps.append([value, op, amount, result])
        value = result
    return " ".join(said) + ".", {"steps": steps, "answer": value}


write = maths.write


def flaws(reference: dict) -> dict[str, tuple[float, Writer]]:
    """One wrong step, after which no number is below 0: a wrong result, or the other operation."""
    return {name: (1.0, partial(_slip, name)) for name in ("wrong result", "wrong operation")}


def slip(reference: dict, generator: np.random.Generator) -> str:
    """A solution with one wrong step."""
    return _slip(pick(generator, ("wrong result", "wrong operation")), reference, generator)


def _slip(name: str, reference: dict, generator: np.random.Generator) -> str:
    every = maths.flaws(reference)
    for _ in range(TRIES):
        text = every[name][1](reference, generator)
        if not _NEGATIVE.search(text):
            return text
    *before, (a, op, b, result) = reference["steps"]
    return maths.show([*before, [a, op, b, result + 1]], result + 1)
