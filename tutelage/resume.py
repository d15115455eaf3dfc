"""What a run folder is to a run that wants it: free, its own, finished, or another's.  No torch here.

One question, asked by a single command (`Run.open`) and by a pipeline, so that both give the same answer.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, Literal

import yaml

from tutelage.settings.base import Made, Settings, to_yaml

# What a run writes before its first step.  A folder with nothing else holds no work, and whoever comes may have it.
PREPARATION = (
    "settings.yaml",
    "lineage.json",
    "preflight.json",
    "findings.json",
    "tokenizer",
    "tensorboard",
    "nonfinite-step-1.pt",
    ".lock",
    ".*.partial",
)


NOTHING = Made()


@dataclass(frozen=True)
class Standing:
    """state: free (nothing is there, or nothing was done), begun, done, or foreign (it holds something else).

    reason: why it is foreign, one sentence.  key: the setting that makes it so, if one does.
    changed: settings that differ and may, {name: (there, here)}.  made: how far the run is.
    """

    state: Literal["free", "begun", "done", "foreign"]
    reason: str = ""
    key: str = ""
    changed: dict[str, tuple[Any, Any]] = field(default_factory=dict)
    made: Made = NOTHING


def standing(folder: Path, command: str, settings: Settings) -> Standing:
    """What `folder` is to a run of `command` with `settings`; changes nothing."""
    if not folder.exists() or not any(entry.name != ".lock" for entry in folder.iterdir()):
        return Standing("free")
    lineage = read_lineage(folder)
    if lineage is None:
        return _foreign(f"{folder} is not empty and holds no run: choose another out= or empty it.")
    if not holds_work(folder, lineage):
        return Standing("free")
    if lineage["command"] != command:
        return _foreign(
            f"{folder} holds a run of '{lineage['command']}', not of '{command}': choose another out= or remove it."
        )
    made = Made(max(checkpoint_steps(folder / "checkpoints"), default=0), lineage.get("rows", 0))
    before, changed = _changes(folder, settings)
    for key, (there, here) in changed.items():
        why = settings.refuses(key, before, made)
        if why is not None:
            clause = f"; {why}" if why else ""
            return _foreign(
                f"{folder} holds a different run ({key} is {there!r} there and {here!r} here{clause}): "
                "choose another out= or remove that folder.",
                key,
            )
    if lineage.get("state") != "done":
        return Standing("begun", changed=changed, made=made)
    if not settings.wants_more(before, made):
        return Standing("done", changed=changed, made=made)
    if settings.from_checkpoints and not made.steps:
        return _foreign(f"{folder} has no checkpoint left to go on from: choose another out=.")
    return Standing("begun", changed=changed, made=made)


def holds_work(folder: Path, lineage: dict[str, Any]) -> bool:
    """Whether anything was done in this run folder that a new start would lose."""
    if lineage.get("state") == "done" or "begun_at" in lineage:
        return True
    for entry in folder.iterdir():
        if entry.name == "metrics.jsonl":
            work = _measured(folder)
        elif entry.name == "checkpoints":
            work = bool(checkpoint_steps(entry))
        elif entry.name == "samples.jsonl":
            work = entry.stat().st_size > 0
        else:
            work = not any(fnmatch(entry.name, name) for name in PREPARATION)
        if work:
            return True
    return False


def checkpoint_steps(folder: Path) -> list[int]:
    """The steps that have a checkpoint below `folder`, ascending."""
    return sorted(int(path.parent.name.removeprefix("step-")) for path in folder.glob("step-*/state.json"))


def read_lineage(folder: Path) -> dict[str, Any] | None:
    """The content of lineage.json; None when there is none."""
    path = folder / "lineage.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


def read_metrics(folder: Path) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl; a last line cut short by a crash is left out."""
    path = folder / "metrics.jsonl"
    lines = path.read_text(encoding="utf-8").split("\n") if path.exists() else []
    read = []
    for number, line in enumerate(lines):
        try:
            read.append(json.loads(line))
        except json.JSONDecodeError as error:
            if line and number < len(lines) - 2:
                raise ValueError(f"{path}, line {number + 1}: not valid JSON ({error}).") from error
    return read


def _measured(folder: Path) -> bool:
    """Whether a step was made: line 0 is what was measured before the first."""
    try:
        return any(line["step"] > 0 for line in read_metrics(folder))
    except (ValueError, KeyError, TypeError):
        return True  # not ours to judge, so not ours to remove


def _changes(folder: Path, settings: Settings) -> tuple[dict[str, Any], dict[str, tuple[Any, Any]]]:
    """(the values that the run in `folder` has, {name: (there, here)} where they differ from `settings`).

    A setting that a run of an older version does not have counts as its default.
    """
    there = type(settings).model_construct().model_dump(mode="json")
    there |= yaml.safe_load((folder / "settings.yaml").read_text(encoding="utf-8"))
    here = yaml.safe_load(to_yaml(settings))
    return there, {key: (there.get(key), value) for key, value in here.items() if there.get(key) != value}


def _foreign(reason: str, key: str = "") -> Standing:
    return Standing("foreign", reason, key)
