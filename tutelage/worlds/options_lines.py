"""The lines of a solution of `options`: each as it is right given what the lines before it say, and as people get it wrong.

    1. Anna: 3*2=6.
    2. Tom: 6-4=2.
    3. A says 2, 2: right.
    4. B says 9, 6+2=8: wrong.
    5. C says 5, 6: wrong.
    Answer: A.

A solution has six places, 0 to 5; `State` holds what was written in them, right or wrong.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from .maths import compute
from .options import LETTERS, QUANTITIES, make, operation, trap_of
from .words import pick, pick_other

__all__ = ["flaws", "make", "write"]  # what every task of the world has

ANSWER = 5  # the place of the last line
PLACES = range(ANSWER + 1)
Value = int | bool | frozenset[str]
_QUANTITY = re.compile(r"([12])\. (\S+): (?:-?\d{1,3}[-+*]-?\d{1,3}=)?(-?\d{1,3})\.")
_VERDICT = re.compile(
    r"([345])\. ([ABC]) says \d{1,3}, (?:-?\d{1,3}[-+*]-?\d{1,3}=)?-?\d{1,3}: (right|wrong)\."
)
_ANSWER = re.compile(r"Answer: (none|[ABC](?:, [ABC])*)\.")


class Line(NamedTuple):
    """A line without its end, and what it says: a number, a verdict, or letters."""

    text: str
    value: Value


@dataclass
class State:
    """What the lines so far say: `first`, `second` and the verdicts, by their places."""

    values: dict[int, Value] = field(default_factory=dict)

    def number(self, place: int) -> int:
        """The quantity that was written in place 0 or 1."""
        return int(self.values[place])  # type: ignore[arg-type]

    @property
    def chosen(self) -> frozenset[str]:
        """The letters that were called right."""
        return frozenset(letter for place, letter in enumerate(LETTERS, start=2) if self.values.get(place))


def line(reference: dict, place: int, state: State, trap: bool = False) -> Line:
    """The line that is right in this place given the state; `trap`: that of somebody who falls into its trap."""
    if place == 0:
        return _first(reference, trap)
    if place == 1:
        op, by = operation(reference, "second", trap)
        return _computed(2, reference["second"]["who"], state.number(0), op, by)
    if place == ANSWER:
        return answer(state.chosen)
    said = reference["statements"][place - 2]
    shown, number = _looked_up(said, state, trap)
    return verdict(place, said["says"], shown, number == said["says"])


def answer(letters: frozenset[str]) -> Line:
    """The last line."""
    return Line(f"Answer: {', '.join(sorted(letters)) or 'none'}.", letters)


def verdict(place: int, says: int, shown: str, right: bool) -> Line:
    """The line about a statement."""
    letter = LETTERS[place - 2]
    return Line(f"{place + 1}. {letter} says {says}, {shown}: {'right' if right else 'wrong'}.", right)


def trap_at(reference: dict, place: int) -> str:
    """The trap that waits in this place; "" where there is none ("stop" waits in none: see `stops`)."""
    if place in (0, 1):
        return trap_of(reference, QUANTITIES[place])
    return "more" if place < ANSWER and reference["statements"][place - 2]["kind"] == "more" else ""


def read(reference: dict, text: str) -> tuple[int, Value] | None:
    """The place that a line belongs to and what it says; None for a line that says nothing that can be read."""
    if found := _QUANTITY.fullmatch(text):
        place = int(found[1]) - 1
        who = reference[QUANTITIES[place]]["who"]
        return (place, int(found[3])) if found[2] == who else None
    if found := _VERDICT.fullmatch(text):
        place = int(found[1]) - 1
        return (place, found[3] == "right") if found[2] == LETTERS[place - 2] else None
    if found := _ANSWER.fullmatch(text):
        return ANSWER, frozenset(found[1].split(", ")) - {"none"}
    return None


def _first(reference: dict, trap: bool) -> Line:
    first = reference["first"]
    if "count" in first:
        return Line(f"1. {first['who']}: {first['count']}.", first["count"])
    return _computed(1, first["who"], first["bags"], *operation(reference, "first", trap))


def _computed(number: int, who: str, a: int, op: str, b: int) -> Line:
    result = compute(a, op, b)
    return Line(f"{number}. {who}: {a}{op}{b}={result}.", result)


def _looked_up(said: dict, state: State, trap: bool) -> tuple[str, int]:
    """The numbers that a statement is compared with, and what they come to."""
    first, second = state.number(0), state.number(1)
    if said["kind"] == "all":
        return f"{first}+{second}={first + second}", first + second
    if said["kind"] != "more":
        number = {"first": first, "second": second}[said["kind"]]
        return str(number), number
    high, low = (first, second) if said["of"] == "first" else (second, first)
    return (str(high), high) if trap else (f"{high}-{low}={high - low}", high - low)


# ---- how people write ----------------------------------------------------------------------------------------------------

Falls = Callable[[int, str], bool]
"""Whether somebody falls into a trap ("slip" among them) in a place."""


def never(place: int, trap: str) -> bool:
    """Somebody who makes no mistake."""
    return False


class Rates(NamedTuple):
    """How often people fall into a trap of reasoning or reading where it waits, stop at the first right statement, and slip."""

    traps: float
    stop: float
    slip: float

    def falls(self, rng: np.random.Generator) -> Falls:
        """As it happens."""
        rates = {"stop": self.stop, "slip": self.slip}
        return lambda place, trap: bool(rng.random() < rates.get(trap, self.traps))


def attempt(
    reference: dict, rng: np.random.Generator, falls: Falls, state: State | None = None
) -> list[Line]:
    """The lines that somebody writes from where the state ends to the answer."""
    state = state or State()
    lines: list[Line] = []
    while ANSWER not in state.values:
        place = next(place for place in PLACES if place not in state.values)
        trap = trap_at(reference, place)
        if stops(state, place) and falls(place, "stop"):
            place, written = ANSWER, line(reference, ANSWER, state)
        elif trap and falls(place, trap):
            written = line(reference, place, state, trap=True)
        elif place != ANSWER and falls(place, "slip"):
            written = slip(reference, place, state, rng)
        else:
            written = line(reference, place, state)
        state.values[place] = written.value
        lines.append(written)
    return lines


def stops(state: State, place: int) -> bool:
    """Whether somebody may leave the statement in this place out: the one before is the first that was called right."""
    return place in (3, 4) and state.chosen == {LETTERS[place - 3]}


def slip(reference: dict, place: int, state: State, rng: np.random.Generator) -> Line:
    """A wrong number in place 0 or 1; a wrong verdict, or another's number, in those of the statements."""
    right = line(reference, place, state)
    if place in (0, 1):
        wrong = pick_other(rng, range(1, 10), right.value)
        return Line(re.sub(r"-?\d+\.$", f"{wrong}.", right.text), wrong)
    said = reference["statements"][place - 2]
    if said["kind"] in ("first", "second") and rng.random() < 0.5 and state.number(0) != state.number(1):
        other = state.number(1 if said["kind"] == "first" else 0)
        return verdict(place, said["says"], str(other), other == said["says"])
    shown, number = _looked_up(said, state, trap=False)
    return verdict(place, said["says"], shown, number != said["says"])


