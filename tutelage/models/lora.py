"""Low-rank adapters by peft: train few weights; the reference is the same model with the adapter switched off."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from transformers import PreTrainedModel

from tutelage.models.policy import Hosted
from tutelage.seeds import torch_generator

# peft takes seconds to import, and most runs have no adapter: it is imported where one is made.

H = TypeVar("H", bound=Hosted)


def add_lora(module: H, rank: int, alpha: float, seed: int = 0) -> H:
    """Freeze the model and give every linear layer but the output layer an adapter, scaled by alpha / rank.

    At first it changes nothing. A scalar head stays trainable as it is. The adapter goes into the layers of the model
    itself; train and save what is returned.
    """
    from peft import LoraConfig, get_peft_model

    scale: Any = alpha  # peft's signature says int, its arithmetic takes any number
    config = LoraConfig(r=rank, lora_alpha=scale, lora_dropout=0.0, target_modules="all-linear")
    model: Any = module.model
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
    return module.with_model(adapted)


@contextmanager
def reference(module: H) -> Iterator[H]:
    """Inside, a model with an adapter computes as it did before the adapter, without gradients."""
    assert module.adapted, "only a model with an adapter is its own reference"
    adapted: Any = module.model
    with torch.no_grad(), adapted.disable_adapter():
        yield module


def merged(module: Hosted) -> PreTrainedModel:
    """The plain model, an adapter worked into a copy of its weights; `module` stays as it is, bit for bit.

    Without an adapter that is the model itself.
    """
    if not module.adapted:
        plain: PreTrainedModel = module.host
        return plain
    own: Any = copy.deepcopy(module.model)  # merging in place, and back, would round the weights
    merged_model: PreTrainedModel = own.merge_and_unload()
    return merged_model
