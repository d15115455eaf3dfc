"""Low-rank adapters by peft: train few weights; the reference is the same model with the adapter switched off."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from tutelage.models.forward import plain
from tutelage.seeds import torch_generator

# peft takes seconds to import, and most runs have no adapter: it is imported where one is made.


def add_lora(model: Any, rank: int, alpha: float, seed: int = 0) -> nn.Module:
    """Freeze `model` and give every linear layer but the output layer an adapter, scaled by alpha / rank.

    At first it changes nothing. A scalar head stays trainable as it is. The adapter goes into the layers of `model`
    itself; train and save what is returned.
    """
    from peft import LoraConfig, get_peft_model

    scale: Any = alpha  # peft's signature says int, its arithmetic takes any number
    config = LoraConfig(r=rank, lora_alpha=scale, lora_dropout=0.0, target_modules="all-linear")
    head = getattr(model, "score", None)
    if head is not None:
        config.exclude_modules = ["score"]
    start = int(torch.randint(2**31, (), generator=torch_generator(seed, "lora")))
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # peft says that it found GPT-2's transposed layers
        torch.manual_seed(start)  # peft draws from the global state
        adapted = get_peft_model(model, config)
    if head is not None:
        head.requires_grad_(True)
    return adapted


@contextmanager
def reference(model: nn.Module) -> Iterator[Any]:
    """Inside, a model with an adapter computes as it did before the adapter, without gradients."""
    assert plain(model) is not model, "only a model with an adapter is its own reference"
    adapted: Any = model
    with torch.no_grad(), adapted.disable_adapter():
        yield adapted


def merged(model: nn.Module) -> PreTrainedModel:
    """The plain model, an adapter worked into a copy of its weights; `model` stays as it is, bit for bit.

    Without an adapter that is `model` itself.
    """
    if plain(model) is model:
        return model
    own: Any = copy.deepcopy(model)  # merging in place, and back, would round the weights
    return own.merge_and_unload()
