"""A head of values on the trunk of a policy, which one forward reads beside its log-probabilities."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tutelage.models.policy import PolicyModule


class ValueHead(nn.Module):
    """A linear head [D -> 1] that starts at 0, so that at first it says 0 and leaves the trunk alone (Ziegler et al. 2019).

    It is no part of the policy, whose checkpoints and exports stay those of a plain causal language model.
    """

    def __init__(self, policy: PolicyModule) -> None:
        super().__init__()
        weight: Tensor = policy.host.get_output_embeddings().weight
        self.linear = nn.Linear(weight.shape[1], 1, device=weight.device)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(self, hidden: Tensor) -> Tensor:
        """[M, D] -> [M], in fp32 also under autocast."""
        with torch.autocast(hidden.device.type, enabled=False):
            found: Tensor = self.linear(hidden.float())
            return found.squeeze(-1)
