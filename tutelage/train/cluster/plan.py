"""A command on many GPUs: what each takes, how long a step is, what limits it and what would change that."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch

from tutelage.models.rehearsal import Role, Shape
from tutelage.settings.distill import DistillSettings
from tutelage.settings.groups import PlanSettings
from tutelage.settings.onpolicy import RLSettings
from tutelage.settings.served import ServedSettings
from tutelage.settings.train import LoraSettings, TrainSettings
from tutelage.train.cluster.gpus import GPUS, Cluster
from tutelage.train.cluster.memory import Held, Memory, held, memory
from tutelage.train.cluster.work import (
    Decoding,
    Passes,
    beside,
    decoding,
    learning,
    optimizer_seconds,
    per_rank,
)
from tutelage.train.held import Writing, roles, shape, writing

MOST_RANKS = 4096
"""Advice goes no further."""

Limit = Literal["memory", "compute", "network", "decoding"]


@dataclass(frozen=True)
class ClusterPlan:
    """`shape`: the fullest update of a rank.  decoding: None where nothing is written between updates, or where a node of its
    own does not hold the policy.  checkpointing: whether layers are computed again."""

    cluster: Cluster
    models: Sequence[Held]
    shape: Shape
    memory: Memory
    passes: Passes
    optimizer: float
    decoding: Decoding | None
    checkpointing: bool
    tokens: float

    @property
    def seconds(self) -> float:
        """Of a step whose rows are all as long as they may be; responses that are written elsewhere are waited for."""
        written = self.decoding.seconds if self.decoding else 0.0
        return self.passes.compute + self.passes.exposed + self.optimizer + written

    @property
    def tokens_per_second(self) -> float:
        """That are trained on, of one GPU."""
        return self.tokens / self.seconds

    @property
    def utilisation(self) -> float:
        """Share of the peak arithmetic that is the model's own, nothing counted twice (MFU), over the whole step."""
        return self.passes.model / self.seconds / self.cluster.gpu.flops

    @property
    def limit(self) -> Limit:
        if not self.memory.fits:
            return "memory"
        parts: dict[Limit, float] = {
            "compute": self.passes.compute,
            "network": self.passes.exposed,
            "decoding": self.decoding.seconds if self.decoding else 0.0,
        }
        return max(parts, key=lambda name: parts[name])


def cluster_of(settings: PlanSettings, ranks: int) -> Cluster:
    """The GPUs that a plan is for; ranks: where the settings do not say."""
    gpu, count = GPUS[settings.plan_gpu], settings.plan_ranks or ranks
    if settings.plan_gib:
        gpu = replace(gpu, bytes=settings.plan_gib * 2**30)
    if settings.plan_reached:
        gpu = replace(gpu, reached=settings.plan_reached)
    network = settings.plan_network * 1e9 / 8 or gpu.node * settings.plan_gpus_per_node / 8
    return Cluster(gpu, count, min(settings.plan_gpus_per_node, count), network)


def cluster_plan(settings: TrainSettings, ranks: int, narrow: bool = False) -> ClusterPlan:
    """narrow: as of `memory.held`.

    Where `gradient_checkpointing` is auto, it is on if the plan does not fit without and takes less with it.  Raises ValueError
    when there is no model where the settings say, when it cannot be rehearsed or sharded, and when an update has fewer rows than
    there are ranks.
    """
    cluster = cluster_of(settings, ranks)
    wanted = settings.gradient_checkpointing
    try:
        found = _plan(settings, cluster, wanted == "on", narrow)
        if wanted != "auto" or found.memory.fits:
            return found
        again = _plan(settings, cluster, True, narrow)
    except (AttributeError, RuntimeError, TypeError) as error:
        why = " ".join(str(error).split())[:200]
        raise ValueError(f"what memory it will take cannot be told for this architecture ({why}).") from error
    return again if again.memory.total < found.memory.total else found


def _plan(settings: TrainSettings, cluster: Cluster, checkpointing: bool, narrow: bool) -> ClusterPlan:
    arithmetic = torch.float32 if settings.precision == "fp32" else torch.bfloat16
    found = [role for role in roles(settings, arithmetic, checkpointing) if role.name != "generator"]
    update = _update(settings, found, cluster.ranks)
    models = [
        held(role, update, settings.micro_batch_tokens, arithmetic, cluster.ranks, narrow) for role in found
    ]
    size = arithmetic.itemsize
    wanted = writing(settings) if _practises(settings) else None
    served = isinstance(settings, ServedSettings) and bool(settings.servers)
    taken = memory(models, arithmetic, cluster.ranks, wanted, cluster.gpu.bytes, served)
    passes, updates = _repeats(settings)
    return ClusterPlan(
        cluster,
        models,
        update,
        taken,
        learning(_at_work(models), cluster, update, passes, updates, _practises(settings)),
        optimizer_seconds(models, cluster) * passes * updates,
        _decoding(models[0], cluster, wanted, size, taken),
        checkpointing,
        update.units * update.sequences * update.length * updates,
    )


