"""What a language model has said: its verdict, or that there is none.

An answer is read in this order: without its reasoning blocks; as JSON; the last object in it that has a verdict; one that is
cut off behind its verdict; "rank": [k] anywhere, where all that are there say the same; a last line that is a verdict.
What none of these finds is no verdict: never a tie, and never a guess.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

REASONING = re.compile(r"<(think|thinking|reasoning)>.*?(?:</\1>|\Z)", re.DOTALL | re.IGNORECASE)
Valid = Callable[[Any], float | None]


@dataclass(frozen=True)
class Verdict:
    """value: of a pair 1, 2, or 0 (neither is better); of a rating the number.  rationale: "" where none was found."""

    value: float
    rationale: str = ""


def read_pair(text: str) -> Verdict | None:
    """Which response is better."""
    return _read(text, "rank", _rank, r"[012]")


def read_rating(text: str, low: int, high: int) -> Verdict | None:
    """A rating on a scale."""
    return _read(text, "rating", lambda given: _rating(given, low, high), r"\d{1,3}(?:\.\d+)?")


def without_reasoning(text: str) -> str:
    """What is said, without the blocks in which a model thinks."""
    return REASONING.sub("", text).strip()


def _read(text: str, key: str, valid: Valid, number: str) -> Verdict | None:
    text = without_reasoning(text)
    verdicts = [found for found in _objects(text) if key in found]
    for found in reversed(verdicts):
        if (value := valid(found[key])) is not None:
            rationale = found.get("rationale")
            return Verdict(value, rationale if isinstance(rationale, str) else "")
    if verdicts:
        return None  # it says in so many words what is none
    for pattern in _patterns(key, number):
        said = {value for match in pattern.findall(text) if (value := valid(match)) is not None}
        if len(said) > 1:
            return None  # it says two things
        if said:
            return Verdict(said.pop())
    return None


def _patterns(key: str, number: str) -> Iterator[re.Pattern[str]]:
    """From what can hardly mean anything else to a last line in words."""
    whole = rf"({number})(?![\d.]*\d)"
    yield re.compile(rf"(?<!\\)\"{key}\"\s*:\s*\[?\s*\"?{whole}")
    yield re.compile(rf"\b{key}\b[\"'*]*\s*[:=]\s*\[?\s*[\"'*]*{whole}", re.IGNORECASE)
    last = r"(?:\A|\n)[^\n]*?"
    words = r"(?:better|best|preferred|winner|verdict|answer|choice|rating|score)"
    yield re.compile(rf"{last}\b{words}\b[^\n\d]{{0,30}}?{whole}[^\n\w]*\Z", re.IGNORECASE)
    yield re.compile(rf"{last}\bresponse\s*{whole} is (?:the )?(?:better|best)\b[^\n\d]*\Z", re.IGNORECASE)
    yield re.compile(rf"(?:\A|\n)\W*(?:response\s*)?{whole}(?:\s*/\s*\d+)?\W*\Z", re.IGNORECASE)


def _objects(text: str) -> Iterator[dict[str, Any]]:
    """The JSON objects in a text that stand in no other; strings in them are strings, whatever they hold."""
    decoder, at = json.JSONDecoder(), 0
    while (at := text.find("{", at)) >= 0:
        try:
            found, end = decoder.raw_decode(text, at)
        except (ValueError, RecursionError):
            at += 1
            continue
        if isinstance(found, dict):
            yield found
        at = end


def _rank(given: Any) -> float | None:
    """[2], [2, 1], 2, "2" and "Response 2": the better one; [0] and 0: neither."""
    if isinstance(given, list):
        if not given:
            return None
        if len(given) > 1 and sorted(map(str, given)) != ["1", "2"]:
            return None
        given = given[0]
    if isinstance(given, str):
        match = re.fullmatch(r"\W*(?:response)?\s*([012])\W*", given, re.IGNORECASE)
        given = int(match[1]) if match else None
    return float(given) if type(given) in (int, float) and given in (0, 1, 2) else None


def _rating(given: Any, low: int, high: int) -> float | None:
    if isinstance(given, list) and len(given) == 1:
        given = given[0]
    if isinstance(given, str):
        match = re.fullmatch(rf"\s*(\d+(?:\.\d+)?)\s*(?:/\s*{high})?\s*", given)
        given = float(match[1]) if match else None
    return float(given) if type(given) in (int, float) and low <= given <= high else None
