"""Simulated people who mark the steps of a solution: one who knows, many of whom each errs now and then, and one who is wrong.

They read what the expert of the world would say, which there is for `options` alone.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from tutelage.records import MarkedStep, Prompt

from . import gold_options
from .options import TRAPS
from .options_lines import ANSWER, LETTERS, answer, read
from .words import pick, pick_other


def expert(prompt: Prompt, text: str) -> tuple[MarkedStep, ...]:
    """The marks of somebody who knows.  Raises ValueError for a prompt of another task."""
    return gold_options.mark(known(prompt), text)


def known(prompt: Prompt) -> dict[str, Any]:
    """The reference by which the expert marks.  Raises ValueError for a prompt of another task, and for one without reference."""
    if prompt.task == "options" and prompt.reference is not None:
        return dict(prompt.reference)
    what = "has no reference" if prompt.reference is None else f"has task {prompt.task!r}"
    raise ValueError(
        f"prompt {prompt.id} {what}: the world's expert marks steps of options, with their reference; give prompts of `world "
        "tasks=[options]`, or say otherwise who marks."
    )


def crowd(prompt: Prompt, text: str, generator: np.random.Generator, rate: float) -> tuple[MarkedStep, ...]:
    """The marks of somebody who errs in each step with probability `rate`: misses an error, marks one where there is none, or
    knows of an error and rewrites it wrongly.  Raises ValueError for a prompt of another task."""
    steps = expert(prompt, text)
    return tuple(_mistaken(prompt, step, generator) if generator.random() < rate else step for step in steps)


def _mistaken(prompt: Prompt, step: MarkedStep, generator: np.random.Generator) -> MarkedStep:
    if step.label != -1:
        return _accused(prompt, step.text, generator)
    if step.rewrite is not None and generator.random() < 0.5:
        return replace(step, rewrite=spoilt(prompt, step.rewrite, generator))
    return MarkedStep(step.text, 1)


def wrong_correction(prompt: Prompt, text: str, generator: np.random.Generator) -> tuple[int, MarkedStep]:
    """A step that is right, by its number, with a correction that is wrong: for whoever is told so without cause.

    Raises ValueError for a prompt of another task, and for a solution in which no step is right.
    """
    right = [number for number, step in enumerate(expert(prompt, text)) if step.label == 1]
    if not right:
        raise ValueError(
            f"the solution of prompt {prompt.id} has no step that is right, so none to correct wrongly."
        )
    number = pick(generator, right)
    return number, _accused(prompt, gold_options.steps_of(text)[number], generator)


def _accused(prompt: Prompt, step: str, generator: np.random.Generator) -> MarkedStep:
    """A step called wrong, for a reason of the catalogue, and written again as something else."""
    trap = TRAPS[pick(generator, [name for name in TRAPS if name != "stop"])]
    return MarkedStep(step, -1, trap.note, spoilt(prompt, step, generator), error=trap.error)


def spoilt(prompt: Prompt, step: str, generator: np.random.Generator) -> str:
    """Another line in the place of this one, that reads as well; what is no line of a solution stays as it is."""
    line = step.strip()
    found = read(dict(prompt.reference or {}), line)
    if found is None:
        return step
    place, said = found
    if place == ANSWER:
        subsets = [
            frozenset(letter for bit, letter in enumerate(LETTERS) if number >> bit & 1)
            for number in range(8)
        ]
        others = [subset for subset in subsets if subset != said]
        wrong = answer(pick(generator, others)).text
    elif place in (0, 1):
        begun = line[: -len(f"{said}.")]
        wrong = f"{begun}{pick_other(generator, range(1, 10), said)}."
    else:
        verdict = "right" if said else "wrong"
        wrong = f"{line.removesuffix(f'{verdict}.')}{'wrong' if said else 'right'}."
    return step.replace(line, wrong)
