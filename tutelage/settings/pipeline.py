"""The settings of `run` and `demo`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tutelage.settings.base import Settings, setting


class RunPipelineSettings(Settings):
    """Run the stages of a pipeline file; a stage whose inputs and settings are unchanged is skipped."""

    stages: list[dict[str, Any]] = setting(
        ...,
        "The stages in order: each has `command` and that command's settings, or `repeat` and `stages` of its own.",
    )
    out: Path = setting(Path("runs/pipeline"), "Folder of the pipeline: each stage's run folder is below it.")
    seed: int = setting(0, "Seed of every stage that does not set its own.", ge=0)
    split_seed: int = setting(0, "Which prompts are held out, in every stage that does not say.", ge=0)
    plan: bool = setting(
        False, "Only list the stages and what would become of each; nothing runs.", changes_result=False
    )


class DemoSettings(Settings):
    """The whole loop in the embedded world, from an untrained model to one that people prefer."""

    out: Path = setting(Path("runs/demo"), "Folder of the demo: each stage's run folder is below it.")
    seed: int = setting(0, "Seed of everything random.", ge=0)
