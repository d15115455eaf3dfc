"""Where the answer stands in a text, and three comparisons that need nothing else: letter for letter, numbers, choices.

    boxed   in the last \\boxed{...}            whole   the whole text
    hashes  behind the last ####, on its line   last    the last number of the text
    marked  boxed or hashes: the later one      auto    marked, and where there is no mark, last

Only the last mark counts, so that writing several answers gains nothing.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any, NamedTuple

from tutelage.judges.verify.verifier import UNREADABLE, Verifier, right_answers, verdict
from tutelage.records import Score
from tutelage.settings.rules import ExactOptions, NumericOptions, Where

BOXED, HASHES = "\\boxed", "####"


def extract(text: str, where: Where) -> str | None:
    """The answer in a text, as the table above says; None where there is none."""
    if where == "whole":
        found: str | None = text
    elif where == "last":
        found = _last_number_text(text)
    elif where == "auto":
        found = text if _mark(text, "marked") < 0 else extract(text, "marked")
        found = _last_number_text(found or "")
    else:
        found = _behind(text, _mark(text, where))
    return found.strip() or None if found is not None else None


def _mark(text: str, where: Where) -> int:
    boxed, hashes = text.rfind(BOXED), text.rfind(HASHES)
    return {"boxed": boxed, "hashes": hashes}.get(where, max(boxed, hashes))


def _behind(text: str, mark: int) -> str | None:
    """What a mark at this place says; None where there is none (-1), or its braces do not close."""
    if mark < 0:
        return None
    if text.startswith(HASHES, mark):
        return text[mark + len(HASHES) :].partition("\n")[0]
    start = mark + len(BOXED)
    while start < len(text) and text[start] == " ":
        start += 1
    depth = 0
    for place in range(start, len(text)):
        if text[place] == "{" and text[place - 1] != "\\":
            depth += 1
        elif text[place] == "}" and text[place - 1] != "\\":
            depth -= 1
        if depth == 0:
            return text[start + 1 : place] if place > start else None
    return None


def truths_in(reference: Mapping[str, Any]) -> list[str]:
    """The right answers as texts; a worked solution, as GSM8K has, is cut down to its marked answer."""
    texts = [str(answer) for answer in right_answers(reference)]
    return [extract(text, "marked") or text.strip() for text in texts]


# ---- letter for letter -------------------------------------------------------------------------------------------------


def exact(name: str, options: ExactOptions) -> Verifier[set[str]]:
    """Equal after normalising: NFKC, white space to single blanks, one full stop at the end off, and case unless it counts."""

    def plain(text: str) -> str:
        text = " ".join(unicodedata.normalize("NFKC", text).split())
        text = text[:-1].rstrip() if text.endswith(".") else text
        return text if options.case else text.casefold()

    def truth(reference: Mapping[str, Any]) -> set[str] | None:
        return {plain(text) for text in truths_in(reference)} or None

    def check(pairs: Sequence[tuple[str, set[str]]]) -> list[Score]:
        found = [(extract(text, options.extract), right) for text, right in pairs]
        return [UNREADABLE if answer is None else verdict(plain(answer) in right) for answer, right in found]

    return Verifier(name, truth, check)


# ---- numbers -----------------------------------------------------------------------------------------------------------

DIGITS = 400  # a number with more is none: nobody means it, and it takes long to compute with
NUMBER = re.compile(
    r"(?:(?<![\w)\]])(?P<sign>[-+]) ?)?\$?"
    r"(?:(?:(?P<units>[0-9]+) )?(?P<top>[0-9]+) ?/ ?(?P<bottom>[0-9]+)"
    r"|(?P<plain>(?:[0-9]{1,3}(?:,[0-9]{3})+(?![0-9])|[0-9]+)(?:\.[0-9]+)?|\.[0-9]+)(?P<power>[eE][-+]?[0-9]{1,3}(?!\w))?)"
    r"(?P<percent> ?%)?"
)
FRAC = re.compile(r"(?P<before>[0-9])?\\[dt]?frac *(?:\{ *([0-9]+) *\} *\{ *([0-9]+) *\}|([0-9])([0-9]))")
TEX = {"\\$": "$", "\\%": "%", "{,}": ",", "\\!": "", "\\,": "", "\\;": "", "−": "-", "\u00a0": " "}


class Number(NamedTuple):
    value: Fraction
    percent: bool


def numeric(name: str, options: NumericOptions) -> Verifier[list[Number]]:
    """Numbers that are as close as `tolerance` says."""

    def truth(reference: Mapping[str, Any]) -> list[Number] | None:
        found = [last_number(text) for text in truths_in(reference)]
        return [number for number in found if number is not None] or None

    def check(pairs: Sequence[tuple[str, list[Number]]]) -> list[Score]:
        scores = []
        for text, right in pairs:
            number = last_number(extract(text, options.extract) or "")
            close = number is not None and any(is_close(number, one, options.tolerance) for one in right)
            scores.append(UNREADABLE if number is None else verdict(close))
        return scores

    return Verifier(name, truth, check)


def last_number(text: str) -> Number | None:
    """The last number in a text: 1,234.5  -2e3  $18  3/4  1 1/2  \\frac{3}{4}  50 %.  None where there is none."""
    found = _last_match(_without_tex(text))
    return None if found is None else _value(found)


def is_close(number: Number, right: Number, tolerance: float) -> bool:
    """Whether a number is the right one.  Where only one of them is a percentage, 50 % is 0.5 as well as 50."""
    readings = [(number.value, right.value)]
    if number.percent != right.percent:
        hundredth = Fraction(1, 100)
        readings += [(number.value * hundredth, right.value) if number.percent
                     else (number.value, right.value * hundredth)]  # fmt: skip
    allowed: Fraction = Fraction(str(tolerance))  # 0.03 is three hundredths, which no float is
    return any(abs(a - b) <= allowed * max(Fraction(1), abs(b)) for a, b in readings)


def _last_number_text(text: str) -> str | None:
    found = _last_match(_without_tex(text))
    return None if found is None else found.group()


def _last_match(text: str) -> re.Match[str] | None:
    found = None
    for found in NUMBER.finditer(text):  # noqa: B007  # the last one
        pass
    return found


def _without_tex(text: str) -> str:
    for tex, plain in TEX.items():
        text = text.replace(tex, plain)

    def over(found: re.Match[str]) -> str:
        before, *sides = found.groups()
        top, bottom = [side for side in sides if side is not None]
        return f"{before} {top}/{bottom}" if before else f"{top}/{bottom}"

    return FRAC.sub(over, text) if "frac" in text else text


def _value(found: re.Match[str]) -> Number | None:
    parts = found.groupdict()
    if len(found.group()) > DIGITS:
        return None
    if parts["plain"] is not None:
        value = Fraction(parts["plain"].replace(",", "") + (parts["power"] or ""))
    elif not int(parts["bottom"]):
        return None
    else:
        value = int(parts["units"] or 0) + Fraction(int(parts["top"]), int(parts["bottom"]))
    return Number(-value if parts["sign"] == "-" else value, parts["percent"] is not None)
