"""From rewards to advantages: per token with values of a critic ([B, T], padding on the right), or per response against a
baseline ([B])."""

from __future__ import annotations

import torch
from torch import Tensor

from tutelage.ops.shapes import wide

GROUP_EPS = 1e-4


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


def baseline(rewards: Tensor, group: Tensor, kind: str) -> tuple[Tensor, Tensor]:
    """(b, s), float64 [B] each: the advantage of a response is (reward - b) / s.

    rewards: [B].  group: int64 [B], equal for responses to one prompt.  kind: none; batch (the mean of all: Williams 1992);
    leave-one-out (the mean of the group's others: Kool et al. 2019; Ahmadian et al. 2024, arXiv 2402.14740); group (the
    group's mean, which is leave-one-out times (n - 1) / n); group-std (that, divided by the group's standard deviation, with
    n - 1 below, plus 1e-4: Shao et al. 2024, arXiv 2402.03300).  A group that is all equal has advantages 0, as
    has a response without others.
    """
    exact = wide(rewards.detach())
    flat, one = torch.zeros_like(exact), torch.ones_like(exact)
    if kind == "none":
        return flat, one
    if kind == "batch":
        return flat + exact.mean(), one
    total, count = _per_group(exact, group), _per_group(one, group)
    others = (count - 1).clamp(min=1)
    if kind == "leave-one-out":
        return torch.where(count > 1, (total - exact) / others, exact), one
    mean = total / count
    if kind == "group":
        return mean, one
    spread = (_per_group((exact - mean).square(), group) / others).sqrt()
    return mean, spread + GROUP_EPS


def _per_group(values: Tensor, group: Tensor) -> Tensor:
    """[B]: for every entry the sum over its group."""
    sums = values.new_zeros(int(group.max()) + 1).index_add(0, group, values)
    return sums[group]
