"""The settings of `sample`."""

from __future__ import annotations

from pathlib import Path

from tutelage.settings.base import setting
from tutelage.settings.groups import (
    DeviceSettings,
    GeneratingSettings,
    PlanSettings,
    RowSettings,
    RunSettings,
    Source,
    run_folder,
)


class SampleSettings(RunSettings, RowSettings, DeviceSettings, GeneratingSettings, PlanSettings):
    """Sample responses to prompts, and record them in the store with where they came from."""

    out: Path = run_folder("runs/sample")
    model: str = setting("runs/sft", "Run folder, checkpoint or hub model to sample from.")
    prompts: Source = setting(..., "Prompts: a file, a glob, or hub:OWNER/NAME.")
    store: str = setting("runs/store.sqlite", "Feedback store: path of an SQLite file, or a database URL.")
    project: str = setting("main", "Project in the store that receives prompts and responses.")
    samples: int = setting(2, "Responses per prompt.", unit="responses", ge=1)
    max_new_tokens: int = setting(128, "Longest response.", unit="tokens", ge=1)
    temperature: float = setting(1.0, "Sampling temperature; 0 takes the likeliest token.", ge=0)
    max_prompts: int = setting(0, "Use only so many prompts, from the first; 0 = all.", unit="prompts", ge=0)
