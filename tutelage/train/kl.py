"""The coefficient of the KL to the reference."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class KLController(nn.Module):
    """The coefficient of the KL, fixed, or adapted to a target (Ziegler et al. 2019, section 2.2).

    With e = clip(KL / target - 1, -0.2, 0.2): kl_coef <- kl_coef * (1 + e * episodes / horizon), KL in nats per response.
    The coefficient is a buffer, so that it is part of every checkpoint.
    """

    kl_coef: Tensor

    def __init__(self, kl_coef: float, target: float, horizon: float) -> None:
        super().__init__()
        self.register_buffer("kl_coef", torch.tensor(kl_coef, dtype=torch.float64))
        self._target, self._horizon = target, horizon

    def update(self, kl: float, episodes: int) -> None:
        """Adapt to the mean KL of `episodes` responses; does nothing without a target."""
        if self._target:
            error = min(max(kl / self._target - 1.0, -0.2), 0.2)
            self.kl_coef *= 1.0 + error * episodes / self._horizon
