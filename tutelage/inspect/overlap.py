"""Held-out rows that the data hold already: by their prompts, and by long runs of words.

Runs of 13 words are those of GPT-3's report (Brown et al. 2020, "Language Models are Few-Shot Learners", appendix C); as
there, a run that many held-out rows share is a turn of speech and is left out.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

from tutelage.inspect.facts import Leak, Overlap, Pair
from tutelage.inspect.plain import key, normalised
from tutelage.inspect.repeats import PAIRS, Places
from tutelage.inspect.views import View

WORDS = 13  # of a run
COMMON = 10  # held-out rows that may share a run
MOST_ROWS = 200_000  # held-out rows that are looked at
MOST_RUNS = 20_000_000  # of their runs of words: 240 MB
_BASE = np.uint64(0x9E3779B97F4A7C15)
_POWERS = np.array([pow(int(_BASE), i, 2**64) for i in range(WORDS)], dtype=np.uint64)[::-1]

EXACT, NEAR, ANSWER, RUN = (
    "the same prompt",
    "nearly the same prompt (case, punctuation or white space differ)",
    "the same prompt and responses",
    f"{WORDS} words in a row",
)


@dataclass
class _Found:
    """held: held-out rows that were found.  train: rows of the data in which they were."""

    held: set[int] = field(default_factory=set)
    train: int = 0
    pairs: list[Pair] = field(default_factory=list)


class HeldOut:
    """The held-out rows, kept in memory; rows of the data are asked against them one at a time."""

    def __init__(self, against: str, views: Iterable[View]) -> None:
        self.against, self.left = against, 0
        self._places = Places()
        self._keys: dict[str, dict[int, list[int]]] = {EXACT: {}, NEAR: {}, ANSWER: {}}
        runs: list[np.ndarray] = []
        rows: list[np.ndarray] = []
        total = 0
        for view in views:
            if len(self._places) >= MOST_ROWS or total >= MOST_RUNS:
                self.left += 1
                continue
            row = len(self._places)
            self._places.add(view.place)
            for name, own in _keys_of(view).items():
                self._keys[name].setdefault(own, []).append(row)
            found = np.unique(np.concatenate([_runs(_words(view)), np.zeros(0, np.uint64)]))
            runs.append(found)
            rows.append(np.full(len(found), row, dtype=np.uint32))
            total += len(found)
        self._runs, self._rows = _without_common(runs, rows)
        self._found = {name: _Found() for name in (ANSWER, EXACT, NEAR, RUN)}

    def ask(self, view: View) -> None:
        """Note which held-out rows this row of the data gives away."""
        for name, own in _keys_of(view).items():
            if rows := self._keys[name].get(own):
                self._note(name, view, rows, "")
        if not len(self._runs):
            return
        words = _words(view)
        runs = _runs(words)
        if not len(runs):
            return
        at = np.minimum(np.searchsorted(self._runs, runs), len(self._runs) - 1)
        hits = np.flatnonzero(self._runs[at] == runs)
        if len(hits):
            last = np.searchsorted(self._runs, runs[hits], side="right")
            held = {int(row) for i, stop in zip(at[hits], last, strict=True) for row in self._rows[i:stop]}
            first = int(hits[0])
            self._note(RUN, view, sorted(held), " ".join(words[first : first + WORDS]))

    def _note(self, name: str, view: View, rows: list[int], words: str) -> None:
        found = self._found[name]
        found.train += 1
        for row in rows:
            if row not in found.held:
                found.held.add(row)
                if len(found.pairs) < PAIRS:
                    found.pairs.append(Pair(self._places[row], view.place, words))

    @property
    def overlap(self) -> Overlap:
        leaks = tuple(
            Leak(name, len(found.held), found.train, tuple(found.pairs))
            for name, found in self._found.items()
            if found.held
        )
        return Overlap(self.against, len(self._places), self.left, WORDS, leaks)


def _keys_of(view: View) -> dict[str, int]:
    """Of a prompt alone there is no answer to be the same."""
    found = {EXACT: key(view.prompt), NEAR: key(view.plain)}
    if view.responses:
        found[ANSWER] = key(view.plain, normalised(view.answer))
    return found


def _words(view: View) -> list[str]:
    """All that is said but the system's turn, which many rows share."""
    return [word for text in (view.plain, *view.plain_responses) for word in text.split()]


def _runs(words: list[str]) -> np.ndarray:
    """uint64 [max(words - 12, 0)]: a hash of every run of words, by the words' own hashes (of this process)."""
    if len(words) < WORDS:
        return np.zeros(0, dtype=np.uint64)
    hashes = np.fromiter(map(hash, words), dtype=np.int64, count=len(words)).view(np.uint64)
    windows = np.lib.stride_tricks.sliding_window_view(hashes, WORDS)
    return (windows * _POWERS).sum(axis=1, dtype=np.uint64)


def _without_common(runs: list[np.ndarray], rows: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """(runs, held-out row of each), sorted by run, without those that more than `COMMON` rows share."""
    if not runs:
        return np.zeros(0, np.uint64), np.zeros(0, np.uint32)
    whole, where = np.concatenate(runs), np.concatenate(rows)
    order = np.argsort(whole, kind="stable")
    whole, where = whole[order], where[order]
    _, inverse, counts = np.unique(whole, return_inverse=True, return_counts=True)
    rare = counts[inverse] <= min(COMMON, max(1, len(rows) // 4))
    return whole[rare], where[rare]
