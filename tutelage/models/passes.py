"""Passes over a batch that need no gradient, in micro-batches: what is computed once and reused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from tutelage.data.batch import TokenBatch
from tutelage.models.policy import Hosted
from tutelage.parallel import World


@torch.no_grad()
def forward_pass(
    model: Hosted,
    function: Callable[[TokenBatch], Tensor],
    batch: TokenBatch,
    per: Literal["tokens", "sequences"],
    max_tokens: int,
    world: World,
) -> Tensor:
    """`function(batch)`, which runs `model`, in micro-batches of at most `max_tokens` tokens: float32 [N] where it has one
    number per token, [B] where it has one per sequence; [N, k] and [B, k] where it has k."""
    count = sum(batch.lengths) if per == "tokens" else len(batch.lengths)
    result: Tensor | None = None
    index = batch.token_index if per == "tokens" else batch.sequence_index
    for group in batch.groups(max_tokens, model.pads):
        with world.autocast():
            found = function(batch.take(group)).float()
        if result is None:
            result = found.new_empty(count, *found.shape[1:])
        result[index(group)] = found
    assert result is not None, "a batch has at least one unit"
    return result
