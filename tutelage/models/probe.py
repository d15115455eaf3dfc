"""What an architecture can do, found out by trying when a model is loaded."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import PreTrainedConfig, PreTrainedModel

from tutelage.models import attention
from tutelage.models.forward import Traits, flat_inputs, only_where_read
from tutelage.models.layout import Layout

LENGTHS = (3, 5, 2)


@torch.no_grad()
def find_traits(model: PreTrainedModel, name: str) -> Traits:
    """Run a few tokens through `model`; where the flat layout gives the same, the model is left with our attention.

    Raises ValueError when the model's logits are not a constant times head(hidden), soft-capped perhaps.
    """
    table: Any = model.get_input_embeddings()
    ids = torch.arange(sum(LENGTHS), device=model.device) % table.num_embeddings
    alone = [model.base_model(input_ids=part[None]).last_hidden_state[0] for part in ids.split(LENGTHS)]
    scale, cap = _logit_shape(model, ids[: LENGTHS[0]], alone[0], name)
    flat = _takes_flat(model, ids, torch.cat(alone))
    return Traits(flat, scale, flat and _trims(model, ids), cap, rope_limit(model.config))


def rope_limit(config: PreTrainedConfig) -> int | None:
    """The longest sequence whose tokens are all rotated as a shorter one's are; None where length changes nothing.

    LongRoPE and dynamic NTK rotate *every* token of a longer sequence by other angles.  A longer sequence would so change
    the states of its neighbours in a row; and the log-probs that its tokens were sampled with, before it was so long,
    would not be those it is scored with, in transformers either.
    """
    text = config.get_text_config()
    ropes = getattr(text, "rope_parameters", None) or {}
    limits = []
    for rope in [
        ropes,
        *(each for each in ropes.values() if isinstance(each, dict)),
    ]:  # one for all layers, or per kind
        kind = str(rope.get("rope_type"))
        if kind == "longrope":
            limits.append(rope["original_max_position_embeddings"])
        elif "dynamic" in kind:
            limits.append(text.max_position_embeddings)
    return min(limits, default=None)


def imagined_traits(model: PreTrainedModel) -> Traits:
    """The traits of a model whose numbers do not exist: it is flat if its layers are told of the layout and their windows.

    One of the same kind and config is tried once per process: planning a run imagines each of its models many times, and
    trying a deep one takes longer than all the rest.
    """
    known = f"{type(model).__name__} {model.device.type} {model.config.to_json_string(use_diff=False)}"
    if known not in _imagined:
        backbone: Any = model.base_model
        flat = _flat_states(model, torch.arange(sum(LENGTHS), device=model.device)) is not None
        _imagined[known] = Traits(flat, trims=flat and hasattr(backbone.layers[-1], "mlp"))
    elif model._can_set_attn_implementation():
        model.set_attn_implementation(attention.NAME)
    return _imagined[known]


_imagined: dict[str, Traits] = {}


def _takes_flat(model: PreTrainedModel, ids: Tensor, alone: Tensor) -> bool:
    """Every layer can see the layout and its window, and sequences in one row give what each gives alone."""
    usual = model.config._attn_implementation
    flat = _flat_states(model, ids)
    takes = flat is not None and _close(flat, alone)
    if not takes:
        model.set_attn_implementation(usual)
    return takes


def _flat_states(model: PreTrainedModel, ids: Tensor) -> Tensor | None:
    """Last hidden states of sequences in one row, with our attention set; None where a layer's attention is not told what
    it has to know."""
    if not model._can_set_attn_implementation():
        return None
    model.set_attn_implementation(attention.NAME)
    layout = Layout(LENGTHS, ids.device)
    layout.watch = []
    try:
        flat: Tensor = model.base_model(**flat_inputs(ids, layout), use_cache=False).last_hidden_state[0]
    except (TypeError, ValueError, RuntimeError, AssertionError):
        return None
    return flat if layout.watch == _windows(model.config.get_text_config()) else None


def _trims(model: PreTrainedModel, ids: Tensor) -> bool:
    """The last layer has a feed-forward part `mlp` that treats every position by itself."""
    layout, read = Layout(LENGTHS, ids.device), torch.tensor([1, 6, 9], device=ids.device)
    backbone: Any = model.base_model
    whole = backbone(**flat_inputs(ids, layout), use_cache=False).last_hidden_state[0, read]
    try:
        with only_where_read(backbone, read, len(ids)):
            part = backbone(**flat_inputs(ids, layout), use_cache=False).last_hidden_state[0, read]
    except (AttributeError, TypeError, ValueError, RuntimeError, IndexError):
        return False
    return _close(part, whole)


def _windows(config: PreTrainedConfig) -> list[int | None]:
    """The window every layer's attention should be told of, in order: too long for a probe to feel."""
    window = getattr(config, "sliding_window", None)
    kinds = getattr(config, "layer_types", None)
    if kinds is None:
        return [window] * config.num_hidden_layers
    return [{"full_attention": None, "sliding_attention": window}.get(kind, -1) for kind in kinds]


def _logit_shape(
    model: PreTrainedModel, ids: Tensor, hidden: Tensor, name: str
) -> tuple[float, float | None]:
    """(c, cap) such that logits = cap tanh(c head(hidden) / cap), or c head(hidden) with cap None; c = 1 for a scalar model."""
    head: Any = model.get_output_embeddings()
    if head is None:
        return 1.0, None
    logits = model(input_ids=ids[None]).logits[0].double()
    before = F.linear(hidden, head.weight, head.bias).double()
    for cap in (None, getattr(model.config.get_text_config(), "final_logit_softcapping", None)):
        flattened = logits if cap is None else _uncapped(logits, cap)
        scale = _logit_scale(model.config, flattened, before)
        found = before * scale if cap is None else torch.tanh(before * scale / cap) * cap
        if _close(logits, found):
            return scale, cap
    raise ValueError(
        f"The model {name} ({type(model).__name__}) changes its logits after the output layer in a way that log-probs "
        "here do not follow; use a model that does not."
    )


def _uncapped(logits: Tensor, cap: float) -> Tensor:
    """What was soft-capped; where the cap leaves nothing to read off, 0."""
    return torch.where(logits.abs() < 0.99 * cap, cap * torch.atanh(logits / cap), 0.0)


def _logit_scale(config: Any, logits: Tensor, before: Tensor) -> float:
    """c such that logits = c * before, as well as one c can, where a logit is not 0."""
    before = before * (logits != 0)
    measured = float((logits * before).sum() / (before * before).sum())
    known = (
        1.0,
        getattr(config, "logit_scale", None),
        1 / (getattr(config, "logits_scaling", None) or 1),
    )
    return next((c for c in known if c and abs(measured / c - 1) < 0.01), measured)


def _close(a: Tensor, b: Tensor) -> bool:
    """Equal up to rounding, relative to the largest entry."""
    tolerance = 1e-4 if a.dtype in (torch.float32, torch.float64) else 0.05
    return float((a - b).abs().max() / b.abs().max().clamp_min(1e-30)) < tolerance
