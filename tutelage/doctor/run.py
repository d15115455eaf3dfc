"""What one run would touch: its models, rows and folder, the memory that it plans for, the room that its checkpoints take."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from glob import glob, has_magic
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tutelage.doctor.asked import Asked, made_by
from tutelage.doctor.check import GIB, Check, fail, ok, warn
from tutelage.doctor.disk import nearest, room
from tutelage.settings.base import Settings
from tutelage.settings.groups import DeviceSettings, PlanSettings, RunSettings
from tutelage.settings.judges import LLM, inputs_in
from tutelage.settings.train import TrainSettings

if TYPE_CHECKING:  # torch is imported where memory is planned
    from tutelage.train.plan import Column

MODELS = ("model", "teacher", "critic")
ROWS = ("data", "eval_data", "prompts", "eval_prompts", "mix_data")
STATES = 3 * 4
"""Bytes that a checkpoint holds of every trained weight: itself and AdamW's two moments, in float32."""
OPTIMIZER = 2 * 4
"""Bytes of these that a plan counts as the optimizer's."""
NAMES = ("hub:", "store:")
NO_FOLDER = ("auto", "policy", "shared", "")
"""What `critic` may be besides a folder."""


def checks(asked: Asked) -> Iterator[Check]:
    run = asked.run
    if run is None:
        return
    if asked.stages:
        yield from of_stages(asked)
        return
    yield ok("settings", f"those of {asked.command} fit")
    found = [*models(run), *rows(run)]
    yield from found
    if isinstance(run, RunSettings):
        yield from standing(asked.command, run)
    if isinstance(run, PlanSettings) and not any(check.state == "fail" for check in found):
        yield from plan(run)


def of_stages(asked: Asked) -> Iterator[Check]:
    """What the stages of a pipeline need and no stage makes, each thing once; and the memory of those whose models are there."""
    yield ok("settings", f"those of {asked.command} and its {len(asked.stages)} stages fit")
    made = partial(made_by, asked.run)
    seen = set[str]()
    later = 0
    for name, stage in asked.stages.items():
        found = [*models(stage, made), *rows(stage, made)]
        for check in found:
            if check.said not in seen:
                yield replace(check, name=f"{name}: {check.name}")
        seen |= {check.said for check in found}
        if not isinstance(stage, PlanSettings) or any(check.state == "fail" for check in found):
            continue
        if any(made(path) for _, path in named_models(stage)):
            later += 1
            continue
        for check in plan(stage):
            yield replace(check, name=f"{name}: {check.name}")
    if later:
        yield ok("memory plan", f"{later} stages plan theirs when earlier ones have made their models")


Made = Callable[[str], bool]
"""Whether a path will be made, and so need not be there."""


def _nothing_is_made(path: str) -> bool:
    return False


def models(run: Settings, made: Made = _nothing_is_made) -> Iterator[Check]:
    """Every model that is named: a folder with a config, a run folder, or a name on the hub."""
    for name, path in named_models(run):
        if not made(path):
            yield model(name, path)


def named_models(run: Settings) -> list[tuple[str, str]]:
    """(setting, path or name) of every model."""
    named = [(name, str(getattr(run, name))) for name in MODELS if getattr(run, name, None)]
    named += [
        ("reward", path)
        for name in ("reward", "cost", "monitor")
        for path in _judges(getattr(run, name, None))
    ]
    return [(name, path) for name, path in dict.fromkeys(named) if path not in NO_FOLDER]


def _judges(reward: Any) -> list[str]:
    return [path for path in inputs_in(reward) if not path.startswith(LLM)] if reward else []


