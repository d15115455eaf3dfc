"""What stands twice: in the data, and on both sides of the split that the commands would make.

A row takes 73 bytes here, whatever it says: seven keys of eight bytes, its place, its side of the split.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass

import numpy as np

from tutelage.data.split import held_out, place_of
from tutelage.inspect.facts import Leak, Pair, Repeats, Split
from tutelage.inspect.plain import key, normalised
from tutelage.inspect.views import View
from tutelage.records import Place

PAIRS = 200  # kept as examples
LONG_ANSWER = 60  # characters from which the same answer on both sides of a split says something

_NEARLY = "(case, punctuation or white space differ)"
SAME = {
    "row": "with the prompt and the responses of an earlier row",
    "near_row": f"with nearly the prompt and the responses of an earlier row {_NEARLY}",
    "prompt": "with the prompt of an earlier row, but other responses",
    "near_prompt": f"with nearly the prompt of an earlier row {_NEARLY}, but other responses",
}
TEXTS = {
    "row": "with the text of an earlier row",
    "near_row": f"with nearly the text of an earlier row {_NEARLY}",
}
"""What is the same, where rows have responses and where they have none; a row counts under the first only."""


class Places:
    """Places of rows, eight bytes each."""

    def __init__(self) -> None:
        self._files: dict[tuple[str, str], int] = {}
        self._which, self._numbers = array("I"), array("I")

    def add(self, place: Place) -> None:
        self._which.append(self._files.setdefault((place.file, place.unit), len(self._files)))
        self._numbers.append(place.number)

    def __len__(self) -> int:
        return len(self._numbers)

    def __getitem__(self, row: int) -> Place:
        file, unit = list(self._files)[self._which[row]]
        return Place(file, self._numbers[row], unit)


class Keys:
    """The keys of all rows."""

    def __init__(self, split_seed: int) -> None:
        self._seed = split_seed
        self.places = Places()
        self._keys = {name: array("Q") for name in (*SAME, "question", "answer")}
        self._sides = array("d")
        self._swapped = array("Q")
        self._inner = array("B")

    def add(self, view: View, first: bool = True) -> None:
        """first: whether the view is the first of its row; the pairs of a ranking share their prompt by nature."""
        answers = view.plain_responses
        system = normalised(view.system) if view.system else ""
        keys = self._keys
        self._inner.append(not first)
        self.places.add(view.place)
        keys["prompt"].append(key(view.system, view.prompt))
        keys["near_prompt"].append(key(system, view.plain))
        keys["row"].append(key(view.system, view.prompt, *view.responses))
        keys["near_row"].append(key(system, view.plain, *answers))
        keys["question"].append(
            key(view.plain if view.question is view.prompt else normalised(view.question))
        )
        keys["answer"].append(key(answers[0]) if answers and len(answers[0]) >= LONG_ANSWER else 0)
        self._sides.append(place_of(view.record, self._seed))
        turned = key(view.system, view.prompt, *reversed(view.responses)) if view.kind == "comparison" else 0
        self._swapped.append(turned)

    def repeats(self, answered: bool) -> tuple[Repeats, ...]:
        """What stands twice.  answered: whether rows have responses; else the prompt is all of a row."""
        counted = np.zeros(len(self.places), dtype=bool)
        found = []
        for name, label in (SAME if answered else TEXTS).items():
            own = _Groups.of(self._array(name))
            alone = np.frombuffer(self._inner, "u1") == 0 if name.endswith("prompt") else True
            rows = np.flatnonzero(own.again & ~counted & alone)
            counted |= own.again
            if len(rows):
                pairs = tuple(Pair(self.places[own.first[i]], self.places[i]) for i in rows[:PAIRS].tolist())
                found.append(Repeats(label, len(rows), int(own.sizes[rows].max()), pairs))
        return tuple(found)

    def contradictions(self) -> tuple[int, tuple[Pair, ...]]:
        """Comparisons whose chosen and rejected stand the other way round in an earlier row."""
        rows, swapped = self._array("row"), np.frombuffer(self._swapped, "u8")
        order = np.argsort(rows, kind="stable")
        at = np.minimum(np.searchsorted(rows[order], swapped), max(len(rows) - 1, 0))
        first = order[at] if len(rows) else at
        found = np.flatnonzero((rows[first] == swapped) & (swapped != rows) & (first < np.arange(len(rows))))
        pairs = (Pair(self.places[first[i]], self.places[i]) for i in found[:PAIRS].tolist())
        return len(found), tuple(pairs)

    def split(self, share: float) -> Split | None:
        """The split by prompt, and what stands on both of its sides; None where nothing is held out."""
        if not share or len(self.places) < 2:
            return None
        sides = held_out(np.frombuffer(self._sides, "f8"), share)
        leaks = (
            self._leak("nearly the same question", self._array("question"), sides),
            self._leak(
                f"the same answer (of {LONG_ANSWER} characters or more)", self._array("answer"), sides
            ),
        )
        found = tuple(leak for leak in leaks if leak.held_out)
        return Split(share, self._seed, int(sides.sum()), len(sides), found)

    def _leak(self, name: str, keys: np.ndarray, sides: np.ndarray) -> Leak:
        both = np.intersect1d(keys[sides], keys[~sides])
        both = both[both != 0]
        held, train = (
            np.flatnonzero(sides & np.isin(keys, both)),
            np.flatnonzero(~sides & np.isin(keys, both)),
        )
        first = dict(zip(keys[train][::-1].tolist(), train[::-1].tolist(), strict=True))
        pairs = (Pair(self.places[i], self.places[first[int(keys[i])]]) for i in held[:PAIRS].tolist())
        return Leak(name, len(held), len(train), tuple(pairs))

    def _array(self, name: str) -> np.ndarray:
        return np.frombuffer(self._keys[name], "u8")


@dataclass(frozen=True)
class _Groups:
    """Rows by key.  first int [R]: the first row of each row's group.  sizes int [R].  again bool [R]: not the first."""

    first: np.ndarray
    sizes: np.ndarray
    again: np.ndarray

    @staticmethod
    def of(keys: np.ndarray) -> _Groups:
        _, first, inverse, counts = np.unique(
            keys, return_index=True, return_inverse=True, return_counts=True
        )
        return _Groups(first[inverse], counts[inverse], first[inverse] != np.arange(len(keys)))
