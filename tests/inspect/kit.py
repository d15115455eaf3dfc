"""Small files, and a clean one of each kind in which nothing is to be found."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tutelage.inspect.facts import Facts, Mistake
from tutelage.inspect.looking import look

THINGS = ("kite", "boat", "lamp", "drum", "door", "ball", "coat", "rope", "bell", "ring")
COLOURS = ("red", "blue", "green", "grey", "brown", "white", "black")


def write(folder: Path, rows: Iterable[Any], name: str = "rows.jsonl") -> Path:
    path = folder / name
    lines = (row if isinstance(row, str) else json.dumps(row, ensure_ascii=False) for row in rows)
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


def asked(i: int) -> str:
    return f"What colour is the {THINGS[i % len(THINGS)]} with the number {i}?"


def answered(i: int) -> str:
    return f"{COLOURS[i % 7].title()} is the {THINGS[i % len(THINGS)]}{', I think' * (i % 2)}."


def demonstrations(count: int = 40) -> list[dict[str, Any]]:
    return [{"instruction": asked(i), "output": answered(i)} for i in range(count)]


def comparisons(count: int = 40) -> list[dict[str, Any]]:
    """The chosen side is as often the longer as the shorter one."""
    return [
        {
            "prompt": asked(i),
            "chosen": f" {answered(i)}",
            "rejected": f" {answered(i + 3)}{' And it is heavy.' * (i % 3 == 0)}",
        }
        for i in range(count)
    ]


def conversations(count: int = 40) -> list[dict[str, Any]]:
    return [
        {
            "messages": [
                {"role": "user", "content": asked(i)},
                {"role": "assistant", "content": answered(i)},
                {"role": "user", "content": f"And the {THINGS[(i + 1) % 10]}?"},
                {
                    "role": "assistant",
                    "content": f"The other one is {COLOURS[(i + 1) % 7]}; {i} of them are.",
                },
            ]
        }
        for i in range(count)
    ]


def texts(count: int = 40) -> list[dict[str, Any]]:
    return [{"text": f"{answered(i)} It has the number {i}."} for i in range(count)]


CLEAN = {
    "demonstrations": demonstrations,
    "comparisons": comparisons,
    "conversations": conversations,
    "texts": texts,
}


def facts_of(folder: Path, rows: Iterable[Any], **settings: Any) -> Facts:
    return look(write(folder, rows), **settings)


def found(folder: Path, rows: Iterable[Any]) -> dict[str, Mistake]:
    """The likely mistakes and notes by name."""
    return {mistake.name: mistake for mistake in facts_of(folder, rows).mistakes}
