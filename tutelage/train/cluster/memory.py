"""What a rank takes where every model is sharded over all of them: FSDP2, layer by layer.

    a rank holds    (weights + gradients + AdamW's two moments) / ranks
    and, at once    two whole layers (the one that computes and the next), in the arithmetic of the run, and what is in no layer,
                    as it is kept (`models.sharding`);
                    their whole gradients, and those of one layer once more, while they are summed over the ranks;
                    activations and logits of its own micro-batch

The first line is ZeRO stage 3 (Rajbhandari et al. 2020, arXiv 1910.02054, section 5.3), the second the peak of FSDP (Zhao et al.
2023, arXiv 2304.11277, section 3.2.1) with one layer gathered ahead.  Activations are rehearsed, as for one GPU.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from tutelage.models.rehearsal import ADAM_STATES, Part, Role, Shape
from tutelage.models.rehearsed import measured
from tutelage.rollout.local import MAX_ROWS_GPU, SHARE
from tutelage.train.cluster.models import Size, size_of
from tutelage.train.held import Writing

WHOLE_LAYERS = 2
"""Gathered at once: the one that computes and the next one."""

SUMMED = 4
"""Bytes of a gradient while it is summed over the ranks, and of a trained weight: float32."""


@dataclass(frozen=True)
class Held:
    """A role, its sizes, and what a pass of it over one micro-batch takes of one GPU.

    gathered: bytes of a number of a layer while it is whole; rooted: of one that is in no layer.  copies: bytes of the weights in
    no layer that autocast has rounded, which it keeps to the end of the forward pass, and the backward pass needs.
    """

    size: Size
    part: Part
    gathered: int
    rooted: int
    copies: float

    @property
    def moved(self) -> float:
        """Bytes of the whole model as it is gathered."""
        return (self.size.parameters - self.size.root) * self.gathered + self.size.root * self.rooted

    @property
    def role(self) -> Role:
        return self.part.role


@dataclass(frozen=True)
class Share:
    """What a role takes of a rank at the moment when all together take most, in bytes.  whole: gathered layers and their
    gradients; copies: weights that autocast has rounded."""

    role: str
    weights: float
    gradients: float
    optimizer: float
    whole: float
    activations: float
    logits: float
    copies: float = 0

    @property
    def total(self) -> float:
        return self.stays + self.gradients + self.whole + self.activations + self.logits + self.copies

    @property
    def stays(self) -> float:
        """What is there all the time."""
        return self.weights + self.optimizer


@dataclass(frozen=True)
class Memory:
    """`shares` add up to the fullest moment of an update.  scoring: what is taken beyond what stays while a frozen model reads;
    replica: the generator's own copy of the policy; generation: keys, values and logits of responses; free: of a GPU.
    remote: responses come from servers on other GPUs."""

    shares: Sequence[Share]
    scoring: float
    replica: float
    generation: float
    rows: int
    free: float
    remote: bool

    @property
    def stays(self) -> float:
        return sum(share.stays for share in self.shares) + self.replica

    @property
    def total(self) -> float:
        """The most that is taken at once."""
        update = sum(share.total - share.stays for share in self.shares)
        return self.stays + max(update, self.scoring, self.generation)

    @property
    def fits(self) -> bool:
        return self.total <= self.free


def held(
    role: Role, shape: Shape, micro: int, arithmetic: torch.dtype, ranks: int, narrow: bool = False
) -> Held:
    """narrow: what is in no layer is gathered in the arithmetic of the run, too, as others do it.  On several ranks passes are
    rehearsed with rounded weights, and the copies that autocast makes are counted apart."""
    size = size_of(role)
    if ranks == 1:
        itemsize = role.dtype.itemsize
        return Held(size, measured(role, shape, micro, arithmetic, "cuda"), itemsize, itemsize, 0)
    part = measured(replace(role, dtype=arithmetic), shape, micro, arithmetic, "cuda")
    rounded = narrow or role.dtype == arithmetic
    copied = size.trained_root - size.embedding if role.trained and not role.lora_rank and not rounded else 0
    rooted = arithmetic.itemsize if narrow else role.dtype.itemsize
    whole_part = replace(part, role=role)
    return Held(size, whole_part, arithmetic.itemsize, rooted, copied * arithmetic.itemsize)


def memory(
    models: Sequence[Held],
    arithmetic: torch.dtype,
    ranks: int,
    writing: Writing | None,
    free: float,
    served: bool = False,
) -> Memory:
    """What a rank takes.  The generator is remote where servers are there for it (`served`), and where the policy's copy does not
    fit beside the rest."""
    shares = _fullest(models, ranks)
    scoring = max((_reading(model, ranks) for model in models if not model.role.trained), default=0)
    alone = Memory(shares, scoring, 0, 0, 0, free, remote=False)
    if writing is None:
        return alone
    policy = models[0]
    shared = ranks == 1 and policy.role.dtype == arithmetic
    replica = 0 if shared else policy.size.parameters * arithmetic.itemsize
    each = policy.part.token * writing.columns + policy.part.row
    wanted = -(-writing.rows // ranks)
    room = max(free - alone.stays - replica, 0) * SHARE
    rows = max(min(wanted, MAX_ROWS_GPU, int(room // each)), 1)
    here = replace(alone, replica=replica, generation=rows * each, rows=rows)
    fits = here.fits or ranks == 1
    return here if fits and not served else replace(alone, remote=True)


def _fullest(models: Sequence[Held], ranks: int) -> list[Share]:
    """At the moment of an update when all together take most: the trained models go forward in their order and back in the
    other, each with the activations of those before it."""
    trained = [model for model in models if model.role.trained]
    moments = [
        [_share(model, _alive(model, trained, back), model is back, ranks) for model in models]
        for back in trained
    ]
    return max(moments, key=lambda shares: sum(share.total for share in shares))


def _alive(model: Held, trained: Sequence[Held], back: Held) -> tuple[float, float, float]:
    """Activations, logits and rounded copies of a model while `back` goes back, or begins to."""
    if model not in trained or trained.index(model) > trained.index(back):
        return 0.0, 0.0, 0.0
    kept, most, again = model.part.passes.kept, model.part.passes.loose, model.role.checkpointing
    if model is not back:
        return kept.activations, kept.logits, 0.0 if again else model.copies
    if not again:
        return most.activations, most.logits, model.copies
    ends = (
        kept.activations,
        most.logits,
        model.copies,
    )  # the forward pass ends: copies are there, no layer is computed again yet
    return max(ends, (most.activations, most.logits, 0.0), key=sum)


def _share(model: Held, alive: tuple[float, float, float], back: bool, ranks: int) -> Share:
    size, role = model.size, model.role
    frozen = 0 if role.beside else size.frozen * role.dtype.itemsize
    return Share(
        role.name,
        weights=(frozen + size.trained * SUMMED) / ranks,
        gradients=size.trained * SUMMED / ranks,
        optimizer=ADAM_STATES * size.trained * SUMMED / ranks,
        whole=whole(size, model.gathered, model.rooted) if back and ranks > 1 else 0.0,
        activations=alive[0],
        logits=alive[1],
        copies=alive[2],
    )


def whole(size: Size, gathered: int, rooted: int) -> float:
    """Bytes of what is gathered while a model goes back, with its gradients; as `Held` has the bytes of a number."""
    weights = size.root * rooted + min(WHOLE_LAYERS, size.layers) * size.layer * gathered
    gradients = size.trained_root * rooted + size.trained_layer * gathered
    return weights + gradients + size.trained_layer * SUMMED


def _reading(model: Held, ranks: int) -> float:
    layers = min(WHOLE_LAYERS, model.size.layers) * model.size.layer
    gathered = model.size.root * model.rooted + layers * model.gathered
    return model.part.passes.most.total + (gathered if ranks > 1 else 0)
