"""Sums in a step of a solution: which equations between numbers stand in it, and whether they hold.

A step is cut into numbers, operators, brackets, "=" and other words.  What stands between two "=" without another word is a
side; neighbouring sides are compared.  People write one thing in several ways (a percentage is a hundredth or a unit, 6 / 1/2
is 12 or 3): an equation is false only where no way of reading it holds.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from tutelage.records import MarkedStep

_MARK = re.compile(r"<<([^<>]*)>>")
_VULGAR = {"½": 1 / 2, "¼": 1 / 4, "¾": 3 / 4, "⅓": 1 / 3, "⅔": 2 / 3, "⅕": 1 / 5, "⅛": 1 / 8}
_OPERATORS = dict.fromkeys("*x×·⋅", "*") | dict.fromkeys("/÷", "/") | dict.fromkeys("-−–", "-")
_OPERATORS |= {"+": "+", "^": "^", "**": "^", "plus": "+", "minus": "-", "times": "*", "of": "*"}
_OPERATORS |= {"multiplied by": "*", "divided by": "/"}
_CLOCK = r"\d+:\d[\d:]*|(?<![\d.])0\d+(?:[.,]\d+)*|\d+(?:,\d+)*,\d{1,2}(?!\d)|\d{1,3},\ \d{3}(?!\d)|\d+(?:\.\d+){2,}"
_PLAIN = r"(?:\d{1,3}(?:,\d{3})+|\d{1,3}(?:[ ]\d{3})+(?!\d)|\d+)(?:\.\d+)?|\.\d+"
_TOKEN = re.compile(
    rf"""(?P<no>{_CLOCK}|[<>!]=|=>|\.\.+)
    |(?:[$€£]\ *)?(?P<mixed>\d+(?:\ +and\ +\$?|\ +)\(?\d+/\d+\)?(?![\d./]))
    |(?:[$€£]\ *)?(?P<vulgar>(?:\d+\ ?)?[{"".join(_VULGAR)}])
    |(?:[$€£]\ *)?(?P<number>{_PLAIN})(?P<percent>\ ?%)?
    |(?P<equal>=+|≈|\bequals\b)
    |(?P<operator>\*\*|[-−–+*/×÷·⋅^]|\b(?:plus|minus|times|of|multiplied\ by|divided\ by)\b
        |(?<=[\d)\s%])x(?=\ *[$€£(.\d]))
    |(?P<bracket>[(\[\])])
    |(?P<word>[^\W\d]+)
    |(?P<other>[^\s])""",
    re.VERBOSE,
)
_ROUNDING = re.compile(
    r"round|about|approx|almost|nearly|roughly|remain|left|full|whole|complete|at least|at most|≈|~",
    re.IGNORECASE,
)
_SCALES = {"cent": 100.0, "¢": 100.0, "penn": 100.0, "hundred": 100.0, "thousand": 1e3, "million": 1e6}
_BEFORE = {
    "twice",
    "half",
    "double",
    "triple",
    "thrice",
    "square",
    "than",
    "<",
    ">",
    "day",
    "days",
    "week",
    "weeks",
}
_ORDINALS = {"st", "nd", "rd", "th", "am", "pm"}
_ROUNDED = 0.01  # people round money


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


class Sum(NamedTuple):
    """An equation: both sides, and what the left one is."""

    left: Side
    right: Side
    value: float
    holds: bool


def checked_sums(step: str) -> MarkedStep:
    """A step with its first false sum: -1 with the right result in its place, 1 where all sums hold, 0 where there is none.

    GSM8K's calculator marks (<<3*2=6>>) are read, and so is what stands outside them: 3 + 2 = <<3*2=6>>6 is false.  Sums with
    letters, divisions by 0, times of day, or percentages added to other numbers are not judged.
    """
    judged = False
    marked = _MARK.search(step) is not None
    for start, part in _parts(step):
        for found in _sums(part, rounding=marked and not start):
            judged = True
            if not found.holds:
                return _corrected(step, start, part, found)
    return MarkedStep(step, 1 if judged else 0)


def _parts(step: str) -> Iterator[tuple[int, str]]:
    """(where it begins, text): what stands in calculator marks, and the step with these blanked out."""
    for match in _MARK.finditer(step):
        yield match.start(1), match[1]
    yield 0, _MARK.sub(lambda match: " " * len(match[0]), step)


def _corrected(step: str, start: int, part: str, found: Sum) -> MarkedStep:
    """The step with the right result; without a rewrite where the right side is a sum itself."""
    percent = found.right.tokens[0].percent
    right = f"{found.value * 100:.10g}%" if percent else f"{found.value:.10g}"
    first, last = found.left.tokens[0].start, found.left.tokens[-1].end
    at, end = found.right.tokens[0].start, found.right.tokens[-1].end
    said = " ".join(part[at:end].split())
    note = f"{' '.join(part[first:last].split())} is {right}, not {said}"
    if not found.right.is_number:
        return MarkedStep(step, -1, note, error="calculation")
    begin, finish = start + end - len(part[at:end].lstrip("$€£ ")), start + end
    said = step[begin:finish]
    behind = step[finish:]
    closing = re.match(rf"(\s*>>\s*[$€£]?\s*){re.escape(said)}(?![\d.,]*\d)", behind)
    if closing is not None:  # GSM8K writes the result once more behind its mark
        behind = closing[1] + right + behind[closing.end() :]
    return MarkedStep(step, -1, note, (step[:begin] + right + behind).rstrip(), error="calculation")


# ---- sums in a text ----------------------------------------------------------------------------------------------------


def _sums(text: str, rounding: bool) -> Iterator[Sum]:
    """Every equation whose sides are numbers, the left one a sum.  rounding: what stands outside calculator marks may be a
    rounded result of theirs, or the size of a difference."""
    tokens = _tokens(text)
    for place, token in enumerate(tokens):
        if token.kind != "equal":
            continue
        left, right = _left(tokens, place), _right(tokens, place)
        if left is None or right is None or not left.is_sum:
            continue
        found = _compared(left, right, text, rounding)
        if found is not None:
            yield found


def _tokens(text: str) -> list[Token]:
    tokens = []
    for match in _TOKEN.finditer(text):
        own = match[0].lstrip()
        kind, start, end = str(match.lastgroup), match.end() - len(own), match.end()
        if match["number"]:
            value = float(match["number"].replace(",", "").replace(" ", ""))
            tokens.append(Token("number", start, end, own, value, match["percent"] is not None))
        elif kind == "mixed":
            whole, above, below = map(float, re.findall(r"\d+", own))
            value = whole + above / below if below else math.nan
            tokens.append(Token("number", start, end, own, value))
        elif kind == "vulgar":
            digits = re.sub(r"\D", "", own[:-1])
            tokens.append(Token("number", start, end, own, float(digits or 0) + _VULGAR[own[-1]]))
        elif kind == "operator":
            tight = not text[start - 1 : start].isspace() and not text[end : end + 1].isspace()
            tokens.append(
                Token(
                    "operator", start, end, _OPERATORS[own], tight=tight, word=own[0].isalpha() and own != "x"
                )
            )
        elif kind == "bracket":
            tokens.append(Token("open" if own in "([" else "close", start, end, own))
        else:
            tokens.append(Token("other" if kind == "no" else kind, start, end, own))
    return tokens


_OURS = {"number", "operator", "open", "close"}


def _left(tokens: Sequence[Token], place: int) -> Side | None:
    """What stands before an "=": back to a word, to another "=", or to where two numbers stand side by side."""
    first, depth = place, 0
    while first and tokens[first - 1].kind in _OURS:
        token = tokens[first - 1]
        depth += (token.kind == "close") - (token.kind == "open")
        if depth < 0:
            return None
        if first < place and _apart(token, tokens[first]):
            break
        first -= 1
    own = tuple(tokens[first:place])
    before = tokens[first - 1] if first else None
    if not own or (own[0].kind == "operator" and (own[0].text != "-" or not _begins(before))):
        return None
    if before is not None and (_glued(before, own[0]) or before.text.lower() in _BEFORE):
        return None
    return Side(own)


def _right(tokens: Sequence[Token], place: int) -> Side | None:
    """What stands behind an "=": up to a word ("of", too), to another "=", or to where two numbers stand side by side."""
    last, depth = place + 1, 0
    while last < len(tokens) and tokens[last].kind in _OURS:
        token = tokens[last]
        depth += (token.kind == "open") - (token.kind == "close")
        if depth < 0 or (last > place + 1 and (_apart(tokens[last - 1], token) or token.word)):
            break
        last += 1
    own = tuple(tokens[place + 1 : last])
    behind = tokens[last] if last < len(tokens) else None
    if own and own[-1].kind == "operator":  # 3*2 = 6 - so ...; but not 3*2 = 6 - x
        if own[-1].text != "-" or own[-1].tight or behind is None or len(behind.text) < 2:
            return None
        own = own[:-1]
    if not own or (behind is not None and _is_letter(own[-1], behind)):
        return None
    return Side(own)


def _begins(before: Token | None) -> bool:
    return before is None or before.kind == "equal"


def _apart(one: Token, other: Token) -> bool:
    """Whether two tokens side by side belong to different expressions: 3 4, but not 3(4)."""
    ends, begins = one.kind in ("number", "close"), other.kind in ("number", "open")
    return ends and begins and not (other.kind == "open" and one.end == other.start)


def _glued(before: Token, own: Token) -> bool:
    """Whether something belongs to what follows it: sqrt(9), x3, #3, 6:00."""
    return (
        before.end == own.start
        and before.text not in ("(", "[", ":", ",", ";", "{", '"', "'", "~")
        and (before.kind != "equal")
    )


