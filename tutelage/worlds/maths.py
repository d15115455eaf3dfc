"""Maths with steps: word problems of two or three steps over small numbers.

A good response numbers its steps, one a line, and ends with the line `Answer: N.`

The reference of a prompt is `{"steps": [[a, op, b, result], ...], "answer": the last result}`; op is "+", "-" or "*".
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .words import FILLERS, ITEMS, NAMES, pick, pick_other, shuffled

Step = list  # [a, op, b, result]
LARGEST = 9  # no result in a problem is larger
CHANGE = 3  # nothing is added or taken away more than this at a time


def compute(a: int, op: str, b: int) -> int:
    """The true result of a step."""
    return {"+": a + b, "-": a - b, "*": a * b}[op]


def happens(rng: np.random.Generator, op: str, amount: int, name: str) -> str:
    """A sentence that calls for the operation."""
    options = {"+": ("{} finds {} more.", "{} gets {} more."), "-": ("{} loses {}.", "{} gives away {}.")}[op]
    return pick(rng, options).format(name, amount)


def draw_change(rng: np.random.Generator, value: int) -> tuple[str, int]:
    """An operation, "+" or "-", and an amount that keep the value between 0 and `LARGEST`."""
    amount = int(rng.integers(1, CHANGE + 1))
    return pick(rng, [op for op in "+-" if 0 <= compute(value, op, amount) <= LARGEST]), amount


def draw_product(rng: np.random.Generator) -> tuple[int, int]:
    """Two factors of a product that is no larger than `LARGEST`."""
    return pick(rng, ((2, 2), (2, 3), (2, 4), (3, 2), (3, 3)))


def make(rng: np.random.Generator) -> tuple[str, dict]:
    """A word problem, and its steps and answer."""
    name, item = pick(rng, NAMES), pick(rng, ITEMS)
    steps: list[Step] = []
    if rng.random() < 0.3:
        bags, each = draw_product(rng)
        value = bags * each
        steps.append([bags, "*", each, value])
        sentences = [f"{name} has {bags} bags with {each} {item} in each bag."]
    else:
        value = int(rng.integers(2, LARGEST + 1))
        sentences = [f"{name} has {value} {item}."]
    count = 2 if steps or rng.random() < 0.6 else 3
    while len(steps) < count:
        op, amount = draw_change(rng, value)
        result = compute(value, op, amount)
        sentences.append(happens(rng, op, amount, name))
        steps.append([value, op, amount, result])
        value = result
    sentences.append(f"How many {item} does {name} have now?")
    return " ".join(sentences), {"steps": steps, "answer": value}


def show(steps: list[Step], answer: int | None) -> str:
    """Numbered steps and the answer, one a line."""
    lines = [f"{number}. {a}{op}{b}={c}." for number, (a, op, b, c) in enumerate(steps, start=1)]
    if answer is not None:
        lines.append(f"Answer: {answer}.")
    return "\n".join(lines)


def write(reference: dict, rng: np.random.Generator) -> str:
    """A response without fault."""
    return show(reference["steps"], reference["answer"])


def _carried(steps: list[Step], changed: int, step: Step) -> str:
    """The steps with one of them replaced, and everything after it computed from its result."""
    done = [*steps[:changed], step]
    for _, op, b, _ in steps[changed + 1 :]:
        done.append([done[-1][3], op, b, compute(done[-1][3], op, b)])
    return show(done, done[-1][3])


def _wrong_result(reference: dict, rng: np.random.Generator) -> str:
    changed = int(rng.integers(len(reference["steps"])))
    a, op, b, result = reference["steps"][changed]
    wrong = max(0, result + pick(rng, (-2, -1, 1, 2)))
    return _carried(reference["steps"], changed, [a, op, b, wrong if wrong != result else result + 1])


def _wrong_operation(reference: dict, rng: np.random.Generator) -> str:
    changed = int(rng.integers(len(reference["steps"])))
    a, op, b, result = reference["steps"][changed]
    options = [
        other
        for other in "+-"
        if other != op and compute(a, other, b) >= 0 and compute(a, other, b) != result
    ]
    if not options:
        return _wrong_result(reference, rng)
    other = pick(rng, options)
    return _carried(reference["steps"], changed, [a, other, b, compute(a, other, b)])


def slip(reference: dict, rng: np.random.Generator) -> str:
    """A solution with an error in one step, which all later steps and the answer follow; or with a step left out."""
    return pick(rng, (_wrong_result, _wrong_operation, _missing_step), (2, 2, 1))(reference, rng)


def _answer_only(reference: dict, rng: np.random.Generator) -> str:
    return show([], reference["answer"])


def _guess(reference: dict, rng: np.random.Generator) -> str:
    return show([], pick_other(rng, range(LARGEST + 1), reference["answer"]))


def _missing_step(reference: dict, rng: np.random.Generator) -> str:
    steps = list(reference["steps"])
    del steps[int(rng.integers(len(steps)))]
    return show(steps, steps[-1][3])


def _no_answer(reference: dict, rng: np.random.Generator) -> str:
    return show(reference["steps"], None)


def _vague(reference: dict, rng: np.random.Generator) -> str:
    return pick(rng, ("I think it is a lot.", "I do not know.", "Not many."))


def _rambles(reference: dict, rng: np.random.Generator) -> str:
    text = write(reference, rng)
    return pick(
        rng,
        (f"I like this question.\n{text}", f"{text}\n{pick(rng, FILLERS)}", f"{text}\nI think it is a lot."),
    )


def _off_topic(reference: dict, rng: np.random.Generator) -> str:
    return " ".join(shuffled(rng, FILLERS)[:2])


Writer = Callable[[dict, np.random.Generator], str]


def flaws(reference: dict) -> dict[str, tuple[float, Writer]]:
    """The flaws that a solution may have: name -> (how common it is among flawed texts, its writer)."""
    return {
        "wrong result": (0.5, _wrong_result),
        "wrong operation": (0.4, _wrong_operation),
        "answer only": (1.5, _answer_only),
        "guess": (1.0, _guess),
        "missing step": (1.0, _missing_step),
        "no answer": (1.5, _no_answer),
        "vague": (0.7, _vague),
        "rambles": (1.5, _rambles),
        "off topic": (0.5, _off_topic),
    }
