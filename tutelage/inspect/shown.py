"""Rows to look at: spread evenly over the data, the same ones every time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Generic, TypeVar

from tutelage.inspect.facts import Run, Shown
from tutelage.inspect.views import View

T = TypeVar("T")
ROWS = 10
LONGEST = 4000  # characters of a piece that are kept


class Evenly(Generic[T]):
    """Some of a stream of unknown length, at even distances: every k-th, and k doubles when there are too many."""

    def __init__(self, wanted: int = ROWS) -> None:
        self._wanted, self._every, self._seen = wanted, 1, 0
        self._kept: list[T] = []

    def add(self, item: T) -> None:
        if self._seen % self._every == 0:
            self._kept.append(item)
            if len(self._kept) > 4 * self._wanted:
                self._kept, self._every = self._kept[::2], 2 * self._every
        self._seen += 1

    @property
    def chosen(self) -> list[T]:
        return [self._kept[i] for i in evenly(len(self._kept), self._wanted)]


def evenly(count: int, wanted: int = ROWS) -> list[int]:
    """So many numbers of 0 ... count - 1, the first and the last among them."""
    if count <= wanted:
        return list(range(count))
    return [round(i * (count - 1) / (wanted - 1)) for i in range(wanted)]


def turns_of(view: View) -> Shown:
    """A row as its turns, those marked that are trained."""
    return Shown(view.place, tuple(_runs(view)))


def _runs(view: View) -> Iterator[Run]:
    if view.kind == "text":
        yield piece("text", view.prompt, True)
        return
    if not view.turns:
        yield piece("prompt", view.prompt, False)
    before = view.turns[:-1] if view.kind in ("comparison", "demonstration") else view.turns
    learns = view.kind == "conversation"
    for turn in before:
        yield piece(turn.role, turn.text(), learns and turn.role == "assistant" and turn.trained)
    if view.kind == "comparison":
        for name, text in zip(("chosen", "rejected"), view.responses, strict=True):
            yield piece(name, text, True)
    elif view.kind == "demonstration":
        yield piece("assistant" if view.turns else "completion", view.responses[0], True)


def piece(who: str, text: str, trained: bool) -> Run:
    """A run of a length that a page can hold."""
    return Run(who, text[:LONGEST], trained, max(0, len(text) - LONGEST))
