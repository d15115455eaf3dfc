"""Attention for transformers models, registered there under the name "tutelage".

Two forms, chosen by what the caller hands down:

- **flat** (training, prefill): the forward runs on one row `[1, N]` that holds all sequences one after the other, and
  a `Layout` travels down as the keyword `tutelage_layout`. Every token sees its own sequence up to itself and nothing
  else. Sequences of similar length are gathered into right-padded buckets, so almost nothing is spent on padding.
- **masked** (cached decoding, anything else): an ordinary `[B, H, Q, K]` attention under a boolean or additive mask.

On CPU both are plain batched matrix products with a softmax in between, which is faster there than
`scaled_dot_product_attention`; on a GPU the flat form calls torch's kernels for sequences of any lengths in half precision,
which need no buckets, and SDPA with `is_causal` bucket by bucket otherwise.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import sdpa_mask

from tutelage.models.layout import Bucket, Layout
from tutelage.ops.shapes import device_type

NAME = "tutelage"
"""What `attn_implementation` is set to."""

# The CPU computes the scores of so many queries at once, for as many heads and sequences as fit these bytes: pieces of
# this size stay in the last cache, and there are few of them (measured best among 32 .. width queries and 0.5 .. 8 MiB).
BLOCK_QUERIES = 128
BLOCK_BYTES = 2**22
BLOCK_BYTES_GPU = 2**28

KEPT_ELEMENTS = 2**23
"""Softmax weights (elements, of one layer) kept for the backward; more are computed again."""


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
    tutelage_newest: Tensor | None = None,
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
    return masked_attention(
        query, key, value, attention_mask, tutelage_newest, scaling, sliding_window, softcap
    ), None


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
    if device_type(query.device) == "cpu" or softcap is not None:
        scores = Scores(layout, scaling, window, softcap)
        return _FlatAttention.apply(query[0], key[0], value[0], scores)[None]
    by = _varlen if _has_varlen(query) else _sdpa_by_bucket
    return by(query[0], key[0], value[0], layout, scaling, window)[None]


class _FlatAttention(torch.autograd.Function):
    """softmax(Q K^T) V with a hand-written backward: [H, N, d], [Hkv, N, d] x 2 -> [N, H, d]."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, scores: Scores) -> Tensor:
        out, kept = attend(query, key, value, scores, keep=any(ctx.needs_input_grad))
        ctx.scores = scores
        ctx.save_for_backward(query, key, value, *kept)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value, *kept = ctx.saved_tensors
        return *attend_backward(grad, query, key, value, ctx.scores, kept), None


def attend(
    query: Tensor, key: Tensor, value: Tensor, scores: Scores, keep: bool
) -> tuple[Tensor, list[Tensor]]:
    """softmax(Q K^T) V, [H, N, d], [Hkv, N, d] x 2 -> [N, H, d], and the softmax weights that the backward may use.

    Works through blocks of queries that stay in the processor's cache and skips the keys after them, which is half of
    all keys.  With `keep` the softmax of small inputs is kept for the backward; that of large ones is computed again.
    """
    layout = scores.layout
    heads, shared = query.shape[0], query.shape[0] // key.shape[0]
    elements = heads * sum(b.rows * b.width**2 for b in layout.buckets)
    keep = keep and scores.softcap is None and elements <= KEPT_ELEMENTS
    weights, outputs = [], []
    for bucket in layout.buckets:
        q, k, v = (
            _slots(query, layout, bucket),
            *(_slots(t, layout, bucket, shared) for t in (key, value)),
        )
        out = v.new_empty(*q.shape[:2], v.shape[-1])
        for rows, start, stop, first in _blocks(q, scores.window, bucket.first):
            p, _ = scores.softmax(q[rows, start:stop], k[rows, first:stop], start - first)
            out[rows, start:stop] = torch.bmm(p, v[rows, first:stop])
            if keep:
                weights.append(p)
        outputs.append(out.view(heads, -1, v.shape[-1]))
    return _flat(outputs, layout).transpose(0, 1).contiguous(), weights


