"""Attention for transformers models, registered there under the name "tutelage".

Two forms, chosen by what the caller hands down:

- **flat** (training, prefill): the forward runs on one row `[1, N]` that holds all sequences one after the other, and
  a `Layout` travels down as the keyword `tutelage_layout`. Every token sees its own sequence up to itself and nothing
  else. Sequences of similar length are gathered into right-padded buckets, so almost nothing is spent on padding.
- **masked** (cached decoding, anything else): an ordinary `[B, H, Q, K]` attention under a boolean or additive mask.

On CPU both are plain batched matrix products with a softmax in between, which is faster there than
`scaled_dot_product_attention`; on a GPU the flat form calls SDPA with `is_causal` bucket by bucket.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import sdpa_mask

NAME = "tutelage"
"""What `attn_implementation` is set to."""

BUCKETS = 4
"""At most so many length buckets per forward; more save padding but cost calls."""

SCORES = 2**25
"""Attention scores computed at once (elements): bounds memory for long sequences."""


@dataclass(frozen=True)
class Bucket:
    """Sequences of similar length, padded on the right to the longest of them.

    `index` [b * width]: flat position of every slot (padding slots point at the sequence's first token);
    `padding` [b * width] bool, True at padding slots, or None when there are none.
    """

    rows: int
    width: int
    index: Tensor
    padding: Tensor | None


class Layout:
    """Where each sequence lies in a flat row.

    lengths: tokens of each sequence, all >= 1, in flat order; device: where the forward runs.
    """

    def __init__(self, lengths: Sequence[int], device: torch.device | str = "cpu") -> None:
        assert lengths and min(lengths) > 0, "every sequence of a layout has at least one token"
        self.lengths = tuple(int(n) for n in lengths)
        self.device = torch.device(device)
        self.watch: list[int | None] | None = None  # a list collects the window of every attention call

    @property
    def total(self) -> int:
        return sum(self.lengths)

    @cached_property
    def positions(self) -> Tensor:
        """[N] position of each token inside its own sequence."""
        return torch.cat([torch.arange(n) for n in self.lengths]).to(self.device)

    @cached_property
    def last(self) -> Tensor:
        """[B] flat position of every sequence's last token."""
        return (torch.tensor(self.lengths).cumsum(0) - 1).to(self.device)

    @cached_property
    def equal(self) -> bool:
        """All sequences have one length: buckets are plain reshapes."""
        return len(set(self.lengths)) == 1

    @cached_property
    def buckets(self) -> tuple[Bucket, ...]:
        starts = (torch.tensor((0, *self.lengths)).cumsum(0)[:-1]).tolist()
        found = []
        for group in _groups(self.lengths):
            width = max(self.lengths[i] for i in group)
            slots = torch.arange(width)
            lengths = torch.tensor([self.lengths[i] for i in group])[:, None]
            real = slots < lengths
            index = torch.tensor([starts[i] for i in group])[:, None] + torch.where(real, slots, 0)
            padding = None if bool(real.all()) else ~real.flatten().to(self.device)
            found.append(Bucket(len(group), width, index.flatten().to(self.device), padding))
        return tuple(found)

    @cached_property
    def inverse(self) -> Tensor:
        """[N] slot, counted through all buckets one after the other, of every flat token."""
        index = torch.cat([b.index for b in self.buckets])
        padding = torch.cat([torch.zeros_like(b.index, dtype=torch.bool) if b.padding is None else b.padding for b in self.buckets])
        slots = torch.arange(len(index), device=self.device)[~padding]
        inverse = torch.empty(self.total, dtype=torch.long, device=self.device)
        inverse[index[~padding]] = slots
        return inverse


def _groups(lengths: tuple[int, ...], most: int = BUCKETS) -> list[list[int]]:
    """Sequence indices in at most `most` groups, cut where the padding is least (dynamic programme over sorted lengths)."""
    order = sorted(range(len(lengths)), key=lambda i: lengths[i])
    values = sorted(set(lengths))
    if len(values) == 1:
        return [list(range(len(lengths)))]
    counts = [0] * (len(values) + 1)  # sequences no longer than values[k - 1]
    for n in lengths:
        counts[values.index(n) + 1] += 1
    for k in range(len(values)):
        counts[k + 1] += counts[k]
    if len(values) > 64:  # a coarse grid is as good: thin the candidate cuts
        step = len(values) / 64
        keep = sorted({min(len(values), round((j + 1) * step)) for j in range(64)})
    else:
        keep = list(range(1, len(values) + 1))
    best = {0: (0.0, ())}
    for _ in range(most):
        following = dict(best)
        for cut in keep:
            cost, cuts = min(((c + (counts[cut] - counts[p]) * _cost(values[cut - 1]), s) for p, (c, s) in best.items() if p < cut), key=lambda t: t[0])
            if cut not in following or cost < following[cut][0]:
                following[cut] = (cost, (*cuts, cut))
        best = following
    groups, start = [], 0
    for cut in best[len(values)][1]:
        groups.append(order[start : counts[cut]])
        start = counts[cut]
    return groups


def _cost(width: int) -> float:
    """Work per sequence of a bucket, up to a factor: copies grow with the width, scores with its square."""
    return width * (width + 64.0)


def attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    softcap: float | None = None,
    tutelage_layout: Layout | None = None,
    **_: object,
) -> tuple[Tensor, None]:
    """The function transformers calls: query [B, H, Q, d], key and value [B, Hkv, K, d] -> ([B, Q, H, d], None)."""
    assert dropout == 0.0, "models are loaded with dropout 0"
    scaling = query.shape[-1] ** -0.5 if scaling is None else scaling
    if torch.is_autocast_enabled(query.device.type):
        dtype = torch.get_autocast_dtype(query.device.type)
        query, key, value = query.to(dtype), key.to(dtype), value.to(dtype)
    elif query.dtype != value.dtype:
        query, key = query.to(value.dtype), key.to(value.dtype)
    if tutelage_layout is not None:
        if tutelage_layout.watch is not None:
            tutelage_layout.watch.append(sliding_window)
        return flat_attention(query, key, value, tutelage_layout, scaling, sliding_window, softcap), None
    return masked_attention(query, key, value, attention_mask, scaling, sliding_window, softcap), None


