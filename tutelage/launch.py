"""From a command and its settings to a run: the device and arithmetic are chosen, the run folder opened, `main` called.

from tutelage.launch import launch
from tutelage.settings.train import SFTSettings

launch("sft", SFTSettings(data="demonstrations.jsonl", model="runs/pretrain", out="runs/sft"))
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

from rich.console import Console

from tutelage.commands import find
from tutelage.settings.base import Settings
from tutelage.settings.groups import DeviceSettings, RunSettings


def launch(name: str, settings: Settings, console: Console | None = None) -> Path | None:
    """Run the command `name`; returns the folder it wrote, if it writes one.

    A run that is already done is not repeated; one that was stopped goes on.  Raises ValueError in one sentence for
    anything that the user can mend, OSError when the disk refuses.
    """
    module = import_module(find(name).module)
    console = console or Console()
    if not isinstance(settings, RunSettings):
        result: Path | None = module.main(settings, console)
        return result
    from tutelage.runs import Run

    run = Run.open(settings.out, name, settings, console)
    if run.done:
        console.print(f"{run.folder} is done already (remove it to run '{name}' again).")
        return run.folder
    try:
        module.main(settings, _world(settings, console), run)
        run.finish()
    except Exception as error:
        run.fail(error)
        raise
    finally:
        run.close()
        run.release()
    return run.folder


def _world(settings: RunSettings, console: Console) -> object:
    """The world of a command that runs models; None for the others, which need no torch."""
    if not isinstance(settings, DeviceSettings):
        return None
    import torch

    from tutelage.models.precision import choose
    from tutelage.parallel import World, keep_freed_memory

    if settings.device == "cuda" and not torch.cuda.is_available():
        raise ValueError("device=cuda, but there is no GPU here: use device=cpu or device=auto.")
    device = "cuda" if settings.device != "cpu" and torch.cuda.is_available() else "cpu"
    choice = choose(settings.precision, device)
    console.print(choice.said, style="dim")
    keep_freed_memory()
    return World(torch.device(device), choice.dtype)