def attend_backward(
    grad: Tensor, query: Tensor, key: Tensor, value: Tensor, scores: Scores, weights: Sequence[Tensor]
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of query, key and value of `attend`; grad [N, H, d], `weights` as it returned them."""
    layout = scores.layout
    heads, shared = query.shape[0], query.shape[0] // key.shape[0]
    kept = iter(weights)
    grads = []
    for bucket in layout.buckets:
        q, k, v = (
            _slots(query, layout, bucket),
            *(_slots(t, layout, bucket, shared) for t in (key, value)),
        )
        g = _slots(grad.transpose(0, 1), layout, bucket, zero=True)
        dq, dk, dv = torch.empty_like(q), torch.zeros_like(k), torch.zeros_like(v)
        for rows, start, stop, first in _blocks(q, scores.window, bucket.first):
            here, seen = (rows, slice(start, stop)), (rows, slice(first, stop))
            p, slope = (next(kept), None) if weights else scores.softmax(q[here], k[seen], start - first)
            dv[seen].baddbmm_(p.transpose(1, 2), g[here])
            ds = torch._softmax_backward_data(torch.bmm(g[here], v[seen].transpose(1, 2)), p, -1, p.dtype)
            ds = ds.mul_(scores.scaling if slope is None else slope.mul_(scores.scaling))
            dq[here] = torch.bmm(ds, k[seen])
            dk[seen].baddbmm_(ds.transpose(1, 2), q[here])
        grads.append([t.view(heads, -1, t.shape[-1]) for t in (dq, dk, dv)])
    dq, dk, dv = (_flat(parts, layout) for parts in zip(*grads, strict=True))
    _add_copies(dk, [parts[1] for parts in grads], layout)
    _add_copies(dv, [parts[2] for parts in grads], layout)
    if shared > 1:
        dk, dv = (t.view(-1, shared, *t.shape[1:]).sum(1) for t in (dk, dv))
    return dq, dk, dv


def _slots(flat: Tensor, layout: Layout, bucket: Bucket, repeat: int = 1, zero: bool = False) -> Tensor:
    """[h, N, d] -> the bucket's right-padded [h * repeat * rows, width, d]; zero: slots that nobody reads hold 0."""
    if not layout.equal:
        flat = flat.index_select(1, bucket.index)
        if zero and bucket.unread is not None:
            flat[:, bucket.unread] = 0
    if repeat > 1:
        flat = flat.repeat_interleave(repeat, dim=0)
    return flat.reshape(-1, bucket.width, flat.shape[-1])


def _flat(slots: Sequence[Tensor], layout: Layout) -> Tensor:
    """The buckets' [H, slots, d] -> [H, N, d]."""
    return slots[0] if layout.equal else torch.cat(list(slots), dim=1).index_select(1, layout.inverse)


def _add_copies(flat: Tensor, slots: Sequence[Tensor], layout: Layout) -> None:
    """Add to `flat` [H, N, d] what the further copies of shared tokens, in the buckets' [H, slots, d], contribute."""
    if not layout.copies:
        return
    everywhere = torch.cat(list(slots), dim=1)
    for places, copies in layout.copies:
        total = flat.index_select(1, places).add_(everywhere.index_select(1, copies))
        flat.index_copy_(1, places, total)


def _blocks(query: Tensor, window: int | None, begin: int) -> list[tuple[slice, int, int, int]]:
    """(rows, first query, last query + 1, first key) of pieces of [n, width, d] whose scores take BLOCK_BYTES or less;
    queries before `begin` are left out."""
    count, width, _ = query.shape
    step = max(1, min(width - begin, BLOCK_QUERIES))
    room = BLOCK_BYTES if device_type(query.device) == "cpu" else BLOCK_BYTES_GPU
    rows = max(1, room // (step * width * query.element_size()))
    return [
        (
            slice(low, min(low + rows, count)),
            start,
            min(start + step, width),
            max(0, start - window + 1) if window else 0,
        )
        for low in range(0, count, rows)
        for start in range(begin, width, step)
    ]


@dataclass(frozen=True)
class Scores:
    """How scores come from queries and keys."""

    layout: Layout
    scaling: float
    window: int | None
    softcap: float | None

    def softmax(self, query: Tensor, key: Tensor, offset: int) -> tuple[Tensor, Tensor | None]:
        """Weights [n, q, k] of queries that stand `offset` keys after the first key, and the slope of the soft-capping."""
        if self.softcap is not None:
            squashed = torch.tanh(torch.bmm(query, key.transpose(1, 2)) * (self.scaling / self.softcap))
            return _softmax(self._hide(squashed * self.softcap, offset)), 1 - squashed**2
        if offset == 0:  # the corner is the whole block: one call hides and multiplies
            hidden = _corner(query.shape[1], key.shape[1], 0, self.window, query.dtype, query.device)
            return _softmax(torch.baddbmm(hidden, query, key.transpose(1, 2), alpha=self.scaling)), None
        free = query.new_zeros(()).expand(1, 1, 1)
        scores = torch.baddbmm(free, query, key.transpose(1, 2), beta=0, alpha=self.scaling)
        return _softmax(self._hide(scores, offset)), None

    def _hide(self, scores: Tensor, offset: int) -> Tensor:
        """[n, q, k], changed in place: -inf where a query may not look.

        That is in two corners of the block: on the right, where the last q keys stand beside their own queries, and with a
        window on the left.  So no mask is larger than q x q, however long the sequences are.
        """
        queries, device = scores.shape[1], scores.device
        scores[:, :, offset:] += _corner(queries, scores.shape[2] - offset, 0, None, scores.dtype, device)
        left = 0 if self.window is None else queries + offset - self.window
        if left > 0:
            scores[:, :, :left] += _corner(queries, left, offset, self.window, scores.dtype, device)
        return scores


def _softmax(scores: Tensor) -> Tensor:
    """Over the last dimension.  The CPU's bf16 kernel takes three times as long where rows are not whole vectors."""
    if scores.dtype == torch.bfloat16 and scores.device.type == "cpu" and scores.shape[-1] % 32 > 4:
        return torch.softmax(scores, dim=-1, dtype=torch.float32).to(scores.dtype)
    return torch.softmax(scores, dim=-1)


@lru_cache(maxsize=64)
@torch.inference_mode(False)  # inference tensors could not serve a later training pass
def _corner(
    queries: int, keys: int, offset: int, window: int | None, dtype: torch.dtype, device: torch.device
) -> Tensor:
    """`additive_mask`, kept: BLOCK_QUERIES squared numbers or fewer, so all that are kept take 8 MiB at most."""
    return additive_mask(queries, keys, offset, window, dtype, device)


def forget_masks() -> None:
    """Make masks anew from here on."""
    _corner.cache_clear()


def additive_mask(
    queries: int, keys: int, offset: int, window: int | None, dtype: torch.dtype, device: torch.device
) -> Tensor:
    """[1, q, k]: -inf where the key comes after the query (which stands `offset` keys in) or has left its window."""
    distance = torch.arange(queries, device=device)[:, None] + offset - torch.arange(keys, device=device)
    hidden = distance < 0 if window is None else (distance < 0) | (distance >= window)
    return torch.where(hidden, -torch.inf, 0.0).to(dtype)[None]


def _sdpa_by_bucket(
    query: Tensor, key: Tensor, value: Tensor, layout: Layout, scaling: float, window: int | None
) -> Tensor:
    """The same on a GPU: [H, N, d], [Hkv, N, d] x 2 -> [N, H, d]."""
    outputs = []
    for b in layout.buckets:
        q, k, v = (
            t.index_select(1, b.index).view(t.shape[0], b.rows, b.width, -1).transpose(0, 1)
            for t in (query, key, value)
        )
        mask = None if window is None else additive_mask(b.width, b.width, 0, window, q.dtype, q.device)
        out = F.scaled_dot_product_attention(
            q,
            k,
            v,
            attn_mask=mask,
            is_causal=mask is None,
            scale=scaling,
            enable_gqa=q.shape[1] != k.shape[1],
        )
        outputs.append(out.transpose(1, 2).reshape(b.rows * b.width, query.shape[0], -1))
    return torch.cat(outputs).index_select(0, layout.inverse)


def _has_varlen(query: Tensor) -> bool:
    """Whether torch's kernels for sequences of any lengths can take it: half precision on a GPU that is not too old."""
    size, narrow = query.shape[-1], query.dtype in (torch.bfloat16, torch.float16)
    if not narrow or size % 8 or size > 256 or device_type(query.device) != "cuda":
        return False
    return not query.is_cuda or torch.cuda.get_device_capability(query.device) >= (8, 0)


def _varlen(
    query: Tensor, key: Tensor, value: Tensor, layout: Layout, scaling: float, window: int | None
) -> Tensor:
    """The same without buckets: a sequence's own tokens are its last queries, and see its keys from the first.

    [H, N, d], [Hkv, N, d] x 2 -> [N, H, d].
    """
    from torch.nn.attention.varlen import varlen_attn  # two seconds, which nobody needs without a GPU

    query, key, value = (t.transpose(0, 1) for t in (query, key, value))
    if layout.place is not None:  # shared tokens lie in the row once, and are keys of several sequences
        key, value = key[layout.place], value[layout.place]
    own, every = layout.starts
    before = -1 if window is None else window - 1  # keys that a query sees before its own; -1: all
    out = varlen_attn(
        query,
        key,
        value,
        own,
        every,
        max(length - shared for length, shared in zip(layout.lengths, layout.shared, strict=True)),
        max(layout.lengths),
        scale=scaling,
        window_size=(before, 0),
        enable_gqa=query.shape[1] != key.shape[1],
    )
    assert isinstance(out, Tensor), "nothing else was asked for"
    return out


def masked_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,
    newest: Tensor | None,
    scaling: float,
    window: int | None = None,
    softcap: float | None = None,
) -> Tensor:
    """Attention under a mask: query [B, H, Q, d], key and value [B, Hkv, K, d] -> [B, Q, H, d].

    mask: [B or 1, 1, Q, K], bool (True = may be seen) or additive; None: causal, the last query seeing every key.
    A single query, which stands at key `newest` int64 [B] (None: the last), also respects `window` (decoding: the mask only
    hides unused columns); for several queries transformers has put the window into the mask. A row that may see nothing
    under a boolean mask (padding) sees everything, not NaN.
    """
    rows, heads, queries, _ = query.shape
    if window is not None and queries == 1 and key.shape[2] > window:
        last = torch.tensor([key.shape[2] - 1], device=query.device) if newest is None else newest
        gone = torch.arange(key.shape[2], device=query.device) <= (last - window)[:, None]
        hidden = query.new_zeros(gone.shape).masked_fill_(gone, -torch.inf)[:, None, None]
        if mask is None:
            mask = hidden
        else:
            mask = mask & ~gone[:, None, None] if mask.dtype == torch.bool else mask + hidden
    if mask is None and queries > 1:
        mask = additive_mask(
            queries, key.shape[2], key.shape[2] - queries, window, query.dtype, query.device
        )[:, None]
    shared = heads // key.shape[1]
    q = query.reshape(
        rows, key.shape[1], shared * queries, -1
    )  # heads that share keys are more queries of one head
    scores = torch.matmul(q, key.transpose(2, 3)) * scaling
    scores = scores if softcap is None else torch.tanh(scores / softcap) * softcap
    if mask is not None:
        scores = scores.view(rows, heads, queries, -1)
        scores = (
            scores.masked_fill_(~mask, torch.finfo(scores.dtype).min)
            if mask.dtype == torch.bool
            else scores.add_(mask)
        )
        scores = scores.view(rows, key.shape[1], shared * queries, -1)
    out = torch.matmul(torch.softmax(scores, dim=-1), value)
    return out.view(rows, heads, queries, -1).transpose(1, 2)


def newest_attention(query: Tensor, key: Tensor, value: Tensor, hidden: Tensor, scaling: float) -> Tensor:
    """Attention of the newest token of every row to the columns of a cache, with nothing to prepare.

    query [B, H, d], key and value [B, Hkv, K, d], hidden additive [B * Hkv, 1, K] -> [B, H * d].
    """
    rows, shared, columns, size = key.shape
    query = query.reshape(rows * shared, -1, size)
    key, value = key.view(-1, columns, size), value.view(-1, columns, size)
    weights = _softmax(torch.baddbmm(hidden, query, key.transpose(1, 2), alpha=scaling))
    return torch.bmm(weights, value).view(rows, -1)


AttentionInterface.register(NAME, attention)
AttentionMaskInterface.register(NAME, sdpa_mask)
