"""Tales: a request with many right answers, each a sentence about the animal that was asked for.

    Tell Mia a tale of an owl.          The shy owl flew in the cave.

The reference of a prompt is `{"animal"}`.  Six adjectives, what the animal can do (owls and bees fly and do not run, all others
run and do not fly) and six places make 180 right tales of every animal.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from itertools import permutations

import numpy as np

from .words import FILLERS, NAMES, pick, pick_other

ANIMALS = ("owl", "bee", "fox", "wolf", "hare", "mole")
FLYING = ("owl", "bee")
ADJECTIVES = ("old", "shy", "small", "wild", "brave", "quiet")
VERBS = ("flew", "ran", "slept", "sang", "hid", "sat")
SPOTS = ("wood", "cave", "field", "garden", "valley", "barn")


def able(animal: str) -> list[str]:
    """What the animal can do."""
    cannot = "ran" if animal in FLYING else "flew"
    return [verb for verb in VERBS if verb != cannot]


@cache
def requests() -> tuple[tuple[str, dict], ...]:
    """Every way to ask for a tale, with its reference."""
    forms = ["Tell a tale of {}."]
    for who in [*NAMES, *(f"{one} and {other}" for one, other in permutations(NAMES, 2))]:
        want = "want" if " and " in who else "wants"
        forms += [
            f"Tell {who} a tale of {{}}.",
            f"{who} {want} a tale of {{}}.",
            f"Can {who} have a tale of {{}}?",
        ]
    named = {animal: f"{'an' if animal[0] in 'aeiou' else 'a'} {animal}" for animal in ANIMALS}
    return tuple((form.format(named[animal]), {"animal": animal}) for animal in ANIMALS for form in forms)


def make(rng: np.random.Generator) -> tuple[str, dict]:
    """A user's message and what the gold standard must know about it."""
    text, reference = pick(rng, requests())
    return text, dict(reference)


def tell(rng: np.random.Generator, animal: str, verb: str = "") -> str:
    """A tale of the animal; with a verb given, whether it can do that or not."""
    return (
        f"The {pick(rng, ADJECTIVES)} {animal} {verb or pick(rng, able(animal))} in the {pick(rng, SPOTS)}."
    )


def write(reference: dict, rng: np.random.Generator) -> str:
    """A response without fault."""
    return tell(rng, reference["animal"])


def _wrong_animal(reference: dict, rng: np.random.Generator) -> str:
    return tell(rng, pick_other(rng, ANIMALS, reference["animal"]))


def _unable(reference: dict, rng: np.random.Generator) -> str:
    return tell(rng, reference["animal"], "ran" if reference["animal"] in FLYING else "flew")


def _no_place(reference: dict, rng: np.random.Generator) -> str:
    return tell(rng, reference["animal"]).partition(" in the ")[0] + "."


def _off_topic(reference: dict, rng: np.random.Generator) -> str:
    return pick(rng, FILLERS)


Writer = Callable[[dict, np.random.Generator], str]


def flaws(reference: dict) -> dict[str, tuple[float, Writer]]:
    """The flaws that a tale may have: name -> (how common it is among flawed ones, its writer)."""
    return {
        "wrong animal": (6.0, _wrong_animal),
        "unable": (2.0, _unable),
        "no place": (1.0, _no_place),
        "off topic": (1.0, _off_topic),
    }
