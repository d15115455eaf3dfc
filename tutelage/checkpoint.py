"""Checkpoints: complete (weights, optimizer, step, best so far), atomic, and readable by plain transformers.

    checkpoints/step-00000100/
        policy/          each trained module under its name; a transformers model with its tokenizer
        controller.safetensors   a small module that is no transformers model (buffers of a controller, say)
        optimizer.pt     the optimizer's state
        state.json       {"step": 100, "num_tokens": ..., "best": ...}

Randomness needs no state: everything random is derived from (seed, step, sample).
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from tutelage.files import folder_atomic, write_json_atomic
from tutelage.models.loading import save as save_model
from tutelage.models.lora import load_adapter, save_adapter
from tutelage.models.policy import Hosted
from tutelage.resume import checkpoint_steps


def save(
    folder: Path,
    step: int,
    trained: Mapping[str, nn.Module],
    optimizer: torch.optim.Optimizer,
    tokenizer: PreTrainedTokenizerBase,
    state: Mapping[str, Any],
) -> Path:
    """Write the checkpoint of `step` below `folder`; it appears whole or not at all.  Raises OSError (disk full)."""
    target = folder / f"step-{step:08d}"
    with folder_atomic(target) as part:
        for name, module in trained.items():
            _save_module(module, tokenizer, part, name)
        torch.save(optimizer.state_dict(), part / "optimizer.pt")
        write_json_atomic(part / "state.json", {"step": step, **state})
    return target


def load(
    folder: Path, step: int, trained: Mapping[str, nn.Module], optimizer: torch.optim.Optimizer
) -> dict[str, Any]:
    """Put the checkpoint of `step` into the modules and the optimizer, in place; returns its state.json."""
    source = folder / f"step-{step:08d}"
    for name, module in trained.items():
        _load_module(module, source, name)
    optimizer.load_state_dict(torch.load(source / "optimizer.pt", map_location="cpu", weights_only=True))
    return json.loads((source / "state.json").read_text(encoding="utf-8"))


def prune(folder: Path, keep: int, also: int | None) -> None:
    """Remove all but the last `keep` checkpoints and the one of step `also` (the best)."""
    for step in checkpoint_steps(folder)[:-keep]:
        if step != also:
            shutil.rmtree(folder / f"step-{step:08d}")


def _save_module(module: nn.Module, tokenizer: PreTrainedTokenizerBase, part: Path, name: str) -> None:
    if not (isinstance(module, Hosted) and isinstance(module.host, PreTrainedModel)):
        save_file(dict(module.state_dict()), part / f"{name}.safetensors")
    elif module.adapted:  # only the adapter's weights change
        save_adapter(module, part / name)
        tokenizer.save_pretrained(part / name)
    else:
        save_model(module, tokenizer, part / name)


def _load_module(module: nn.Module, source: Path, name: str) -> None:
    if not (isinstance(module, Hosted) and isinstance(module.host, PreTrainedModel)):
        module.load_state_dict(load_file(source / f"{name}.safetensors"))
    elif module.adapted:
        load_adapter(module, source / name)
    else:
        saved = type(module.host).from_pretrained(source / name, dtype=module.dtype)
        module.host.load_state_dict(saved.state_dict())
