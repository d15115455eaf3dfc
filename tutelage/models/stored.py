"""The tensors of a model as they lie on disk, one at a time: what works on weights alone needs no model in memory.

An adapter is merged into its base first, and weights that are not safetensors are written as such: both into a folder that the
caller clears, with one model in memory.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, GenerationConfig
from transformers.utils import cached_file
from transformers.utils.hub import get_checkpoint_shard_files

from tutelage.files import write_json_atomic
from tutelage.hub import hub
from tutelage.models.ends import generation_config
from tutelage.models.loading import (
    config_of,
    heads_at,
    load_policy,
    load_scalar,
    load_tokenizer,
    quiet,
    stored_dtype,
)
from tutelage.models.lora import HEAD, read_adapter

ADAPTER = "adapter_config.json"
SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"
FLOATING = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
SHARD = 4 * 2**30  # bytes of one file, and so what writing a model holds in memory


@dataclass(frozen=True)
class Stored:
    """The weights of the model `source` (a folder or hub name with config and tokenizer), `name` to people.

    files: tensor -> the file that holds it.  shapes: tensor -> its shape.  dtypes: tensor -> in what it is to be written: as it
    is stored, of a merged adapter as its base is; None for what is not floating.
    """

    name: str
    source: str
    files: Mapping[str, Path]
    shapes: Mapping[str, tuple[int, ...]]
    dtypes: Mapping[str, torch.dtype | None]

    def read(self, tensor: str) -> Tensor:
        """One tensor, on the CPU."""
        with safe_open(str(self.files[tensor]), framework="pt") as file:
            found: Tensor = file.get_tensor(tensor)
        return found


def stored(name: str, path: str, scratch: Path) -> Stored:
    """The weights at `path` (a folder or hub name, or a folder with an adapter); what is not safetensors on disk is put into
    the folder `scratch`.

    Raises ValueError where there is no model, or an adapter has no base or another one than it was trained on.
    """
    if (Path(path) / ADAPTER).is_file():
        base = _base_of(name, Path(path))
        _merge(base, path, scratch)
        return _opened(name, base, str(scratch), stored_dtype(base))
    config_of(path)  # which says in one sentence what is wrong with the place
    if not _has_safetensors(path):
        load = load_policy if heads_at(path) is None else load_scalar
        with quiet():
            load(path, dtype=stored_dtype(path)).host.save_pretrained(scratch)
        return _opened(name, path, str(scratch))
    return _opened(name, path, path)


def tied(source: str) -> set[str]:
    """The tensors of a model that are others of it under a second name, which are written once."""
    found: dict[str, str] = getattr(_imagined(source), "all_tied_weights_keys", None) or {}
    return set(found)


def write_tensors(folder: Path, names: Sequence[str], tensor_of: Callable[[str], Tensor]) -> int:
    """Write tensors into `folder` as transformers does, at most SHARD bytes to a file; returns their bytes.

    tensor_of: asked once for each name, in order; what it gives is kept no longer than its file takes.
    """
    shards: list[list[str]] = []
    held: dict[str, Tensor] = {}
    total = size = 0

    def flush() -> None:
        save_file(held, folder / f"part-{len(shards)}.safetensors", metadata={"format": "pt"})
        shards.append(list(held))
        held.clear()

    for name in names:
        tensor = tensor_of(name).contiguous()
        if held and size + tensor.nbytes > SHARD:
            flush()
            size = 0
        held[name] = tensor
        size, total = size + tensor.nbytes, total + tensor.nbytes
    flush()
    _name_shards(folder, shards, total)
    return total


def _name_shards(folder: Path, shards: list[list[str]], total: int) -> None:
    if len(shards) == 1:
        (folder / "part-0.safetensors").rename(folder / SINGLE)
        return
    places: dict[str, str] = {}
    for number, names in enumerate(shards):
        file = f"model-{number + 1:05d}-of-{len(shards):05d}.safetensors"
        (folder / f"part-{number}.safetensors").rename(folder / file)
        places |= dict.fromkeys(names, file)
    write_json_atomic(folder / INDEX, {"metadata": {"total_size": total}, "weight_map": places})


def write_rest(folder: Path, source: str, dtype: torch.dtype | None, forget: tuple[str, ...] = ()) -> None:
    """Write config, tokenizer and generation config of the model at `source`, whose weights are written in `dtype` (None: as its
    config says), without the entries of the config that begin with one of `forget`."""
    config, tokenizer = copy.deepcopy(config_of(source)), load_tokenizer(source)
    if dtype is not None:
        config.dtype = dtype
    for name in [name for name in vars(config) if forget and name.startswith(forget)]:
        delattr(config, name)
    with quiet():
        config.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        host = _imagined(source)
        if host.can_generate():
            if own := _file(source, "generation_config.json"):
                host.generation_config = GenerationConfig.from_pretrained(own.parent)
            generation_config(host, tokenizer).save_pretrained(folder)


def _imagined(source: str) -> Any:
    """The model without its weights."""
    kind = AutoModelForCausalLM if heads_at(source) is None else AutoModelForSequenceClassification
    with torch.device("meta"), quiet():
        return kind.from_config(copy.deepcopy(config_of(source)))


def _opened(name: str, source: str, folder: str, dtype: torch.dtype | None = None) -> Stored:
    """dtype: of its floating tensors, where that is another than in the files."""
    files, shapes, dtypes = {}, {}, {}
    for path in _safetensors(folder):
        with safe_open(str(path), framework="pt") as file:
            for tensor in list(file.keys()):
                there = file.get_slice(tensor)
                own = FLOATING.get(there.get_dtype())
                files[tensor], shapes[tensor] = path, tuple(there.get_shape())
                dtypes[tensor] = own and (dtype or own)
    return Stored(name, source, files, shapes, dtypes)


def _has_safetensors(path: str) -> bool:
    return _file(path, SINGLE) is not None or _file(path, INDEX) is not None


def _safetensors(path: str) -> list[Path]:
    """The files with the weights."""
    if (single := _file(path, SINGLE)) is not None:
        return [single]
    index = _file(path, INDEX)
    assert index is not None, "asked only where there is one"
    with hub():
        files, _ = get_checkpoint_shard_files(path, str(index))
    return [Path(file) for file in files]


def _file(path: str, name: str) -> Path | None:
    """A file of a model, from its folder or the hub; None where it has none."""
    with hub():
        found = cached_file(path, name, _raise_exceptions_for_missing_entries=False)
    return Path(found) if found else None


# ---- adapters ----------------------------------------------------------------------------------------------------------


def _base_of(name: str, folder: Path) -> str:
    """The model that an adapter is for."""
    if (folder / HEAD).is_file():
        raise ValueError(
            f"{name}: {folder} holds the adapter of a reward model, whose head is no part of it: give the run folder that it "
            "came from, where the whole model is."
        )
    known = read_adapter(folder)
    config = json.loads((folder / ADAPTER).read_text(encoding="utf-8"))
    base = known.base if known else str(config.get("base_model_name_or_path") or "")
    if not base:
        raise ValueError(
            f"{name}: the adapter in {folder} does not say which model it is for: merge it into that, and give the result."
        )
    if known and known.sha256 and Path(base).is_dir() and not known.is_on(base):
        raise ValueError(
            f"{name}: {base} has changed since the adapter in {folder} was trained on it: put it back as it was, or give the "
            "merged model of that run."
        )
    return base


def _merge(base: str, adapter: str, scratch: Path) -> None:
    """An adapter worked into its base, in float32."""
    from peft import PeftModel

    with quiet():
        try:
            adapted: Any = PeftModel.from_pretrained(load_policy(base).host, adapter)
        except (ValueError, RuntimeError, KeyError) as error:
            why = " ".join(str(error).split()).split(". ")[0].rstrip(".")
            raise ValueError(
                f"The adapter in {adapter} does not fit its base {base} ({why}): give the run folder that it came from."
            ) from error
        adapted.merge_and_unload().save_pretrained(scratch)
