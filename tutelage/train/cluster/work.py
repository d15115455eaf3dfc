"""How long a step takes: arithmetic, what goes over the links, decoding, and what of it hides behind what.

    forward, one token      2 x parameters + 4 x attention x length        FLOPs; attention = layers x heads x width
    backward                twice that; once more where layers are computed again; an adapter's base needs half of the twice
    a step of a rank        gathers its weights forward and backward, and sums its gradients: 3 x parameters x (ranks - 1) / ranks
                            numbers for every micro-batch

Arithmetic by Chowdhery et al. 2022 (PaLM, arXiv 2204.02311, appendix B), which counts attention over the whole square; traffic by
Rajbhandari et al. 2020 (ZeRO, arXiv 1910.02054, section 7).  A layer's gathering hides behind the computing of the one before,
except for the first; the summing of its gradients behind the computing of the next, except for the last.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tutelage.models.rehearsal import Shape
from tutelage.train.cluster.gpus import OF_MEMORY, Cluster
from tutelage.train.cluster.memory import SUMMED, Held
from tutelage.train.cluster.models import Size
from tutelage.train.held import Writing

TOUCHED = 7 * 4
"""Bytes that AdamW reads and writes for every weight: itself, its gradient, two moments; all but the gradient back."""


@dataclass(frozen=True)
class Passes:
    """Seconds and bytes of one kind of pass, for a rank and a step.  model: arithmetic without what is computed again, FLOPs."""

    compute: float = 0
    links: float = 0
    exposed: float = 0
    bytes: float = 0
    model: float = 0

    def __add__(self, other: Passes) -> Passes:
        return Passes(*(a + b for a, b in zip(_numbers(self), _numbers(other), strict=True)))

    def __mul__(self, times: float) -> Passes:
        return Passes(*(a * times for a in _numbers(self)))


def _numbers(passes: Passes) -> tuple[float, ...]:
    return passes.compute, passes.links, passes.exposed, passes.bytes, passes.model


def forward_flops(size: Size, tokens: float, length: int) -> float:
    """Of a forward pass over so many tokens, in sequences of `length`."""
    return tokens * (2 * (size.parameters - size.embedding) + 4 * size.attention * length)


def micro_batch(model: Held, cluster: Cluster, tokens: float, length: int) -> Passes:
    """Forward and, where it is trained, backward, over a rank's `tokens`."""
    size, role, rate = model.size, model.role, cluster.gpu.flops * cluster.gpu.reached
    forward = forward_flops(size, tokens, length)
    backward = again = 0.0
    if role.trained:
        backward = forward + 2 * tokens * size.trained if role.lora_rank else 2 * forward
        again = forward if role.checkpointing else 0.0
    gather = cluster.gather_seconds(model.moved)
    reduce = cluster.gather_seconds(size.trained * SUMMED)
    units = size.layers + 1
    exposed = max(gather - forward / rate, gather / units)
    if role.trained:
        exposed += max(gather + reduce - (backward + again) / rate, reduce / units)
    gathers = 2 if role.trained else 1
    share = (cluster.ranks - 1) / cluster.ranks
    moved = share * (gathers * model.moved + size.trained * SUMMED)
    links = gathers * gather + reduce
    return Passes((forward + backward + again) / rate, links, exposed, moved, forward + backward)


def reading(model: Held, cluster: Cluster, tokens: float, length: int) -> Passes:
    """Forward alone."""
    rate = cluster.gpu.flops * cluster.gpu.reached
    forward = forward_flops(model.size, tokens, length)
    gather = cluster.gather_seconds(model.moved)
    exposed = max(gather - forward / rate, gather / (model.size.layers + 1))
    share = (cluster.ranks - 1) / cluster.ranks
    return Passes(forward / rate, gather, exposed, share * model.moved)


def per_rank(shape: Shape, ranks: int) -> Shape:
    """The fullest share of an update's units."""
    return Shape(-(-shape.units // ranks), shape.sequences, shape.length, shape.trained)


def learning(
    models: Sequence[Held], cluster: Cluster, shape: Shape, passes: int, updates: int, reads: bool
) -> Passes:
    """A step: trained models go `passes` times over each of `updates` such updates; frozen ones read them once, and where the
    step's responses are its own (`reads`) and passed over more than once, trained ones too."""
    total = Passes()
    tokens = shape.units * shape.sequences * shape.length
    for model in models:
        count = model.part.micro_batches
        part, length = tokens / count, shape.length
        if model.role.trained:
            total += micro_batch(model, cluster, part, length) * (count * passes * updates)
        if not model.role.trained or (reads and passes * updates > 1):
            total += reading(model, cluster, part, length) * (count * updates)
    return total


def optimizer_seconds(models: Sequence[Held], cluster: Cluster) -> float:
    trained = sum(model.size.trained for model in models)
    return TOUCHED * trained / cluster.ranks / (cluster.gpu.bandwidth * OF_MEMORY)


@dataclass(frozen=True)
class Decoding:
    """seconds: for all responses of a step.  rows: at once on each of `copies` copies of the policy, which `gpus` GPUs hold
    together."""

    seconds: float
    rows: int
    copies: int
    gpus: int


def decoding(
    model: Held, cluster: Cluster, writing: Writing, itemsize: int, rows: int, copies: int, gpus: int
) -> Decoding:
    """Every token of a row reads all weights once for all rows, and its own keys and values: memory decides, or, where rows are
    many, arithmetic.  Prompts are read at once.  gpus: that share one copy."""
    size, gpu = model.size, cluster.gpu
    wanted = -(-writing.rows // copies)
    rows = max(min(rows, wanted), 1)
    kept = model.part.token * (writing.prompt + writing.new / 2)
    read = (size.parameters * itemsize + rows * kept) / (gpu.bandwidth * OF_MEMORY * gpus)
    rate = gpu.flops * gpu.reached * gpus
    counted = forward_flops(size, rows, writing.columns) / rate
    prompts = forward_flops(size, wanted * writing.prompt, writing.prompt) / rate
    waves = -(-wanted // rows)
    return Decoding(prompts + waves * writing.new * max(read, counted), rows, copies, gpus)


def beside(model: Held, cluster: Cluster, writing: Writing, itemsize: int) -> Decoding | None:
    """Decoding on one more node, in copies of the policy over as few GPUs as leave a third for keys and values; None where a
    node does not hold it."""
    need, gpus = model.size.parameters * itemsize * 1.5, 1
    while gpus * cluster.gpu.bytes < need:
        gpus *= 2
    if gpus > cluster.per_node:
        return None
    each = model.part.token * writing.columns + model.part.row
    room = gpus * cluster.gpu.bytes * 0.9 - model.size.parameters * itemsize
    copies = cluster.per_node // gpus
    return decoding(model, cluster, writing, itemsize, int(room // each), copies, gpus)
