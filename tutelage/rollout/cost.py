"""What responses cost, held at a limit: maximise E[score] subject to E[cost] <= limit."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Multiplier(nn.Module):
    """The Lagrange multiplier of a limit: coef <- max(0, coef + rate * (mean cost - limit)), once per step (dual ascent).

    Rewards are score - coef * cost, so the optimum is that of the score alone where the limit does not bind.  A buffer, so that
    it is part of every checkpoint.
    """

    coef: Tensor

    def __init__(self, limit: float, rate: float) -> None:
        super().__init__()
        self.register_buffer("coef", torch.tensor(0.0, dtype=torch.float64))
        self._limit, self._rate = limit, rate

    def update(self, mean_cost: float) -> None:
        """Move by the mean cost of a step's responses."""
        self.coef.fill_(max(0.0, float(self.coef) + self._rate * (mean_cost - self._limit)))
