"""How a checkpoint is put to work, as it is written in front of its path.

    runs/sft                    as it is
    few-shot-4:runs/pretrain    behind four examples, which stand in front of every prompt
    untrained:runs/sft          its shape and tokenizer with fresh weights: what there was before any training

No torch: mistakes are told at once.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

_FEW_SHOT = re.compile(r"few-shot-(\d+)")
UNTRAINED = "untrained"


@dataclass(frozen=True)
class Way:
    """A checkpoint, and how it answers: behind so many examples (0: none), with its weights or with fresh ones."""

    path: str
    shots: int = 0
    untrained: bool = False

    @property
    def plain(self) -> bool:
        """Whether it answers as it is."""
        return not (self.shots or self.untrained)

    @property
    def prefix(self) -> str:
        """What stands before the path."""
        return f"few-shot-{self.shots}:" if self.shots else f"{UNTRAINED}:" if self.untrained else ""

    @property
    def name(self) -> str:
        """What it is called where nobody named it: after the last folder, and how it answers."""
        return "-".join(part for part in (Path(self.path).name, self.prefix.rstrip(":")) if part)

    def __str__(self) -> str:
        return f"{self.prefix}{self.path}"


def way_of(given: str) -> Way:
    """What "PATH", "few-shot-N:PATH" or "untrained:PATH" says.  Raises ValueError for another word, or a number below 1."""
    before, colon, path = given.partition(":")
    if not colon or "/" in before:
        return Way(given)
    if not path:
        raise ValueError(f"'{given}' names no model: write {before}:runs/pretrain, say")
    if before == UNTRAINED:
        return Way(path, untrained=True)
    found = _FEW_SHOT.fullmatch(before)
    if not found or not int(found[1]):
        raise ValueError(
            f"'{before}:' is no way to ask a model: write few-shot-4:{path} (behind four examples), untrained:{path} (with "
            f"fresh weights), or {path} alone"
        )
    return Way(path, shots=int(found[1]))


def check_demonstrations(models: Sequence[str], demonstrations: object, where: str = "one of models") -> None:
    """Raise ValueError where a model is to be shown examples and there are none, or the other way round.

    models: as they are given, without their names.  where: what "few-shot-4:" is written before.
    """
    shown = [given for given in models if way_of(given).shots]
    if shown and not demonstrations:
        raise ValueError(
            f"{shown[0]} is shown examples, and there is nothing to take them from: add "
            "demonstrations=runs/world/demonstrations.jsonl, say"
        )
    if demonstrations and not shown:
        raise ValueError(
            f"demonstrations are for a model that is shown examples, and none is: write few-shot-4: before {where}, or leave "
            "them out"
        )
