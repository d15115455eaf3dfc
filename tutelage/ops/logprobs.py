"""Log-probabilities and entropies of tokens. The shift from logits to tokens happens here, nowhere else."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from tutelage.ops.kl import Divergence, exact_kl
from tutelage.ops.shapes import device_type, round_up

# Working space when the caller does not give `chunk_tokens`: elements of [chunk, V]. On a CPU a few MiB,
# which the cache holds; on a GPU enough to fill it. Never fewer rows than make a product worth its while.
CHUNK_ELEMENTS_CPU, CHUNK_ELEMENTS_GPU, CHUNK_ROWS_MIN = 2**20, 2**26, 64
# In half precision the backward pass keeps the [M, V] probabilities up to this many elements (64 MiB) and
# computes them again above it. In float32 up to 16 MiB: small vocabularies, where that saves a product and a softmax.
KEPT_ELEMENTS, KEPT_ELEMENTS_WIDE = 2**25, 2**22


def shifted_index(lengths: Sequence[int], loss_mask: Tensor) -> tuple[Tensor, Tensor]:
    """Flat positions (source [M], target [M]): the hidden state at source = target - 1 predicts the target.

    One pair for every True of `loss_mask` [N], except at the first token of a sequence, which nothing
    predicts.
    """
    first = torch.tensor((0, *lengths), dtype=torch.long).cumsum(0)
    assert first[-1] == loss_mask.shape[0], f"lengths add up to {int(first[-1])}, not to {loss_mask.shape[0]}"
    predicted = loss_mask.clone()
    predicted[first[:-1][torch.tensor(lengths, dtype=torch.long) > 0].to(loss_mask.device)] = False
    target = predicted.nonzero().squeeze(1)
    return target - 1, target


def token_logprobs(
    logits: Tensor, ids: Tensor, lengths: Sequence[int], loss_mask: Tensor, temperature: float = 1.0
) -> tuple[Tensor, Tensor]:
    """The plain form, from full logits [N, V]: (logprobs [N], entropy [N]), 0 where `loss_mask` is False.

    Entry t is about token t. Keeps [N, V] float32; for small cases, for tests, and as the statement of what
    `linear_logprobs` computes.
    """
    source, target = shifted_index(lengths, loss_mask)
    wide = logits[source].to(torch.promote_types(logits.dtype, torch.float32))
    logp_all = torch.log_softmax(wide / temperature, -1)
    picked = logp_all.gather(1, ids[target][:, None]).squeeze(1)
    entropy = -(logp_all.exp() * logp_all).sum(-1)
    zeros = picked.new_zeros(ids.shape[0])
    return zeros.index_copy(0, target, picked), zeros.index_copy(0, target, entropy)


def linear_logprobs(
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    temperature: float = 1.0,
    bias: Tensor | None = None,
    chunk_tokens: int | None = None,
    cap: float | None = None,
) -> tuple[Tensor, Tensor]:
    """log p(target) and entropy of softmax((hidden weight^T + bias) / temperature): [M] and [M].

    `hidden` [M, D], `weight` [V, D], `targets` [M] long, `bias` [V]. `cap`: logits x become cap tanh(x / cap) before
    the temperature (Gemma 2, arXiv 2408.00118, section 2). Works through `chunk_tokens` rows at a
    time, so that float32 logits never exist for more rows than that. The products run in the dtype of
    `hidden` (under autocast: in autocast's), softmax and sums in float32 (float64 for float64 input), which
    is also the dtype of the results; the gradient of `weight` is summed in float32 and returned in the
    weight's dtype. Both results are differentiable.
    """
    logprobs, entropy, _ = linear_logprobs_hits(hidden, weight, targets, temperature, bias, chunk_tokens, cap)
    return logprobs, entropy


def linear_logprobs_hits(
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    temperature: float = 1.0,
    bias: Tensor | None = None,
    chunk_tokens: int | None = None,
    cap: float | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """The same, and whether the target is the likeliest token: 1, 0, or 1/2 where another is as likely, [M]."""
    if torch.is_autocast_enabled(hidden.device.type):
        hidden = hidden.to(torch.get_autocast_dtype(hidden.device.type))
    if chunk_tokens is None:
        chunk_tokens = _chunk(weight.shape[0], hidden.device)
    rows = len(hidden)
    filling = round_up(rows, hidden.device.type) - rows
    if filling:
        hidden, targets = F.pad(hidden, (0, 0, 0, filling)), F.pad(targets, (0, filling))
    found: tuple[Tensor, Tensor, Tensor] = _LinearLogprobs.apply(
        hidden, weight, bias, targets, _Shape(temperature, cap), chunk_tokens, torch.is_grad_enabled()
    )
    logprobs, entropy, hits = (each[:rows] for each in found) if filling else found
    return logprobs, entropy, hits


class Outputs(NamedTuple):
    """What the distributions of M next tokens are made of: hidden [M, D], weight [V, D], bias [V], and the cap of the logits."""

    hidden: Tensor
    weight: Tensor
    bias: Tensor | None = None
    cap: float | None = None


def linear_divergence(
    own: Outputs,
    other: Outputs,
    between: Divergence = exact_kl,
    temperature: float = 1.0,
    chunk_tokens: int | None = None,
) -> Tensor:
    """[M]: the divergence over the whole vocabulary at each position, in nats, both distributions at `temperature`;
    differentiable by both.  KL(own || other) unless said otherwise.

    Where one head has more rows than the other (embeddings may be padded), both distributions are over the tokens that both
    have.  Works through `chunk_tokens` rows at a time, forward and backward: logits are computed again in the backward pass,
    so those of more rows than that never exist.  Softmax and sums in float32 (float64 for float64 input).
    """
    vocabulary = min(own.weight.shape[0], other.weight.shape[0])
    own, other = _within(own, vocabulary), _within(other, vocabulary)
    parts = [
        checkpoint(
            _divergence,
            own._replace(hidden=own.hidden[part]),
            other._replace(hidden=other.hidden[part]),
            between,
            temperature,
            use_reentrant=False,
        )
        for part in _slices(own.hidden.shape[0], chunk_tokens or _chunk(vocabulary, own.hidden.device))
    ]
    return torch.cat(parts) if parts else own.hidden.new_zeros(0)


def _divergence(own: Outputs, other: Outputs, between: Divergence, temperature: float) -> Tensor:
    return between(_distribution(own, temperature), _distribution(other, temperature))


def _within(outputs: Outputs, vocabulary: int) -> Outputs:
    """The same over the first so many tokens."""
    if outputs.weight.shape[0] == vocabulary:
        return outputs
    bias = None if outputs.bias is None else outputs.bias[:vocabulary]
    return outputs._replace(weight=outputs.weight[:vocabulary], bias=bias)


def _distribution(outputs: Outputs, temperature: float) -> Tensor:
    """[M, V]: log-probabilities, at least float32."""
    hidden = outputs.hidden
    head = _head(outputs.weight, outputs.bias, hidden.dtype)
    z = F.linear(hidden, *head)
    z = z.to(torch.promote_types(z.dtype, torch.float32))
    if outputs.cap is not None:
        z = outputs.cap * torch.tanh(z / outputs.cap)
    return torch.log_softmax(z / temperature, -1)


class _Shape(NamedTuple):
    """What becomes of the logits x before the softmax: z = cap tanh(x / cap) / temperature; without a cap x / temperature."""

    temperature: float
    cap: float | None


class _LinearLogprobs(torch.autograd.Function):
    """With p the probabilities, q = p - onehot(target), z what the softmax is taken of:

    d logprob / dz = -q,   d entropy / dz = -p (log p + entropy),   dz / dx = (1 - tanh^2(x / cap)) / temperature.
    """

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        targets: Tensor,
        shape: _Shape,
        chunk_tokens: int,
        differentiable: bool,
    ) -> tuple[Tensor, Tensor, Tensor]:
        rows, vocabulary = hidden.shape[0], weight.shape[0]
        wide = torch.promote_types(hidden.dtype, torch.float32)
        logprobs, entropy, hits = (torch.empty(rows, dtype=wide, device=hidden.device) for _ in range(3))
        most = KEPT_ELEMENTS_WIDE if hidden.dtype == wide else KEPT_ELEMENTS
        keep = differentiable and rows * vocabulary <= most
        kept = hidden.new_empty(rows, vocabulary) if keep else None
        with torch.autocast(hidden.device.type, enabled=False):
            head = _head(weight, bias, hidden.dtype)
            for part in _slices(rows, chunk_tokens):
                z, p = _softmax(hidden[part], head, shape)
                target = targets[part, None]
                normaliser, picked = _normaliser(z, p), z.gather(1, target)
                logprobs[part] = picked.squeeze(1) - normaliser
                entropy[part] = normaliser - torch.linalg.vecdot(p, z)
                bend = None if kept is None else _bend(z, shape)
                others = z.scatter_(1, target, float("-inf")).amax(1, keepdim=True)  # the last use of z
                hits[part] = ((picked > others).to(wide) + (picked >= others).to(wide)).squeeze(1) / 2
                if kept is not None:
                    kept[part] = _bent(_minus_onehot(p, target), bend)
        ctx.mark_non_differentiable(hits)
        if differentiable:
            ctx.set_materialize_grads(False)
            ctx.save_for_backward(hidden, weight, bias, targets, entropy, kept)
            ctx.shape, ctx.chunk_tokens = shape, chunk_tokens
        return logprobs, entropy, hits

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, grad_logprobs: Tensor | None, grad_entropy: Tensor | None, _: None
    ) -> tuple[Tensor | None, ...]:
        hidden, weight, bias, _, entropy, _ = ctx.saved_tensors
        needs_hidden, needs_weight, needs_bias = ctx.needs_input_grad[:3]
        grad_hidden = torch.empty_like(hidden) if needs_hidden else None
        grad_weight = torch.zeros_like(weight, dtype=entropy.dtype) if needs_weight else None
        grad_bias = torch.zeros_like(bias, dtype=entropy.dtype) if needs_bias else None
        with torch.autocast(hidden.device.type, enabled=False):
            head = _head(weight, bias, hidden.dtype)
            for part, slope, scale in _slopes(ctx, head, grad_logprobs, grad_entropy):
                if grad_hidden is not None:
                    torch.mul(slope @ head[0], scale, out=grad_hidden[part])
                if grad_weight is not None:
                    grad_weight += slope.t() @ (hidden[part] * scale).to(slope.dtype)
                if grad_bias is not None:
                    grad_bias += (slope.t() @ scale.to(slope.dtype)).squeeze(1)
        if grad_weight is not None:
            grad_weight = grad_weight.to(weight.dtype)
        if grad_bias is not None:
            grad_bias = grad_bias.to(bias.dtype)
        return grad_hidden, grad_weight, grad_bias, None, None, None, None


def _slopes(
    ctx: Any, head: tuple[Tensor, Tensor | None], grad_logprobs: Tensor | None, grad_entropy: Tensor | None
) -> Iterator[tuple[slice, Tensor, Tensor]]:
    """(rows, slope [rows, V], scale [rows, 1]): slope x scale is the gradient of the undivided logits.

    A factor for a whole row stays in `scale`, which is applied to [rows, D] instead of [rows, V].
    """
    hidden, _, _, targets, entropy, kept = ctx.saved_tensors
    if grad_logprobs is None:
        grad_logprobs = torch.zeros_like(entropy)
    if kept is not None and grad_entropy is None:
        yield slice(None), kept, -grad_logprobs[:, None] / ctx.shape.temperature
        return
    for part in _slices(hidden.shape[0], ctx.chunk_tokens):
        z, p = _softmax(hidden[part], head, ctx.shape)
        bend = _bend(z, ctx.shape)
        target, gain = targets[part, None], grad_logprobs[part, None]
        if grad_entropy is None:
            slope, scale = _minus_onehot(p, target), -gain / ctx.shape.temperature
        else:
            # grad_logprobs q + grad_entropy p (log p + entropy)
            log_p = z.sub_(_normaliser(z, p)[:, None])
            surprise = log_p.add_(entropy[part, None]).mul_(grad_entropy[part, None])
            slope = surprise.add_(gain).mul_(p).scatter_add_(1, target, -gain)
            scale = torch.full_like(gain, -1 / ctx.shape.temperature)
        yield part, _bent(slope, bend).to(hidden.dtype), scale


def _chunk(vocabulary: int, device: torch.device) -> int:
    """Rows of logits that are worked on at a time."""
    elements = CHUNK_ELEMENTS_CPU if device_type(device) == "cpu" else CHUNK_ELEMENTS_GPU
    return max(elements // vocabulary, CHUNK_ROWS_MIN)


def _head(weight: Tensor, bias: Tensor | None, dtype: torch.dtype) -> tuple[Tensor, Tensor | None]:
    return weight.to(dtype), None if bias is None else bias.to(dtype)


def _slices(rows: int, size: int) -> list[slice]:
    return [slice(start, start + size) for start in range(0, rows, max(size, 1))]


def _softmax(hidden: Tensor, head: tuple[Tensor, Tensor | None], shape: _Shape) -> tuple[Tensor, Tensor]:
    """Logits, capped and over the temperature, and probabilities, both [rows, V] in float32 (float64 for float64)."""
    z = torch.nn.functional.linear(hidden, *head)
    z = z.to(torch.promote_types(z.dtype, torch.float32))
    if shape.cap is not None:
        z = z.div_(shape.cap).tanh_().mul_(shape.cap)
    if shape.temperature != 1.0:
        z /= shape.temperature
    return z, torch.softmax(z, -1)


def _bend(z: Tensor, shape: _Shape) -> Tensor | None:
    """1 - tanh^2(x / cap) [rows, V] from z; None, which stands for 1, where nothing is capped."""
    if shape.cap is None:
        return None
    return (z * (shape.temperature / shape.cap)).square_().neg_().add_(1.0)


def _bent(slope: Tensor, bend: Tensor | None) -> Tensor:
    return slope if bend is None else slope.mul_(bend)


def _minus_onehot(p: Tensor, target: Tensor) -> Tensor:
    return p.scatter_add_(1, target, p.new_full((), -1.0).expand_as(target))


def _normaliser(z: Tensor, p: Tensor) -> Tensor:
    """logsumexp(z) [rows], from the largest probability, exp(largest z - logsumexp)."""
    return z.amax(1) - p.amax(1).log()
