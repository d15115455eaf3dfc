"""The settings of `world`."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from tutelage.settings.base import setting
from tutelage.settings.groups import RunSettings


class WorldSettings(RunSettings):
    """Write the embedded world's files: text, demonstrations and prompts that every other command reads."""

    out: Path = setting(Path("runs/world"), "Folder to write.", changes_result=False)
    documents: int = setting(20_000, "Documents of pretraining text.", unit="documents", ge=1)
    demonstrations: int = setting(3_000, "Demonstrations for fine-tuning.", unit="rows", ge=1)
    careless: float = setting(0.5, "Share of the demonstrations that have a flaw.", unit="share", ge=0, le=1)
    tasks: list[Literal["conversation", "summary", "maths"]] = setting(
        [], "Tasks of the prompts and demonstrations; empty: all three, in turn."
    )
    prompts: int = setting(2_000, "Prompts to train on, without responses.", unit="prompts", ge=1)
    heldout_prompts: int = setting(500, "Held-out prompts: they are in no other file.", unit="prompts", ge=1)
    solutions: int = setting(2_000, "Maths solutions whose steps are marked.", unit="rows", ge=1)
