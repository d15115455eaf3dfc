"""Pretraining text: good and bad exchanges alike, some with a reader's remark, and drills of facts and sums."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from tutelage.records import Document
from tutelage.seeds import rng

from . import conversation, maths
from .gold import grade
from .words import NAMES, pick, shuffled
from .world import prompt_at, write_response

CARELESS = 0.5  # share of flawed responses in the text
REMARKS = 0.5  # share of exchanges that somebody comments on
KINDS = {"exchange": 0.7, "facts": 0.15, "sums": 0.15}


def _remark(value: float) -> str:
    """What readers say of a response of this gold score."""
    return "Very good." if value >= 0.95 else "Not bad." if value >= 0.7 else "Not good." if value >= 0.3 else "Very bad."


def _exchange(seed: int, index: int, generator: np.random.Generator) -> str:
    prompt = prompt_at(seed, "pretrain", index)
    written = write_response(prompt, generator, CARELESS)
    lines = [prompt.text().removeprefix("user: "), written.text]
    if generator.random() < REMARKS:
        lines.append(f"Reader: {_remark(grade(prompt, written.text).value)}")
    return "\n".join(lines)


def _facts(generator: np.random.Generator) -> str:
    """Three facts, then each of them asked for and told."""
    names, topics = shuffled(generator, NAMES)[:3], shuffled(generator, conversation.TOPICS)[:3]
    facts = [conversation.draw_fact(generator, topic, name) for topic, name in zip(topics, names, strict=True)]
    told = [line for fact in shuffled(generator, facts) for line in (conversation.ask(fact), conversation.answer(fact))]
    return " ".join([*map(conversation.state, facts), *told])


def _sums(generator: np.random.Generator) -> str:
    lines = []
    for number in range(1, 7):
        a, b, op = int(generator.integers(maths.LARGEST + 1)), int(generator.integers(1, maths.CHANGE + 1)), pick(generator, "+-")
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
            yield Document(_facts(generator) if kind == "facts" else _sums(generator))
