"""The gold standard of summaries: the key facts, nothing false, short, in own words."""

from __future__ import annotations

import re

from .parse import concise, form, one_of, sentences
from .summary import EVENTS
from .words import COLOURS, NAMES, PLACES, THINGS

WORDS = 16  # a good summary has no more
_N, _T, _P = one_of(NAMES), one_of(THINGS), one_of(PLACES)
_EVENT = re.compile(rf"({_N}) ({one_of(tuple(EVENTS))}) (?:a|the) (?:{one_of(COLOURS)} )?({_T})\b")
_PLACE = re.compile(rf"\b(?:at|to|in) the ({_P})\b")
_ENDING = re.compile(
    rf"\b({_N}|[Nn]obody) (?:could )?(bought a new|found|find|fixed|fix) ?(one|it|the {_T}|{_T})?(?=[ .,]|$)"
)
_CLAUSE_EVENT = rf"{_N} {one_of(tuple(EVENTS))} (?:a|the) (?:{one_of(COLOURS)} )?{_T}(?: at the {_P})?"
_CLAUSE_ENDING = rf"(?:{_N}|nobody) (?:bought a new (?:one|{_T})|(?:found|fixed) (?:it|the {_T}))"
_WHOLE = re.compile(
    rf"{_CLAUSE_EVENT}(?:,? (?:but|and) {_CLAUSE_ENDING})?\.|(?:Then |In the end )?{_CLAUSE_ENDING}\."
)


def _ending(reference: dict) -> tuple[str, str]:
    past, _ = EVENTS[reference["event"]]
    return {
        "helper": (reference["helper"], past),
        "new": (reference["who"], "bought a new"),
        "nobody": ("nobody", past),
    }[reference["ending"]]


_PAST = {"find": "found", "fix": "fixed"}


def grade(reference: dict, text: str) -> dict[str, float]:
    """The parts of the score; `value` is made of them."""
    found = sentences(text)
    joined = " ".join(found)
    events = set(_EVENT.findall(joined))
    places = set(_PLACE.findall(joined))
    endings, things = set(), {thing for _, _, thing in events}
    for who, verb, thing in _ENDING.findall(joined):
        endings.add((who[0].lower() + who[1:] if who.lower() == "nobody" else who, _PAST.get(verb, verb)))
        things |= {thing.removeprefix("the ")} - {"one", "it", ""}
    right_event = (reference["who"], reference["event"], reference["thing"])
    false = (
        bool(events - {right_event})
        + bool(places - {reference["place"]})
        + bool(endings - {_ending(reference)})
        + bool(things - {reference["thing"]})
    )
    post = set(reference["post"])
    own = sum(sentence not in post for sentence in found) / len(found) if found else 0.0
    return {
        "event": float(right_event in events),
        "place": float(reference["place"] in places),
        "ending": float(_ending(reference) in endings),
        "faithful": 0.4**false * bool(found),
        "own words": own,
        "concise": concise(text, WORDS) * bool(found),
        "form": form(found, lambda sentence: bool(_WHOLE.fullmatch(sentence))),
    }


def value(parts: dict[str, float]) -> float:
    """The key facts are worth two thirds; how they are told counts in the measure in which they are there."""
    facts = 0.4 * parts["event"] + 0.2 * parts["place"] + 0.4 * parts["ending"]
    manner = 0.3 * parts["own words"] + 0.3 * parts["concise"] + 0.4 * parts["form"]
    return parts["faithful"] * facts * (0.4 + 0.6 * manner)
