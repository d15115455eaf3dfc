"""Chains of arithmetic with a planted error: what a process reward model should find."""

from __future__ import annotations

import numpy as np
from transformers import PreTrainedTokenizerFast

from tutelage.models.tiny import train_tokenizer
from tutelage.records import Prompt, StepMarks


def chain(random: np.random.Generator, wrong: bool) -> StepMarks:
    """Four steps from a number's last digit; behind a planted error each is right by the last, and nobody has marked it.

    The tens mean nothing: they make a hundred prompts, so that those held out have digits that others have, too.
    """
    value, planted = int(random.integers(10)), int(random.integers(4)) if wrong else None
    start, steps = int(random.integers(10)) * 10 + value, []
    for number in range(4):
        amount = int(random.integers(1, 4))
        result = (value + amount) % 10
        if number == planted:
            result = (result + int(random.integers(1, 10))) % 10
        steps.append(f"{value}+{amount}={result}")
        value = result
    labels = [1] * 4 if planted is None else [1] * planted + [-1] + [None] * (3 - planted)
    return StepMarks(Prompt(f"from {start:02}: "), tuple(steps), tuple(labels), outcome=planted is None)


def chains(n: int, seed: int) -> list[StepMarks]:
    """Every second one with an error."""
    random = np.random.default_rng(seed)
    return [chain(random, bool(number % 2)) for number in range(n)]


def chain_tokenizer() -> PreTrainedTokenizerFast:
    texts = [row.prompt.text() + "\n".join(row.steps) for row in chains(40, 0)]
    return train_tokenizer(texts, vocab_size=300)
