"""What a side of an equation is worth: its tokens, computed."""

from __future__ import annotations

import math
from typing import NamedTuple


class Token(NamedTuple):
    """kind: number, operator, equal, open, close, word or other.  percent: of a number.  tight: of an operator, no space at
    either side; word: it is one, and no sign."""

    kind: str
    start: int
    end: int
    text: str
    value: float = math.nan
    percent: bool = False
    tight: bool = False
    word: bool = False


class Side(NamedTuple):
    """Tokens that are an expression, or are none."""

    tokens: tuple[Token, ...]

    @property
    def is_sum(self) -> bool:
        return any(token.kind == "operator" for token in self.tokens[1:])

    @property
    def is_number(self) -> bool:
        return len(self.tokens) == 1


def worth(side: Side, units: bool, close: bool) -> float | None:
    """The value of a side; None where it is no expression, or divides by 0.

    units: % is a unit, not a hundredth.  close: 6 / 1/2 is 6 / (1/2): what stands close together goes first.
    """
    try:
        value, rest = _added(list(side.tokens), units, close)
    except (ZeroDivisionError, OverflowError, IndexError, ValueError):
        return None
    return value if not rest and isinstance(value, float) and math.isfinite(value) else None


_Rest = list[Token]


def _added(tokens: _Rest, units: bool, close: bool) -> tuple[float, _Rest]:
    total, tokens = _multiplied(tokens, units, close)
    while tokens and tokens[0].kind == "operator" and tokens[0].text in "+-":
        sign = 1.0 if tokens[0].text == "+" else -1.0
        value, tokens = _multiplied(tokens[1:], units, close)
        total += sign * value
    return total, tokens


def _multiplied(tokens: _Rest, units: bool, close: bool) -> tuple[float, _Rest]:
    total, tokens = _fraction(tokens, units, close)
    while tokens and (tokens[0].kind == "open" or (tokens[0].kind == "operator" and tokens[0].text in "*/")):
        divides = tokens[0].text == "/"
        value, tokens = _fraction(tokens if tokens[0].kind == "open" else tokens[1:], units, close)
        total = total / value if divides else total * value
    return total, tokens


def _fraction(tokens: _Rest, units: bool, close: bool) -> tuple[float, _Rest]:
    """A power; with `close` also one that is divided by another without a space between them."""
    value, tokens = _power(tokens, units, close)
    if close and tokens and tokens[0].kind == "operator" and tokens[0].text == "/" and tokens[0].tight:
        below, tokens = _power(tokens[1:], units, close)
        value /= below
    return value, tokens


def _power(tokens: _Rest, units: bool, close: bool) -> tuple[float, _Rest]:
    if tokens[0].kind == "operator" and tokens[0].text in "+-":
        value, rest = _power(tokens[1:], units, close)
        return (value if tokens[0].text == "+" else -value), rest
    value, rest = _single(tokens, units, close)
    if rest and rest[0].kind == "operator" and rest[0].text == "^":
        exponent, rest = _power(rest[1:], units, close)
        value = value**exponent
    return value, rest


def _single(tokens: _Rest, units: bool, close: bool) -> tuple[float, _Rest]:
    token = tokens[0]
    if token.kind == "number":
        return token.value / (100 if token.percent and not units else 1), tokens[1:]
    if token.kind != "open":
        raise ValueError("no number")
    value, rest = _added(tokens[1:], units, close)
    if not rest or rest[0].kind != "close":
        raise ValueError("no bracket")
    return value, rest[1:]
