"""Pretraining text: good and bad exchanges alike, some with a reader's remark, and longer conversations, and sums."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from tutelage.records import Document
from tutelage.seeds import rng

from . import conversation, maths
from .gold import grade
from .words import pick
from .world import prompt_at, write_response

CARELESS = 0.4  # share of flawed responses in the text
REMARKS = 0.5  # share of exchanges that somebody comments on
KINDS = {"exchange": 0.6, "talk": 0.25, "sums": 0.15}


def _remark(value: float) -> str:
    """What readers say of a response of this gold score."""
    return (
        "Very good."
        if value >= 0.95
        else "Not bad."
        if value >= 0.7
        else "Not good."
        if value >= 0.3
        else "Very bad."
    )


def _exchange(seed: int, index: int, generator: np.random.Generator) -> str:
    prompt = prompt_at(seed, "pretrain", index)
    written = write_response(prompt, generator, CARELESS)
    lines = [prompt.text().removeprefix("user: "), written.text]
    if generator.random() < REMARKS:
        lines.append(f"Reader: {_remark(grade(prompt, written.text).value)}")
    return "\n".join(lines)


def _talk(generator: np.random.Generator) -> str:
    """A longer conversation with somebody careful: two facts, then three questions and their answers."""
    facts = conversation.draw_facts(generator)
    lines = [" ".join(map(conversation.state, facts))]
    for _ in range(3):
        question, reference = conversation.draw_question(generator, facts)
        lines += [question, conversation.write(reference, generator)]
    return f"{lines[0]} " + "\n".join(lines[1:])


def _sums(generator: np.random.Generator) -> str:
    lines = []
    for number in range(1, 7):
        a, b, op = (
            int(generator.integers(maths.LARGEST + 1)),
            int(generator.integers(1, maths.CHANGE + 1)),
            pick(generator, "+-"),
        )
        if generator.random() < 0.2:
            a, b, op = int(generator.integers(2, 4)), int(generator.integers(2, 5)), "*"
        elif not 0 <= maths.compute(a, op, b) <= maths.LARGEST:
            op = "-" if op == "+" else "+"
        lines.append(f"{number}. {a}{op}{b}={maths.compute(a, op, b)}.")
    return "\n".join(lines)


def documents(seed: int, count: int) -> Iterator[Document]:
    """`count` documents."""
    for index in range(count):
        generator = rng(seed, "world", "document", index)
        kind = pick(generator, tuple(KINDS), tuple(KINDS.values()))
        if kind == "exchange":
            yield Document(_exchange(seed, index, generator))
        else:
            yield Document(_talk(generator) if kind == "talk" else _sums(generator))
