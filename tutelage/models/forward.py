"""Forward passes over flat batches: hidden states, log-probs of responses, values of states, scores of sequences.

Every function takes the model as `loading` prepared it (plain, scalar or wrapped by peft) and a `TokenBatch`. The
sequences run as one row without padding where the architecture allows it (`Traits.flat`), what they share at their
start once, and right-padded where not; what comes out is flat either way and agrees to 1e-5 in fp32.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import lru_cache
from inspect import signature
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tutelage.data.batch import TokenBatch
from tutelage.models.cpu import llama
from tutelage.models.layout import Layout
from tutelage.ops.logprobs import linear_logprobs_hits, shifted_index
from tutelage.ops.masked import segment_sum
from tutelage.ops.shapes import round_up


@dataclass(frozen=True)
class Traits:
    """What load time found out about a model; kept on it as `tutelage_traits`.

    flat: runs one flat row with attention per sequence; otherwise right-padded batches.
    logit_scale: the model's logits are head(hidden) times this (Cohere, Granite scale them).
    trims: the last layer's feed-forward part can be left out where its result is not read (flat form only).
    """

    flat: bool
    logit_scale: float = 1.0
    trims: bool = False


TRIM_SHARE = 0.85
"""Rows are left out when at most this share is read: taking rows out and putting them back costs copies."""


@dataclass(frozen=True)
class TokenLogprobs:
    """Per token of a flat batch, zero where not trained on: logprobs fp32 [N] in nats; entropy fp32 [N] or None; hits
    fp32 [N], 1 where no other token is as likely (1/2 where one is)."""

    logprobs: Tensor
    entropy: Tensor | None
    hits: Tensor


def plain(model: nn.Module) -> Any:
    """The transformers model itself, without a peft wrapper (its adapters stay active: they live in the layers)."""
    unwrap: Any = getattr(model, "get_base_model", None)
    return unwrap() if unwrap else model


def pads(model: nn.Module) -> bool:
    """Whether every sequence of a micro-batch is padded to the longest of them, instead of running flat."""
    traits: Traits | None = getattr(plain(model), "tutelage_traits", None)
    return traits is not None and not traits.flat


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


def hidden_states(model: nn.Module, batch: TokenBatch, read: Tensor | None = None) -> Tensor:
    """[T, D]: the backbone's last hidden state after every token; [M, D] at the flat positions `read` (int64 [M])."""
    host = plain(model)
    backbone = host.base_model
    if not host.tutelage_traits.flat:
        inputs, real = padded_inputs(backbone, batch.ids, batch.lengths)
        hidden = backbone(**inputs, use_cache=False).last_hidden_state[real]
        return hidden if read is None else hidden[read]
    layout = layout_of(batch)
    filling = sum(layout.lengths) - len(batch.ids)
    ids = F.pad(batch.ids, (0, filling))
    ids = ids if layout.place is None else ids[layout.kept]
    wanted = torch.arange(len(batch.ids), device=batch.device) if read is None else read
    wanted = wanted if layout.place is None else layout.place[wanted]
    if llama.by_hand(backbone):
        return _by_hand(backbone, ids, layout, wanted)
    few = host.tutelage_traits.trims and len(wanted) <= TRIM_SHARE * layout.total
    with only_where_read(backbone, wanted, layout.total) if few else nullcontext():
        return backbone(**flat_inputs(ids, layout), use_cache=False).last_hidden_state[0, wanted]


def _by_hand(backbone: Any, ids: Tensor, layout: Layout, wanted: Tensor) -> Tensor:
    if len(wanted) > TRIM_SHARE * layout.total:
        return llama.states(backbone, ids, layout)[wanted]
    read, place = torch.unique(wanted, return_inverse=True)
    others = torch.ones(layout.total, dtype=torch.bool).index_fill_(0, read, False).nonzero().squeeze(1)
    read = torch.cat([read, others[: round_up(len(read)) - len(read)]])
    return llama.states(backbone, ids, layout, read)[place]


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


def response_logprobs(
    model: nn.Module, batch: TokenBatch, temperature: float = 1.0, entropy: bool = False
) -> TokenLogprobs:
    """Log-probability (and entropy) of every trained token at `temperature`, entry t about token t.

    Logits are computed only where they predict a token of `loss_mask`. A trained token that is the first of its
    sequence has no prediction and gets 0.
    """
    host = plain(model)
    source, target = shifted_index(batch.lengths, batch.loss_mask)
    hidden = hidden_states(model, batch, source) * host.tutelage_traits.logit_scale
    head = host.get_output_embeddings()
    logprobs, entropies, hits = linear_logprobs_hits(
        hidden, head.weight, batch.ids[target], temperature, head.bias
    )
    flat = logprobs.new_zeros(len(batch.ids))
    return TokenLogprobs(
        flat.index_copy(0, target, logprobs),
        flat.index_copy(0, target, entropies) if entropy else None,
        flat.index_copy(0, target, hits),
    )


def sequence_logprobs(model: nn.Module, batch: TokenBatch, temperature: float = 1.0) -> Tensor:
    """[B] fp32: log-probability of the trained tokens of each sequence (nats), a response's end included."""
    return segment_sum(response_logprobs(model, batch, temperature).logprobs, batch.lengths)


def state_values(model: nn.Module, batch: TokenBatch) -> Tensor:
    """[N] fp32: the scalar head's value of the state before token t, at t; 0 where not `loss_mask`."""
    source, target = shifted_index(batch.lengths, batch.loss_mask)
    values = _score(model, hidden_states(model, batch, source))
    return values.new_zeros(len(batch.ids)).index_copy(0, target, values)


def sequence_scores(model: nn.Module, batch: TokenBatch) -> Tensor:
    """[B] fp32: the scalar head at the last token of every sequence."""
    last = torch.tensor(batch.lengths, device=batch.device).cumsum(0) - 1
    return _score(model, hidden_states(model, batch, last))


def scalar_head(model: nn.Module) -> nn.Linear:
    """The linear layer [D -> 1] of a scalar model."""
    return plain(model).score


def _score(model: nn.Module, hidden: Tensor) -> Tensor:
    """[M, D] -> [M], in fp32 also under autocast: D products per score cost nothing, and scores are compared."""
    head = scalar_head(model)
    with torch.autocast(hidden.device.type, enabled=False):
        bias = None if head.bias is None else head.bias.float()
        return nn.functional.linear(hidden.float(), head.weight.float(), bias).squeeze(-1)
