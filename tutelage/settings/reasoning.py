"""The settings of `eval reasoning`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import field_validator

from tutelage.settings.base import setting
from tutelage.settings.groups import (
    DeviceSettings,
    GeneratingSettings,
    RowSettings,
    RunSettings,
    Source,
    run_folder,
)
from tutelage.settings.judges import WORLD
from tutelage.settings.refine import PEOPLE, MarkedSettings, Splitter, checked_marks
from tutelage.settings.ways import way_of


class ReasoningSettings(MarkedSettings, RunSettings, RowSettings, DeviceSettings, GeneratingSettings):
    """Measure reasoning step by step: what is right, sound, clear, complete, and what becomes of a correction."""

    out: Path = run_folder("runs/reasoning")
    models: list[str] = setting(
        ...,
        "Checkpoints to evaluate: run folders or hub names, each optionally as name=path; the others are compared with the "
        "first.",
    )
    prompts: Source = setting(..., "Problems that no model has seen: a file, a glob, or hub:OWNER/NAME.")
    marks: str | dict[str, Any] = setting(
        WORLD,
        "Who marks steps: world (its expert), equations (false sums), a process model's run folder, or a language model, "
        "{judge: llm:NAME, ...}.",
    )
    max_new_tokens: int = setting(128, "Longest solution.", unit="tokens", ge=1)
    samples: int = setting(
        4,
        "Solutions of each problem at temperature 1, beside the greedy one; 0 = none.",
        unit="responses",
        ge=0,
    )
    told: int = setting(
        200,
        "Failed solutions of each model that are corrected, and right ones that are corrected wrongly, at most; 0 = none.",
        unit="problems",
        ge=0,
    )
    trained: list[str] = setting(
        [],
        "Traps or kinds of error that the problems of training had; the others show what carries over; empty: not reported.",
    )
    max_prompts: int = setting(
        0, "Use at most so many problems, drawn by seed; 0 = all.", unit="prompts", ge=0
    )
    splitter: Splitter = setting("lines", "How solutions are cut into steps.", everyday=False)
    calls: str = setting(
        "runs/store.sqlite",
        "Store that keeps every question to a language model that marks, and its answer.",
        everyday=False,
        changes_result=False,
    )
    resamples: int = setting(2000, "Bootstrap resamples behind each interval.", everyday=False, ge=100)

    @field_validator("models")
    @classmethod
    def _as_they_are(cls, models: list[str]) -> list[str]:
        for given in models:
            way = way_of(given.rpartition("=")[2])
            if not way.plain:
                raise ValueError(f"{way}: the problems are put to models as they are; give {way.path} alone")
        return models

    @field_validator("marks")
    @classmethod
    def _at_once(cls, given: Any) -> Any:
        if given == PEOPLE:
            raise ValueError(
                "people cannot mark while models are measured: give world, equations, a process model's run folder, or "
                "{judge: llm:NAME, template: steps}"
            )
        return checked_marks(given)
