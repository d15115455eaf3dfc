"""Cached decoding of a plain Llama on a CPU: at 64 rows of one token most of a step is calls, not arithmetic, so it runs in
one compiled call where that is there, and by few of torch's operators otherwise."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

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
    call = call_of(layers[0], Layout([1]), turn, llama.arithmetic_of(model.model), None)
    alike = type(head) is nn.Linear and head.bias is None and head.weight.dtype == norm.dtype
    if alike and llama.unhooked(head):
        return kernels.Rows(call, weights, norm, head.weight).step
    states = kernels.Rows(call, weights, norm, None).step
    return lambda x, by, cache: head(states(x, by, cache).to(norm.dtype))


class _Operators:
    """A step whose products are torch's; what lies between them is compiled, in bfloat16, where there is a compiler."""

    def __init__(self, model: Any) -> None:
        self._parts = _parts(model)
        self._layers = [_Layer(layer, model.dtype, self._parts) for layer in model.model.layers]
        self._norm = self._parts.norm(model.model.norm)
        self._head = model.get_output_embeddings()

    def __call__(self, x: Tensor, by: Tensor, cache: StaticKV) -> Tensor:
        attend = self._parts.attention(by, cache)
        for number, layer in enumerate(self._layers):
            x = layer(x, attend, number)
        logits: Tensor = self._head(self._norm(x))
        return logits


_Map = Callable[[Tensor], Tensor]
_Attend = Callable[[Tensor, int], Tensor]
"""qkv [R, (H + 2 Hkv) * d] of a layer (`layer.products`), its number -> [R, H * d]; writes to every row's next column."""


class _Parts(Protocol):
    """What a step needs besides products."""

    def norm(self, norm: Any) -> _Map:
        """A root-mean-square norm: wide in, the products' dtype out."""
        ...

    def gate(self, both: Tensor) -> Tensor:
        """[R, 2 I], gate and up -> [R, I]."""
        ...

    def attention(self, by: Tensor, cache: StaticKV) -> _Attend:
        """The attention of one step."""
        ...


def _parts(model: Any) -> _Parts:
    down, size = model.model.layers[0].mlp.down_proj.weight, model.model.layers[0].self_attn.head_dim
    narrow = kernels.usable(down, model.model.norm.weight, dtype=torch.bfloat16) and size % 2 == 0
    return _CompiledParts(model) if narrow else _TorchParts(model)


class _CompiledParts:
    """In kernels for bfloat16; all layers are alike."""

    def __init__(self, model: Any) -> None:
        layer = model.model.layers[0]
        call = call_of(layer, Layout([1]), torch.empty(0, layer.self_attn.head_dim // 2), model.dtype, None)
        self._kernels = kernels.Narrow(call, layer.mlp.down_proj.weight)
        self.gate = self._kernels.gated

    def norm(self, norm: Any) -> _Map:
        weight = norm.weight.float()
        return lambda x: self._kernels.normed(x, weight)

    def attention(self, by: Tensor, cache: StaticKV) -> _Attend:
        return lambda qkv, number: self._kernels.attend(qkv, by, cache, number)


class _TorchParts:
    """In torch's operators."""

    def __init__(self, model: Any) -> None:
        layer = model.model.layers[0]
        self._dtype, self._wide = model.dtype, torch.promote_types(model.dtype, torch.float32)
        self._heads, self._shared = heads_of(layer)
        self._size, self._scaling = layer.self_attn.head_dim, layer.self_attn.scaling

    def norm(self, norm: Any) -> _Map:
        weight, eps = norm.weight.to(self._wide), norm.variance_epsilon
        return lambda x: F.rms_norm(x, weight.shape, weight, eps).to(self._dtype)

    def gate(self, both: Tensor) -> Tensor:
        gate, up = both.chunk(2, dim=1)
        return F.silu(gate).mul_(up)

    def attention(self, by: Tensor, cache: StaticKV) -> _Attend:
        heads, both = self._heads, self._heads + self._shared
        mask = cache.mask(self._dtype)[:, 0]
        hidden = mask.expand(-1, self._shared, -1).reshape(len(mask) * self._shared, 1, -1)

        def attend(qkv: Tensor, number: int) -> Tensor:
            parts = qkv.unflatten(1, (-1, self._size))
            turned = turn(parts[:, :both], by[:, None])
            keys, values = cache.update(turned[:, heads:, None], parts[:, both:, None], number)
            return newest_attention(turned[:, :heads], keys, values, hidden, self._scaling)

        return attend


class _Layer:
    """One decoder layer for the newest token of every row: [R, D] -> [R, D]."""

    def __init__(self, layer: Any, dtype: torch.dtype, parts: _Parts) -> None:
        matrices = products(weights_of(layer), *heads_of(layer), dtype)
        self._into, self._out, self._up, self._down = map(_product, matrices)
        self._before, self._between = (
            parts.norm(layer.input_layernorm),
            parts.norm(layer.post_attention_layernorm),
        )
        self._gate = parts.gate

    def __call__(self, x: Tensor, attend: _Attend, number: int) -> Tensor:
        x = x + self._out(attend(self._into(self._before(x)), number))
        x += self._down(self._gate(self._up(self._between(x))))
        return x


def _product(matrix: Tensor) -> _Map:
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
