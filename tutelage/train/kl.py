"""The coefficient of the KL to the reference."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from tutelage.settings.onpolicy import RLSettings


class KLController(nn.Module):
    """The coefficient of the KL: fixed, adapted to a target, or the multiplier of a constraint.

    kl_target (Ziegler et al. 2019, section 2.2), with e = clip(KL / target - 1, -0.2, 0.2):
    kl_coef <- kl_coef * (1 + e * episodes / horizon).

    kl_budget: maximise E[score] subject to KL <= budget.  Dual ascent on the logarithm of the multiplier, which keeps it
    positive and free of units: kl_coef <- kl_coef * exp(rate * clip(KL / budget - 1, -1, 1)); where the budget is not used up it
    falls towards 0.  All KL in nats per response.

    The coefficient is a buffer, so that it is part of every checkpoint.
    """

    kl_coef: Tensor

    def __init__(self, settings: RLSettings) -> None:
        super().__init__()
        self.register_buffer("kl_coef", torch.tensor(settings.kl_coef, dtype=torch.float64))
        self._target, self._horizon = settings.kl_target, settings.kl_horizon
        self._budget, self._rate = settings.kl_budget, settings.kl_budget_rate

    def update(self, kl: float, episodes: int) -> None:
        """Move by the mean KL of `episodes` responses; does nothing without target or budget."""
        if self._target:
            error = min(max(kl / self._target - 1.0, -0.2), 0.2)
            self.kl_coef *= 1.0 + error * episodes / self._horizon
        if self._budget:
            self.kl_coef *= math.exp(self._rate * min(max(kl / self._budget - 1.0, -1.0), 1.0))
