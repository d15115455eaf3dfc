"""Multiple choice with any number of right options: all of them, and only those."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from string import ascii_uppercase
from typing import Any

from tutelage.judges.verify.answers import extract
from tutelage.judges.verify.verifier import UNREADABLE, Verifier, verdict
from tutelage.records import Score
from tutelage.settings.rules import ChoiceOptions

Letters = frozenset[str]

# The last "answer", "answers", "answer is", "answer is option", ... of a text: what stands behind it on its line is stated.
STATED = re.compile(r"\banswers?\b(?: +(?:is|are))?(?: +options?\b)?[ *_]*[:=]?[ *_]*", re.IGNORECASE)
# A letter that is no part of a word: (B)  [B]  B)  B.  **B**  B
LETTER = r"[\[(*_{]*(?P<letter>[A-Za-z])(?![\w'’])[\])*_}]*[.:)]?"
IS = re.compile(r"^.{0,80}?\b(?:is|are)\b[ *_:]*")  # "The answer to this question is (B)"
FIRST = re.compile(rf" *{LETTER}")
# One more, behind a comma, "and", "or" or a bracket; what goes on with a word in small letters is a sentence ("B, I think").
NEXT = re.compile(rf" *(?:,? *\b(?:and|or)\b|[,;&+/]|(?=[\[(])) *{LETTER}(?! +(?!(?:and|or)\b)[a-z])")
# One more, with the words of the option before it: "A. It is blue. D. It is warm."
WORDED = re.compile(r"(?<=[.;,])[*_]* +(?:and +)?(?:[(\[](?P<closed>[A-Z])[)\]]|(?P<open>[A-Z])[.):])(?= )")
OPTION = re.compile(
    r"\s*(?:[\[(*_]+[A-Za-z][\])*_]|[A-Za-z][.:)])"
)  # as an option is written: (B) ...  B. ...


def choice(name: str, options: ChoiceOptions) -> Verifier[Letters]:
    """The set of letters that a response states is the set of right ones."""

    def check(pairs: Sequence[tuple[str, Letters]]) -> list[Score]:
        found = [(chosen(text), right) for text, right in pairs]
        return [UNREADABLE if not letters else verdict(letters == right) for letters, right in found]

    return Verifier(name, right_letters, check)


def right_letters(reference: Mapping[str, Any]) -> Letters | None:
    """The right options of a reference, None where it names none.

    `answer`: letters ("B", "B, D", ["B", "D"]), or the numbers of options, from 0, beside a list `choices` of what they
    say; without `answer`, `choices` holds the letters of the right ones.
    """
    choices = reference.get("choices")
    if "answer" not in reference:
        return _letters(choices)
    answer = reference["answer"]
    count = len(choices) if isinstance(choices, list | tuple) else 0
    numbers = answer if isinstance(answer, list | tuple) else [answer]
    if numbers and all(isinstance(one, int) and not isinstance(one, bool) for one in numbers):
        known = all(0 <= one < min(count, len(ascii_uppercase)) for one in numbers)
        return frozenset(ascii_uppercase[one] for one in numbers) if known else None
    return _letters(answer)


def _letters(given: Any) -> Letters | None:
    several = list(given) if isinstance(given, list | tuple) else [given]
    found: set[str] = set()
    for one in several:
        letters = _listed(one) if isinstance(one, str) else None
        if not letters:
            return None
        found |= letters
    return frozenset(found) or None


def _listed(text: str) -> Letters | None:
    """The letters of a text that says nothing else."""
    letters, rest = _leading(text.strip())
    if letters and not rest.strip(" ."):
        return letters
    bare = text.strip().rstrip(".")
    return frozenset(bare) if bare.isupper() and bare.isalpha() and bare.isascii() else None


def chosen(text: str) -> Letters | None:
    """The letters that a response states behind its last "answer"; else in its last \\boxed{}; else as it begins.

    It begins with them where its first line says nothing else, or they are written as options are ("(B) Paris", "B. Paris").
    """
    stated = None
    for stated in STATED.finditer(text):  # noqa: B007  # the last one
        pass
    if stated is not None:
        line = text[stated.end() :].lstrip("\n").partition("\n")[0]
        is_said = IS.match(line)
        later = line[is_said.end() :] if is_said else ""
        return _options(line) or _listed(line) or _options(later) or None
    boxed = extract(text, "boxed")
    if boxed is not None:
        return _listed(re.sub(r"\\text\w*", "", boxed).strip("{} "))
    line = text.strip().partition("\n")[0]
    return _listed(line) or (_leading(line)[0] if OPTION.match(line) else None)


def _options(line: str) -> Letters:
    """The letters that a line begins with, and where they stand as options do, with their words, those of the options behind
    (each further on in the alphabet, as options are listed)."""
    letters, rest = _leading(line)
    if not letters or not OPTION.match(line):
        return letters
    for match in WORDED.finditer(rest):
        letter = match["closed"] or match["open"]
        if letter > max(letters):
            letters |= {letter}
    return letters


def _leading(text: str) -> tuple[Letters, str]:
    """The letters that a text begins with, in whatever form, and the rest of it."""
    found: set[str] = set()
    place = 0
    match = FIRST.match(text)
    while match is not None:
        found.add(match["letter"].upper())
        place = match.end()
        match = NEXT.match(text, place)
    return frozenset(found), text[place:]
