"""What memory a command will take, told before it takes any: from the configs of its models and its settings alone.

Every model is rehearsed (`models/rehearsal.py`) with the fullest micro-batch that the settings allow: sequences as long as
`max_length`, every token of a response trained.  Real rows are shorter, so a run takes this much or less.  The rows
themselves come on top.
"""

from __future__ import annotations

import resource
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from tutelage.cost import amount as amount
from tutelage.models.free import free_bytes
from tutelage.models.memory import Taken
from tutelage.models.rehearsal import Part, Way
from tutelage.models.rehearsed import measured
from tutelage.parallel import World
from tutelage.rollout.local import MAX_ROWS, MAX_ROWS_GPU, SHARE
from tutelage.settings.distill import DistillSettings
from tutelage.settings.groups import PlanSettings, RanksSettings
from tutelage.settings.train import TrainSettings
from tutelage.train.cluster import shown as cluster
from tutelage.train.held import roles, shape, writing

LIBRARIES = 60 * 2**20
"""What the libraries take that are loaded later (measured: 45 to 60 MiB)."""

HOLES: dict[Way, float] = {"kernels": 1.0, "operators": 1.25, "modules": 1.9}
"""The C library's heap has holes between what lives long and what does not: so many times the activations it takes, measured;
the more small pieces, the more holes."""

KINDS = ("weights", "gradients", "optimizer", "activations", "logits")

LESS_BY = {
    "gradients, optimizer": ("lora_rank",),
    "activations": ("micro_batch_tokens", "gradient_checkpointing", "max_length", "max_new_tokens"),
    "logits": ("micro_batch_tokens",),
    "generation": ("memory_mib", "max_new_tokens", "samples"),
}
"""Which settings lower what; of these, a command's own are named."""


@dataclass(frozen=True)
class Column:
    """What one role takes at the fullest moment, in bytes."""

    role: str
    weights: float
    gradients: float
    optimizer: float
    activations: float
    logits: float

    @property
    def total(self) -> float:
        return self.weights + self.gradients + self.optimizer + self.activations + self.logits


@dataclass(frozen=True)
class Plan:
    """`columns`, one per role, add up to the fullest moment of an update; `generation`: what keys, values and logits of
    responses take at another moment; `itself`: the process with its libraries; `free`: for all of it.  checkpointing:
    whether layers are computed again."""

    columns: Sequence[Column]
    generation: float
    itself: float
    free: float
    checkpointing: bool = False

    @property
    def total(self) -> float:
        """The most that is taken at once, in bytes."""
        held = sum(column.weights + column.optimizer for column in self.columns)
        return self.itself + max(sum(column.total for column in self.columns), held + self.generation)

    @property
    def fits(self) -> bool:
        return self.total <= self.free


def plan(settings: PlanSettings, device_type: str, arithmetic: torch.dtype, free: float) -> Plan:
    """What a command will take on a device of that type with so many bytes free.  Where `gradient_checkpointing` is auto, it
    is on if the plan does not fit without and takes less with it.

    Raises ValueError when there is no model where the settings say, or when its architecture cannot be rehearsed.
    """
    wanted = settings.gradient_checkpointing if isinstance(settings, TrainSettings) else "off"
    try:
        found = _plan(settings, device_type, arithmetic, free, wanted == "on")
        if wanted != "auto" or found.fits:
            return found
        again = _plan(settings, device_type, arithmetic, free, True)
    except (AttributeError, RuntimeError, TypeError) as error:
        why = " ".join(str(error).split())[:200]
        raise ValueError(f"what memory it will take cannot be told for this architecture ({why}).") from error
    return again if again.total < found.total else found


def _plan(
    settings: PlanSettings, device_type: str, arithmetic: torch.dtype, free: float, checkpointing: bool
) -> Plan:
    found = roles(settings, arithmetic, checkpointing)
    fullest_batch = shape(settings, found[0].source)
    micro = settings.micro_batch_tokens if isinstance(settings, TrainSettings) else fullest_batch.length
    parts = [measured(role, fullest_batch, micro, arithmetic, device_type) for role in found]
    columns = fullest(parts, heap=device_type == "cpu")
    itself = _resident() + LIBRARIES if device_type == "cpu" else 0.0
    held = itself + sum(part.weights + part.optimizer for part in parts)
    writes = parts[-1] if isinstance(settings, DistillSettings) and not settings.on_policy else parts[0]
    generation = _generation(settings, writes, device_type, free - held)
    return Plan(columns, generation, itself, free, checkpointing)


def _generation(settings: PlanSettings, part: Part, device_type: str, free: float) -> float:
    """Keys, values and logits of the responses that are written at once."""
    wanted = writing(settings)
    if wanted is None:
        return 0.0
    rows = min(wanted.rows, MAX_ROWS if device_type == "cpu" else MAX_ROWS_GPU)
    room = settings.memory_mib * 2**20 or max(free, 0.0) * SHARE  # type: ignore[attr-defined]
    each = part.token * wanted.columns + part.row
    return max(min(rows * each, room), each)


