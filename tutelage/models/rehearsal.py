"""What one model takes: its weights, its optimizer, and the fullest micro-batch that the settings allow, rehearsed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from tutelage.data.batch import TokenBatch
from tutelage.models.cpu.llama import compiled, plain_llama
from tutelage.models.decode import cache_bytes, logits_bytes
from tutelage.models.loading import Source, imagine
from tutelage.models.memory import Pass, adapted, imagining, parameter_bytes, rehearse
from tutelage.models.policy import Hosted, PolicyModule

REHEARSED = (2, 4)
"""Models of more layers than these are rehearsed with so many: what each further layer takes is the same."""

ADAM_STATES = 2
"""Numbers that AdamW keeps for every weight."""


@dataclass(frozen=True)
class Role:
    """A model that a command holds in memory.

    task: what it is asked: log-probabilities of responses, one score per sequence, or one value per state.
    trained: all of its weights, or with `lora_rank` an adapter.  dtype: of its weights; adapters are float32.
    beside: the name of the role whose frozen weights it uses, instead of having its own.  checkpointing: layers are computed
    again in the backward pass.
    """

    name: str
    source: Source
    task: str = "logprobs"
    trained: bool = False
    dtype: torch.dtype = torch.float32
    lora_rank: int = 0
    beside: str = ""
    checkpointing: bool = False


@dataclass(frozen=True)
class Shape:
    """The batch of an update: `units` of `sequences` each, all `length` tokens long, of which the last `trained` count."""

    units: int
    sequences: int
    length: int
    trained: int

    def batch(self, vocabulary: int) -> TokenBatch:
        """Such a batch.  Every second sequence is one token shorter, for rows that are all alike are laid out more cheaply
        than real ones; no two neighbours begin with the same token, so none shares what the other has."""
        count = self.units * self.sequences
        lengths = [max(self.length - number % 2, 1) for number in range(count)]
        masks = [torch.arange(length) >= max(self.length - self.trained, 1) for length in lengths]
        ids = [(torch.arange(length) + number) % vocabulary for number, length in enumerate(lengths)]
        rows, units = tuple(range(count)), (self.sequences,) * self.units
        return TokenBatch(torch.cat(ids), tuple(lengths), torch.cat(masks), rows, units)


Way = Literal["modules", "operators", "kernels"]
"""Through transformers' modules, by hand on torch's operators, or by hand in compiled kernels."""


@dataclass(frozen=True)
class Part:
    """What one role takes: bytes of weights, optimizer and all its gradients; its passes over one micro-batch, and how many
    of these an update has.

    way: how a CPU runs it.  token: bytes of the keys and values of one generated token.  row: bytes of the
    logits of one generated row.
    """

    role: Role
    weights: int
    optimizer: int
    gradients: int
    passes: Pass
    micro_batches: int
    way: Way
    token: int
    row: int


def measure(
    role: Role, shape: Shape, micro_batch_tokens: int, arithmetic: torch.dtype, device_type: str
) -> Part:
    """A role by itself.  arithmetic: float32, or what autocast computes in.

    A deep model is rehearsed at two depths, and a straight line is drawn through both.
    """
    scalar = role.task != "logprobs"
    with imagining(device_type) as ledger:
        whole = imagine(role.source, scalar=scalar, dtype=role.dtype)
        text = whole.config.get_text_config()
        batch = shape.batch(text.vocab_size)
        groups = batch.groups(micro_batch_tokens, whole.pads)
        micro = batch.take(groups[-1])
        way: Way = "modules"

        def at(depth: int | None) -> tuple[Pass, int, int]:
            """The passes, bytes of what is trained, and bytes of adapters, with so many layers."""
            nonlocal way
            bare = imagine(role.source, scalar=scalar, dtype=role.dtype, layers=depth)
            plain, model = parameter_bytes([bare]), _trained(bare, role)
            way = _way(model.host.base_model, arithmetic)
            passes = rehearse(ledger, lambda: _answer(role, model, micro), model, arithmetic, text.vocab_size)
            return passes, parameter_bytes([model], trained=True), parameter_bytes([model]) - plain

        passes, trained, extra = _deepened(at, text.num_hidden_layers)
        own = (0 if role.beside else parameter_bytes([whole])) + extra
        if not role.lora_rank:
            trained = parameter_bytes([whole]) if role.trained else 0
        size = arithmetic.itemsize
    sizes = cache_bytes(text, 1, 1, size), logits_bytes(text, 1, size)
    return Part(role, own, ADAM_STATES * trained, trained, passes, len(groups), way, *sizes)


def _way(backbone: Any, arithmetic: torch.dtype) -> Way:
    if not plain_llama(backbone):
        return "modules"
    return "kernels" if compiled(backbone, arithmetic) else "operators"


def _deepened(at: Callable[[int | None], tuple[Pass, int, int]], layers: int) -> tuple[Pass, int, int]:
    """What `at` finds for so many layers."""
    few, more = REHEARSED
    if layers <= more + 2:
        return at(None)
    share = (layers - few) / (more - few)
    (low, *small), (high, *large) = at(few), at(more)
    trained, extra = (round(a + (b - a) * share) for a, b in zip(small, large, strict=True))
    return low + (high + low * -1.0) * share, trained, extra


def _trained(model: Hosted, role: Role) -> Hosted:
    if not role.trained:
        return model.requires_grad_(False)
    model = adapted(model, role.lora_rank) if role.lora_rank else model
    if role.checkpointing:
        model.checkpoint_gradients()
    return model


def _answer(role: Role, model: Hosted, batch: TokenBatch) -> Tensor:
    if isinstance(model, PolicyModule):
        return model(batch).logprobs.sum()
    return model(batch, at="ends" if role.task == "scores" else "tokens").sum()
