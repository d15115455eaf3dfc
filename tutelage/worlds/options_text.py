"""The text of `options`: drills to begin with; then marked work, solutions, attempts with a teacher's note, and drills."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from tutelage.records import Demonstration, Document, Prompt, StepMarks
from tutelage.seeds import rng

from .gold_options import grade, labels, mark
from .maths import compute, draw_product
from .options import LARGEST, LETTERS, QUANTITIES, make
from .options_lines import Rates, State, attempt, line, never, planted, read, show, write
from .words import pick, pick_other
from .world import prompt_at, prompts

# Those of the text: a model that has read it can do right and wrong.
WRITERS = Rates(traps=0.5, stop=0.3, slip=0.01)
# Those of the demonstrations, for `careless=1`.  At 0.5 people fall into a trap more often than not: what only the lesser
# part of them does wrong, a model does right as soon as it writes what is likeliest.
DEMONSTRATORS = Rates(traps=1.3, stop=0.7, slip=0.04)
KINDS = {"marked": 0.2, "solution": 0.37, "taught": 0.16, "drill": 0.27}  # shares
WORDS = 0.04  # share of problems in drills.jsonl, so that a tokenizer that is learnt on it knows every word
DRILLS = 0.5  # documents of drills for each of the text that follows
DRILL = 6  # lines
LOOK_UPS = 0.5  # share of the drills that are about whose number a statement is about
SUMS = 0.3  # share of a drill's lines that are sums; the others are verdicts
LOOKED_UP = 0.5  # share of the verdicts on a number that stands there as it is, not as the result of a sum


def drills(seed: int, count: int) -> Iterator[Document]:
    """`count` documents of sums and verdicts, a few problems among them: what comes first."""
    for index in range(count):
        generator = rng(seed, "world", "options", "drill", index)
        words = generator.random() < WORDS
        yield Document(_document(seed, "drills", index, "marked", generator) if words else _drill(generator))


def documents(seed: int, count: int) -> Iterator[Document]:
    """`count` documents of every kind."""
    for index in range(count):
        generator = rng(seed, "world", "options", "document", index)
        kind = pick(generator, tuple(KINDS), tuple(KINDS.values()))
        yield Document(
            _drill(generator) if kind == "drill" else _document(seed, "pretrain", index, kind, generator)
        )


def demonstrations(seed: int, count: int, careless: float) -> Iterator[Demonstration]:
    """What people of uneven care wrote: the more careless, the more traps they fall into."""
    rates = Rates(*(min(1.0, careless * rate) for rate in DEMONSTRATORS))
    for index, prompt in enumerate(prompts(seed, "demonstrations", count, tasks=("options",))):
        generator = rng(seed, "world", "demonstrator", index)
        yield Demonstration(
            prompt, show(attempt(dict(prompt.reference or {}), generator, rates.falls(generator)))
        )


def marked_solutions(seed: int, count: int, wrong: float = 0.5) -> Iterator[tuple[StepMarks, str]]:
    """Solutions, of which the share `wrong` has one error of a known kind planted, with the name of its trap ("" = none); an
    expert has marked the steps up to the first wrong one."""
    for index in range(count):
        prompt = prompt_at(seed, "steps", index, "options")
        generator, reference = rng(seed, "world", "solver", index), dict(prompt.reference or {})
        text, trap = (
            planted(reference, generator) if generator.random() < wrong else (write(reference, generator), "")
        )
        yield _to_the_first_error(prompt, text), trap


def _to_the_first_error(prompt: Prompt, text: str) -> StepMarks:
    reference, steps = dict(prompt.reference or {}), text.splitlines()
    right = bool(grade(reference, text)["answer"])
    return StepMarks(prompt, tuple(steps), tuple(labels(reference, steps)), outcome=right)


# ---- documents -----------------------------------------------------------------------------------------------------------


def _document(seed: int, name: str, index: int, kind: str, generator: np.random.Generator) -> str:
    """A problem and somebody's work on it."""
    prompt = prompt_at(seed, name, index, "options")
    reference = dict(prompt.reference or {})
    text = show(attempt(reference, generator, WRITERS.falls(generator)))
    write = {"marked": _marked, "solution": lambda reference, text: text, "taught": _taught}[kind]
    return f"{prompt.text().removeprefix('user: ')}\n{write(reference, text)}"


def _marked(reference: dict, text: str) -> str:
    """The work with a mark behind every line."""
    steps = mark(reference, text)
    return "\n".join(f"{step.text.strip()} {'ok' if step.label == 1 else 'no'}" for step in steps)


def _taught(reference: dict, text: str) -> str:
    """The work up to its first error, what the teacher says of it, and the rest, done again."""
    steps = mark(reference, text)
    root = next((number for number, step in enumerate(steps) if step.is_root), None)
    if root is None:
        return text
    state = State()
    for step in steps[:root]:
        place, said = read(reference, step.text.strip()) or (0, 0)
        state.values[place] = said
    again = attempt(reference, rng(0, "nobody"), never, state)
    begun = "".join(step.text for step in steps[: root + 1]).rstrip()
    return f"{begun}\nTeacher: step {root + 1}: {steps[root].explanation}\n{show(again)}"


def _drill(generator: np.random.Generator) -> str:
    """Lines of sums, and of verdicts on numbers that stand side by side; or statements, whose numbers are to be looked up."""
    if generator.random() < LOOK_UPS:
        return _look_up(generator)
    return "\n".join(
        _sum(generator) if generator.random() < SUMS else _verdict(generator) for _ in range(DRILL)
    )


def _look_up(generator: np.random.Generator) -> str:
    """Statements about two quantities that are given: whose number each of them is about."""
    text, reference = make(generator)
    state = State()
    for place in (0, 1):
        state.values[place] = line(reference, place, state).value
    given = [
        f"{place + 1}. {reference[name]['who']}: {state.number(place)}."
        for place, name in enumerate(QUANTITIES)
    ]
    _, _, statements = text.partition("? ")
    *verdicts, _ = attempt(reference, generator, never, state)
    return "\n".join([statements, *given, show(verdicts)])


def _sum(generator: np.random.Generator) -> str:
    """A sum as problems have it, numbers and result within `LARGEST`."""
    op = pick(generator, "+-*", (2, 2, 1))
    if op == "*":
        a, b = draw_product(generator)
    else:
        high = int(generator.integers(2, LARGEST + 1))
        b = int(generator.integers(1, high))
        a = high if op == "-" else high - b
    return f"{a}{op}{b}={compute(a, op, b)}."


def _verdict(generator: np.random.Generator) -> str:
    """Whether a number is the one that it is compared with; in half of the lines it is."""
    if generator.random() < LOOKED_UP:
        number = int(generator.integers(1, LARGEST + 1))
        shown = str(number)
    else:
        shown = _sum(generator).rstrip(".")
        number = int(shown.rpartition("=")[2])
    says = number if generator.random() < 0.5 else pick_other(generator, range(1, LARGEST + 1), number)
    return f"{pick(generator, LETTERS)} says {says}, {shown}: {'right' if says == number else 'wrong'}."
