"""Letters, about which groups of annotators disagree: a sum has a right answer, and how to put it is a matter of taste.

    hey it is kinda messy wow the answer is seven gotta watch the cash cheers
    good day the answer is seven noted one must consider the cost kind regards

What every reader agrees on is whether the answer is right.  Length, formality and warmth are worth to a group what its taste
says, and tastes are drawn from a Gaussian with mean 0: of two groups one is as likely as not to like what the other does not.
The utility of a letter, in logits, is

    u = RIGHT * right + taste . (length, formality, warmth),     right is 1 or -1, the others have a spread of about 1

The reference of a prompt is `{"sum": [a, b]}`, and for prompts of a group also `taste` [3].
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from tutelage.records import Comparison, Demonstration, Document, Message, Prompt
from tutelage.seeds import rng

from .annotators import GAP, Annotator, vote
from .parse import LONGEST
from .words import pick
from .world import is_heldout

TASK = "letters"
NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
FORMAL = (
    *("good day", "the matter is under review", "one must consider the cost", "we shall proceed at once"),
    *("the report is attached", "kind regards", "yours faithfully"),
)
CASUAL = (
    *("hey", "it is kinda messy", "gotta watch the cash", "let us wing it"),
    *("just grab the stuff", "cheers", "see ya"),
)
GREETING, CLAUSES, CLOSING = slice(0, 1), slice(1, 5), slice(5, 7)  # of both
WARM, COLD = ("lovely", "wow", "hugs"), ("noted", "whatever", "fine")
MOST = 5  # clauses
RIGHT = 1.0  # logits, for everybody
TASTES = ("length", "formality", "warmth")
SPREAD = 2.0  # of a group's taste for each, in logits per standard deviation of letters
SCALE = 4.0  # logits over which gold goes from a half to 0.73

_PHRASES = {name: re.compile(rf"\b(?:{'|'.join(words)})\b") for name, words in
            {"formal": FORMAL, "casual": CASUAL, "warm": WARM, "cold": COLD}.items()}  # fmt: skip
_CLAUSE = re.compile(rf"\b(?:{'|'.join((*FORMAL[CLAUSES], *CASUAL[CLAUSES]))}|the answer is \w+)\b")
_ANSWER = re.compile(r"\bthe answer is (\w+)")


class Group(NamedTuple):
    """Annotators of one taste: logits per unit of length, formality and warmth."""

    name: str
    taste: tuple[float, float, float]


def group_at(seed: int, name: str) -> Group:
    """The group of that name: its taste follows from the seed and the name."""
    drawn = rng(seed, "world", "taste", name).normal(0.0, SPREAD, len(TASTES))
    length, formality, warmth = (round(float(one), 3) for one in drawn)
    return Group(name, (length, formality, warmth))


def groups(seed: int, count: int, kind: str) -> list[Group]:
    """`count` groups, named KIND-01 and so on."""
    return [group_at(seed, f"{kind}-{number:02}") for number in range(1, count + 1)]


def prompt_at(seed: int, name: str, index: int, *, heldout: bool, group: Group | None = None) -> Prompt:
    """Prompt number `index` of the file `name`, from one side of the split; with the taste of a group in its reference."""
    generator = rng(seed, "world", "letters", name, index)
    while True:
        a, b = int(generator.integers(10)), 0
        b = int(generator.integers(10 - a))
        text = f"Write a letter about {pick(generator, ABOUT)}: what is {NUMBERS[a]} plus {NUMBERS[b]}?"
        if is_heldout(text) == heldout:
            break
    reference: dict = {"sum": [a, b]}
    if group is not None:
        reference["taste"] = list(group.taste)
    return Prompt((Message("user", text),), TASK, reference)


ABOUT = ("the house", "the trip", "the shop", "the garden", "the boat", "the party", "the roof", "the dog")


def write(reference: dict, generator: np.random.Generator, right: float = 0.5) -> str:
    """A letter in a random style, with the right answer in the share `right`."""
    answer = sum(reference["sum"])
    if generator.random() >= right:
        answer = (answer + int(generator.integers(1, len(NUMBERS)))) % len(NUMBERS)
    formal, warm, talk = generator.uniform(0.05, 0.95), generator.uniform(0.05, 0.95), generator.random()
    count = int(generator.integers(1, MOST + 1))
    fact = int(generator.integers(count))

    def styled(part: slice) -> str:
        return pick(generator, (FORMAL if generator.random() < formal else CASUAL)[part])

    words = [styled(GREETING)] if generator.random() < 0.8 else []
    for number in range(count):
        words.append(f"the answer is {NUMBERS[answer]}" if number == fact else styled(CLAUSES))
        if generator.random() < 0.3 + 0.6 * talk:
            words.append(pick(generator, WARM if generator.random() < warm else COLD))
    return " ".join([*words, styled(CLOSING)])


def grade(reference: dict, text: str) -> dict[str, float]:
    """The parts of the score: right is 1 or -1, the others are 0 for the average letter and have a spread of about 1."""
    read = text[:LONGEST]
    count = {name: len(pattern.findall(read)) for name, pattern in _PHRASES.items()}
    answers = set(_ANSWER.findall(read))
    return {
        "right": 1.0 if answers == {NUMBERS[sum(reference["sum"])]} else -1.0,
        "length": (min(len(_CLAUSE.findall(read)), 2 * MOST) - 3) / 1.4,
        "formality": _balance(count["formal"], count["casual"]) / 0.7,
        "warmth": _balance(count["warm"], count["cold"]) / 0.78,
    }


def _balance(more: int, less: int) -> float:
    """From -1 to 1; 0 where there is neither."""
    return (more - less) / max(1, more + less)


def utility(parts: dict[str, float], taste: Sequence[float]) -> float:
    """What a letter is worth to a group, in logits."""
    return RIGHT * parts["right"] + sum(w * parts[name] for w, name in zip(taste, TASTES, strict=True))


def judged(reference: dict, text: str) -> dict[str, float]:
    """What gold says of a letter, each from 0 to 1: whether it is right, and for prompts of a group what it is worth to that."""
    parts = grade(reference, text)
    found = {"right": float(parts["right"] > 0)}
    if "taste" in reference:
        found["liked"] = 1 / (1 + math.exp(-utility(parts, reference["taste"]) / SCALE))
    return found


def value(parts: dict[str, float]) -> float:
    """Of what `judged` says: the worth to the group where there is one, else whether the answer is right."""
    return parts.get("liked", parts["right"])


def reader(group: Group) -> Annotator:
    """Somebody of the group, who votes by its taste: utilities are in logits, so a unit of them is worth one."""
    return Annotator(group.name, 1 / (1 + math.exp(-GAP)), 0.0, 0.0, 0.0)


def comparisons(
    seed: int, group: Group, count: int, name: str, *, heldout: bool = False
) -> Iterator[Comparison]:
    """`count` pairs of letters, and what somebody of this group prefers of each."""
    annotator = reader(group)
    for index in range(count):
        prompt = prompt_at(seed, f"{name}/{group.name}", index, heldout=heldout, group=group)
        generator = rng(seed, "world", "letter", name, group.name, index)
        reference = dict(prompt.reference or {})
        first, second = write(reference, generator), write(reference, generator)
        while first == second:
            second = write(reference, generator)
        worth = [utility(grade(reference, text), group.taste) for text in (first, second)]
        cast = vote(annotator, (first, second), (worth[0], worth[1]), 0, generator)
        chosen, rejected = (second, first) if cast.preference > 0 else (first, second)
        yield Comparison(prompt, chosen, rejected, group=group.name)


def prompts(
    seed: int, name: str, count: int, *, heldout: bool = False, group: Group | None = None
) -> Iterator[Prompt]:
    """`count` prompts, of which some may be alike: there are 440 sums in all."""
    return (prompt_at(seed, name, index, heldout=heldout, group=group) for index in range(count))


def _written(seed: int, name: str, count: int, right: float) -> Iterator[tuple[Prompt, str]]:
    for index, prompt in enumerate(prompts(seed, name, count)):
        yield (
            prompt,
            write(dict(prompt.reference or {}), rng(seed, "world", "letter writer", name, index), right),
        )


def documents(seed: int, count: int) -> Iterator[Document]:
    """`count` prompts with a letter in any style."""
    for prompt, text in _written(seed, "letters text", count, 0.8):
        yield Document(f"{prompt.text().removeprefix('user: ')}\n{text}")


def demonstrations(seed: int, count: int) -> Iterator[Demonstration]:
    """`count` letters in any style, seven of ten with the right answer."""
    return (
        Demonstration(prompt, text) for prompt, text in _written(seed, "letters demonstrations", count, 0.7)
    )
