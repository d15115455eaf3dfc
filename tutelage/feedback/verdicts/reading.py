"""Files of verdicts: who was set against whom on which prompt, and who was better.

AlpacaEval's annotations.json     [{"instruction", "output_1", "generator_1", "output_2", "generator_2", "annotator",
                                  "preference": from 1, the first is better, to 2, the second is; 1.5 or 0 is a tie}]
FastChat's judgements of pairs    {"question_id", "turn", "model_1", "model_2", "judge", "g1_winner": "model_1" | "model_2" |
                                  "tie" | "error", "g2_winner": the same with the sides swapped}
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tutelage.data.reading.rows import BadRow, Row
from tutelage.data.reading.sources import read_rows
from tutelage.records import Place

ALPACA = ("generator_1", "generator_2", "instruction")
FASTCHAT = ("model_1", "model_2", "g1_winner")
WINNERS = {"model_1": 0.0, "tie": 0.5, "model_2": 1.0, "error": None}


@dataclass(frozen=True)
class Verdict:
    """`second` against `first` on the prompt `key`: the probability that the second is better, None where the judge gave no
    answer that could be read; `lengths` in characters, where the answers are there; `number` of the prompt, from 0."""

    key: str
    number: int
    first: str
    second: str
    outcome: float | None
    lengths: tuple[int, int] | None
    judge: str
    place: Place


def read(files: Sequence[str]) -> list[Verdict]:
    """The verdicts of all files, in their order.  Raises ValueError for a row that holds none."""
    found: list[Verdict] = []
    seen: Counter[tuple[str, str, str]] = Counter()
    for row in read_rows(list(files)):
        if isinstance(row, BadRow):
            raise ValueError(f"{row.place} is a row {row.why}: mend or remove it")
        make = _alpaca if set(ALPACA) <= set(row.columns) else _fastchat
        if make is _fastchat and not set(FASTCHAT) <= set(row.columns):
            raise ValueError(
                f"{row.place} holds no verdict: it has the columns {', '.join(row.columns) or 'none'}; AlpacaEval's rows have "
                f"{', '.join(ALPACA)} and preference, FastChat's {', '.join(FASTCHAT)}"
            )
        pair = (_name(row, "generator_1", "model_1"), _name(row, "generator_2", "model_2"), _judge(row))
        found.append(make(row, *pair, seen[pair]))
        seen[pair] += 1
    return found


def _alpaca(row: Row, first: str, second: str, judge: str, number: int) -> Verdict:
    cells = row.columns
    lengths = tuple(len(cells[name]) for name in ("output_1", "output_2") if isinstance(cells.get(name), str))
    index = cells.get("index", number)
    if isinstance(index, bool) or not isinstance(index, int):
        raise ValueError(f"{row.place}: index is {index!r:.40}, not the number of an instruction")
    return Verdict(
        str(cells["instruction"]),
        index,
        first,
        second,
        _preference(cells.get("preference"), row.place),
        (lengths[0], lengths[1]) if len(lengths) == 2 else None,
        judge,
        row.place,
    )


def _preference(given: Any, place: Place) -> float | None:
    """From 1 to 2, or 0 for a tie, as the probability that the second is better; what is null was no readable answer."""
    if given is None:
        return None
    try:
        value = float(given)
    except (TypeError, ValueError):
        value = math.nan
    if not (value == 0 or 1 <= value <= 2) or isinstance(given, bool):
        raise ValueError(
            f"{place}: preference is {given!r:.40}, but AlpacaEval's are from 1 (the first is better) to 2 (the second), or null"
        )
    return value - 1 if value else 0.5


def _fastchat(row: Row, first: str, second: str, judge: str, number: int) -> Verdict:
    """Asked in both orders, it is a win where both say so, else a tie, as FastChat counts it."""
    said = [
        _winner(row.columns, name, row.place) for name in ("g1_winner", "g2_winner") if name in row.columns
    ]
    outcome = None if None in said else said[0] if len(set(said)) == 1 else 0.5
    return Verdict(
        str(row.columns.get("question_id", number)), number, first, second, outcome, None, judge, row.place
    )


def _winner(cells: Mapping[str, Any], name: str, place: Place) -> float | None:
    if cells[name] not in WINNERS:
        raise ValueError(f"{place}: {name} is {cells[name]!r:.40}, not one of {', '.join(WINNERS)}")
    return WINNERS[cells[name]]


def _name(row: Row, *columns: str) -> str:
    return str(next(row.columns[name] for name in columns if name in row.columns))


def _judge(row: Row) -> str:
    """AlpacaEval's `annotator`; FastChat's `judge`, a list of the model and its prompt."""
    named = row.columns.get("annotator", row.columns.get("judge", ""))
    return " ".join(map(str, named)) if isinstance(named, list) else str(named)
