"""From a command and its settings to a run: the device and arithmetic are chosen, the run folder opened, `main` called.

from tutelage.launch import launch
from tutelage.settings.train import SFTSettings

launch("sft", SFTSettings(data="demonstrations.jsonl", model="runs/pretrain", out="runs/sft"))
"""

from __future__ import annotations

import os
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from tutelage.commands import find, function
from tutelage.cost import PeakMemory
from tutelage.errors import complain
from tutelage.ranks.place import LAST_WORDS, Place, is_a_rank
from tutelage.settings.base import Settings
from tutelage.settings.groups import DeviceSettings, LaunchSettings, PlanSettings, RunSettings

if TYPE_CHECKING:  # torch is imported when a command needs it
    from tutelage.parallel import World
    from tutelage.runs import Run


def launch(name: str, settings: Settings, console: Console | None = None) -> Path | None:
    """Run the command `name`; returns the folder it wrote, if it writes one.

    A run that is already done is not repeated; one that was stopped goes on.  Raises ValueError in one sentence for
    anything that the user can mend, OSError when the disk refuses.
    """
    console = console or Console()
    if not isinstance(settings, RunSettings):
        result: Path | None = function(find(name))(settings, console)
        return result
    if isinstance(settings, PlanSettings) and (settings.plan or settings.plan_gib):
        _show_plan(settings, _world(settings, console, Place()), console)
        return None
    place = Place.here()
    if place.size > 1 and not isinstance(settings, LaunchSettings):
        raise ValueError(f"'{name}' is the work of one process, and WORLD_SIZE is {place.size}: start one.")
    if isinstance(settings, LaunchSettings) and settings.starts_ranks and not is_a_rank():
        from tutelage.ranks import ray, start

        ray.start(name, settings, launch) if settings.launch == "ray" else start.start(
            name, settings, settings.ranks
        )
        return settings.out
    carry_out = _alone if place.size == 1 else partial(_on_a_rank, place)
    return carry_out(name, settings, console)


def _alone(name: str, settings: RunSettings, console: Console) -> Path:
    from tutelage.runs import Run

    run = Run.open(settings.out, name, settings, console)
    try:
        _do(name, settings, _world(settings, console, Place()), run)
    except Exception as error:
        run.fail(error)
        raise
    finally:
        run.close()
        run.release()
    return run.folder


def _on_a_rank(place: Place, name: str, settings: RunSettings, console: Console) -> Path:
    """The same as one of several ranks.  Rank 0 has the run folder and speaks for all; when one fails, all end."""
    from tutelage.ranks.meeting import agree, part
    from tutelage.ranks.watch import Watch

    run: Run | None = None

    def end(sentence: str) -> None:
        """From the watching thread: this process waits for one that will not come."""
        if place.leads:
            complain("error", sentence)
            if run is not None:
                run.fail(ValueError(sentence))
        else:
            time.sleep(LAST_WORDS)
        os._exit(1)

    console = console if place.leads else Console(quiet=True)
    world = _world(settings, console, place)
    assert world is not None, "what runs on ranks computes"
    with Watch(place, console.print, end) as watch:
        try:
            agree(settings.model_dump(mode="json"))
            run = _opened(name, settings, console, world)
            _do(name, settings, world, run)
            world.wait()
        except Exception as error:
            reason = watch.reason(error)
            if run is not None:
                run.fail(reason)
            raise reason from None
        finally:
            if run is not None:
                run.close()
                run.release()
    part()
    return settings.out


def _opened(name: str, settings: RunSettings, console: Console, world: World) -> Run:
    """The run folder: opened by rank 0, looked on by the others."""
    from tutelage.runs import Run

    opened: list[Run] = []
    world.told(lambda: opened.append(Run.open(settings.out, name, settings, console)))
    return opened[0] if opened else Run.follow(settings.out)


def _do(name: str, settings: RunSettings, world: World | None, run: Run) -> None:
    """The command's own work, unless it is done already."""
    if run.done:
        run.console.print(f"{run.folder} is done already (remove it to run '{name}' again).")
        return
    peak = PeakMemory(world is not None and world.device.type == "cuda")
    if run.leads:
        _show_plan(settings, world, run.console)
    function(find(name))(settings, world, run)
    run.finish(**peak.facts())


def _show_plan(settings: RunSettings, world: World | None, console: Console) -> None:
    """What memory the command will take, where that can be known."""
    if isinstance(settings, PlanSettings) and world is not None:
        from tutelage.train.plan import show

        show(settings, world, console)


def _world(settings: RunSettings, console: Console, place: Place) -> World | None:
    """The world of a command that runs models; None for the others, which need no torch, unless they are ranks."""
    if not isinstance(settings, DeviceSettings) and place.size == 1:
        return None
    import torch

    from tutelage.models.cpu.compiler import kernels_here, use
    from tutelage.models.precision import choose, device_for
    from tutelage.parallel import World, keep_freed_memory
    from tutelage.ranks.meeting import meet

    dtype = torch.float32
    if isinstance(settings, DeviceSettings):
        device = device_for(settings.device)
        choice = choose(settings.precision, device)
        dtype = choice.dtype
        console.print(choice.said, style="dim")
        use(settings.kernels)
        if device == "cpu":
            console.print(kernels_here().said, style="dim")
    else:
        device = device_for("auto")
    where = torch.device(device)
    keep_freed_memory()
    if device == "cuda":
        number = place.local % torch.cuda.device_count()  # whoever starts ranks may show each its own alone
        torch.cuda.set_device(number)
        where = torch.device(device, number)
    meet(place, device, console.print)
    return World(where, dtype, place.rank, place.size)
