"""A pipeline: stages in order, each a command with its settings; what is unchanged is skipped, what was stopped goes on.

    out: runs/first
    seed: 0
    stages:
      - {command: sft, model: some/model, data: demonstrations.jsonl}
      - {command: sample, model: "@sft", prompts: prompts.jsonl}

A stage's run folder is OUT/NAME (`name` defaults to the command).  "@NAME" in a value stands for that folder, also inside a
reward ({judge: "@reward", weight: 0.5}).  `seed`,
`split_seed` and `store` (OUT/store.sqlite) are handed to every stage that has such a setting and does not give its own.
"""

from __future__ import annotations

import gc
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from tutelage.commands import find, settings_class
from tutelage.data.reading.sources import Source, content_hash, shown
from tutelage.feedback.training.source import (
    comparisons_digest,
    demonstrations_digest,
    is_store_source,
    responses_digest,
)
from tutelage.launch import launch
from tutelage.resume import read_lineage, standing
from tutelage.settings.base import build, nearest
from tutelage.settings.feedback import LabelSettings
from tutelage.settings.groups import FeedbackSettings, RunSettings
from tutelage.settings.pipeline import RunPipelineSettings
from tutelage.settings.train import SFTSettings


@dataclass(frozen=True)
class Stage:
    """One stage, ready to run."""

    name: str
    command: str
    settings: RunSettings

    @property
    def folder(self) -> Path:
        return self.settings.out


def main(settings: RunPipelineSettings, console: Console) -> Path:
    """Run the stages in order; returns the pipeline's folder.  Raises ValueError that names the stage at fault."""
    stages = plan(settings)
    for number, stage in enumerate(stages, 1):
        console.rule(f"{number}/{len(stages)} {stage.name}", align="left")
        reason = why_run(stage)
        if reason is None:
            console.print(f"{stage.folder}: unchanged, skipped.")
            continue
        if reason:
            console.print(f"{stage.folder}: {reason}; the earlier run is kept as {set_aside(stage.folder)}.")
        launch(stage.command, stage.settings, console)
        gc.collect()
    return settings.out


def plan(settings: RunPipelineSettings) -> list[Stage]:
    """Check all stages before the first one runs.  Raises ValueError for an unknown command, name or setting."""
    stages: list[Stage] = []
    folders: dict[str, Path] = {}
    for number, given in enumerate(settings.stages, 1):
        where = f"stage {number}"
        if "command" not in given:
            raise ValueError(f"{where} has no 'command': say which command it runs.")
        command = str(given["command"])
        name = str(given.get("name", command))
        if "out" in given:
            raise ValueError(f"{where} has an 'out', but its folder is OUT/NAME: give it a 'name' instead.")
        if name in folders:
            raise ValueError(
                f"{where}: the name '{name}' is taken by an earlier stage: give it another 'name'."
            )
        folders[name] = settings.out / name
        values = {
            key: _resolve(value, folders, where)
            for key, value in given.items()
            if key not in ("command", "name")
        }
        stages.append(Stage(name, command, _stage_settings(command, values, settings, folders[name], where)))
    return stages


def why_run(stage: Stage) -> str | None:
    """None when the stage is done and unchanged; "" when it has to start or to go on; else why an earlier run is stale."""
    found = standing(stage.folder, stage.command, stage.settings)
    lineage = read_lineage(stage.folder)
    if found.state == "free" or lineage is None:
        return ""
    if found.state == "foreign":
        return f"{found.key} has changed" if found.key else f"it is a run of '{lineage['command']}'"
    for entry in lineage["inputs"]:
        if "sha256" in entry and entry["sha256"] != _digest(entry["path"], stage.settings):
            return f"its input {shown(entry['path'])} has changed"
    return None if found.state == "done" else ""


def set_aside(folder: Path) -> Path:
    """Rename a stale run folder to NAME.1, NAME.2, ...: hours of work are never deleted."""
    number = 1
    while (aside := folder.with_name(f"{folder.name}.{number}")).exists():
        number += 1
    return folder.rename(aside)


def _digest(path: Source, settings: RunSettings) -> str | None:
    if is_store_source(path) and isinstance(settings, FeedbackSettings):
        return comparisons_digest(
            path, settings.store, settings.aggregation, settings.ties, settings.annotators
        )
    if is_store_source(path) and isinstance(settings, SFTSettings):
        return demonstrations_digest(path, settings.store)
    if is_store_source(path) and isinstance(settings, LabelSettings):
        return responses_digest(path, settings.store)
    return content_hash(path)


def _resolve(value: Any, folders: Mapping[str, Path], where: str, inside: bool = False) -> Any:
    """Replace "@NAME" by the folder of an earlier stage, in strings and in lists of strings; inside a mapping only where it
    begins a string, for a reward's options may have an @ of their own."""
    if isinstance(value, list):
        return [_resolve(item, folders, where, inside) for item in value]
    if isinstance(value, dict):
        return {key: _resolve(item, folders, where, inside=True) for key, item in value.items()}
    if not isinstance(value, str):
        return value

    def folder(match: re.Match[str]) -> str:
        name = match.group(1)
        if name not in folders:
            near = nearest(name, folders)
            hint = f"did you mean '@{near}'?" if near else f"there are {', '.join(folders) or 'none'}."
            raise ValueError(f"{where}: '@{name}' names no earlier stage: {hint}")
        return str(folders[name])

    return re.sub(r"^@([\w.-]*\w)" if inside else r"@([\w.-]*\w)", folder, value)


def _stage_settings(
    command: str, values: dict[str, Any], pipeline: RunPipelineSettings, folder: Path, where: str
) -> RunSettings:
    try:
        cls = settings_class(find(command))
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error
    if not issubclass(cls, RunSettings):
        raise ValueError(
            f"{where}: '{command}' writes no run folder, so it cannot be a stage: run it by itself."
        )
    shared: dict[str, Any] = {
        "seed": pipeline.seed,
        "split_seed": pipeline.split_seed,
        "store": str(pipeline.out / "store.sqlite"),
    }
    known = {key: value for key, value in shared.items() if key in cls.model_fields}
    try:
        return build(cls, {**known, **values, "out": str(folder)})
    except ValueError as error:
        raise ValueError(f"{where} ({command}): {error}") from error
