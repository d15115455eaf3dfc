"""How readily people call a tie: the one number of Davidson's and of Rao and Kupper's model, learnt beside the scores."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tutelage.ops.losses import davidson, rao_kupper

TieModel = Literal["davidson", "rao-kupper"]


class Ties(nn.Module):
    """`strength`: Davidson's nu, 1 at first (between equals one in three is a tie), or the threshold of Rao and Kupper in
    logits, 1 at first."""

    def __init__(self, model: TieModel) -> None:
        super().__init__()
        self._model = model
        start = (
            0.0 if model == "davidson" else float(torch.expm1(torch.tensor(1.0)).log())
        )  # softplus gives 1
        self.raw = nn.Parameter(torch.tensor(start))

    @property
    def strength(self) -> Tensor:
        return self.raw.exp() if self._model == "davidson" else F.softplus(self.raw)

    def loss(self, delta: Tensor, p_chosen: Tensor) -> Tensor:
        """-log P(outcome) per comparison, any shape; p_chosen of one half is a tie."""
        tie = p_chosen == 0.5
        if self._model == "davidson":
            return davidson(delta, tie, p_chosen, self.raw)
        return rao_kupper(delta, tie, p_chosen, self.strength)
