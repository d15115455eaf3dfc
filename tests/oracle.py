"""A world small enough to be enumerated, in which the best policy is known exactly.

Vocabulary {0, 1, EOS}, at most three tokens: 7 prefixes and 15 sequences in depth-first order. A reference
policy and a reward are drawn from seed 1. For J(policy) = E[reward] - BETA KL(policy || ref) the optimum is
ref exp(reward / BETA), normalised. A learner is right when it gets there.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

EOS = 2
VOCABULARY = 3
MAX_LENGTH = 3
BETA = 0.5
STATES: tuple[tuple[int, ...], ...] = ((), (0,), (1,), (0, 0), (0, 1), (1, 0), (1, 1))


def _enumerate(prefix: tuple[int, ...] = ()) -> list[tuple[int, ...]]:
    if prefix and (prefix[-1] == EOS or len(prefix) == MAX_LENGTH):
        return [prefix]
    return [sequence for token in range(VOCABULARY) for sequence in _enumerate((*prefix, token))]


SEQUENCES = tuple(_enumerate())
LENGTHS = tuple(len(sequence) for sequence in SEQUENCES)
# [15, 3] each: the prefix before every token, the token, and whether there is one.
STEP_STATE = torch.tensor(
    [[STATES.index(y[:t]) if t < len(y) else 0 for t in range(MAX_LENGTH)] for y in SEQUENCES]
)
STEP_TOKEN = torch.tensor([[y[t] if t < len(y) else 0 for t in range(MAX_LENGTH)] for y in SEQUENCES])
STEP_MASK = torch.tensor([[t < len(y) for t in range(MAX_LENGTH)] for y in SEQUENCES])
# [7, 3]: the prefix that follows a token, or -1 - (index of the finished sequence).
NEXT = torch.tensor(
    [
        [
            STATES.index((*s, a)) if (*s, a) in STATES else -1 - SEQUENCES.index((*s, a))
            for a in range(VOCABULARY)
        ]
        for s in STATES
    ]
)


class TabularPolicy(nn.Module):
    """A softmax for every prefix: theta [7, 3]."""

    def __init__(self, theta: Tensor) -> None:
        super().__init__()
        self.theta = nn.Parameter(theta.clone())

    def token_logprobs(self) -> Tensor:
        """[15, 3]: log-probability of every token of every sequence, 0 after its end."""
        logp = torch.log_softmax(self.theta, -1)[STEP_STATE, STEP_TOKEN]
        return torch.where(STEP_MASK, logp, 0.0)

    def sequence_logprobs(self) -> Tensor:
        """[15]: exact log-probability of every sequence."""
        return self.token_logprobs().sum(1)

    @torch.no_grad()
    def sample(self, uniforms: Tensor) -> Tensor:
        """Indices [n] into SEQUENCES, by inverse CDF from `uniforms` [n, 3]."""
        cdf = torch.softmax(self.theta.double(), -1).cumsum(-1)[:, :-1]
        state = torch.zeros(uniforms.shape[0], dtype=torch.long)
        for t in range(MAX_LENGTH):
            token = (uniforms[:, t, None] > cdf[state.clamp(min=0)]).sum(1)
            state = torch.where(state >= 0, NEXT[state.clamp(min=0), token], state)
        return -1 - state


class TabularCritic(nn.Module):
    """A value for every prefix, zero to begin with: values [7]."""

    def __init__(self, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.values = nn.Parameter(torch.zeros(len(STATES), dtype=dtype))


@dataclass(frozen=True)
class Oracle:
    """The reference [7, 3], the reward of every sequence [15], and what follows exactly. float64."""

    theta_ref: Tensor
    rewards: Tensor

    @property
    def ref_logprobs(self) -> Tensor:
        return TabularPolicy(self.theta_ref).sequence_logprobs().detach()

    @property
    def best_logprobs(self) -> Tensor:
        return torch.log_softmax(self.ref_logprobs + self.rewards / BETA, 0)

    def objective(self, logprobs: Tensor) -> Tensor:
        """J of a policy, given its log-probabilities [15]."""
        return (logprobs.exp() * self.rewards).sum() - BETA * divergence(logprobs, self.ref_logprobs)

    def distance(self, policy: TabularPolicy) -> float:
        """KL(policy || optimum), which is (J of the optimum - J of the policy) / BETA."""
        return float(divergence(policy.sequence_logprobs().detach().double(), self.best_logprobs))


def divergence(p: Tensor, q: Tensor) -> Tensor:
    """KL(p || q) of two distributions over the sequences, from log-probabilities [15]."""
    return (p.exp() * (p - q)).sum()


def oracle() -> Oracle:
    generator = torch.Generator().manual_seed(1)
    theta_ref = torch.randn(len(STATES), VOCABULARY, generator=generator) * 0.7
    rewards = torch.randn(len(SEQUENCES), generator=generator)
    return Oracle(theta_ref.double(), rewards.double())
