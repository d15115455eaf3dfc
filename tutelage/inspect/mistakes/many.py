"""Mistakes that only many rows show: everything alike, always the longer side, cut at one length, one language too many."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from tutelage.data.reading.cells import TRUTHS
from tutelage.data.reading.spellings import LABELS
from tutelage.inspect.columns import one_line
from tutelage.inspect.facts import Mistake, Seen
from tutelage.inspect.mistakes.common import EXAMPLES, EXCERPT, MANY, Detector, Level, Tally, rows
from tutelage.inspect.plain import key
from tutelage.inspect.views import View
from tutelage.records import Place

TOLD_APART = 50_000  # different texts that are counted; what is common comes among the first


def many() -> list[Detector]:
    """The detectors, fresh."""
    return [
        Alike("all prompts alike", "have the same prompt", _prompt_of, 0.5,
              "Look whether what differs between the rows (the question, the input) is in a column that was not read."),
        Alike("all responses alike", "have the same response", _long_response, 0.2,
              "The model would learn to say this whatever is asked."),
        Alike("all responses alike", "have the same response", _short_response, 0.9,
              "The model would learn to say this whatever is asked."),
        Alike("same start of prompts", "have prompts that begin alike, for 200 characters or more", _prompt_start, 0.5,
              "An instruction that never changes belongs in a system turn; and its tokens are paid for in every row.", "note"),
        Alike("same start of responses", "have responses that begin alike, for 40 characters or more", _response_start, 0.2,
              "The model would begin like this whatever is asked."),
        Short(),
        Longer(),
        Letters(),
        CutAt("response", lambda view: view.responses),
        CutAt("prompt", lambda view: () if view.kind == "text" else (view.asked,)),
        Systems(),
        Languages(),
        Labels(),
    ]  # fmt: skip


def _prompt_of(view: View) -> str:
    return "" if view.kind == "text" else view.prompt.strip()


def _long_response(view: View) -> str:
    answer = view.answer.strip()
    return answer if len(answer) >= 20 else ""


def _short_response(view: View) -> str:
    answer = view.answer.strip()
    return answer if len(answer) < 20 else ""


def _prompt_start(view: View) -> str:
    asked = view.asked.strip()
    return asked[:200] if len(asked) > 200 and view.kind != "text" else ""


def _response_start(view: View) -> str:
    answer = view.answer.strip()
    return answer[:40] if len(answer) > 40 else ""


class Alike:
    """One text that very many rows have.  of: "" where a row has none."""

    def __init__(self, name: str, says: str, of: Callable[[View], str], share: float, advice: str,
                 level: Level = "mistake") -> None:  # fmt: skip
        self._name, self._says, self._of, self._share = name, says, of, share
        self._advice, self._level = advice, level
        self._counts: Counter[int] = Counter()
        self._places: dict[int, tuple[Place, ...]] = {}  # the first of each
        self._texts: dict[int, str] = {}  # of those that came twice
        self._rows = 0

    def add(self, view: View, columns: Mapping[str, Any]) -> None:
        self._rows += 1
        text = self._of(view)
        if not text:
            return
        own = key(text)
        if own not in self._counts and len(self._counts) >= TOLD_APART:
            return
        self._counts[own] += 1
        if self._counts[own] == 2:
            self._texts[own] = one_line(text, EXCERPT)
        if self._counts[own] <= 3:
            self._places[own] = (*self._places.get(own, ()), view.place)

    def found(self) -> Iterator[Mistake]:
        for own, count in self._counts.most_common(1):
            if self._rows >= MANY and count >= self._share * self._rows and count >= MANY / 2:
                sentence = f"{count:,} of {rows(self._rows)} {self._says}."
                seen = tuple(Seen(place, self._texts[own]) for place in self._places[own])
                yield Mistake(self._name, self._level, sentence, self._advice, count, self._rows, seen)


class Short:
    """Responses that are nearly all a character or three: labels, not answers."""

    LONGEST, SHARE = 3, 0.95

    def __init__(self) -> None:
        self._tally = Tally()

    def add(self, view: View, columns: Mapping[str, Any]) -> None:
        if view.responses:
            self._tally.of += 1
            if 0 < len(view.answer.strip()) <= self.LONGEST:
                self._tally.note(view.place, view.answer)

    def found(self) -> Iterator[Mistake]:
        if self._tally.of >= MANY and self._tally.reaches(self.SHARE):
            says = f"{self._tally.within()} the response has at most {self.LONGEST} characters."
            advice = "The model would learn labels, not answers: fine if that is meant."
            yield self._tally.mistake("very short responses", says, advice, "note")


class Longer:
    """Comparisons in which one side is always the longer one."""

    SHARE, LEAST = 0.9, 20

    def __init__(self) -> None:
        self._tallies = {"longer": Tally(), "shorter": Tally()}
        self._pairs = 0

    def add(self, view: View, columns: Mapping[str, Any]) -> None:
        if view.kind != "comparison":
            return
        chosen, rejected = view.responses
        self._pairs += 1
        if len(chosen) != len(rejected):
            text = f"{len(chosen):,} and {len(rejected):,} characters"
            self._tallies["longer" if len(chosen) > len(rejected) else "shorter"].note(view.place, text)

    def found(self) -> Iterator[Mistake]:
        for what, tally in self._tallies.items():
            tally.of = self._pairs
            if self._pairs >= self.LEAST and tally.reaches(self.SHARE):
                says = f"{tally.within()} the chosen response is the {what} one."
                advice = "A reward model would learn length: add pairs in which it is the other way round."
                yield tally.mistake(f"chosen always {what}", says, advice)


class Letters:
    """Multiple choice whose answer nearly always has the same letter."""

    SHARE, LEAST, MULTIPLE_CHOICE = 0.7, 20, 0.5
    _LETTER = re.compile(
        r"(?:(?:the )?(?:correct |final )?answer(?: is)?:? )?\(?([A-E])[).:]?(?:\s.*)?",
        re.DOTALL | re.IGNORECASE,
    )
    _CHOICES = re.compile(r"(?:^|\n|\s)\(?A[).:]\s.*(?:\n|\s)\(?B[).:]\s", re.DOTALL)

    def __init__(self) -> None:
        self._letters: Counter[str] = Counter()
        self._seen: dict[str, list[Seen]] = {}
        self._rows = 0

    def add(self, view: View, columns: Mapping[str, Any]) -> None:
        if not view.responses:
            return
        self._rows += 1
        found = self._LETTER.fullmatch(view.answer.strip()[:200])
        if found and (len(view.answer.strip()) <= 3 or self._CHOICES.search(view.asked)):
            letter = found[1].upper()
            self._letters[letter] += 1
            if len(self._seen.setdefault(letter, [])) < 3:
                self._seen[letter].append(Seen(view.place, one_line(view.answer, EXCERPT)))

    def found(self) -> Iterator[Mistake]:
        total = self._letters.total()
        if total < self.LEAST or total < self.MULTIPLE_CHOICE * self._rows:
            return
        [(letter, count)] = self._letters.most_common(1)
        if count >= self.SHARE * total:
            says = f"Of {rows(total)} whose answer is a letter, {count:,} say {letter}."
            advice = "The model would learn the letter: shuffle the choices."
            seen = tuple(self._seen[letter])
            yield Mistake("always the same letter", "mistake", says, advice, count, total, seen)


class CutAt:
    """Texts that end in the middle of a sentence, many of them at one and the same length."""

    SHARE, LEAST, TIMES, SHORTEST, NEAR = 0.005, 3, 8, 60, 20
    _END = re.compile(r"[.!?:;…。！？)\]}>\"'’”»`*_~|=/]\s*$|\d\s*$")

    def __init__(self, name: str, of: Callable[[View], tuple[str, ...]]) -> None:
        self._name, self._of = name, of
        self._lengths: Counter[int] = Counter()
        self._seen: dict[int, dict[str, Seen]] = {}  # of each length some that end differently
        self._texts = 0

    def add(self, view: View, columns: Mapping[str, Any]) -> None:
        for text in self._of(view):
            self._texts += 1
            length = len(text)
            if length >= self.SHORTEST and not self._END.search(text[-20:]):
                self._lengths[length] += 1
                seen = self._seen.setdefault(length, {})
                if len(seen) < self.LEAST:
                    seen.setdefault(text[-20:], Seen(view.place, "…" + text[-EXCERPT:]))

    def found(self) -> Iterator[Mistake]:
        for length, count in self._lengths.most_common(3):
            near = [self._lengths[length + d] for d in range(-self.NEAR, self.NEAR + 1) if d]
            expected = sum(near) / len(near)
            enough = count >= max(self.LEAST, self.SHARE * self._texts, self.TIMES * expected)
            if enough and len(self._seen[length]) >= self.LEAST:
                says = (
                    f"{count:,} {self._name}s break off in mid-sentence after exactly {length:,} characters."
                )
                advice = (
                    "An export has cut them (a cell, a column or a setting has a limit): export them whole."
                )
                name, seen = f"{self._name}s cut at one length", tuple(self._seen[length].values())
                yield Mistake(name, "mistake", says, advice, count, self._texts, seen)
                return


class Systems:
    """System turns that are always the same, or there in a few rows only."""

    SAME, FEW = 0.9, 0.1

    def __init__(self) -> None:
        self._same = Alike("", "", lambda view: view.system.strip(), self.SAME, "")
        self._tally = Tally()

    def add(self, view: View, columns: Mapping[str, Any]) -> None:
        if view.turns:
            self._same.add(view, columns)
            self._tally.of += 1
            if view.system.strip():
                self._tally.note(view.place, view.system)

    def found(self) -> Iterator[Mistake]:
        for same in self._same.found():
            says = f"{same.rows:,} of {rows(same.of)} have the same system turn."
            advice = "The model learns to answer behind it: give it when the model is used, too."
            yield Mistake("one system turn", "note", says, advice, same.rows, same.of, same.examples)
        if self._tally.of >= MANY and 0 < self._tally.rows <= self.FEW * self._tally.of:
            says = f"Only {self._tally.rows:,} of {rows(self._tally.of)} have a system turn."
            advice = "Look whether the others lost theirs, or whether these few came from another source."
            yield self._tally.mistake("few system turns", says, advice, "note")


class Languages:
    """Several languages in one file.  A guess, and said as one."""

    SHARE, LEAST = 0.02, 3

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self._seen: dict[str, list[Seen]] = {}

    def add(self, view: View, columns: Mapping[str, Any]) -> None:
        language, text = view.language, view.answer or view.asked
        self.counts[language] += 1
        if language and len(seen := self._seen.setdefault(language, [])) < EXAMPLES:
            seen.append(Seen(view.place, one_line(text, EXCERPT)))

    def found(self) -> Iterator[Mistake]:
        known = Counter({name: count for name, count in self.counts.items() if name})
        total = known.total()
        others = known.most_common()[1:]
        enough = [(n, c) for n, c in others if c >= max(self.LEAST, math.ceil(self.SHARE * total))]
        if enough:
            listed = ", ".join(f"{name} {count:,}" for name, count in [known.most_common(1)[0], *enough])
            says = f"The rows seem to be in several languages (a guess by script and common words): {listed}."
            seen = tuple(seen for name, _ in enough for seen in self._seen[name][:3])
            count = sum(count for _, count in enough)
            advice = "Fine if it is meant; else leave out the rows of the others."
            yield Mistake("several languages", "note", says, advice, count, total, seen)


class Labels:
    """Answers that are all labelled as good ones: nothing to tell good from bad by."""

    def __init__(self) -> None:
        self._counts: Counter[bool] = Counter()
        self._first: dict[bool, Place] = {}

    def add(self, view: View, columns: Mapping[str, Any]) -> None:
        value = next((columns[name] for name in LABELS if name in columns), None)
        truth = TRUTHS.get(str(value).strip().lower())
        if truth is not None:
            self._counts[truth] += 1
            self._first.setdefault(truth, view.place)

    def found(self) -> Iterator[Mistake]:
        total = self._counts.total()
        if total >= MANY and self._counts[True] == total:
            says = f"All {total:,} labels are true."
            advice = "sft reads these rows like any others; what learns from good and bad answers has no bad ones here."
            seen = (Seen(self._first[True], "label: true"),)
            yield Mistake("labels all true", "note", says, advice, total, total, seen)
