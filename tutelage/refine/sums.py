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
from tutelage.refine.arithmetic import Side, Token, worth

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
        for found in _sums(part, rounding=marked and start == 0):
            judged = True
            if not found.holds:
                return _corrected(step, start, part, found)
    return MarkedStep(step, 1 if judged else 0)


def _parts(step: str) -> Iterator[tuple[int, str]]:
    """(where it begins, text): the step with calculator marks blanked out, and what stands in each of them."""
    yield 0, _MARK.sub(lambda match: " " * len(match[0]), step)
    for match in _MARK.finditer(step):
        yield match.start(1), match[1]


def _corrected(step: str, start: int, part: str, found: Sum) -> MarkedStep:
    """The step with the right result, and with those of what else is false in it; without a rewrite where the right side is a
    sum itself."""
    right = f"{found.value * 100:.10g}%" if found.right.tokens[0].percent else f"{found.value:.10g}"
    first, last = found.left.tokens[0].start, found.left.tokens[-1].end
    at, end = found.right.tokens[0].start, found.right.tokens[-1].end
    left, said = (" ".join(part[one:other].split()) for one, other in ((first, last), (at, end)))
    note = f"{left} is {right}, not {said}"
    if not found.right.is_number:
        return MarkedStep(step, -1, note, error="calculation")
    begin, finish = start + end - len(part[at:end].lstrip("$€£ ")), start + end
    between, behind = step[start + last : begin], step[finish:]
    mark = f"<<{_in_mark(left)}={right}>>"
    between = _MARK.sub(lambda _: mark, between)  # it was another sum's
    closing = re.match(rf"(\s*>>\s*[$€£]?\s*){re.escape(step[begin:finish])}(?![\d.,]*\d)", behind)
    if closing is not None:  # GSM8K writes the result once more behind its mark
        behind = closing[1] + right + behind[closing.end() :]
    better = (step[: start + last] + between + right + behind).rstrip()
    again = checked_sums(better) if better != step.rstrip() else MarkedStep(better, 1)
    return MarkedStep(step, -1, note, again.rewrite or better, error="calculation")


def _in_mark(left: str) -> str:
    """A sum as it stands in a calculator mark."""
    return re.sub(r"[\s$€£,]", "", re.sub(r"[x×·⋅]", "*", re.sub("[−–]", "-", left.replace("÷", "/"))))


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
        (worth(left, units, close), worth(right, units, close))
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
    ways = [one for scale in scales for one in (true, true * scale, true / scale)]
    ways += [-true] if rounding and true < 0 else []
    return any(abs(one - said) <= slack * max(1.0, abs(one / true) if true else 1.0) for one in ways)


def _slack(true: float, left: Side, right: Side, rounding: bool) -> float:
    """How far the right side may be from the left one: nothing between whole numbers; else what rounding to its decimals, or
    cutting them off, can do."""
    tokens = (*left.tokens, *right.tokens)
    divided = any(token.kind == "operator" and token.text == "/" for token in tokens)
    whole = all(token.value.is_integer() for token in tokens if token.kind == "number")
    if whole and not divided:
        return 1e-9 * max(1.0, abs(true))
    if rounding and right.is_number and right.tokens[0].value.is_integer():
        return 1e-9 if true.is_integer() else 0.999
    decimals = re.search(r"\.(\d+)", right.tokens[0].text) if right.is_number else None
    unit = 10.0 ** -len(decimals[1]) if decimals else 0.0
    return max(_ROUNDED, abs(true) * 1e-3, (0.999 if divided else 0.501) * unit)
