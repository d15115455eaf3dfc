"""The vocabulary of the embedded world: about a hundred and twenty words, few enough for a model of a million parameters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np

NAMES = ("Mia", "Tom", "Anna", "Ben", "Leo", "Sara")
COLOURS = ("red", "blue", "green", "black")
THINGS = ("kite", "hat", "bike", "cup", "lamp")
PLACES = ("park", "beach", "market", "school")
DAYS = ("Monday", "Friday", "Sunday")
ITEMS = ("apples", "eggs", "coins")

FILLERS = (
    "The sun was warm.",
    "It was a long day.",
    "Many people were there.",
    "The sky was grey.",
    "There was good music.",
    "Some children played games.",
    "The wind was cold.",
    "The food was good.",
)

T = TypeVar("T")


def pick(rng: np.random.Generator, options: Sequence[T], weights: Sequence[float] | None = None) -> T:
    """One of `options`, uniformly or in proportion to `weights`."""
    if weights is None:
        return options[int(rng.integers(len(options)))]
    edges = np.cumsum(weights)
    return options[int(np.searchsorted(edges, rng.random() * edges[-1], side="right"))]


def pick_other(rng: np.random.Generator, options: Sequence[T], *taken: T) -> T:
    """One of `options` that is none of `taken`."""
    return pick(rng, [option for option in options if option not in taken])


def shuffled(rng: np.random.Generator, options: Sequence[T]) -> list[T]:
    """The options in a random order."""
    return [options[int(i)] for i in rng.permutation(len(options))]
