"""Pretraining text: exchanges good and bad, each with a reader's remark; and careful talk, stories, accounts and sums."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from tutelage.records import Document
from tutelage.seeds import rng

from . import conversation, maths, summary
from .gold import grade
from .words import ITEMS, NAMES, pick
from .world import TOGETHER, is_heldout, prompt_at, write_response

CARELESS = 0.3  # share of flawed responses in the text
CHAINS = 0.6  # share of solutions in the text about chains, half of them flawed; the rest are sums


def _remark(value: float) -> str:
    """What readers say of a response of this gold score."""
    for least, remark in ((0.95, "Very good."), (0.7, "Not bad."), (0.3, "Not good.")):
        if value >= least:
            return remark
    return "Very bad."


def _exchange(
    seed: int,
    index: int,
    generator: np.random.Generator,
    tasks: Sequence[str] = TOGETHER,
    careless: float = CARELESS,
) -> str:
    prompt = prompt_at(seed, "pretrain", index, pick(generator, tasks))
    written = write_response(prompt, generator, careless)
    remark = _remark(grade(prompt, written.text).value)
    return "\n".join([prompt.text().removeprefix("user: "), written.text, f"Reader: {remark}"])


def _talk(generator: np.random.Generator) -> str:
    """A longer conversation with somebody careful: two facts, then three questions and their answers."""
    facts = conversation.draw_facts(generator)
    told = " ".join(map(conversation.state, facts))
    turns: list[str] = []
    while len(turns) < 6:
        question, reference = conversation.draw_question(generator, facts)
        if turns or not is_heldout(f"{told} {question}"):
            turns += [question, conversation.write(reference, generator)]
    return f"{told} " + "\n".join(turns)


def _note(generator: np.random.Generator) -> str:
    """A line or two in which one thing is said twice: short, so that there is little to look through for what to copy."""
    if generator.random() < 0.4:
        _, reference = summary.make(generator)
        started, _, happened, _, _ = reference["post"]
        return f"{started} {happened}\n{summary.tell_event(reference)}."
    fact = conversation.draw_fact(
        generator, pick(generator, conversation.TOPICS, (2, 1, 1)), pick(generator, NAMES)
    )
    asked = pick(generator, ("", f" {conversation.ask(fact)}"))
    return f"{conversation.state(fact)}{asked}\n{conversation.answer(fact)}"


def _story(generator: np.random.Generator) -> str:
    """Two short stories, each told again in short."""
    lines = []
    for _ in range(2):
        _, reference = summary.make(generator)
        started, _, happened, _, ended = reference["post"]
        lines += [f"{started} {happened} {ended}", summary.write(reference, generator)]
    return "\n".join(lines)


def _account(generator: np.random.Generator) -> str:
    """One person's things, counted after every change."""
    name, item, value = (
        pick(generator, NAMES),
        pick(generator, ITEMS),
        int(generator.integers(2, maths.LARGEST)),
    )
    lines = [f"{name} has {value} {item}."]
    for _ in range(5):
        op, amount = maths.draw_change(generator, value)
        result = maths.compute(value, op, amount)
        lines.append(f"{maths.happens(generator, op, amount, name)} {value}{op}{amount}={result}.")
        value = result
    return "\n".join(lines)


def _sums(generator: np.random.Generator) -> str:
    """Sums of the kind that problems are made of, numbered."""
    lines = []
    for number in range(1, 7):
        if generator.random() < 0.2:
            (a, b), op = maths.draw_product(generator), "*"
        else:
            a = int(generator.integers(maths.LARGEST + 1))
            op, b = maths.draw_change(generator, a)
        lines.append(f"{number}. {a}{op}{b}={maths.compute(a, op, b)}.")
    return "\n".join(lines)


KINDS = {"exchange": 0.45, "note": 0.12, "talk": 0.14, "story": 0.05, "account": 0.12, "sums": 0.12}  # shares
WRITERS = {"note": _note, "talk": _talk, "story": _story, "account": _account, "sums": _sums}


def documents(seed: int, count: int) -> Iterator[Document]:
    """`count` documents."""
    for index in range(count):
        generator = rng(seed, "world", "document", index)
        kind = pick(generator, tuple(KINDS), tuple(KINDS.values()))
        text = _exchange(seed, index, generator) if kind == "exchange" else WRITERS[kind](generator)
        yield Document(text)


def documents_of_chains(seed: int, count: int) -> Iterator[Document]:
    """`count` documents for the task chain: solutions good and bad, each with a reader's remark, and sums."""
    for index in range(count):
        generator = rng(seed, "world", "chain", "document", index)
        solved = generator.random() < CHAINS
        yield Document(_exchange(seed, index, generator, ("chain",), 0.5) if solved else _sums(generator))
