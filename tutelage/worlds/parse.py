"""Reading any text: sentences, words, and the parts of a score that all tasks share. Nothing here raises or takes long."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

LONGEST = 2000  # characters that are read; what is longer counts as endless
_SENTENCE = re.compile(r"[^.?!\n]+[.?!]?")


def sentences(text: str) -> list[str]:
    """The sentences of the text with their end marks, white space made single, empty ones left out."""
    found = (" ".join(match.split()) for match in _SENTENCE.findall(text[:LONGEST]))
    return [sentence for sentence in found if sentence.strip(".?! ")]


def concise(text: str, limit: int) -> float:
    """1 up to `limit` words, then falling in a line to 0 at twice as many."""
    words = len(text[:LONGEST].split()) if len(text) <= LONGEST else 2 * limit
    return min(1.0, max(0.0, 2.0 - words / limit))


def form(found: Sequence[str], known: Callable[[str], bool]) -> float:
    """Share of the sentences that are whole, known to the language, and not said before; 0 for no sentence."""
    good = sum(known(sentence) for sentence in dict.fromkeys(found))
    return good / len(found) if found else 0.0


def one_of(options: Sequence[str]) -> str:
    """A regular expression that matches one of the options."""
    return "(?:" + "|".join(map(re.escape, options)) + ")"