def _is_letter(own: Token, behind: Token) -> bool:
    """Whether a number has a variable behind it (2x, 2 x) or is an ordinal or a time, and not an amount of something."""
    if behind.kind == "other":
        return behind.start == own.end and behind.text in "^!/"
    glued = behind.start == own.end
    return behind.kind == "word" and (
        (len(behind.text) == 1 and behind.text not in "amI") or (glued and behind.text.lower() in _ORDINALS)
    )


# ---- what they are worth -----------------------------------------------------------------------------------------------


def _compared(left: Side, right: Side, text: str, rounding: bool) -> Sum | None:
    """The equation, judged; None where a side is no expression, or is not judged."""
    numbers = [token for token in (*left.tokens, *right.tokens) if token.kind == "number"]
    added = any(token.text in "+-" for token in (*left.tokens, *right.tokens) if token.kind == "operator")
    percents = {token.percent for token in numbers}
    if added and len(percents) == 2:
        return None
    readings = (False, True)
    values = [
        (_worth(left, units, close), _worth(right, units, close))
        for units, close in itertools.product(readings, readings)
    ]
    known = [(one, other) for one, other in values if one is not None and other is not None]
    if not known:
        return None
    holds = any(_equal(one, other, left, right, text, rounding) for one, other in known)
    return Sum(left, right, known[0][0], holds)


