"""A pipeline: stages in order, each a command with its settings; what is unchanged is skipped, what was stopped goes on.

    out: runs/first
    seed: 0
    stages:
      - {command: sft, model: some/model, data: demonstrations.jsonl}
      - {command: sample, model: "@sft", prompts: prompts.jsonl}

A stage's run folder is OUT/NAME (`name` defaults to the command).  "@NAME" in a value stands for that folder, also inside a
reward ({judge: "@reward", weight: 0.5}).  `seed`, `split_seed` and `store` (OUT/store.sqlite) are handed to every stage that
has such a setting and does not give its own.  A block {repeat: N, stages: [...]} is done N times: `rounds.py`; with
`until: {stage: reward, metric: accuracy, below: 0.55}` no further round follows one in which that holds.
"""

from __future__ import annotations

import gc
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console
from rich.table import Table
from rich.text import Text

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
from tutelage.rounds import Known
from tutelage.settings.adapt import AdaptSettings
from tutelage.settings.base import build
from tutelage.settings.describe import plain
from tutelage.settings.feedback import LabelSettings
from tutelage.settings.groups import RanksSettings, RunSettings
from tutelage.settings.pipeline import RunPipelineSettings
from tutelage.settings.preference import DPOSettings, KTOSettings
from tutelage.settings.reward import ProcessSettings, RewardSettings
from tutelage.settings.served import LOCAL, SyncedSettings
from tutelage.settings.train import SFTSettings
from tutelage.stopping import Until, read_until


class Watched(NamedTuple):
    """Rounds end by a stage: by what of it, and the stage's folder in the round before (None: there is none)."""

    until: Until
    before: Path | None


@dataclass(frozen=True)
class Stage:
    """One stage, ready to run."""

    name: str
    command: str
    settings: RunSettings
    round: int | None = None
    watched: Watched | None = None

    @property
    def folder(self) -> Path:
        return self.settings.out


def main(settings: RunPipelineSettings, console: Console) -> Path:
    """Run the stages in order; returns the pipeline's folder.  Raises ValueError that names the stage at fault."""
    stages = plan(settings)
    if settings.plan:
        show_plan(stages, console)
        return settings.out
    number = 0
    while number < len(stages):
        stage = stages[number]
        number += 1
        console.rule(f"{number}/{len(stages)} {stage.name}", align="left")
        reason = why_run(stage)
        if reason is None:
            console.print(f"{stage.folder}: unchanged, skipped.")
        else:
            start(stage, reason, console)
        last = None if stage.watched is None else ended(stage.watched, stage, console)
        if last is not None:
            stages = plan(settings, rounds=last)
            if stage.round != last:  # the round that has fallen is not gone on with
                number = 1 + max(i for i, one in enumerate(stages) if one.round is not None)
    return settings.out


def ended(watched: Watched, stage: Stage, console: Console) -> int | None:
    """The number of the last round where the rounds end with this stage, which is said; None where they go on.

    Raises ValueError where the stage has not measured what is watched.
    """
    assert stage.round is not None, "only stages of rounds are watched"
    found = watched.until.last(stage.round, stage.folder, watched.before)
    if found is None:
        return None
    last, why = found
    console.print(f"{stage.name}: {why}, so that round {last} is the last.", markup=False)
    return last


def start(stage: Stage, reason: str, console: Console) -> None:
    """Run a stage, or go on with it; where there is a `reason` why an earlier run is stale, that is set aside first."""
    if reason:
        console.print(f"{stage.folder}: {reason}; the earlier run is kept as {set_aside(stage.folder)}.")
    launch(stage.command, stage.settings, console)
    gc.collect()
    gc.freeze()  # modules and caches: the next collection looks only at what the next stage leaves


def plan(settings: RunPipelineSettings, rounds: int | None = None) -> list[Stage]:
    """Check all stages before the first one runs; with fewer `rounds` than the file says where that is known.  Raises ValueError
    for an unknown command, name or setting."""
    stages: list[Stage] = []
    known = Known(settings.out)
    for number, given in enumerate(settings.stages, 1):
        where = f"stage {number}"
        if "repeat" not in given:
            stages.append(_stage(given, known, settings, where))
            continue
        if known.rounds:
            raise ValueError(
                f"{where}: a pipeline has one block with 'repeat', and an earlier one stands there."
            )
        times, block, until = _block(given, where)
        names = [str(stage.get("name", stage.get("command"))) for stage in block]
        for taken in (name for name in names if name in known.folders):
            raise ValueError(
                f"{where}: the name '{taken}' is taken by an earlier stage: give it another 'name'."
            )
        for _ in range(times if rounds is None else rounds):
            known.begin_round(names)
            for inner, stage in enumerate(block, 1):
                place = f"{where}.{inner} in round {known.round}"
                made = _stage(stage, known, settings, place)
                stages.append(
                    replace(made, round=known.round, watched=_watched(until, names[inner - 1], known))
                )
        known.round = None
    _check_taken(settings.rollouts, stages)
    return stages


def _check_taken(rollouts: str | list[str], stages: Sequence[Stage]) -> None:
    """Raises ValueError where servers are named and no stage is drawn for by them."""
    if rollouts != LOCAL and all(getattr(stage.settings, "rollouts", None) != rollouts for stage in stages):
        raise ValueError(
            f"rollouts={plain(rollouts)} is for stages whose policy learns (ppo, reinforce, raft, online-dpo) and that do not "
            "say who draws, and there is none: leave it out, or give it to a stage."
        )


def _watched(until: Until | None, name: str, known: Known) -> Watched | None:
    if until is None or name != until.stage:
        return None
    return Watched(until, known.rounds[-2][name] if len(known.rounds) > 1 else None)