def show(lines: list[Line]) -> str:
    """A solution as text."""
    return "\n".join(one.text for one in lines)


def plans(reference: dict) -> dict[str, list[int]]:
    """Trap -> the places of a solution, faultless so far, in which one can fall into it."""
    found: dict[str, list[int]] = {"slip": list(PLACES)[:ANSWER]}
    state = State()
    for place in PLACES:
        if trap := trap_at(reference, place):
            found.setdefault(trap, []).append(place)
        if stops(state, place):
            found.setdefault("stop", []).append(place)
        state.values[place] = line(reference, place, state).value
    return found


def planted(reference: dict, rng: np.random.Generator, trap: str = "") -> tuple[str, str]:
    """A solution with one error, of a kind that is drawn or given, that everything after it goes on from; (text, trap)."""
    known = plans(reference)
    trap = trap or pick(rng, [name for name in known if name != "slip"] or ["slip"])
    where = pick(rng, known[trap])
    lines = attempt(reference, rng, lambda place, name: (place, name) == (where, trap))
    return show(lines), trap


# ---- as every task of the world has them ---------------------------------------------------------------------------------


def write(reference: dict, rng: np.random.Generator) -> str:
    """The solution without a fault: there is only one."""
    return show(attempt(reference, rng, never))


def flaws(reference: dict) -> dict[str, tuple[float, Callable[[dict, np.random.Generator], str]]]:
    """The traps of this problem, each with how common it is and somebody who falls into it once."""
    common = {"stop": 1.0, "slip": 0.2}
    return {
        trap: (common.get(trap, 2.0), lambda given, rng, trap=trap: planted(given, rng, trap)[0])  # type: ignore[misc]
        for trap in plans(reference)
    }