def _equal(true: float, said: float, left: Side, right: Side, text: str, rounding: bool) -> bool:
    lowered = text.lower()
    scales = [1.0, *(scale for word, scale in _SCALES.items() if word in lowered)]
    slack = _slack(true, left, right, rounding or _ROUNDING.search(text) is not None)
    worth = [one for scale in scales for one in (true, true * scale, true / scale)]
    worth += [-true] if rounding and true < 0 else []
    return any(abs(one - said) <= slack * max(1.0, abs(one / true) if true else 1.0) for one in worth)


def _slack(true: float, left: Side, right: Side, rounding: bool) -> float:
    """How far the right side may be from the left one: nothing between whole numbers; else what rounding to its decimals, or
    cutting them off, can do."""
    tokens = (*left.tokens, *right.tokens)
    divided = any(token.kind == "operator" and token.text == "/" for token in tokens)
    whole = all(token.value.is_integer() for token in tokens if token.kind == "number")
    if whole and not divided:
        return 1e-9 * max(1.0, abs(true))
    if rounding and right.is_number and right.tokens[0].value.is_integer():
        return 1.0
    decimals = re.search(r"\.(\d+)", right.tokens[0].text) if right.is_number else None
    unit = 10.0 ** -len(decimals[1]) if decimals else 0.0
    return max(_ROUNDED, abs(true) * 1e-3, (0.999 if divided else 0.501) * unit)


def _worth(side: Side, units: bool, close: bool) -> float | None:
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
