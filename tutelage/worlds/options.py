"""Options: two quantities and three statements about them, of which one, two or three are right; its words hide traps.

    Anna has 3 bags with 2 eggs in each bag. That is 4 more eggs than Tom has. Which are right? A. Tom has 2 eggs. B. ...

The reference of a prompt is what `options_lines` needs to write any line of a solution, and what is asked of the problem:

    answer      the letters of the right statements
    first       {"who", "count"} or {"who", "bags", "each"}
    second      {"who", "op", "by", "turned"}: the second quantity is the first one, `op` ("+", "-" or "*"), `by`;
                turned: the sentence says it the other way round
    statements  [{"kind", "says"}]: "first" or "second" has so many, they have so many in "all"; "more": {"of": "first" or
                "second"} has so many more than the other
    traps       those that apply, of `TRAPS`;  trap, error: the first of them and its kind ("" and None: none)
    joined      whether two of them, "stop" not counted, have to be seen through at once
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from tutelage.records import ErrorKind

from .maths import compute
from .words import ITEMS, pick, pick_other

LARGEST = 9  # no number of a problem is larger, whichever way it is read: one token each
LETTERS = "ABC"
QUANTITIES = ("first", "second")
# Whose the quantities are.  A name says by itself which of the two is meant: where any name may be told first, a tiny model does
# not learn to look up whose number a statement is about, and what it then gets wrong hides the traps.
FIRST, SECOND = ("Anna", "Mia", "Sara"), ("Ben", "Leo", "Tom")
MISREAD = 0.6  # share of the wrong statements that a wrong reading, where there is one, makes look right


class Trap(NamedTuple):
    """What leads to an error: the kind of error, and what a teacher says of it."""

    error: ErrorKind
    note: str


TRAPS = {
    "each": Trap("reasoning", "in each bag means times."),
    "times": Trap("reasoning", "times as many means times."),
    "turned": Trap("misreading", "that is said of the first number."),
    "more": Trap("misreading", "more than the other means minus."),
    "stop": Trap("approach", "look at every statement."),
    "slip": Trap("calculation", "look at the numbers again."),
}
EACH = 0.3  # share of the problems whose first quantity is told in bags
TOLD = {"plain": 0.54, "times": 0.21, "turned": 0.25}  # how the second quantity is told
MORE = 0.6  # share of the problems with "times" in which a statement is a difference: elsewhere it would only repeat the problem


def make(rng: np.random.Generator) -> tuple[str, dict]:
    """A problem and its reference."""
    bags = bool(rng.random() < EACH)
    told = pick(rng, tuple(TOLD), tuple(TOLD.values()))
    if bags and told == "times":
        told = "plain"  # their numbers would be too large
    while True:
        quantities = _quantities(rng, bags, told)
        if _fair(readings(quantities)):
            break
    reference = quantities | {"statements": _statements(rng, quantities)}
    reference |= {"answer": right_letters(reference)}
    return tell(reference, pick(rng, ITEMS)), reference | _said_of(reference)


def _quantities(rng: np.random.Generator, bags: bool, told: str) -> dict[str, Any]:
    """Two quantities told in these ways; their numbers may be too large."""
    first: dict[str, Any] = {"who": pick(rng, FIRST)}
    if bags:
        first |= pick(rng, [{"bags": a, "each": b} for a, b in ((2, 3), (2, 4), (3, 2), (3, 3), (4, 2))])
    else:
        first |= {"count": int(rng.integers(2, LARGEST + 1))}
    op = "*" if told == "times" else pick(rng, "+-")
    second = {
        "who": pick(rng, SECOND),
        "op": op,
        "by": int(rng.integers(2, LARGEST)),
        "turned": told == "turned",
    }
    return {"first": first, "second": second}


def operation(reference: dict, quantity: str, trap: bool = False) -> tuple[str, int]:
    """The operation that a quantity calls for, and its second number; `trap`: as somebody reads it who falls into its trap."""
    if quantity == "first":
        return "+" if trap else "*", reference["first"]["each"]
    second = reference["second"]
    other = {"*": "+", "+": "-", "-": "+"}[second["op"]]
    return other if trap else second["op"], second["by"]


def trap_of(reference: dict, quantity: str) -> str:
    """The trap in the sentence that tells a quantity; "" where there is none."""
    if quantity == "first":
        return "each" if "each" in reference["first"] else ""
    second = reference["second"]
    return "times" if second["op"] == "*" else "turned" if second["turned"] else ""


def readings(reference: dict) -> list[tuple[int, int]]:
    """(first, second) as they are, and then as they are read by those who fall into some trap or both."""
    found = []
    for wrong_first in (False, True)[: 1 + bool(trap_of(reference, "first"))]:
        count = reference["first"].get("count")
        if count is None:
            count = compute(reference["first"]["bags"], *operation(reference, "first", wrong_first))
        for wrong_second in (False, True)[: 1 + bool(trap_of(reference, "second"))]:
            op, by = operation(reference, "second", wrong_second)
            found.append((count, compute(count, op, by)))
    return found


def _fair(found: list[tuple[int, int]]) -> bool:
    """Whether no reading leads out of the numbers that there are, and none is right by chance."""
    inside = all(1 <= value <= LARGEST for values in found for value in values)
    return inside and all(first != second for first, second in found) and len(set(found)) == len(found)


def number_of(statement: dict, first: int, second: int) -> int:
    """What a statement should say, given the two quantities."""
    if statement["kind"] == "more":
        return first - second if statement["of"] == "first" else second - first
    return {"first": first, "second": second, "all": first + second}[statement["kind"]]


def right_letters(reference: dict) -> list[str]:
    """The letters of the statements that are right."""
    true = readings(reference)[0]
    pairs = zip(LETTERS, reference["statements"], strict=True)
    return [letter for letter, said in pairs if number_of(said, *true) == said["says"]]


def _statements(rng: np.random.Generator, quantities: dict) -> list[dict]:
    """Three different statements, at least one of them right."""
    kinds: list[dict] = [{"kind": "first"}, {"kind": "second"}]
    if max(map(sum, readings(quantities))) <= LARGEST:
        kinds.append({"kind": "all"})
    more = quantities["second"]["op"] == "*" and rng.random() < MORE
    while True:
        chosen = [pick(rng, kinds) for _ in LETTERS]
        if more:
            chosen[int(rng.integers(len(LETTERS)))] = {"kind": "more", "of": "second"}
        said = [kind | {"says": _says(rng, kind, quantities)} for kind in chosen]
        different = len({(one["kind"], one["says"]) for one in said}) == len(said)
        if different and right_letters(quantities | {"statements": said}):
            return said


def _says(rng: np.random.Generator, kind: dict, quantities: dict) -> int:
    """The number of a statement: the right one in half of the draws."""
    true, *others = (number_of(kind, *values) for values in readings(quantities))
    if kind["kind"] == "more":
        others.append(readings(quantities)[0][1])  # "has so many more" read as "has so many"
    misread = [other for other in others if other != true]
    if rng.random() < 0.5:
        return true
    if misread and rng.random() < MISREAD:
        return pick(rng, misread)
    return pick_other(rng, range(1, LARGEST + 1), true)


def _said_of(reference: dict) -> dict[str, Any]:
    hidden = [trap_of(reference, quantity) for quantity in QUANTITIES]
    hidden += ["more" for said in reference["statements"] if said["kind"] == "more"]
    traps = [trap for trap in hidden if trap]
    joined = len(traps) > 1
    if reference["answer"][0] != LETTERS[-1]:
        traps.append("stop")
    first = traps[0] if traps else ""
    return {"traps": traps, "trap": first, "error": TRAPS[first].error if first else None, "joined": joined}


# ---- in words ------------------------------------------------------------------------------------------------------------


def tell(reference: dict, item: str) -> str:
    """The problem in words."""
    first, second = reference["first"], reference["second"]
    who, other, by = first["who"], second["who"], second["by"]
    begun = f"{who} has {first['count']} {item}." if "count" in first else _bags(first, item)
    word = {"+": "more", "-": "fewer"}
    if second["turned"]:
        told = f"That is {by} {word['-' if second['op'] == '+' else '+']} {item} than {other} has."
    elif second["op"] == "*":
        told = f"{other} has {by} times as many {item} as {who}."
    else:
        told = f"{other} has {by} {word[second['op']]} {item} than {who}."
    listed = zip(LETTERS, reference["statements"], strict=True)
    statements = [f"{letter}. {_statement(said, who, other, item)}" for letter, said in listed]
    return " ".join([begun, told, "Which are right?", *statements])


def _bags(first: dict, item: str) -> str:
    return f"{first['who']} has {first['bags']} bags with {first['each']} {item} in each bag."


def _statement(said: dict, who: str, other: str, item: str) -> str:
    number = said["says"]
    if said["kind"] == "more":
        high, low = (who, other) if said["of"] == "first" else (other, who)
        return f"{high} has {number} more {item} than {low}."
    subject = {"first": f"{who} has", "second": f"{other} has", "all": "They have"}[said["kind"]]
    return f"{subject} {number} {item}{' in all' if said['kind'] == 'all' else ''}."
