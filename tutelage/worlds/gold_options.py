"""The gold standard of `options`: what an expert says of every line of a solution, and what a whole one is worth.

The walk keeps two states: what the lines before say, and what is true.  A line that is right given the first and says what is
true is right.  One that is right given the first alone follows from an earlier error: the earliest that spoiled something it
uses.  Any other is wrong by itself, and its rewrite is the line that is right given what the lines before it say.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from tutelage.judges.verify.choice import chosen, right_letters
from tutelage.records import MarkedStep

from .options import TRAPS
from .options_lines import ANSWER, PLACES, Line, State, Value, line, read, trap_at
from .parse import LONGEST

UNREADABLE = "this line cannot be read here."
MISSING = "step {} is missing."


def grade(reference: dict, text: str) -> dict[str, float]:
    """`answer` (its letters are right), `steps` (the share of lines up to the first error) and `sound` (no error at all)."""
    steps = mark(reference, text[:LONGEST])
    good = next((number for number, step in enumerate(steps) if step.label != 1), len(steps))
    return {
        "answer": float(chosen(text[-LONGEST:]) == right_letters(reference)),
        "steps": good / max(len(PLACES), len(steps)),
        "sound": float(good == len(steps) == len(PLACES) and len(text) <= LONGEST),
    }


def value(parts: dict[str, float]) -> float:
    """The answer and the steps before the first error are worth a quarter each; half is for what is sound."""
    return 0.25 * parts["answer"] + 0.25 * parts["steps"] + 0.5 * parts["sound"]


def steps_of(text: str) -> list[str]:
    """The lines, each with the white space that ends it; joined they are the text."""
    return re.findall(r"\s*\S[^\n]*\s*", text) or ([text] if text else [])


def mark(reference: dict, text: str) -> tuple[MarkedStep, ...]:
    """The marks of every line, in order.  A line that cannot be read is wrong, and ends the walk: those after it have none."""
    walk = _Walk(reference)
    steps: list[MarkedStep] = []
    for number, step in enumerate(steps_of(text)):
        steps.append(walk.mark(number, step) if not walk.lost else MarkedStep(step))
    return tuple(steps)


def labels(reference: dict, steps: Sequence[str]) -> list[int | None]:
    """The labels of the steps, up to the first wrong one; nothing after that."""
    marks: list[int | None] = []
    for step in mark(reference, "\n".join(step.strip() for step in steps)):
        marks.append(None if -1 in marks else step.label)
    return marks + [None] * (len(steps) - len(marks))


class _Walk:
    """One pass over a solution: what was written, what is true, and which step spoiled what was written in a place."""

    def __init__(self, reference: dict) -> None:
        self._reference, self._written, self._true = reference, State(), State()
        for place in PLACES:
            self._true.values[place] = line(reference, place, self._true).value
        self._spoiled: dict[int, int] = {}  # place -> number of the step
        self._place = 0
        self.lost = False

    def mark(self, number: int, step: str) -> MarkedStep:
        """The marks of the next step."""
        found = read(self._reference, step.strip())
        if self._place > ANSWER:
            return self._lose(step, None)
        due = line(self._reference, self._place, self._written)
        if found is None or found[0] < self._place:
            return self._lose(step, due)
        place, said = found
        if place > self._place:
            marked = self._missing(step, place, said, due)
        elif step.strip() != due.text:
            trap = self._trap(step.strip())
            marked = self._root(step, TRAPS[trap].note, due, trap)
        else:
            marked = self._right_so_far(step)
        self._go_on(number, place, said, marked)
        return marked

    def _right_so_far(self, step: str) -> MarkedStep:
        """Right given the state; also in truth, unless something that it uses was spoiled."""
        true = line(self._reference, self._place, self._true).text
        if step.strip() == true:
            return MarkedStep(step, 1)
        return MarkedStep(step, -1, caused_by=self._cause(self._place))

    def _cause(self, place: int) -> int | None:
        """The earliest step that spoiled something that this place uses."""
        return min((self._spoiled[one] for one in self._used(place) if one in self._spoiled), default=None)

    def _used(self, place: int) -> Iterable[int]:
        """The places whose values this place uses."""
        if place in (0, ANSWER):
            return () if place == 0 else range(2, ANSWER)
        if place == 1:
            return (0,)
        kind = self._reference["statements"][place - 2]["kind"]
        return {"first": (0,), "second": (1,)}.get(kind, (0, 1))

    def _trap(self, text: str) -> str:
        """What led to the line: the trap of its place, or a slip."""
        trap = trap_at(self._reference, self._place)
        fallen = trap and line(self._reference, self._place, self._written, trap=True).text == text
        return trap if fallen else "slip"

    def _missing(self, step: str, place: int, said: Value, due: Line) -> MarkedStep:
        """A line that comes too early: the rewrite is the one that should stand here."""
        early = place == ANSWER and self._place > 2 and self._written.chosen and said == self._written.chosen
        note = TRAPS["stop"].note if early else MISSING.format(self._place + 1)
        return self._root(step, note, due, "stop")

    def _root(self, step: str, note: str, due: Line, trap: str) -> MarkedStep:
        return MarkedStep(step, -1, note, due.text + self._end(), error=TRAPS[trap].error)

    def _end(self) -> str:
        return "" if self._place == ANSWER else "\n"

    def _lose(self, step: str, due: Line | None) -> MarkedStep:
        self.lost = True
        return MarkedStep(step, -1, UNREADABLE, due.text + self._end() if due else None)

    def _go_on(self, number: int, place: int, said: Value, marked: MarkedStep) -> None:
        """Keep what was written.  What was left out counts as it would have been right, given the state."""
        for left_out in range(self._place, place):
            self._keep(left_out, line(self._reference, left_out, self._written).value, self._cause(left_out))
        self._keep(place, said, number if marked.caused_by is None else marked.caused_by)
        self._place = place + 1

    def _keep(self, place: int, said: Value, cause: int | None) -> None:
        self._written.values[place] = said
        if said != self._true.values[place] and cause is not None:
            self._spoiled[place] = cause
