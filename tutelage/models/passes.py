"""Passes over a batch that need no gradient, in micro-batches: what is computed once and reused."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from tutelage.data.batch import TokenBatch
from tutelage.parallel import World


@torch.no_grad()
def token_pass(
    function: Callable[[TokenBatch], Tensor], batch: TokenBatch, max_tokens: int, world: World
) -> Tensor:
    """`function(batch)` -> float32 [N], computed in micro-batches of at most `max_tokens` tokens."""
    result = torch.empty(sum(batch.lengths), dtype=torch.float32, device=batch.device)
    for group in batch.groups(max_tokens):
        with world.autocast():
            result[batch.token_index(group)] = function(batch.take(group)).float()
    return result


@torch.no_grad()
def sequence_pass(
    function: Callable[[TokenBatch], Tensor], batch: TokenBatch, max_tokens: int, world: World
) -> Tensor:
    """`function(batch)` -> float32 [B] (one number per sequence), computed in micro-batches."""
    result = torch.empty(len(batch.lengths), dtype=torch.float32, device=batch.device)
    k = batch.sequences_per_unit
    for group in batch.groups(max_tokens):
        index = torch.tensor([unit * k + j for unit in group for j in range(k)], device=batch.device)
        with world.autocast():
            result[index] = function(batch.take(group)).float()
    return result
