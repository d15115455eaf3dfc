"""How many numbers a model has, and in which units they are gathered: from its config, without its weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from tutelage.models.loading import imagine
from tutelage.models.rehearsal import Role


@dataclass(frozen=True)
class Size:
    """Numbers of a model, those that are tied counted once.

    frozen, frozen_layer, frozen_root: of what is not trained, of these in the largest decoder layer, and in none (embeddings,
    head, last norm).  trained, trained_layer, trained_root: of what is, an adapter with it.  embedding: of what is only looked
    up, never multiplied.  attention: layers x heads x width of a head: what is multiplied twice, for any two tokens.
    """

    layers: int
    frozen: int
    frozen_layer: int
    frozen_root: int
    trained: int
    trained_layer: int
    trained_root: int
    embedding: int
    attention: int

    @property
    def parameters(self) -> int:
        return self.frozen + self.trained

    @property
    def layer(self) -> int:
        return self.frozen_layer + self.trained_layer

    @property
    def root(self) -> int:
        return self.frozen_root + self.trained_root


def size_of(role: Role) -> Size:
    """The sizes of a role's model.  Raises ValueError when there is none, or when its layers are in no list."""
    with torch.device("meta"):
        host: Any = imagine(role.source, scalar=role.task != "logprobs").host
    config = host.config.get_text_config()
    layers = _layers(host, config.num_hidden_layers)
    whole, largest = _numbers(host), max(_numbers(layer) for layer in layers)
    root = whole - sum(_numbers(layer) for layer in layers)
    if not role.trained:
        parts = (whole, largest, root, 0, 0, 0)
    elif role.lora_rank:
        adapters = [_adapters(layer, role.lora_rank) for layer in layers]
        head = _numbers(host.score) if hasattr(host, "score") else 0
        parts = (whole - head, largest, root - head, sum(adapters) + head, max(adapters), head)
    else:
        parts = (0, 0, 0, whole, largest, root)
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    attention = len(layers) * config.num_attention_heads * width
    return Size(len(layers), *parts, _looked_up(host), attention)


def _numbers(module: nn.Module) -> int:
    return sum({id(p): p.numel() for p in module.parameters()}.values())


def _adapters(layer: nn.Module, rank: int) -> int:
    """Numbers of the adapters on every linear map of a layer."""
    maps = [p for name, p in layer.named_parameters() if name.endswith("weight") and p.dim() == 2]
    return sum(rank * sum(weight.shape) for weight in maps)


def _looked_up(host: Any) -> int:
    """The embeddings of tokens, unless the head multiplies by them."""
    table, head = host.get_input_embeddings().weight, host.get_output_embeddings()
    return 0 if head is not None and head.weight is table else table.numel()


def _layers(host: nn.Module, count: int) -> list[nn.Module]:
    """The decoder's layers: of the lists that are as long as its config says, the one that holds most."""
    lists = [m for m in host.modules() if isinstance(m, nn.ModuleList) and len(m) == count]
    if not lists:
        raise ValueError("its layers stand in no list, so it cannot be sharded layer by layer")
    most = max(range(len(lists)), key=lambda number: _numbers(lists[number]))
    return list(lists[most])
