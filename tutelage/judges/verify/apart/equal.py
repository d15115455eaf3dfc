"""Whether two formulas (trees of `verify/latex.py`) are equal: in their form here, in their values by `leaf`."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Any

Tree = list[Any]
POWER, SIZE = 64, 2000  # largest exponent, and bits, with which whole numbers are computed at once


class Undecided(Exception):
    """It takes algebra to tell."""


def same(a: Tree, b: Tree, leaf: Callable[[Tree, Tree], bool]) -> bool:
    """Lists part by part: in order within round and square brackets, in any order within braces or without brackets."""
    if a == b:
        return True
    if a[0] != "list" or b[0] != "list":
        return a[0] != "list" and b[0] != "list" and _same_equation(a, b, leaf)
    if a[1:3] != b[1:3] or len(a[3]) != len(b[3]):
        return False
    if a[1] in ("(", "["):
        return all(same(x, y, leaf) for x, y in zip(a[3], b[3], strict=True))
    left = list(b[3])
    for x in a[3]:
        partner = next((number for number, y in enumerate(left) if same(x, y, leaf)), None)
        if partner is None:
            return False
        del left[partner]
    return True


def _same_equation(a: Tree, b: Tree, leaf: Callable[[Tree, Tree], bool]) -> bool:
    if a[0] != "eq" or b[0] != "eq":
        return a[0] != "eq" and b[0] != "eq" and leaf(a, b)
    straight = same(a[1], b[1], leaf) and same(a[2], b[2], leaf)
    return straight or (same(a[1], b[2], leaf) and same(a[2], b[1], leaf))


def rationals(a: Tree, b: Tree) -> bool:
    """Whether two rational numbers are equal.  Raises Undecided where one is none, or is large."""
    return rational(a) == rational(b)


def rational(tree: Tree) -> Fraction:
    """The value of a formula of numbers and + - * / ^.  Raises Undecided for any other."""
    kind, *parts = tree
    if kind == "num":
        return Fraction(parts[0])
    if kind == "neg":
        return -rational(parts[0])
    if kind not in ("add", "sub", "mul", "div", "pow"):
        raise Undecided
    a, b = rational(parts[0]), rational(parts[1])
    if kind == "pow":
        if b.denominator != 1 or abs(b) > POWER or (a == 0 and b < 0) or _bits(a) > SIZE // POWER:
            raise Undecided
        return a ** int(b)
    if (kind == "div" and b == 0) or max(_bits(a), _bits(b)) > SIZE:
        raise Undecided
    return {"add": a + b, "sub": a - b, "mul": a * b, "div": a / b if b else a}[kind]


def _bits(value: Fraction) -> int:
    return max(value.numerator.bit_length(), value.denominator.bit_length())
