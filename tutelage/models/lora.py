"""Low-rank adapters by peft: train few weights; the reference is the same model with the adapter switched off."""

from __future__ import annotations

import copy
import json
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import PreTrainedModel

from tutelage.files import folder_atomic, sha256_of, write_json_atomic
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
    heads = heads_of(model)
    if heads:
        config.exclude_modules = [name.rpartition(".")[2] for own in heads for name in _linears(model, own)]
    start = int(torch.randint(2**31, (), generator=torch_generator(seed, "lora")))
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # peft says that it found GPT-2's transposed layers
        torch.manual_seed(start)  # peft draws from the global state
        adapted = get_peft_model(model, config)
    for head in heads:
        model.get_submodule(head).float().requires_grad_(True)
    return module.with_model(adapted)


def heads_of(model: Any) -> list[str]:
    """The modules of a scalar model that are its head, by name: what makes scores of hidden states, an encoder's pooling with
    it; none in a language model."""
    pooling = f"{model.base_model_prefix}.pooler"
    there = [name for name, _ in model.named_modules() if name in ("score", "classifier", pooling)]
    return there if {"score", "classifier"} & set(there) else []


def _linears(model: Any, head: str) -> list[str]:
    """The linear layers of a head, by name."""
    inside = model.get_submodule(head).named_modules(prefix=head)
    return [name for name, one in inside if isinstance(one, nn.Linear)]


def _head_state(model: Any) -> dict[str, torch.Tensor]:
    return {
        f"{head}.{name}": value
        for head in heads_of(model)
        for name, value in model.get_submodule(head).state_dict().items()
    }


def _set_head(model: Any, state: Mapping[str, torch.Tensor]) -> None:
    for head in heads_of(model):
        own = {
            name.removeprefix(f"{head}."): value
            for name, value in state.items()
            if name.startswith(f"{head}.")
        }
        model.get_submodule(head).load_state_dict(own)


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


# ---- on disk -----------------------------------------------------------------------------------------------------------

KNOWN_OF_SCORES = "tutelage_"
"""What names begin with in the config of a model, for what is known of its scores."""

HEAD, BASE = "head.safetensors", "base.json"


@dataclass(frozen=True)
class Adapter:
    """An adapter in a folder of its own, and the model that it was trained on (`base`, with the hash of its files)."""

    folder: Path
    base: str
    sha256: str | None
    rank: int
    alpha: float

    def is_on(self, base: str) -> bool:
        """Whether its base is the model at `base`, by content."""
        return self.sha256 is not None and Path(base).is_dir() and self.sha256 == sha256_of(base)


def save_adapter(module: Hosted, folder: Path) -> None:
    """Write an adapter, and the scalar head beside it where there is one, as peft reads it."""
    adapted: Any = module.model
    # rows for added tokens follow from the base and the tokenizer: the embedding need not come along
    adapted.save_pretrained(folder, save_embedding_layers=False)
    state = _head_state(module.host)
    if state:
        save_file({name: value.detach().clone() for name, value in state.items()}, folder / HEAD)


def load_adapter(module: Hosted, folder: Path) -> None:
    """Put what `save_adapter` wrote into a module with an adapter of the same shape."""
    from peft import set_peft_model_state_dict

    set_peft_model_state_dict(module.model, load_file(folder / "adapter_model.safetensors"))
    if heads_of(module.host):
        _set_head(module.host, load_file(folder / HEAD))


def copy_adapter(source: Hosted, target: Hosted) -> None:
    """Give `target`, which has an adapter of the same shape, the adapter and the scalar head of `source`."""
    from peft import get_peft_model_state_dict, set_peft_model_state_dict

    own = get_peft_model_state_dict(source.model, save_embedding_layers=False)
    set_peft_model_state_dict(target.model, own)
    _set_head(target.host, _head_state(source.host))
    for name, known in vars(source.config).items():  # what a reward model knows of its scores
        if name.startswith(KNOWN_OF_SCORES):
            setattr(target.config, name, known)
    target.config.id2label, target.config.label2id = source.config.id2label, source.config.label2id


def export_adapter(module: Hosted, folder: Path, base: str) -> None:
    """`save_adapter` for whoever wants to use it on the model `base` (a folder or hub name) that is there already."""
    with folder_atomic(folder) as partial:
        save_adapter(module, partial)
        write_json_atomic(partial / BASE, {"base": base, "sha256": _hash(base)})


def read_adapter(folder: Path) -> Adapter | None:
    """The adapter in a folder that `export_adapter` wrote; None where there is none."""
    if not (folder / BASE).is_file():
        return None
    base, config = (json.loads((folder / name).read_text()) for name in (BASE, "adapter_config.json"))
    return Adapter(folder, base["base"], base["sha256"], config["r"], config["lora_alpha"])


def _hash(base: str) -> str | None:
    return sha256_of(base) if Path(base).is_dir() else None


# ---- one base for several models ---------------------------------------------------------------------------------------


def share_frozen(owner: Hosted, module: H) -> H:
    """Let `module` use the frozen weights of `owner` wherever its own are the same, to the bit; returns it.

    Several adapters on one base then take the memory of one base.
    """
    there = {_plain_name(name): p for name, p in owner.named_parameters() if not p.requires_grad}
    for name, parameter in module.named_parameters():
        same = there.get(_plain_name(name))
        if same is not None and not parameter.requires_grad and _equal(same, parameter):
            parameter.data = same.data
    return module


def _plain_name(name: str) -> str:
    """The name that a parameter has without an adapter."""
    return name.replace("base_model.model.", "").replace(".base_layer", "")


def _equal(one: torch.Tensor, other: torch.Tensor) -> bool:
    alike = one.dtype == other.dtype and one.device == other.device and one.shape == other.shape
    return alike and torch.equal(one, other)
