"""Checkpoints: complete (weights, optimizer, step, best so far), atomic, and readable by plain transformers.

    checkpoints/step-00000100/
        policy/          each trained module under its name; a transformers model with its tokenizer
        controller.safetensors   a small module that is no transformers model (buffers of a controller, say)
        optimizer/       the optimizer's state, as torch's distributed checkpoints (DCP) are: any number of ranks reads it
        state.json       {"step": 100, "num_tokens": ..., "best": ...}

Randomness needs no state: everything random is derived from (seed, step, sample).
"""

from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeGuard

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from tutelage.files import folder_atomic, write_json_atomic
from tutelage.models.loading import save as save_model
from tutelage.models.lora import load_adapter, save_adapter
from tutelage.models.policy import Hosted
from tutelage.models.sharding import opened, parts, whole
from tutelage.parallel import World
from tutelage.resume import checkpoint_steps


def save(
    folder: Path,
    step: int,
    trained: Mapping[str, nn.Module],
    optimizer: torch.optim.Optimizer,
    tokenizer: PreTrainedTokenizerBase,
    state: Mapping[str, Any],
    world: World,
) -> Path:
    """Write the checkpoint of `step` below `folder`, by all ranks together; it appears whole or not at all.  Raises OSError
    (disk full)."""
    target = folder / f"step-{step:08d}"
    with _folder(target, world) as part:
        for name, module in trained.items():
            _save_module(module, tokenizer, part, name, world)
        _save_moments(part / "optimizer", trained, optimizer, world)
        if world.leads:
            write_json_atomic(part / "state.json", {"step": step, **state})
        world.wait()
    return target


def load(
    folder: Path, step: int, trained: Mapping[str, nn.Module], optimizer: torch.optim.Optimizer, world: World
) -> dict[str, Any]:
    """Put the checkpoint of `step` into the modules and the optimizer, in place, on as many ranks as there are now; returns its
    state.json."""
    source = folder / f"step-{step:08d}"
    for name, module in trained.items():
        _load_module(module, source, name, world)
    _load_moments(source / "optimizer", trained, optimizer, world)
    return json.loads((source / "state.json").read_text(encoding="utf-8"))


@contextmanager
def _folder(target: Path, world: World) -> Iterator[Path]:
    """The folder that all ranks fill; rank 0 makes it and puts it in its place."""
    if not world.leads:
        yield Path(world.gather("")[0])
        return
    with folder_atomic(target) as part:
        world.gather(str(part))
        yield part


def _save_moments(
    folder: Path, trained: Mapping[str, nn.Module], optimizer: torch.optim.Optimizer, world: World
) -> None:
    import torch.distributed.checkpoint as dcp  # half a second, which `--help` and a look at a run do not need

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that there is one process
        dcp.save(_moments(trained, optimizer), checkpoint_id=folder, no_dist=world.size == 1)


def _moments(trained: Mapping[str, nn.Module], optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The optimizer's state by the names of its parameters: MODULE/PARAMETER/exp_avg and so on; each rank's parts of it."""
    return {
        f"{name}/{key}/{kind}": value
        for name, module in trained.items()
        for key, parameter in parts(module)
        for kind, value in optimizer.state.get(parameter, {}).items()
    }


def _load_moments(
    source: Path, trained: Mapping[str, nn.Module], optimizer: torch.optim.Optimizer, world: World
) -> None:
    import torch.distributed.checkpoint as dcp

    if not source.exists():
        raise ValueError(
            f"{source.parent} has no optimizer/: an earlier version wrote it, or it is not whole. Train on from its weights with "
            f"model={source.parent}/policy and another out=, or go on with that version."
        )
    known = dcp.FileSystemReader(source).read_metadata().state_dict_metadata
    found: dict[str, Tensor] = {}
    for name, module in trained.items():
        for key, parameter in parts(module):
            prefix = f"{name}/{key}/"
            kinds = [full.removeprefix(prefix) for full in known if full.startswith(prefix)]
            # AdamW counts steps in a number of its own, on the device of its weights where it is fused.
            state = {
                kind: torch.zeros((), device=world.device)
                if kind == "step"
                else torch.zeros_like(parameter.detach())
                for kind in kinds
            }
            found |= {prefix + kind: value for kind, value in state.items()}
            if state:
                optimizer.state[parameter] = state
            else:
                optimizer.state.pop(parameter, None)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dcp.load(found, checkpoint_id=source, no_dist=world.size == 1)


def prune(folder: Path, keep: int, also: int | None) -> None:
    """Remove all but the last `keep` checkpoints and the one of step `also` (the best)."""
    for step in checkpoint_steps(folder)[:-keep]:
        if step != also:
            shutil.rmtree(folder / f"step-{step:08d}")


def _save_module(
    module: nn.Module, tokenizer: PreTrainedTokenizerBase, part: Path, name: str, world: World
) -> None:
    plain = whole(module, world)
    if plain is None or not world.leads:
        return
    if not _is_transformers(plain):
        save_file(dict(plain.state_dict()), part / f"{name}.safetensors")
    elif plain.adapted:  # only the adapter's weights change
        save_adapter(plain, part / name)
        tokenizer.save_pretrained(part / name)
    else:
        save_model(plain, tokenizer, part / name)


def _load_module(module: nn.Module, source: Path, name: str, world: World) -> None:
    with opened(module, world) as plain:
        if plain is None:
            return
        if not _is_transformers(plain):
            plain.load_state_dict(load_file(source / f"{name}.safetensors"))
        elif plain.adapted:
            load_adapter(plain, source / name)
        else:
            saved = type(plain.host).from_pretrained(source / name, dtype=plain.dtype)
            plain.host.load_state_dict(saved.state_dict())


def _is_transformers(module: nn.Module) -> TypeGuard[Hosted]:
    return isinstance(module, Hosted) and isinstance(module.host, PreTrainedModel)