def _update(settings: TrainSettings, found: Sequence[Role], ranks: int) -> Shape:
    """The share of an update that a rank takes."""
    whole = shape(settings, found[0].source)
    if whole.units < ranks:
        raise ValueError(
            f"an update has {whole.units} rows that can be shared out (batch_size={settings.batch_size}), too few for "
            f"{ranks} ranks: set batch_size higher, or plan_ranks to {whole.units} or fewer"
        )
    return per_rank(whole, ranks)


def _practises(settings: TrainSettings) -> bool:
    """Whether it learns from what it writes at every step."""
    return isinstance(settings, RLSettings) or (isinstance(settings, DistillSettings) and settings.on_policy)


def _repeats(settings: TrainSettings) -> tuple[int, int]:
    """(passes over a step's rows, updates per pass)."""
    if isinstance(settings, RLSettings):
        return settings.inner_epochs, settings.minibatches
    return 1, 1


def _at_work(models: Sequence[Held]) -> list[Held]:
    """Those that run at every step; a monitor only looks in."""
    return [model for model in models if not model.role.name.startswith("monitor")]


def _decoding(
    policy: Held, cluster: Cluster, wanted: Writing | None, itemsize: int, taken: Memory
) -> Decoding | None:
    if wanted is None:
        return None
    if taken.remote:
        return beside(policy, cluster, wanted, itemsize)
    return decoding(policy, cluster, wanted, itemsize, taken.rows, cluster.ranks, 1)


def fewest_ranks(found: ClusterPlan) -> int | None:
    """How many ranks would do for the same rows per rank: whole nodes, up to MOST_RANKS; None where more do not help.

    What is sharded shrinks with them; layers, activations, logits and a generator's copy do not."""
    taken = found.memory
    sharded = (
        taken.stays - taken.replica + sum(share.gradients for share in taken.shares)
    ) * found.cluster.ranks
    rest = taken.total - sharded / found.cluster.ranks
    if rest >= taken.free:
        return None
    nodes = -(-sharded / (taken.free - rest) // found.cluster.per_node)
    ranks = int(nodes) * found.cluster.per_node
    return ranks if ranks <= MOST_RANKS else None


def advice(settings: TrainSettings, found: ClusterPlan) -> list[str]:
    """What would move the limit, most first, in settings of the command."""
    ways = {
        "memory": _less_memory,
        "network": _less_network,
        "decoding": _less_decoding,
        "compute": _less_compute,
    }
    return ways[found.limit](settings, found)


def _less_memory(settings: TrainSettings, found: ClusterPlan) -> list[str]:
    ways, shares = [], found.memory.shares
    alive = sum(share.activations + share.logits for share in shares)
    states = sum(share.stays + share.gradients for share in shares)
    if not found.checkpointing:
        ways.append("gradient_checkpointing=on")
    if alive > states and settings.micro_batch_tokens > found.shape.length:
        ways.append(f"micro_batch_tokens={max(settings.micro_batch_tokens // 2, found.shape.length)}")
    elif alive > states:
        ways.append("shorter rows (max_length, max_new_tokens)")
    more = fewest_ranks(found)
    if more and more > found.cluster.ranks:
        ways.append(f"plan_ranks={more} (with batch_size in proportion)")
    if isinstance(settings, LoraSettings) and not settings.lora_rank:
        ways.append("lora_rank=16")
    return ways or ["a GPU with more memory, or a smaller model"]


def _less_network(settings: TrainSettings, found: ClusterPlan) -> list[str]:
    count = max(model.part.micro_batches for model in found.models)
    if count > 1:
        return [
            f"micro_batch_tokens={2 * settings.micro_batch_tokens}: weights are gathered for every micro-batch"
        ]
    more = f"batch_size={2 * settings.batch_size}: a step has more to compute for the same traffic"
    return [more, "fewer ranks, or a faster network"]


def _less_decoding(settings: TrainSettings, found: ClusterPlan) -> list[str]:
    if found.memory.remote:
        return ["more nodes for the servers that write", "max_new_tokens, samples"]
    return [
        "more rows at once (memory), or servers that write on GPUs of their own",
        "max_new_tokens, samples",
    ]


def _less_compute(settings: TrainSettings, found: ClusterPlan) -> list[str]:
    ways = []
    if found.checkpointing and settings.gradient_checkpointing == "on":
        ways.append("gradient_checkpointing=auto, which computes layers again only where memory is short")
    return [
        *ways,
        "more ranks with the same batch_size"
        if found.shape.units > 1
        else "more ranks and a larger batch_size",
    ]
