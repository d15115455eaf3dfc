"""How hard AlpacaEval's instructions are, from the files that AlpacaEval has on the hub."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tutelage.data.reading.rows import BadRow
from tutelage.data.reading.sources import read_rows
from tutelage.records import Place
from tutelage.statistics import Anchors, Floats

WEIGHT = 0.1  # of each of the two gamed baselines in AlpacaEval's model: 0.2 / 2
HARD = "instruction_difficulty"
INDEX = ("index", "Unnamed: 0", "")  # pandas gives a column of row numbers no name


@dataclass(frozen=True)
class Difficulty:
    """Logits by the number of the instruction; `anchors` where the file also has verdicts on the gamed baselines."""

    source: str
    hard: Mapping[int, float]
    anchors: Anchors | None

    def of(self, numbers: Sequence[int]) -> Floats:
        """[n] of these instructions.  Raises ValueError for one that the file does not have."""
        for number in numbers:
            if number not in self.hard:
                raise ValueError(
                    f"difficulty: {self.source} has no instruction {number}, it has {len(self.hard)}; it is for AlpacaEval's "
                    "own instructions in their order: leave difficulty out for others"
                )
        return np.array([self.hard[number] for number in numbers], float)


def read(source: str) -> Difficulty:
    """df_gamed.csv, which has both, or instruction_difficulty.csv.  Raises ValueError for another file."""
    hard: dict[int, float] = {}
    gamed: list[tuple[float, float, float]] = []
    for number, row in enumerate(read_rows(source)):
        if isinstance(row, BadRow):
            raise ValueError(f"{row.place} is a row {row.why}: mend or remove it")
        cells = row.columns
        named = next((cells[name] for name in INDEX if name in cells), number)
        at, value = int(_number(named, "index", row.place)), _number(cells.get(HARD), HARD, row.place)
        hard.setdefault(at, value)
        if {"preference", "std_delta_len"} <= set(cells):
            preference, longer = (_number(cells[n], n, row.place) for n in ("preference", "std_delta_len"))
            gamed.append((preference, -longer, value))  # theirs is how much longer the baseline's is
    if not gamed:
        return Difficulty(source, hard, None)
    preferences, longer_by, values = np.array(gamed).T
    if preferences.max() > 1 or preferences.min() < 0:
        raise ValueError(
            f"difficulty: {source} has preferences outside 0 to 1: give df_gamed.csv as it was published"
        )
    return Difficulty(source, hard, Anchors(preferences, longer_by, values, WEIGHT))


def _number(value: Any, name: str, place: Place) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        raise ValueError(
            f"{place}: {name} is {value!r:.40}, not a number; difficulty is df_gamed.csv or instruction_difficulty.csv of "
            "AlpacaEval"
        ) from None
