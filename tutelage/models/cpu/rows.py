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
        self.cache = StaticKV(max(map(len, prompts)) + new_tokens)
        return self.replace(None, prompts)

    def replace(
        self, rows: Tensor | None, prompts: Sequence[Sequence[int]], counts: Sequence[int] = ()
    ) -> Tensor:
        layout = Layout([len(prompt) for prompt in prompts])
        ids = torch.tensor([token for prompt in prompts for token in prompt])
        self.cache.prefill(layout, rows, counts)
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


_Attend = Callable[[Tensor, int], Tensor]
"""qkv [R, (H + 2 Hkv) * d] of a layer (`layer.products`), its number -> [R, H * d]; writes to every row's next column."""


class _Operators:
    """A step on torch's operators; attention to a bfloat16 cache in a compiled kernel, where that is there."""

    def __init__(self, model: Any) -> None:
        wide = torch.promote_types(model.dtype, torch.float32)
        self._layers = [_Layer(layer, model.dtype, wide) for layer in model.model.layers]
        self._norm = _Norm(model.model.norm, model.dtype, wide)
        self._head = model.get_output_embeddings()
        self._attention = _attention(model.model.layers[0], model.dtype)

    def __call__(self, x: Tensor, by: Tensor, cache: StaticKV) -> Tensor:
        attend = self._attention(by, cache)
        for number, layer in enumerate(self._layers):
            x = layer(x, attend, number)
        logits: Tensor = self._head(self._norm(x))
        return logits


def _attention(layer: Any, dtype: torch.dtype) -> Callable[[Tensor, StaticKV], _Attend]:
    """What gives a step its attention; all layers are alike."""
    heads, shared = heads_of(layer)
    size, scaling, both = layer.self_attn.head_dim, layer.self_attn.scaling, heads + shared
    if kernels.usable(layer.mlp.down_proj.weight, dtype=torch.bfloat16) and size % 2 == 0:
        call = call_of(layer, Layout([1]), torch.empty(0, size // 2), dtype, None)
        newest = kernels.Newest(call, layer.mlp.down_proj.weight)
        return lambda by, cache: lambda qkv, number: newest(qkv, by, cache, number)

    def begun(by: Tensor, cache: StaticKV) -> _Attend:
        mask = cache.mask(dtype)[:, 0]
        hidden = mask.expand(-1, shared, -1).reshape(len(mask) * shared, 1, -1)

        def attend(qkv: Tensor, number: int) -> Tensor:
            parts = qkv.unflatten(1, (-1, size))
            turned = turn(parts[:, :both], by[:, None])
            keys, values = cache.update(turned[:, heads:, None], parts[:, both:, None], number)
            return newest_attention(turned[:, :heads], keys, values, hidden, scaling)

        return attend

    return begun


class _Norm:
    """The root-mean-square norm: wide in, the products' dtype out."""

    def __init__(self, norm: Any, dtype: torch.dtype, wide: torch.dtype) -> None:
        self._weight, self._eps, self._dtype = norm.weight.to(wide), norm.variance_epsilon, dtype

    def __call__(self, x: Tensor) -> Tensor:
        return F.rms_norm(x, self._weight.shape, self._weight, self._eps).to(self._dtype)


class _Layer:
    """One decoder layer for the newest token of every row: [R, D] -> [R, D]."""

    def __init__(self, layer: Any, dtype: torch.dtype, wide: torch.dtype) -> None:
        matrices = products(weights_of(layer), *heads_of(layer), dtype)
        self._into, self._out, self._up, self._down = map(_product, matrices)
        self._before = _Norm(layer.input_layernorm, dtype, wide)
        self._between = _Norm(layer.post_attention_layernorm, dtype, wide)

    def __call__(self, x: Tensor, attend: _Attend, number: int) -> Tensor:
        x = x + self._out(attend(self._into(self._before(x)), number))
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
