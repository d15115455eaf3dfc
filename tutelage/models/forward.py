"""How the backbone of a transformers model runs over a flat batch: token ids in, last hidden states out.

The sequences run as one row without padding where the architecture allows it (`Traits.flat`), what they share at their
start once, and right-padded where not; what comes out is flat either way and agrees to 1e-5 in fp32.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import lru_cache
from inspect import signature
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tutelage.data.batch import TokenBatch
from tutelage.models.layout import Layout
from tutelage.ops.shapes import round_up


@dataclass(frozen=True)
class Traits:
    """What load time found out about a model.

    flat: runs one flat row with attention per sequence; otherwise right-padded batches.
    logit_scale: the model's logits are head(hidden) times this (Cohere, Granite scale them).
    trims: the last layer's feed-forward part can be left out where its result is not read (flat form only).
    longest: longer sequences are refused (`probe.rope_limit`); None: no limit.
    logit_cap: what of that exceeds it is squashed, cap tanh(logit / cap), before the softmax (Gemma 2); None: no cap.
    """

    flat: bool
    logit_scale: float = 1.0
    trims: bool = False
    logit_cap: float | None = None
    longest: int | None = None


TRIM_SHARE = 0.85
"""Rows are left out when at most this share is read: taking rows out and putting them back costs copies."""


class Runner(Protocol):
    """One way to run a backbone."""

    pads: bool
    """Whether every sequence of a micro-batch is padded to the longest of them."""

    def __call__(self, backbone: Any, batch: TokenBatch, read: Tensor | None) -> Tensor:
        """[T, D]: the last hidden state after every token; [M, D] at the flat positions `read` (int64 [M])."""
        ...


class Flat:
    """One flat row through transformers' own modules, with attention per sequence."""

    pads = False

    def __init__(self, trims: bool) -> None:
        self._trims = trims

    def __call__(self, backbone: Any, batch: TokenBatch, read: Tensor | None) -> Tensor:
        layout = layout_of(batch)
        ids, wanted = row_of(batch, layout, read)
        # A layer that is computed again in the backward pass would be computed whole: the hooks are gone by then.
        again = getattr(backbone, "is_activation_checkpointing", False) and torch.is_grad_enabled()
        few = self._trims and not again and len(wanted) <= TRIM_SHARE * layout.total
        with only_where_read(backbone, wanted, layout.total) if few else nullcontext():
            states: Tensor = backbone(**flat_inputs(ids, layout), use_cache=False).last_hidden_state
            return states[0, wanted]


class Padded:
    """A rectangle, padded on the right, for architectures that cannot run flat."""

    pads = True

    def __call__(self, backbone: Any, batch: TokenBatch, read: Tensor | None) -> Tensor:
        inputs, real = padded_inputs(backbone, batch.ids, batch.lengths)
        hidden: Tensor = backbone(**inputs, use_cache=False).last_hidden_state[real]
        return hidden if read is None else hidden[read]


@lru_cache(maxsize=64)
def _layout(lengths: tuple[int, ...], device: torch.device, shared: tuple[int, ...] | None) -> Layout:
    """Sequences that nobody reads, none longer than the others, fill ragged rows up to a size that comes again."""
    shared = shared or (0,) * len(lengths)
    if len(set(lengths)) == 1 and not any(shared):
        return Layout(lengths, device, shared)
    total, longest = sum(lengths) - sum(shared), max(lengths)
    whole, rest = divmod(round_up(total, device.type) - total, longest)
    filling = (longest,) * whole + (rest,) * (rest > 0)
    return Layout((*lengths, *filling), device, (*shared, *(0 for _ in filling)))


def layout_of(batch: TokenBatch) -> Layout:
    """The layout of a batch, the same object for the passes of several models over it."""
    return _layout(batch.lengths, batch.device, batch.shared_prefixes)


def row_of(batch: TokenBatch, layout: Layout, read: Tensor | None) -> tuple[Tensor, Tensor]:
    """The token ids [N] of the row in which a batch is computed, and the row positions of the flat positions `read`."""
    ids = F.pad(batch.ids, (0, sum(layout.lengths) - len(batch.ids)))
    wanted = torch.arange(len(batch.ids), device=batch.device) if read is None else read
    if layout.place is None:
        return ids, wanted
    return ids[layout.kept], layout.place[wanted]


def flat_inputs(ids: Tensor, layout: Layout) -> dict[str, Any]:
    """Keyword arguments of a flat forward: ids [N] -> one row [1, N] with positions that begin anew in every sequence.

    The mask is a 1 x 1 x 1 x 1 marker: transformers hands a 4-D mask down as it is, so none is built.
    """
    return {
        "input_ids": ids[None],
        "position_ids": layout.positions[None],
        "attention_mask": ids.new_ones(1, 1, 1, 1, dtype=torch.bool),
        "tutelage_layout": layout,
    }


def padded_inputs(model: nn.Module, ids: Tensor, lengths: Sequence[int]) -> tuple[dict[str, Tensor], Tensor]:
    """Keyword arguments of a right-padded forward, and the mask [B, T] of real tokens."""
    real = torch.arange(max(lengths))[None] < torch.tensor(lengths)[:, None]
    real = real.to(ids.device)
    padded = ids.new_zeros(real.shape).masked_scatter_(
        real, ids
    )  # what a padding slot holds is never looked at
    inputs = {"input_ids": padded, "attention_mask": real.long()}
    if "position_ids" in signature(model.forward).parameters:
        inputs["position_ids"] = (real.long().cumsum(1) - 1).clamp_min(0)
    return inputs, real


@contextmanager
def only_where_read(backbone: Any, read: Tensor, total: int) -> Iterator[None]:
    """The last layer's feed-forward part runs only at positions `read` of the row of `total` tokens.

    Nothing after it looks at another position, so what is missing elsewhere is never seen.
    """
    mlp, read = backbone.layers[-1].mlp, torch.unique(read)

    def take(module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
        return args[0][:, read], *args[1:]

    def put_back(module: nn.Module, args: tuple[Any, ...], output: Tensor) -> Tensor:
        return output.new_zeros(1, total, output.shape[-1]).index_copy(1, read, output)

    hooks = [mlp.register_forward_pre_hook(take), mlp.register_forward_hook(put_back)]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