def flat_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    layout: Layout,
    scaling: float,
    window: int | None = None,
    softcap: float | None = None,
) -> Tensor:
    """Causal attention of every sequence of a flat row within itself.

    query [1, H, N, d], key and value [1, Hkv, N, d] -> [1, N, H, d]; window: a token sees at most so many tokens,
    itself included; softcap: scores are squashed to softcap * tanh(score / softcap) before the softmax.
    """
    assert query.shape[0] == 1 and query.shape[2] == layout.total, "a flat row of the layout's total length"
    window = None if window is None or window >= max(layout.lengths) else window
    if query.device.type == "cpu" or softcap is not None:
        return _FlatAttention.apply(query[0], key[0], value[0], layout, scaling, window, softcap)[None]
    return _sdpa_by_bucket(query[0], key[0], value[0], layout, scaling, window)[None]


class _FlatAttention(torch.autograd.Function):
    """softmax(Q K^T) V with a hand-written backward: [H, N, d], [Hkv, N, d] x 2 -> [N, H, d].

    Works through blocks of queries, so that the scores held at once are bounded; keeps the softmax of small
    inputs for the backward and computes it again for large ones.
    """

    @staticmethod
    def forward(ctx, query, key, value, layout, scaling, window, softcap):  # type: ignore[override]
        ctx.layout, ctx.options = layout, (scaling, window, softcap)
        ctx.shared = query.shape[0] // key.shape[0]
        weights: list[Tensor] = []
        elements = query.shape[0] * sum(b.rows * b.width**2 for b in layout.buckets)
        keep = weights if elements <= SCORES and softcap is None and any(ctx.needs_input_grad) else None
        outputs = []
        for bucket in layout.buckets:
            q, k, v = (_slots(t, layout, bucket, g) for t, g in _grouped(query, key, value, ctx.shared))
            out = torch.empty(*q.shape[:2], v.shape[-1], dtype=v.dtype, device=v.device)
            for rows, start, stop, first in _blocks(*q.shape[:2], window):
                p, _ = _softmax(q[rows, start:stop], k[rows, first:stop], start - first, *ctx.options)
                out[rows, start:stop] = torch.bmm(p, v[rows, first:stop])
                if keep is not None:
                    keep.append(p)
            outputs.append(out.view(query.shape[0], -1, v.shape[-1]))
        ctx.save_for_backward(query, key, value, *weights)
        return _flat(outputs, layout).transpose(0, 1).contiguous()

    @staticmethod
    def backward(ctx, grad):  # type: ignore[override]
        layout, (scaling, window, softcap), shared = ctx.layout, ctx.options, ctx.shared
        query, key, value, *kept = ctx.saved_tensors
        weights = iter(kept)
        grads: list[tuple[Tensor, Tensor, Tensor]] = []
        flat_grad = grad.transpose(0, 1)
        for bucket in layout.buckets:
            q, k, v = (_slots(t, layout, bucket, g) for t, g in _grouped(query, key, value, shared))
            g = _slots(flat_grad, layout, bucket, 1, zero=True)
            dq, dk, dv = torch.empty_like(q), torch.zeros_like(k), torch.zeros_like(v)
            for rows, start, stop, first in _blocks(*q.shape[:2], window):
                here, seen = (rows, slice(start, stop)), (rows, slice(first, stop))
                p, slope = (next(weights), None) if kept else _softmax(q[here], k[seen], start - first, scaling, window, softcap)
                dv[seen] += torch.bmm(p.transpose(1, 2), g[here])
                ds = torch._softmax_backward_data(torch.bmm(g[here], v[seen].transpose(1, 2)), p, -1, p.dtype)
                ds = ds.mul_(scaling) if slope is None else ds.mul_(slope).mul_(scaling)
                dq[here] = torch.bmm(ds, k[seen])
                dk[seen] += torch.bmm(ds.transpose(1, 2), q[here])
            grads.append(tuple(t.view(query.shape[0], -1, t.shape[-1]) for t in (dq, dk, dv)))  # type: ignore[arg-type]
        gq, gk, gv = (_flat(list(parts), layout) for parts in zip(*grads, strict=True))
        if shared > 1:
            gk, gv = (t.view(-1, shared, *t.shape[1:]).sum(1) for t in (gk, gv))
        return gq, gk, gv, None, None, None, None


