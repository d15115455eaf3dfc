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
    number per token, [B] where it has one per sequence; [N, k] and [B, k] where it has k.

    The ranks of `world` share the micro-batches: all of them must call it with the same batch, and all get the same result.
    """
    count = sum(batch.lengths) if per == "tokens" else len(batch.lengths)
    result: Tensor | None = None
    index = batch.token_index if per == "tokens" else batch.sequence_index
    limit = min(max_tokens, -(-sum(batch.lengths) // world.size))
    groups = batch.groups(limit, model.pads)
    own = world.share(groups)
    for number in range(-(-len(groups) // world.size)):
        idle = number >= len(own)  # all ranks go through the model equally often (`sharding`)
        group = groups[0] if idle else own[number]
        with world.autocast():
            found = function(batch.take(group)).float()
        if result is None:
            result = found.new_zeros(count, *found.shape[1:])
        if not idle:
            result[index(group)] = found
    assert result is not None, "a batch has at least one unit"
    world.sum([result])
    return result
