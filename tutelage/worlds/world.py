"""Prompts, demonstrations and text of the embedded world. Number `index` of anything depends on (seed, index) alone."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol

import numpy as np

from tutelage.records import Demonstration, Message, Prompt, StepMarks
from tutelage.seeds import rng

from . import conversation, gold_maths, maths, options_lines, summary, tale
from .words import pick

HELDOUT_SHARE = 0.2  # of all possible prompts


class Task(Protocol):
    """A module that writes one task: a prompt with its reference, a faultless response, and flawed ones."""

    make: object
    write: object
    flaws: object


TASKS = {
    "conversation": conversation,
    "summary": summary,
    "maths": maths,
    "options": options_lines,
    "tale": tale,
}
# A world has these, in turn; or `options` or `tale` alone, which have a text of their own.
TOGETHER = ("conversation", "summary", "maths")


class Written(NamedTuple):
    """A response that somebody wrote, and the flaw in it ("" = none)."""

    text: str
    flaw: str


def is_heldout(text: str) -> bool:
    """The side of a prompt, by the hash of its text: the same in every world, whatever its seed."""
    digest = hashlib.sha256(f"held out:{text}".encode()).digest()
    return int.from_bytes(digest[:4], "big") < HELDOUT_SHARE * 2**32


def prompt_at(seed: int, name: str, index: int, task: str, *, heldout: bool = False) -> Prompt:
    """Prompt number `index` of the file `name`, from one side of the split."""
    generator = rng(seed, "world", name, index)
    while True:
        text, reference = TASKS[task].make(generator)
        if is_heldout(text) == heldout:
            return Prompt((Message("user", text),), task, reference)


def prompts(
    seed: int, name: str, count: int, *, heldout: bool = False, tasks: Sequence[str] = ()
) -> Iterator[Prompt]:
    """`count` different prompts, the tasks in turn (none given: those of `TOGETHER`)."""
    seen: set[str] = set()
    turns = list(tasks) or list(TOGETHER)
    index = 0
    while len(seen) < count:
        prompt = prompt_at(seed, name, index, turns[index % len(turns)], heldout=heldout)
        index += 1
        if prompt.text() not in seen:
            seen.add(prompt.text())
            yield prompt


def write_response(prompt: Prompt, generator: np.random.Generator, careless: float) -> Written:
    """A person's response: with probability `careless` it has a flaw, drawn from the task's catalogue."""
    task, reference = TASKS[prompt.task], dict(prompt.reference or {})
    if generator.random() >= careless:
        return Written(task.write(reference, generator), "")
    flaws = task.flaws(reference)
    name = pick(generator, tuple(flaws), [weight for weight, _ in flaws.values()])
    return Written(flaws[name][1](reference, generator), name)


def faultless(prompt: Prompt, draws: int = 16) -> tuple[str, ...]:
    """Responses without a fault to a prompt of this world, all different, the same in every run; none to another prompt."""
    if prompt.task not in TASKS or not prompt.reference:
        return ()
    generator = rng(0, "world", "faultless", prompt.id)
    try:
        texts = [TASKS[prompt.task].write(dict(prompt.reference), generator) for _ in range(draws)]
    except (KeyError, TypeError, ValueError, IndexError):
        return ()  # a task of the same name, with a reference of somebody else's
    return tuple(dict.fromkeys(texts))


def marked_solutions(seed: int, count: int, wrong: float = 0.5) -> Iterator[StepMarks]:
    """Solutions of maths problems, of which the share `wrong` has an error planted in some step; an expert has marked the
    steps up to the first wrong one."""
    for index in range(count):
        prompt = prompt_at(seed, "steps", index, "maths")
        generator, reference = rng(seed, "world", "solver", index), dict(prompt.reference or {})
        planted = generator.random() < wrong
        text = maths.slip(reference, generator) if planted else maths.write(reference, generator)
        steps = text.splitlines()
        outcome = bool(gold_maths.grade(reference, text)["answer"])
        yield StepMarks(prompt, tuple(steps), tuple(gold_maths.mark(reference, steps)), outcome=outcome)


def demonstrations(
    seed: int, count: int, careless: float, tasks: Sequence[str] = (), each: int = 1
) -> Iterator[Demonstration]:
    """What people of uneven care wrote: `careless` is the share of responses with a flaw.  each: so many of them write to every
    prompt, one behind the other; the first is the one who would have written alone."""
    asked = prompts(seed, "demonstrations", math.ceil(count / each), tasks=tasks)
    for number, (index, prompt) in enumerate((i, p) for i, p in enumerate(asked) for _ in range(each)):
        if number == count:
            return
        who = (index, *((number % each,) if number % each else ()))
        written = write_response(prompt, rng(seed, "world", "demonstrator", *who), careless)
        yield Demonstration(prompt, written.text)
