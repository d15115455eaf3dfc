"""From rewards and values to advantages and returns: padded tensors [B, T], padding on the right."""

from __future__ import annotations

import torch
from torch import Tensor


@torch.no_grad()
def gae(
    rewards: Tensor, values: Tensor, mask: Tensor, *, gamma: float, gae_lambda: float
) -> tuple[Tensor, Tensor]:
    """Generalised advantage estimation (Schulman et al. 2016, arXiv 1506.02438, eq. 16).

    delta_t = R_t + gamma V_{t+1} - V_t,  A_t = delta_t + gamma lambda A_{t+1},  return_t = A_t + V_t.

    The value after the last real token is 0 (terminal), also for a truncated response. V_t is the value of the
    state before token t. All of shape [B, T]; `mask` is bool, True first and False after in every row.
    Returns (advantages, returns), 0 at padding and without gradient; what stands at padding in `rewards` and
    `values` does not matter.
    """
    assert not (mask[:, 1:] & ~mask[:, :-1]).any(), "gae wants the padding on the right"
    rewards, values = rewards.masked_fill(~mask, 0.0), values.masked_fill(~mask, 0.0)
    following = torch.nn.functional.pad(values[:, 1:], (0, 1))
    advantages = rewards + gamma * following - values
    columns = list(advantages.unbind(1))
    for t in reversed(range(len(columns) - 1)):
        columns[t].add_(columns[t + 1], alpha=gamma * gae_lambda)
    return advantages, advantages + values
