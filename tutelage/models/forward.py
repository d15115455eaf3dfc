"""Forward passes over flat batches: hidden states, log-probs of responses, values, scores."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from tutelage.models.attention import Layout


def plain(model: nn.Module) -> Any:
    """The transformers model itself, without a peft wrapper (its adapters stay active: they live in the layers)."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def flat_inputs(ids: Tensor, layout: Layout) -> dict[str, Any]:
    """Keyword arguments of a flat forward: ids [N] -> one row [1, N] with positions that begin anew in every sequence.

    The mask is a 1 x 1 x 1 x 1 marker: transformers hands a 4-D mask down as it is, so none is built."""
    return {
        "input_ids": ids[None],
        "position_ids": layout.positions[None],
        "attention_mask": ids.new_ones(1, 1, 1, 1, dtype=torch.bool),
        "tutelage_layout": layout,
    }
