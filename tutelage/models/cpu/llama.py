"""Llama's decoder on a CPU: which models it is for, and the way through its layers.

A layer runs in kernels compiled for the processor where they are there (`kernels`), on torch's operators
otherwise (`layer`).  Weights stay where transformers keeps them; what comes out agrees with its modules to rounding
(tests/models/test_llama.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor
from torch.nn.modules.module import _has_any_global_hook
from torch.utils.checkpoint import checkpoint
from transformers import LlamaModel
from transformers.activations import SiLUActivation
from transformers.models.llama.modeling_llama import (
    LlamaAttention,
    LlamaDecoderLayer,
    LlamaMLP,
    LlamaRMSNorm,
    LlamaRotaryEmbedding,
)

from tutelage.data.batch import TokenBatch
from tutelage.models.cache import StaticKV
from tutelage.models.cpu import kernels
from tutelage.models.cpu.layer import LINEARS, Layer, call_of, rotation, weights_of
from tutelage.models.forward import TRIM_SHARE, Flat, layout_of, row_of
from tutelage.models.layout import Layout
from tutelage.ops.shapes import device_type, round_up

PLAIN_TENSORS = nn.Parameter, Tensor, FakeTensor  # one without numbers stands for a plain one


def plain_llama(backbone: Any) -> bool:
    """Whether `states` can run this backbone: a plain Llama on a CPU, and nothing in it that only transformers' modules would
    do.  Every part has the very type that is written by hand here (no adapter, no quantised layer, no parametrization, no
    other norm or activation), no biases, no hooks, no `forward` of its own.
    """
    if type(backbone) is not LlamaModel or device_type(backbone.device) != "cpu":
        return False
    return not _has_any_global_hook() and unhooked(backbone) and all(map(_plain, _parts(backbone)))


def unhooked(module: nn.Module) -> bool:
    """Calling the module does what its class says: no hook on it, and no `forward` put in front of its class's."""
    hooks = (
        module._forward_hooks,
        module._forward_pre_hooks,
        module._backward_hooks,
        module._backward_pre_hooks,
    )
    return not any(hooks) and "forward" not in module.__dict__


def _parts(backbone: Any) -> Iterator[tuple[nn.Module, type[nn.Module]]]:
    """Every module inside that is written by hand, and what it must be."""
    yield backbone.embed_tokens, nn.Embedding
    yield backbone.rotary_emb, LlamaRotaryEmbedding
    yield backbone.norm, LlamaRMSNorm
    for layer in backbone.layers:
        attn, mlp = layer.self_attn, layer.mlp
        yield layer, LlamaDecoderLayer
        yield layer.input_layernorm, LlamaRMSNorm
        yield layer.post_attention_layernorm, LlamaRMSNorm
        yield attn, LlamaAttention
        yield from ((getattr(attn, name), nn.Linear) for name in LINEARS[0])
        yield mlp, LlamaMLP
        yield from ((getattr(mlp, name), nn.Linear) for name in LINEARS[1])
        yield mlp.act_fn, SiLUActivation


def _plain(part: tuple[nn.Module, type[nn.Module]]) -> bool:
    module, kind = part
    if type(module) is not kind or not unhooked(module):
        return False
    if isinstance(module, nn.Embedding) and module.max_norm is not None:  # looking a row up changes it
        return False
    weight = module._parameters.get("weight")  # a tensor of another type is quantised or sharded
    return module._parameters.get("bias") is None and (weight is None or type(weight) in PLAIN_TENSORS)


class ByHand:
    """One flat row through `states`; through transformers' modules (`otherwise`) when somebody has changed the model."""

    pads = False

    def __init__(self, otherwise: Flat) -> None:
        self._otherwise = otherwise

    def __call__(self, backbone: Any, batch: TokenBatch, read: Tensor | None) -> Tensor:
        if not plain_llama(backbone):
            return self._otherwise(backbone, batch, read)
        layout = layout_of(batch)
        ids, wanted = row_of(batch, layout, read)
        if len(wanted) > TRIM_SHARE * layout.total:
            return states(backbone, ids, layout)[wanted]
        few, place = torch.unique(wanted, return_inverse=True)
        others = torch.ones(layout.total, dtype=torch.bool).index_fill_(0, few, False).nonzero().squeeze(1)
        few = torch.cat([few, others[: round_up(len(few)) - len(few)]])
        return states(backbone, ids, layout, few)[place]


def arithmetic_of(backbone: Any) -> torch.dtype:
    """What products are computed in: autocast's dtype, or that of the weights."""
    dtype: torch.dtype = backbone.embed_tokens.weight.dtype
    return torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else dtype


def compiled(backbone: Any, arithmetic: torch.dtype | None = None) -> bool:
    """Whether the layers run in compiled kernels, where these are there and multiply in this arithmetic (None: that of now)."""
    dtype = arithmetic or arithmetic_of(backbone)
    weights = [backbone.norm.weight, *(w for layer in backbone.layers for w in weights_of(layer))]
    return all(w.dtype in (dtype, torch.float32) for w in weights) and kernels.multiplies(dtype)


def states(
    backbone: Any, ids: Tensor, layout: Layout, read: Tensor | None = None, cache: StaticKV | None = None
) -> Tensor:
    """Last hidden states [N, D] of the row `ids` [N]; [M, D] at row positions `read` (int64 [M], none twice).

    Keys and values are written to `cache`, too, where one is given.  Layers are computed again in the backward pass where
    the model says so.
    """
    table = backbone.embed_tokens.weight
    wide = torch.promote_types(table.dtype, torch.float32)
    dtype = arithmetic_of(backbone)
    run: Callable[..., Tensor] = (kernels.Layer if compiled(backbone) else Layer).apply
    if backbone.gradient_checkpointing and torch.is_grad_enabled():
        run = partial(checkpoint, run, use_reentrant=False, preserve_rng_state=False)
    with torch.autocast("cpu", enabled=False):
        x = backbone.embed_tokens(ids).to(wide)
        by = rotation(backbone, x, layout.positions)
        for number, layer in enumerate(backbone.layers):
            here = read if layer is backbone.layers[-1] else None
            store = None if cache is None else partial(cache.update, layer_idx=number)
            x = run(x, call_of(layer, layout, by, dtype, here, store), *weights_of(layer))
        last: Tensor = backbone.norm(x.to(table.dtype))
        return last
