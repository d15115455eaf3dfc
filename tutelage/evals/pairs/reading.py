"""Rows of a benchmark of reward models: {"prompt", "chosen", "rejected", "subset", "id"}.

RewardBench 1 has one chosen and one rejected text, RewardBench 2 lists of them; `chosen` and `rejected` may also be whole
conversations, whose last turns are compared.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tutelage.data.reading.cells import Skip
from tutelage.data.reading.layouts import read_columns
from tutelage.data.reading.rows import BadRow
from tutelage.data.reading.sources import Source, read_rows
from tutelage.data.reading.spellings import renamed
from tutelage.records import Place, Prompt

SIDES = ("chosen", "rejected")
LEFT = (*SIDES, "num_correct", "num_incorrect", "total_completions", "subset", "id", "models", "label")


@dataclass(frozen=True)
class Item:
    """A prompt with right and wrong responses; `id` as the file has it, "" without one."""

    prompt: Prompt
    chosen: tuple[str, ...]
    rejected: tuple[str, ...]
    subset: str
    id: str
    place: Place


def read(source: Source, columns: Mapping[str, str]) -> list[Item]:
    """All rows.  Raises ValueError for one without a prompt, or without a right and a wrong response."""
    found = []
    for row in read_rows(source):
        if isinstance(row, BadRow):
            raise ValueError(f"{row.place} is a row {row.why}: mend or remove it")
        cells = renamed(row.columns, columns)
        chosen, rejected = (_texts(cells.get(side), side, row.place) for side in SIDES)
        subset = str(cells.get("subset", ""))
        prompt = _prompt(cells, row.place)
        found.append(Item(prompt, chosen, rejected, subset, str(cells.get("id", "")), row.place))
    return found


def _texts(value: Any, side: str, place: Place) -> tuple[str, ...]:
    """A text, a list of texts that are all on this side, or a conversation."""
    if isinstance(value, list) and value and isinstance(value[-1], Mapping):
        value = value[-1].get("content")
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list) or not texts or not all(isinstance(text, str) for text in texts):
        raise ValueError(f"{place}: {side} is {value!r:.60}, not a text or a list of texts")
    return tuple(texts)


def _prompt(cells: Mapping[str, Any], place: Place) -> Prompt:
    asked: dict[str, Any] = {name: cell for name, cell in cells.items() if name not in LEFT}
    chosen = cells["chosen"]
    if "prompt" not in asked and isinstance(chosen, list) and isinstance(chosen[-1], Mapping):
        asked = {"prompt": chosen[:-1]}
    try:
        records, _ = read_columns(asked, "prompts", place)
    except Skip as error:
        raise ValueError(f"{place} is a row {error}: mend its prompt") from None
    if not records or not isinstance(records[0], Prompt):
        raise ValueError(f"{place} has no prompt: it has the columns {', '.join(cells)}")
    return records[0]