def _grouped(query: Tensor, key: Tensor, value: Tensor, shared: int) -> tuple[tuple[Tensor, int], ...]:
    return (query, 1), (key, shared), (value, shared)


def _slots(flat: Tensor, layout: Layout, bucket: Bucket, repeat: int, zero: bool = False) -> Tensor:
    """[h, N, d] -> the bucket's right-padded [h * repeat * rows, width, d]; zero: padding slots hold 0."""
    if not layout.equal:
        flat = flat.index_select(1, bucket.index)
        if zero and bucket.padding is not None:
            flat[:, bucket.padding] = 0
    if repeat > 1:
        flat = flat.repeat_interleave(repeat, dim=0)
    return flat.reshape(-1, bucket.width, flat.shape[-1])


def _flat(slots: list[Tensor], layout: Layout) -> Tensor:
    """The buckets' [H, slots, d] -> [H, N, d]."""
    return slots[0] if layout.equal else torch.cat(slots, dim=1).index_select(1, layout.inverse)


BLOCK = 256


def _blocks(count: int, width: int, window: int | None) -> list[tuple[slice, int, int, int]]:
    """(rows, first query, last query + 1, first key) of pieces with at most SCORES scores each."""
    pieces = []
    step = min(width, BLOCK)
    rows = max(1, min(count, SCORES // (step * width)))
    for low in range(0, count, rows):
        for start in range(0, width, step):
            stop = min(start + step, width)
            first = 0 if window is None else max(0, start - window + 1)
            pieces.append((slice(low, min(low + rows, count)), start, stop, first))
    return pieces


def _softmax(
    query: Tensor, key: Tensor, offset: int, scaling: float, window: int | None, softcap: float | None
) -> tuple[Tensor, Tensor | None]:
    """Weights [n, q, k] of queries that stand `offset` keys after the first key; with softcap also the slope of the squashing."""
    hidden = _hidden(query.shape[1], key.shape[1], offset, window, query.dtype, query.device)
    if softcap is None:
        return torch.softmax(torch.baddbmm(hidden, query, key.transpose(1, 2), alpha=scaling), dim=-1), None
    squashed = torch.tanh(torch.bmm(query, key.transpose(1, 2)) * (scaling / softcap))
    return torch.softmax(squashed * softcap + hidden, dim=-1), 1 - squashed**2


def _hidden(queries: int, keys: int, offset: int, window: int | None, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Additive mask [1, q, k]: -inf where the key comes after the query or has left its window."""
    distance = torch.arange(queries, device=device)[:, None] + offset - torch.arange(keys, device=device)
    hidden = distance < 0 if window is None else (distance < 0) | (distance >= window)
    return torch.zeros(1, queries, keys, dtype=dtype, device=device).masked_fill_(hidden, -torch.inf)


def _sdpa_by_bucket(query: Tensor, key: Tensor, value: Tensor, layout: Layout, scaling: float, window: int | None) -> Tensor:
    """The same on a GPU: [H, N, d], [Hkv, N, d] x 2 -> [N, H, d]."""
    outputs = []
    for b in layout.buckets:
        q, k, v = (t.index_select(1, b.index).view(t.shape[0], b.rows, b.width, -1).transpose(0, 1) for t in (query, key, value))
        mask = None if window is None else _hidden(b.width, b.width, 0, window, q.dtype, q.device)
        out = F.scaled_dot_product_attention(
            q, k, v, attn_mask=mask, is_causal=mask is None, scale=scaling, enable_gqa=q.shape[1] != k.shape[1]
        )
        outputs.append(out.transpose(1, 2).reshape(b.rows * b.width, query.shape[0], -1))
    return torch.cat(outputs).index_select(0, layout.inverse)


def masked_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,
    scaling: float,
    window: int | None = None,
    softcap: float | None = None,
) -> Tensor:
    """Attention under a mask: query [B, H, Q, d], key and value [B, Hkv, K, d] -> [B, Q, H, d].

    mask: [B or 1, 1, Q, K], bool (True = may be seen) or additive; None: causal, the last query seeing every key.
    A single query also respects `window` (decoding: the mask only hides a row's unused columns); for several
    queries transformers has put the window into the mask.
    """
    rows, heads, queries, _ = query.shape
    if window is not None and queries == 1 and key.shape[2] > window:
        key, value = key[:, :, -window:], value[:, :, -window:]
        mask = None if mask is None else mask[..., -window:]
    if mask is None and queries > 1:
        mask = _hidden(queries, key.shape[2], key.shape[2] - queries, window, query.dtype, query.device)[:, None]
    shared = heads // key.shape[1]
    q = query.reshape(rows, key.shape[1], shared * queries, -1)  # heads that share keys are more queries of one head
    scores = torch.matmul(q, key.transpose(2, 3)) * scaling
    scores = scores if softcap is None else torch.tanh(scores / softcap) * softcap
    if mask is not None:
        scores = scores.view(rows, heads, queries, -1)
        scores = scores.masked_fill_(~mask, -torch.inf) if mask.dtype == torch.bool else scores.add_(mask)
        scores = scores.view(rows, key.shape[1], shared * queries, -1)
    out = torch.matmul(torch.softmax(scores, dim=-1), value)
    return out.view(rows, heads, queries, -1).transpose(1, 2)


AttentionInterface.register(NAME, attention)
AttentionMaskInterface.register(NAME, sdpa_mask)