def fullest(parts: Sequence[Part], heap: bool) -> list[Column]:
    """What each role takes at the moment of an update when all together take most.

    The trained models go forward in their order, and back in the other: while one goes back, those before it hold what
    they keep, and those after it have their gradients.  Where an update takes several micro-batches, all gradients are
    there from the second on.  heap: whether it comes from the C library's heap.
    """
    trained = [part for part in parts if part.role.trained]
    moments = [
        [_column(part, _then(part, trained, number), heap) for part in parts]
        for number in range(len(trained) or 1)
    ]
    return max(moments, key=lambda columns: sum(column.total for column in columns))


def _then(part: Part, trained: Sequence[Part], back: int) -> Taken:
    """What a part takes while the trained model number `back` goes back."""
    if part not in trained:
        return Taken()
    number, several = trained.index(part), part.micro_batches > 1
    if number == back:
        taken = part.passes.loose if several else part.passes.most
    else:
        taken = part.passes.kept if number < back else Taken()
    return replace(taken, gradients=part.gradients) if several or number > back else taken


def _column(part: Part, taken: Taken, heap: bool) -> Column:
    holes = HOLES[part.way] if heap else 1.0
    activations, logits = taken.activations * holes, taken.logits * holes
    return Column(part.role.name, part.weights, taken.gradients, part.optimizer, activations, logits)


def _resident() -> int:
    """Bytes that this process has taken."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return pages * resource.getpagesize()


def here(settings: PlanSettings, world: World) -> Plan | None:
    """The plan on this machine, made once per run; None where there is none (whatever is wrong, the command itself says)."""
    return _here(type(settings), settings.model_dump_json(), world)


@lru_cache(maxsize=2)
def _here(kind: type[PlanSettings], text: str, world: World) -> Plan | None:
    try:
        return _on(kind.model_validate_json(text), world)
    except ValueError:
        return None


def _on(settings: PlanSettings, world: World) -> Plan:
    already = _resident() if world.device.type == "cpu" else 0
    return plan(settings, world.device.type, world.dtype, free_bytes(world.device) + already)


def show(settings: PlanSettings, world: World, console: Console) -> None:
    """Print what the command will take, and which settings would lower it; with `plan_gib` on a GPU of that size, with
    `plan_gpu` on as many of these as there are ranks.

    Raises ValueError for what is wrong where a plan was asked for."""
    if settings.plan_gpu != "none":
        cluster.show(
            settings, max(world.size, settings.ranks if isinstance(settings, RanksSettings) else 1), console
        )
        return
    if settings.plan_gib:
        precision: str = settings.precision  # type: ignore[attr-defined]
        arithmetic = torch.float32 if precision == "fp32" else torch.bfloat16
        found: Plan | None = plan(settings, "cuda", arithmetic, settings.plan_gib * 2**30)
    else:
        found = _on(settings, world) if settings.plan else here(settings, world)
    if found is None:
        console.print("What memory it will take cannot be told.")
        return
    console.print(_table(found))
    for line in (_beside(found), _less_by(settings)):
        if line:
            console.print(line, style="dim")
    where = f"a GPU with {settings.plan_gib:g} GiB" if settings.plan_gib else "this machine"
    console.print(
        f"At most {amount(found.total)} at once; {where} has {amount(found.free)} for it."
        if found.fits
        else f"Warning: up to {amount(found.total)} at once, but {where} has {amount(found.free)} for it."
    )
    if found.checkpointing:
        console.print("Layers are computed again in the backward pass (gradient_checkpointing).")


def _table(found: Plan) -> Table:
    """One line per role, which reads well at 80 columns whatever a command holds."""
    table = Table(title="memory", box=None, pad_edge=False, header_style="bold", title_justify="left")
    table.add_column("")
    for kind in KINDS:
        table.add_column(kind, justify="right")
    for column in found.columns:
        table.add_row(column.role, *(amount(getattr(column, kind)) for kind in KINDS))
    return table


def _beside(found: Plan) -> str:
    """What is no model's, in one line."""
    parts = []
    if found.generation:
        parts.append(f"generation {amount(found.generation)} (between updates)")
    if found.itself:
        parts.append(f"the process itself {amount(found.itself)}")
    return f"Besides: {', '.join(parts)}." if parts else ""


def _less_by(settings: PlanSettings) -> str:
    """Which settings lower what, in one line."""
    known = type(settings).model_fields
    ways = {kind: [word for word in words if word in known][:2] for kind, words in LESS_BY.items()}
    return (
        "Less by: " + "; ".join(f"{kind}: {', '.join(words)}" for kind, words in ways.items() if words) + "."
    )