def _block(given: Mapping[str, Any], where: str) -> tuple[int, list[dict[str, Any]], Until | None]:
    """(how often, which stages, when it ends before) of a block that is repeated."""
    times, block = given["repeat"], given.get("stages")
    if type(times) is not int or times < 1:
        raise ValueError(f"{where}: repeat is {plain(times)}, but it is how often: a whole number from 1.")
    for key in given:
        if key not in ("repeat", "stages", "until"):
            raise ValueError(
                f"{where}: a block has 'repeat', 'stages' and 'until', and no '{key}': give that to its stages."
            )
    if not isinstance(block, list) or not block or not all(isinstance(stage, dict) for stage in block):
        raise ValueError(f"{where}: 'repeat' wants 'stages', a list of what is repeated.")
    for inner, stage in enumerate(block, 1):
        if "repeat" in stage:
            raise ValueError(f"{where}.{inner}: a block stands in a block: leave one 'repeat' out.")
    names = [str(stage.get("name", stage.get("command"))) for stage in block]
    return times, block, read_until(given["until"], names, where) if "until" in given else None


def _stage(given: Mapping[str, Any], known: Known, settings: RunPipelineSettings, where: str) -> Stage:
    """One stage with everything it refers to in place; its own name is known from here on."""
    if "command" not in given:
        raise ValueError(f"{where} has no 'command': say which command it runs.")
    if "out" in given:
        raise ValueError(f"{where} has an 'out', but its folder is OUT/NAME: give it a 'name' instead.")
    command = str(given["command"])
    values = {key: value for key, value in given.items() if key not in ("command", "name")}
    values = known.resolve(values, where)
    try:
        folder = known.add(str(given.get("name", command)))
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None
    name = str(folder.relative_to(settings.out))
    shared = {
        "seed": settings.seed,
        "split_seed": settings.split_seed,
        "store": str(settings.out / "store.sqlite"),
        **settings.model_dump(include=set(RanksSettings.model_fields)),
    }
    if issubclass(stage_class(command, where), SyncedSettings):
        shared["rollouts"] = settings.rollouts
    return Stage(name, command, stage_settings(command, values, shared, folder, where))


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


def show_plan(stages: Sequence[Stage], console: Console) -> None:
    """List the stages with what would become of each.

    What stands behind a stage that runs may read what that makes, so that nobody knows yet whether it is unchanged.
    """
    table = Table(box=None, padding=(0, 2, 0, 0))
    for heading in ("stage", "command", "what would happen"):
        table.add_column(heading, overflow="fold")
    running = False
    for stage in stages:
        reason = why_run(stage)
        begun = (stage.folder / "lineage.json").exists()
        if reason is None:
            told = "skipped unless its inputs change" if running else "unchanged, skipped"
        elif reason:
            told = f"runs again: {reason}"
        else:
            told = "goes on" if begun else "runs"
        running = running or reason is not None
        table.add_row(stage.name, stage.command, Text(told))
    console.print(table)


def set_aside(folder: Path) -> Path:
    """Rename a stale run folder to NAME.1, NAME.2, ...: hours of work are never deleted."""
    number = 1
    while (aside := folder.with_name(f"{folder.name}.{number}")).exists():
        number += 1
    return folder.rename(aside)


def _digest(path: Source, settings: RunSettings) -> str | None:
    if not is_store_source(path):
        return content_hash(path)
    if isinstance(settings, KTOSettings | ProcessSettings) or (
        isinstance(settings, RewardSettings) and settings.learn_from == "ratings"
    ):
        return _digest_of_singles(path, settings)
    if isinstance(settings, RewardSettings | DPOSettings):
        groups = settings.groups if isinstance(settings, RewardSettings) else {}
        return comparisons_digest(
            path,
            settings.store,
            settings.aggregation,
            settings.ties,
            settings.annotators,
            groups,
            settings.refined,
        )
    if isinstance(settings, AdaptSettings):
        return comparisons_digest(
            path, settings.store, settings.aggregation, settings.ties, settings.annotators
        )
    if isinstance(settings, SFTSettings):
        return demonstrations_digest(path, settings.store, settings.refined, settings.preferred)
    if isinstance(settings, LabelSettings) and isinstance(path, str):
        return responses_digest(path, settings.store)
    return None


def _digest_of_singles(
    path: str | list[str], settings: KTOSettings | ProcessSettings | RewardSettings
) -> str | None:
    """The digest of what people said of single responses, or of steps; None where there is none."""
    from tutelage.feedback.exports.marks import step_marks_from
    from tutelage.feedback.exports.singles import labelled_from, ratings_from

    with suppress(ValueError):
        if isinstance(settings, ProcessSettings):
            marks = step_marks_from(path, settings.store, settings.aggregation, settings.annotators)
            return marks.digest
        if isinstance(settings, KTOSettings):
            return labelled_from(path, settings.store, settings.aggregation, settings.labels_from).digest
        return ratings_from(path, settings.store).digest
    return None


def stage_class(command: str, where: str) -> type[RunSettings]:
    """The settings of a command that can be a stage.  Raises ValueError that begins with `where` for any other."""
    try:
        cls = settings_class(find(command))
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error
    if not issubclass(cls, RunSettings):
        raise ValueError(
            f"{where}: '{command}' writes no run folder, so it cannot be a stage: run it by itself."
        )
    return cls


def stage_settings(
    command: str, values: Mapping[str, Any], shared: Mapping[str, Any], folder: Path, where: str
) -> RunSettings:
    """The settings of a stage: its own `values`, and of what is `shared` those that it has and does not give."""
    cls = stage_class(command, where)
    known = {key: value for key, value in shared.items() if key in cls.model_fields}
    try:
        return build(cls, {**known, **values, "out": str(folder)})
    except ValueError as error:
        raise ValueError(f"{where} ({command}): {error}") from error
