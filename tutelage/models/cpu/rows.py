"""Cached decoding of a plain Llama on a CPU: at 64 rows of one token most of a step is calls, not arithmetic, so it runs in
one compiled call where that is there, and by few of torch's operators otherwise."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tutelage.models.attention import newest_attention
from tutelage.models.cache import StaticKV
from tutelage.models.cpu import kernels, llama
from tutelage.models.cpu.layer import call_of, heads_of, products, rotation, turn, weights_of
from tutelage.models.layout import Layout


class LlamaRows:
    """How a plain Llama keeps its rows: `decode.Decoding` says what each method does.

    The matrices are put together once, when the rows are made: the weights must not change before they are finished.
    """

    def __init__(self, model: Any) -> None:
        self._backbone, self._head = model.model, model.get_output_embeddings()
        self._wide = torch.promote_types(model.dtype, torch.float32)
        self._next: _Step = _compiled(model) or _Operators(model)

    def prefill(self, prompts: Sequence[Sequence[int]], new_tokens: int) -> Tensor:
        layout = Layout([len(prompt) for prompt in prompts])
        ids = torch.tensor([token for prompt in prompts for token in prompt])
        self.cache = StaticKV(max(layout.lengths) + new_tokens)
        self.cache.prefill(layout)
        hidden = llama.states(self._backbone, ids, layout, layout.last, self.cache)
        self.cache.advance()
        logits: Tensor = self._head(hidden)
        return logits

    def step(self, tokens: Tensor) -> Tensor:
        x = self._backbone.embed_tokens(tokens).to(self._wide)
        logits = self._next(x, rotation(self._backbone, x, self.cache.positions()), self.cache)
        self.cache.advance()
        return logits

    def select(self, rows: Tensor) -> None:
        self.cache.select(rows)

    def repeat(self, times: int) -> None:
        self.cache.repeat(times)


_Step = Callable[[Tensor, Tensor, StaticKV], Tensor]
"""x [R, D] of the newest tokens, their rotation complex [R, d / 2] -> logits [R, V]; writes to the cache's next column."""


def _compiled(model: Any) -> _Step | None:
    """A step in compiled kernels, where the layers run in them (`llama.states`), which keeps keys in the same order."""
    if not llama.compiled(model.model):
        return None
    layers, norm, head = model.model.layers, model.model.norm.weight, model.get_output_embeddings()
    weights = [weights_of(layer) for layer in layers]
    turn = torch.empty(0, layers[0].self_attn.head_dim // 2)
    call = call_of(layers[0], Layout([1]), turn, torch.float32, None)
    if type(head) is nn.Linear and head.bias is None and llama.unhooked(head) and kernels.usable(head.weight):
        return kernels.Rows(call, weights, norm, head.weight).step
    states = kernels.Rows(call, weights, norm, None).step
    return lambda x, by, cache: head(states(x, by, cache))


class _Operators:
    """A step on torch's operators."""

    def __init__(self, model: Any) -> None:
        self._dtype = model.dtype
        wide = torch.promote_types(model.dtype, torch.float32)
        self._layers = [_Layer(layer, model.dtype, wide) for layer in model.model.layers]
        self._norm = _Norm(model.model.norm, model.dtype, wide)
        self._head = model.get_output_embeddings()

    def __call__(self, x: Tensor, by: Tensor, cache: StaticKV) -> Tensor:
        mask = cache.mask(self._dtype)[:, 0]
        heads = self._layers[0].shared
        hidden = mask.expand(-1, heads, -1).reshape(len(x) * heads, 1, -1)
        for number, layer in enumerate(self._layers):
            x = layer(x, by[:, None], hidden, cache, number)
        logits: Tensor = self._head(self._norm(x))
        return logits


class _Norm:
    """The root-mean-square norm: wide in, the products' dtype out."""

    def __init__(self, norm: Any, dtype: torch.dtype, wide: torch.dtype) -> None:
        self._weight, self._eps, self._dtype = norm.weight.to(wide), norm.variance_epsilon, dtype

    def __call__(self, x: Tensor) -> Tensor:
        return F.rms_norm(x, self._weight.shape, self._weight, self._eps).to(self._dtype)


class _Layer:
    """One decoder layer for the newest token of every row: [R, D] -> [R, D]."""

    def __init__(self, layer: Any, dtype: torch.dtype, wide: torch.dtype) -> None:
        self.heads, self.shared = heads_of(layer)
        matrices = products(weights_of(layer), self.heads, self.shared, dtype)
        self._into, self._out, self._up, self._down = map(_product, matrices)
        self._before = _Norm(layer.input_layernorm, dtype, wide)
        self._between = _Norm(layer.post_attention_layernorm, dtype, wide)
        self._scaling, self._size = layer.self_attn.scaling, layer.self_attn.head_dim

    def __call__(self, x: Tensor, by: Tensor, hidden: Tensor, cache: StaticKV, number: int) -> Tensor:
        heads, both = self.heads, self.heads + self.shared
        parts = self._into(self._before(x)).unflatten(1, (-1, self._size))
        turned = turn(parts[:, :both], by)
        keys, values = cache.update(turned[:, heads:, None], parts[:, both:, None], number)
        x = x + self._out(newest_attention(turned[:, :heads], keys, values, hidden, self._scaling))
        gate, up = self._up(self._between(x)).chunk(2, dim=1)
        x += self._down(F.silu(gate).mul_(up))
        return x


def _product(matrix: Tensor) -> Callable[[Tensor], Tensor]:
    """x [R, in] -> x matrix^T [R, out].

    For few rows oneDNN takes half of the time to bring the matrix into the order that it likes; torch's compiler has it
    do that once, by operators that are not part of its public interface: without them every product does it again.
    """
    if not _packs(matrix.dtype):
        return lambda x: x @ matrix.t()
    packed = torch.ops.mkldnn._reorder_linear_weight(matrix)
    return lambda x: torch.ops.mkldnn._linear_pointwise(x, packed, None, "none", [], "")


def _packs(dtype: torch.dtype) -> bool:
    needed = "_reorder_linear_weight", "_linear_pointwise", "_is_mkldnn_bf16_supported"
    if not (torch.backends.mkldnn.is_available() and all(hasattr(torch.ops.mkldnn, name) for name in needed)):
        return False
    return dtype == torch.float32 or (
        dtype == torch.bfloat16 and torch.ops.mkldnn._is_mkldnn_bf16_supported()
    )
