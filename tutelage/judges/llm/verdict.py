"""What a language model has said: its verdict, or that there is none; and what it has scored beside it.

An answer is read in this order: without its reasoning blocks; as JSON; the last object in it that has a verdict; one that is
cut off behind its verdict; "rank": [k] anywhere, where all that are there say the same; a last line that is a verdict.
What none of these finds is no verdict: never a tie, and never a guess.  Rankings and marks of steps are lists: they are read as
JSON, and in loose text behind their key alone.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

REASONING = re.compile(r"<(think|thinking|reasoning)>.*?(?:</\1>|\Z)", re.DOTALL | re.IGNORECASE)
R = TypeVar("R")
Valid = Callable[[Any], float | None]


@dataclass(frozen=True)
class Verdict:
    """value: of a pair 1, 2, or 0 (neither is better); of a rating the number.  rationale: "" where none was found.
    scores: criterion -> those of the response shown first and of the second, where they stand beside a verdict in JSON."""

    value: float
    rationale: str = ""
    scores: Mapping[str, tuple[float, float]] = field(default_factory=dict)


def read_pair(text: str, criteria: Sequence[str] = (), scale: tuple[int, int] = (1, 10)) -> Verdict | None:
    """Which response is better; and by each of `criteria` how good both are, of those that are scored on the scale."""
    found = _read(text, "rank", _rank, r"[012]")
    if found is None:
        return None
    return replace(found, scores=_scores(found.scores, criteria, scale))


def read_rating(text: str, low: int, high: int) -> Verdict | None:
    """A rating on a scale."""
    return _read(text, "rating", lambda given: _rating(given, low, high), r"\d{1,3}(?:\.\d+)?")


def read_finding(text: str, low: int, high: int) -> Verdict | None:
    """A critique (as the rationale) and a rating, from the last JSON object that has both."""
    for found in reversed(
        [one for one in _objects(without_reasoning(text)) if {"critique", "rating"} <= one.keys()]
    ):
        said, rating = found["critique"], _rating(found["rating"], low, high)
        return (
            Verdict(rating, said.strip())
            if isinstance(said, str) and said.strip() and rating is not None
            else None
        )
    return None


def read_ranking(text: str, count: int) -> tuple[int, ...] | None:
    """The ranks of `count` responses as they were shown (1: the best; equal: tied, and without gaps)."""
    return _agreed(text, {"rank": lambda given: _ranks(given, count)}, lambda ranks: ranks)


def read_marks(text: str, count: int) -> tuple[int | None, ...] | None:
    """The marks of `count` steps: 1, 0, -1; None for those behind the first wrong one, where nothing is said of them.

    From `marks`, or from `first_error`: the number of the first wrong step from 1, 0 where none is.
    """
    return _agreed(
        text,
        {
            "marks": lambda given: _marks(given, count),
            "first_error": lambda given: _up_to(given, count),
        },
        first_wrong,
    )


def without_reasoning(text: str) -> str:
    """What is said, without the blocks in which a model thinks."""
    return REASONING.sub("", text).strip()


def _read(text: str, key: str, valid: Valid, number: str) -> Verdict | None:
    text = without_reasoning(text)
    verdicts = [found for found in _objects(text) if key in found]
    for found in reversed(verdicts):
        if (value := valid(found[key])) is not None:
            rationale = found.get("rationale")
            return Verdict(value, rationale if isinstance(rationale, str) else "", found.get("scores") or {})
    if verdicts:
        return None  # it says in so many words what is none
    for pattern in _patterns(key, number):
        said = {value for match in pattern.findall(text) if (value := valid(match)) is not None}
        if len(said) > 1:
            return None  # it says two things
        if said:
            return Verdict(said.pop())
    return None


def _scores(given: Any, criteria: Sequence[str], scale: tuple[int, int]) -> dict[str, tuple[float, float]]:
    """What of an answer's scores is some: two numbers on the scale for a criterion that was asked about, under its name
    in any case."""
    if not isinstance(given, Mapping):
        return {}
    said = {name.strip().casefold(): both for name, both in given.items()}
    found = {}
    for name in criteria:
        both = said.get(name.casefold())
        if isinstance(both, list) and len(both) == 2:
            first, second = (_rating(one, *scale) for one in both)
            if first is not None and second is not None:
                found[name] = (first, second)
    return found


def _agreed(
    text: str, readers: Mapping[str, Callable[[Any], R | None]], gist: Callable[[R], Any]
) -> R | None:
    """What the last JSON object says that has one of these keys and is valid in all that it has; else what stands behind the
    keys in loose text.  Where two of them differ in their `gist` there is no verdict."""
    text = without_reasoning(text)
    verdicts = [found for found in _objects(text) if not readers.keys().isdisjoint(found)]
    for found in reversed(verdicts):
        said = [read(found[key]) for key, read in readers.items() if key in found]
        if None not in said:
            return _one(said, gist)
    if verdicts:
        return None  # it says in so many words what is none
    return _one([read(given) for key, read in readers.items() for given in _listed(text, key)], gist)


def _one(said: Sequence[R | None], gist: Callable[[R], Any]) -> R | None:
    """The first of what was said, where all of it is some, and comes to the same."""
    there = [one for one in said if one is not None]
    same = len(there) == len(said) and len({gist(one) for one in there}) == 1
    return there[0] if same else None


def _listed(text: str, key: str) -> Iterator[Any]:
    """The lists (of numbers, and of such lists) and numbers behind a key in loose text, where they are whole."""
    value = r"(\[(?:[\d\s,-]|\[[\d\s,]*\])*\]|\d+(?![\d.]))"
    for match in re.findall(rf"(?<!\\)\b{key}\b[\"'*]*\s*[:=]\s*{value}", text, re.IGNORECASE):
        with suppress(ValueError):
            yield json.loads(match)


def _ranks(given: Any, count: int) -> tuple[int, ...] | None:
    """[3, [1, 2]]: the third is the best, and the others are equal; every response once."""
    if not isinstance(given, list):
        return None
    groups = [group if isinstance(group, list) else [group] for group in given]
    flat = [_number(one) for group in groups for one in group]
    if sorted(one or 0 for one in flat) != list(range(1, count + 1)) or not all(groups):
        return None
    ranks = {_number(one): rank for rank, group in enumerate(groups, 1) for one in group}
    return tuple(ranks[number] for number in range(1, count + 1))


def _number(given: Any) -> int | None:
    """3, "3" and "Response 3"."""
    if isinstance(given, str):
        match = re.fullmatch(r"\W*(?:response)?\s*(\d)\W*", given, re.IGNORECASE)
        return int(match[1]) if match else None
    return given if type(given) is int else None


def _marks(given: Any, count: int) -> tuple[int | None, ...] | None:
    """One for each step, or up to and with the first wrong one."""
    if not isinstance(given, list) or not all(type(one) is int and one in (-1, 0, 1) for one in given):
        return None
    whole = len(given) == count or (len(given) < count and given.count(-1) == 1 and given[-1] == -1)
    return (*given, *[None] * (count - len(given))) if whole else None


def _up_to(given: Any, count: int) -> tuple[int | None, ...] | None:
    if type(given) is not int or not 0 <= given <= count:
        return None
    return (1,) * count if given == 0 else (*(1,) * (given - 1), -1, *[None] * (count - given))


def first_wrong(marks: Sequence[int | None]) -> int | None:
    """The number (from 0) of the first step that is marked wrong."""
    return next((number for number, mark in enumerate(marks) if mark == -1), None)


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
