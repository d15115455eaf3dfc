"""A decoder layer of Llama on a CPU, forward and backward by hand, on torch's operators.

What transformers' modules do in some sixty calls per layer, and autograd in a hundred on the way back, is done here in a
third of them: query, key and value in one product, gate and up in another, the rotation as one complex product, sums in
place.  At a million parameters most of a step is such calls, not arithmetic.

Residual stream and norms are float32 (float64 for float64 weights), products run in autocast's dtype.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from tutelage.models.attention import Scores, attend, attend_backward
from tutelage.models.layout import Layout

LINEARS = ("q_proj", "k_proj", "v_proj", "o_proj"), ("gate_proj", "up_proj", "down_proj")


def rotation(backbone: Any, like: Tensor, positions: Tensor) -> Tensor:
    """Complex [N, d / 2]: by how much tokens at `positions` int64 [N] are turned."""
    cos, sin = (t[0] for t in backbone.rotary_emb(like, positions[None]))
    half = cos.shape[-1] // 2
    return torch.complex(cos[..., :half], sin[..., :half])


def heads_of(layer: Any) -> tuple[int, int]:
    """Heads of the queries, and of keys and values."""
    attn = layer.self_attn
    return attn.q_proj.out_features // attn.head_dim, attn.k_proj.out_features // attn.head_dim


def weights_of(layer: Any) -> tuple[Tensor, ...]:
    """Both norms, q, k, v, o, gate, up, down."""
    linears = [getattr(layer.self_attn, name).weight for name in LINEARS[0]]
    linears += [getattr(layer.mlp, name).weight for name in LINEARS[1]]
    return layer.input_layernorm.weight, layer.post_attention_layernorm.weight, *linears


class Products(NamedTuple):
    """The four matrices of a layer, in the dtype of its products: into attention and out, up to the wide part and down.

    Queries and keys have the numbers that the rotation pairs side by side.
    """

    into: Tensor
    out: Tensor
    up: Tensor
    down: Tensor


def products(weights: Sequence[Tensor], heads: int, shared: int, dtype: torch.dtype) -> Products:
    """From `weights_of` a layer."""
    _, _, q, k, v, o, gate, up, down = weights
    into = torch.cat([_pairs(q, heads), _pairs(k, shared), v]).to(dtype)
    return Products(into, o.to(dtype), torch.cat([gate, up]).to(dtype), down.to(dtype))


@dataclass(frozen=True)
class Call:
    """What a layer needs besides its input and its weights.

    turn: complex [N, d / 2], the rotation of every token.  read: row positions that go on, None = all.
    store: is given the keys and values [1, h, N, d].
    """

    heads: int
    shared_heads: int
    eps: float
    turn: Tensor
    dtype: torch.dtype
    scores: Scores
    read: Tensor | None
    store: Callable[[Tensor, Tensor], object] | None


def call_of(
    layer: Any,
    layout: Layout,
    turn: Tensor,
    dtype: torch.dtype,
    read: Tensor | None,
    store: Callable[[Tensor, Tensor], object] | None = None,
) -> Call:
    scores = Scores(layout, layer.self_attn.scaling, None, None)
    eps = layer.input_layernorm.variance_epsilon
    return Call(*heads_of(layer), eps, turn, dtype, scores, read, store)


class Layer(torch.autograd.Function):
    """One decoder layer: [N, D] -> [N, D], or [M, D] at `call.read`."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, call: Call, *weights: Tensor) -> Tensor:
        norm1, norm2, q, *_, gate, _, _ = weights
        heads, shared = call.heads, call.shared_heads
        size = q.shape[0] // heads
        w_in, w_out, w_up, w_down = products(weights, heads, shared, call.dtype)

        scale1 = _scale(x, call.eps)
        n1 = _normed(x, scale1, norm1).to(call.dtype)
        qkv = n1 @ w_in.t()
        parts = qkv.unflatten(1, (-1, size)).transpose(0, 1)
        turned, value = turn(parts[: heads + shared], call.turn), parts[heads + shared :]
        query, key = turned[:heads], turned[heads:]
        if call.store is not None:
            call.store(key[None], value[None])
        mixed, kept = attend(query, key, value, call.scores, keep=any(ctx.needs_input_grad))
        mixed = mixed.flatten(1)

        seen = mixed if call.read is None else mixed[call.read]
        x2 = (x if call.read is None else x[call.read]) + seen @ w_out.t()
        scale2 = _scale(x2, call.eps)
        n2 = _normed(x2, scale2, norm2).to(call.dtype)
        both = n2 @ w_up.t()
        opened = F.silu(both[:, : len(gate)])
        inner = opened * both[:, len(gate) :]
        ctx.call = call
        ctx.save_for_backward(
            x, scale1, n1, query, key, value, seen, x2, scale2, n2, both, opened, inner,
            norm1, norm2, w_in, w_out, w_up, w_down, *kept,
        )  # fmt: skip
        return x2 + inner @ w_down.t()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        call: Call = ctx.call
        x, scale1, n1, query, key, value, seen, x2, scale2, n2, both, opened, inner, *rest = ctx.saved_tensors
        norm1, norm2, w_in, w_out, w_up, w_down, *kept = rest
        wide, heads, shared = x.dtype, call.heads, call.shared_heads

        out = grad.to(call.dtype)
        d_down, d_inner = out.t() @ inner, out @ w_down
        width = inner.shape[1]
        d_both = torch.empty_like(both)
        torch.mul(d_inner, opened, out=d_both[:, width:])
        d_opened = d_inner.mul_(both[:, width:])
        torch.ops.aten.silu_backward.grad_input(d_opened, both[:, :width], grad_input=d_both[:, :width])
        d_up = d_both.t() @ n2
        dx2, d_norm2 = _norm_backward(d_both @ w_up, x2, scale2, norm2)
        dx2 += grad

        out = dx2.to(call.dtype)
        d_out, d_mixed = out.t() @ seen, out @ w_out
        if call.read is not None:
            d_mixed = d_mixed.new_zeros(len(x), d_mixed.shape[1]).index_copy_(0, call.read, d_mixed)
        size = query.shape[2]
        d_query, d_key, d_value = attend_backward(
            d_mixed.unflatten(1, (heads, size)), query, key, value, call.scores, kept
        )
        d_qkv = n1.new_empty(len(x), len(w_in))
        parts = d_qkv.unflatten(1, (-1, size))
        _turn_back((d_query, d_key), call.turn, parts[:, : heads + shared])
        parts[:, heads + shared :] = d_value.transpose(0, 1)
        d_in = d_qkv.t() @ n1
        dx, d_norm1 = _norm_backward(d_qkv @ w_in, x, scale1, norm1)
        if call.read is None:
            dx += dx2
        else:
            dx.index_add_(0, call.read, dx2)

        d_q, d_k, d_v = d_in.split([heads * size, shared * size, shared * size])
        matrices = _halves(d_q, heads), _halves(d_k, shared), d_v, d_out, d_up[:width], d_up[width:], d_down
        return dx, None, d_norm1, d_norm2, *(m.to(wide) for m in matrices)


