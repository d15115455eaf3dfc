"""Models averaged in their weights: rewarded soups (Ramé et al. 2023, arXiv 2306.04488), model soups (Wortsman et al. 2022).

    theta = sum over the models of  weight x theta_i

Tensor by tensor from disk to disk: in memory are one tensor of each model and what one file of the result holds.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Sequence
from functools import reduce
from pathlib import Path

import torch
from torch import Tensor

from tutelage.files import folder_atomic, write_json_atomic
from tutelage.models.loading import config_of, heads_at, load_tokenizer, same_tokenizer
from tutelage.models.stored import Stored, tied, write_rest, write_tensors

MADE_OF = "soup.json"
OF_NO_WEIGHT = (
    "_name_or_path",
    "transformers_version",
    "dtype",
    "torch_dtype",
    "use_cache",
    "bos_token_id",
    "eos_token_id",
    "pad_token_id",
)
"""Entries of a config that change nothing of what the weights mean."""
OF_SCORES = "tutelage_score_"
"""What a reward model knows of the spread of its scores, which an average of several has to measure anew."""


def averaged(tensors: Sequence[Tensor], weights: Sequence[float], dtype: torch.dtype) -> Tensor:
    """sum weight x tensor in `dtype`; of one shape, floating.

    Added in double precision and rounded once: a model averaged with itself, and one of weight 1, come out bit for bit, also in
    float32.  A tensor of weight 0 is not touched.
    """
    total: Tensor | None = None
    for tensor, weight in zip(tensors, weights, strict=True):
        if weight:
            part = tensor.double() * weight
            total = part if total is None else total.add_(part)
    assert total is not None, "some weight is not 0"
    return total.to(dtype)


def check_alike(models: Sequence[Stored]) -> list[str]:
    """The names of the tensors that an average of the models has, in order.

    Raises ValueError that names the model and what is different where they are of different kinds, architectures, shapes,
    tokenizers or chat templates.
    """
    first, *others = models
    left_out = tied(first.source)
    names = [name for name in first.files if name not in left_out]
    tokenizer = load_tokenizer(first.source)
    for other in others:
        _check_config(first, other)
        _check_tensors(first, other, names, left_out)
        theirs = load_tokenizer(other.source)
        if not same_tokenizer(tokenizer, theirs):
            what = "another tokenizer"
        elif tokenizer.chat_template != theirs.chat_template:
            what = "another chat template"
        else:
            continue
        raise ValueError(
            f"{other.name} has {what} than {first.name}, so that their weights mean different things: average models of one "
            "start."
        )
    return names


def write_soup(
    folder: Path,
    models: Sequence[Stored],
    weights: Sequence[float],
    names: Sequence[str],
    made_of: object,
    step: Callable[[], None],
) -> int:
    """Write the average as a folder that plain transformers loads; returns the bytes of its weights.

    names: of its tensors (`check_alike`).  made_of: kept beside them in soup.json.  step: called after each tensor.  Raises
    ValueError where a tensor that is no number to be averaged differs, or a value is not finite.
    """
    dtypes = {name: _wider([model.dtypes[name] for model in models]) for name in names}

    def tensor(name: str) -> Tensor:
        there = [(model, weight) for model, weight in zip(models, weights, strict=True) if weight]
        found = _average(
            [model.read(name) for model, _ in there], [weight for _, weight in there], dtypes[name], name
        )
        step()
        return found

    several = set(dtypes.values()) - {None}
    with folder_atomic(folder) as partial:
        size = write_tensors(partial, names, tensor)
        write_rest(
            partial, models[0].source, several.pop() if len(several) == 1 else None, forget=(OF_SCORES,)
        )
        write_json_atomic(partial / MADE_OF, made_of)
    return size


def _average(
    tensors: Sequence[Tensor], weights: Sequence[float], dtype: torch.dtype | None, name: str
) -> Tensor:
    if dtype is None:
        if any(not torch.equal(tensors[0], tensor) for tensor in tensors):
            raise ValueError(
                f"{name} holds whole numbers that differ between the models, and there is no average of them: average models of "
                "one start."
            )
        return tensors[0]
    found = averaged(tensors, weights, dtype)
    if not found.isfinite().all():
        raise ValueError(
            f"{name} has values that are not finite in one of the models, or in {dtype}: train that model again, or leave it out."
        )
    return found


def _wider(dtypes: Sequence[torch.dtype | None]) -> torch.dtype | None:
    """The narrowest dtype that holds all of these; None where they are not floating."""
    known = [dtype for dtype in dtypes if dtype is not None]
    return reduce(torch.promote_types, known) if len(known) == len(dtypes) else None


def _check_config(first: Stored, other: Stored) -> None:
    ours, theirs = config_of(first.source), config_of(other.source)
    kinds = ["language" if heads_at(model.source) is None else "reward" for model in (first, other)]
    if kinds[0] != kinds[1]:
        raise ValueError(
            f"{first.name} is a {kinds[0]} model and {other.name} a {kinds[1]} model: average models of one kind."
        )
    told = [
        {key: value for key, value in config.to_dict().items() if _matters(key)} for config in (ours, theirs)
    ]
    if ours.model_type != theirs.model_type:
        raise ValueError(
            f"{first.name} is a {ours.model_type} and {other.name} a {theirs.model_type}: only models of one architecture can be "
            "averaged."
        )
    for key in sorted({*told[0], *told[1]}):
        if told[0].get(key) != told[1].get(key):
            raise ValueError(
                f"{other.name} has {key}={told[1].get(key)} where {first.name} has {told[0].get(key)}: only models of one "
                "architecture can be averaged."
            )


def _matters(key: str) -> bool:
    return key not in OF_NO_WEIGHT and "drop" not in key and not key.startswith(OF_SCORES)


def _check_tensors(first: Stored, other: Stored, names: Sequence[str], left_out: Container[str]) -> None:
    theirs = {name for name in other.files if name not in left_out}
    for name in [*names, *sorted(theirs - set(names))]:
        for there, lacking in ((first, other), (other, first)):
            if name in there.files and name not in lacking.files:
                raise ValueError(
                    f"{lacking.name} lacks the weights {name} that {there.name} has: only models of one architecture can be "
                    "averaged."
                )
        if first.shapes[name] != other.shapes[name]:
            raise ValueError(
                f"{name} is {_shape(first, name)} in {first.name} and {_shape(other, name)} in {other.name}: only models of one "
                "shape can be averaged."
            )


def _shape(model: Stored, name: str) -> str:
    return " x ".join(map(str, model.shapes[name]))
