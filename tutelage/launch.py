"""From a command and its settings to a run: the device and arithmetic are chosen, the run folder opened, `main` called.

from tutelage.launch import launch
from tutelage.settings.train import SFTSettings

launch("sft", SFTSettings(data="demonstrations.jsonl", model="runs/pretrain", out="runs/sft"))
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from tutelage.commands import find, function
from tutelage.cost import PeakMemory
from tutelage.settings.base import Settings
from tutelage.settings.groups import DeviceSettings, PlanSettings, RunSettings
from tutelage.settings.train import TrainSettings

if TYPE_CHECKING:  # torch is imported when a command needs it
    from tutelage.parallel import World


def launch(name: str, settings: Settings, console: Console | None = None) -> Path | None:
    """Run the command `name`; returns the folder it wrote, if it writes one.

    A run that is already done is not repeated; one that was stopped goes on.  Raises ValueError in one sentence for
    anything that the user can mend, OSError when the disk refuses.
    """
    main = function(find(name))
    console = console or Console()
    if not isinstance(settings, RunSettings):
        result: Path | None = main(settings, console)
        return result
    from tutelage.runs import Run

    if isinstance(settings, PlanSettings) and (settings.plan or settings.plan_gib):
        _show_plan(settings, _world(settings, console, 0, 1), console)
        return None
    rank, size = _ranks(settings)
    run = Run.open(settings.out, name, settings, console) if rank == 0 else None
    world = _world(settings, console if rank == 0 else Console(quiet=True), rank, size)
    run = run or Run.follow(settings.out)
    if run.done:
        console.print(f"{run.folder} is done already (remove it to run '{name}' again).")
        return run.folder
    peak = PeakMemory(world is not None and world.device.type == "cuda")
    try:
        if rank == 0:
            _show_plan(settings, world, console)
        main(settings, world, run)
        run.finish(**peak.facts())
        if world is not None:
            world.leave()
    except Exception as error:
        run.fail(error)
        raise
    finally:
        run.close()
        run.release()
    return run.folder


def _ranks(settings: RunSettings) -> tuple[int, int]:
    """(rank, size) of this process, as `torchrun` says in the environment.

    Raises ValueError for a command whose work is not shared out.
    """
    rank, size = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    if size > 1 and not isinstance(settings, TrainSettings):
        raise ValueError(f"only training runs on several ranks, and WORLD_SIZE is {size}: start one process.")
    return rank, size


def _show_plan(settings: RunSettings, world: World | None, console: Console) -> None:
    """What memory the command will take, where that can be known."""
    if isinstance(settings, PlanSettings) and world is not None:
        from tutelage.train.plan import show

        show(settings, world, console)


def _world(settings: RunSettings, console: Console, rank: int, size: int) -> World | None:
    """The world of a command that runs models; None for the others, which need no torch."""
    if not isinstance(settings, DeviceSettings):
        return None
    import torch

    from tutelage.models.cpu.compiler import kernels_here, use
    from tutelage.models.precision import choose
    from tutelage.parallel import World, keep_freed_memory

    if settings.device == "cuda" and not torch.cuda.is_available():
        raise ValueError("device=cuda, but there is no GPU here: use device=cpu or device=auto.")
    device = "cuda" if settings.device != "cpu" and torch.cuda.is_available() else "cpu"
    choice = choose(settings.precision, device)
    console.print(choice.said, style="dim")
    use(settings.kernels)
    if device == "cpu":
        console.print(kernels_here().said, style="dim")
    keep_freed_memory()
    world = World(torch.device(device), choice.dtype, rank, size)
    world.join()
    return world