def _pairs(weight: Tensor, heads: int) -> Tensor:
    """Rows [heads * d, D] in another order: what the rotation pairs, i and i + d / 2, side by side."""
    return weight.view(heads, 2, -1, weight.shape[1]).transpose(1, 2).flatten(0, 2)


def _halves(weight: Tensor, heads: int) -> Tensor:
    """The order before `_pairs`."""
    return weight.view(heads, -1, 2, weight.shape[1]).transpose(1, 2).flatten(0, 2)


def turn(x: Tensor, by: Tensor) -> Tensor:
    """[..., d], contiguous: every pair of numbers next to each other in `x` turned by its angle in `by` [..., d / 2]."""
    wide = x.new_empty(x.shape, dtype=torch.promote_types(x.dtype, torch.float32)).copy_(x)
    _complex(wide).mul_(by)
    return wide.to(x.dtype)


def _turn_back(gradients: Sequence[Tensor], by: Tensor, out: Tensor) -> None:
    """From the gradients [h, N, d] of what was turned to those [N, sum of h, d] of what it was before, in `out`."""
    wide = out.new_empty(out.shape, dtype=torch.promote_types(out.dtype, torch.float32))
    for part, gradient in zip(wide.split([len(g) for g in gradients], dim=1), gradients, strict=True):
        part.copy_(gradient.transpose(0, 1))
    _complex(wide).mul_(by.conj()[:, None])
    out.copy_(wide)


def _complex(wide: Tensor) -> Tensor:
    """[..., d] -> a complex view [..., d / 2] of it."""
    return torch.view_as_complex(wide.unflatten(-1, (-1, 2)))


def _scale(x: Tensor, eps: float) -> Tensor:
    """[N, 1]: one over the root of the mean square."""
    return (torch.linalg.vecdot(x, x)[:, None] / x.shape[1]).add_(eps).rsqrt_()


def _normed(x: Tensor, scale: Tensor, weight: Tensor) -> Tensor:
    return (x * scale).mul_(weight)


def _norm_backward(grad: Tensor, x: Tensor, scale: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Gradients of x and of the weight.  With g = grad weight: scale (g - x scale^2 mean(g x)), sum(grad x scale)."""
    grad = grad.to(x.dtype)
    product = grad * x
    along = (product @ weight.to(x.dtype))[:, None] * scale.square() / -x.shape[1]
    d_weight = (scale[:, 0] @ product).to(weight.dtype)
    return (grad * weight).addcmul_(x, along).mul_(scale), d_weight
