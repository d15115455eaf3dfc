"""A plan for many GPUs as a command prints it."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from tutelage.cost import amount
from tutelage.settings.groups import PlanSettings
from tutelage.settings.train import TrainSettings
from tutelage.train.cluster.gpus import OF_LINKS, Cluster
from tutelage.train.cluster.plan import ClusterPlan, advice, cluster_plan

KINDS = {
    "weights": "weights",
    "gradients": "gradients",
    "optimizer": "optimizer",
    "whole": "gathered",
    "activations": "activations",
    "logits": "logits",
    "copies": "copies",
}

LIMITS = {
    "memory": "Memory is what limits: it does not fit.",
    "compute": "Computing is what limits.",
    "network": "The network is what limits: weights arrive more slowly than they are used.",
    "decoding": "Writing responses is what limits.",
}


def show(settings: PlanSettings, ranks: int, console: Console) -> None:
    """Print it.  Raises ValueError for what is wrong, in one sentence."""
    if not isinstance(settings, TrainSettings):
        raise ValueError(
            "plan_gpu is for commands that train: ask with plan_gib what this one takes of a GPU"
        )
    found = cluster_plan(settings, ranks)
    console.print(_where(found.cluster), style="bold")
    console.print(_memory(found))
    for line in (*_besides(found), _fits(found)):
        console.print(line)
    console.print(_time(found))
    for line in _told(found):
        console.print(line)
    console.print(f"{LIMITS[found.limit]} What would change that: {'; '.join(advice(settings, found))}.")


def _where(cluster: Cluster) -> str:
    gpu = cluster.gpu
    count = f"{cluster.ranks} x {gpu.name}" if cluster.ranks > 1 else f"One {gpu.name}"
    nodes = f" in {cluster.nodes} nodes of {cluster.per_node}" if cluster.nodes > 1 else ""
    links = f", {cluster.network / 1e9:.0f} GB/s between nodes" if cluster.nodes > 1 else ""
    inside = f", {gpu.nvlink / 1e9:.0f} GB/s within" if cluster.ranks > 1 else ""
    return f"{count}{nodes}: {gpu.bytes / 1e9:.0f} GB, {gpu.flops / 1e12:.0f} TFLOP/s in bf16{links}{inside}"


def _memory(found: ClusterPlan) -> Table:
    title = "memory of every rank" if found.cluster.ranks > 1 else "memory"
    table = Table(title=title, box=None, pad_edge=False, header_style="bold", title_justify="left")
    table.add_column("")
    for heading in KINDS.values():
        table.add_column(heading, justify="right")
    for share in found.memory.shares:
        table.add_row(share.role, *(amount(getattr(share, kind)) for kind in KINDS))
    return table


def _besides(found: ClusterPlan) -> list[str]:
    taken, lines = found.memory, []
    copies = sum(share.copies for share in taken.shares)
    if copies:
        lines.append(f"Copies are the weights that autocast rounds to bf16, and keeps: {amount(copies)}.")
    if taken.replica:
        lines.append(f"Besides: the generator's own copy of the policy, whole: {amount(taken.replica)}.")
    if taken.generation:
        lines.append(f"Between updates: responses, {amount(taken.generation)} for {taken.rows} rows at once.")
    if taken.scoring:
        lines.append(f"Between updates: a frozen model reads, {amount(taken.scoring)}.")
    if taken.remote:
        lines.append(
            "The generator is remote: servers on other GPUs hold its copy of the policy, which does not stand beside the rest."
        )
    if found.checkpointing:
        lines.append("Layers are computed again in the backward pass (gradient_checkpointing).")
    return lines


def _fits(found: ClusterPlan) -> str:
    taken, gpu = found.memory, found.cluster.gpu
    sizes = f"{amount(taken.total)} at once; a {gpu.name} has {amount(taken.free)}"
    return f"At most {sizes}." if taken.fits else f"[red]It does not fit:[/red] up to {sizes}."


def _time(found: ClusterPlan) -> Table:
    table = Table(title="time of a step", box=None, pad_edge=False, header_style="bold", title_justify="left")
    for heading in ("", "seconds", "share"):
        table.add_column(heading, justify="left" if not heading else "right")
    parts = {
        "computing": found.passes.compute,
        "waiting for the network": found.passes.exposed,
        "optimizer": found.optimizer,
        "writing responses": found.decoding.seconds if found.decoding else 0.0,
    }
    for name, seconds in parts.items():
        if seconds:
            table.add_row(name, _seconds(seconds), f"{seconds / found.seconds:.0%}")
    table.add_row("whole step", _seconds(found.seconds), "")
    return table


def _told(found: ClusterPlan) -> list[str]:
    cluster, passes = found.cluster, found.passes
    gpu = cluster.gpu
    lines = [
        f"{found.tokens_per_second:,.0f} trained tokens/s per GPU ({found.utilisation:.0%} of the peak), taking that computing "
        f"reaches {gpu.reached:.0%} of it."
    ]
    if cluster.ranks > 1:
        hidden = 1 - passes.exposed / passes.links
        lines.append(
            f"A rank takes in {passes.bytes / 1e9:,.0f} GB a step, {_seconds(passes.links)} s at {OF_LINKS:.0%} of the links; "
            f"{hidden:.0%} of that hides behind computing."
        )
    return [*lines, *_writing(found)]


def _writing(found: ClusterPlan) -> list[str]:
    decoding = found.decoding
    if decoding is None:
        alone = found.memory.remote
        return ["One node does not hold the policy, so writing is not in the step."] if alone else []
    if not found.memory.remote:
        return []
    shared = f", each over {decoding.gpus} GPUs" if decoding.gpus > 1 else ""
    return [
        f"Responses are written on one more node, by {decoding.copies} servers{shared}, {decoding.rows} rows at once on each."
    ]


def _seconds(value: float) -> str:
    return f"{value:.2f}" if value < 10 else f"{value:.1f}"