def model(name: str, path: str) -> Check:
    """One model, without loading it."""
    for folder in (Path(path) / "model", Path(path)):
        if (folder / "config.json").is_file():
            try:
                kind = json.loads((folder / "config.json").read_text(encoding="utf-8")).get("model_type", "")
            except (OSError, ValueError) as error:
                return fail(
                    name, f"{folder / 'config.json'} cannot be read ({error})", "copy the model again"
                )
            if not [*folder.glob("*.safetensors"), *folder.glob("*.bin")]:
                return fail(
                    name, f"{folder} has a config and no weights", "copy the model again, with its weights"
                )
            return ok(name, f"{folder} ({kind})")
    if Path(path).is_file():
        return ok(name, path)
    if Path(path).exists():
        return fail(
            name,
            f"{path} is there, but holds no model",
            f"set {name} to a run that is done, or a model's folder",
        )
    if path.count("/") == 1 and not path.startswith((".", "/", "runs/")):
        return warn(
            name, f"{path} is not here, so it comes from the hub", "load it once on a machine with a network"
        )
    return fail(name, f"{path} is not there", f"set {name} to a run that is done, or a model's folder")


def rows(run: Settings, made: Made = _nothing_is_made) -> Iterator[Check]:
    """Every source of rows: whether its files are there."""
    for name in ROWS:
        given = getattr(run, name, None)  # of some commands a number: how many
        for source in [given] if isinstance(given, str) else given if isinstance(given, list) else []:
            if source and not made(str(source)):
                yield source_check(name, str(source))


def source_check(name: str, source: str) -> Check:
    """One source, as {file, glob, hub:, store:} with a weight behind it or without."""
    path = source.rpartition("*")[0] if source.rpartition("*")[2].replace(".", "", 1).isdigit() else source
    if path.startswith(NAMES):
        return ok(name, path)
    found = sorted(glob(path)) if has_magic(path) else [path] if Path(path).exists() else []
    if not found:
        return fail(name, f"{path} is not there", f"correct {name}")
    size = sum(Path(file).stat().st_size for file in found)
    if not size:
        return fail(name, f"{path} is empty", f"correct {name}")
    return ok(
        name,
        f"{path} ({len(found)} files, {size / 2**20:.1f} MiB)"
        if len(found) > 1
        else f"{path} ({size / 2**20:.1f} MiB)",
    )


def standing(command: str, run: RunSettings) -> Iterator[Check]:
    """Whether the run folder is free, goes on, or is another's."""
    from tutelage.resume import standing as stands

    found = stands(run.out, command, run)
    if found.state == "foreign":
        yield fail("run folder", found.reason.rstrip("."), "choose another out")
    else:
        yield ok("run folder", f"{run.out}: {found.state}")


def plan(run: PlanSettings) -> Iterator[Check]:
    """The memory plan against what is free, as the run would make it."""
    import torch

    from tutelage.models.precision import choose
    from tutelage.parallel import World
    from tutelage.train.plan import here

    wanted = run.device if isinstance(run, DeviceSettings) else "auto"
    device = "cuda" if wanted != "cpu" and torch.cuda.is_available() else "cpu"
    if wanted == "cuda" and device == "cpu":
        yield fail("memory plan", "device=cuda, and there is no GPU here", "use device=cpu or device=auto")
        return
    choice = choose(run.precision if isinstance(run, DeviceSettings) else "auto", device)
    found = here(run, World(torch.device(device), choice.dtype))
    if found is None:
        yield warn("memory plan", "what it will take cannot be told", "start it with plan=true to see why")
        return
    said = f"up to {found.total / GIB:.1f} GiB at once, {found.free / GIB:.1f} GiB free"
    facts = {"takes_gib": found.total / GIB, "free_gib": found.free / GIB}
    if found.fits:
        yield ok("memory plan", said, **facts)
    else:
        yield fail("memory plan", said, "plan=true names the settings that take less", **facts)
    if isinstance(run, TrainSettings):
        yield room("checkpoints", run.out, nearest(run.out), checkpoints(run, found.columns))


def checkpoints(run: TrainSettings, columns: Sequence[Column]) -> float:
    """Bytes that a run's checkpoints take at most, with one that is being written, and its exported model.

    columns: of its memory plan, which knows what is trained.
    """
    trained = sum(column.optimizer for column in columns) / OPTIMIZER
    kept = run.keep_checkpoints + 1 + bool(run.load_best)
    return STATES * trained * kept + columns[0].weights
