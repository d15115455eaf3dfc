"""Kullback-Leibler divergence of the policy from the reference, KL(policy || ref), and its estimators.

The estimators take logratio = log policy(y) - log ref(y) of tokens or sequences **drawn from the policy** (J.
Schulman, "Approximating KL divergence", 2020). With samples from the reference they estimate something else.
Where they may stand differs: as a penalty inside the reward use k1; as a term of the loss use k2. The
gradient of k1 in the loss is zero in expectation, k3 in the loss has the gradient of KL(ref || policy), k2
and k3 in the reward fit neither. In the loss all of them, and the exact KL of each position's distribution,
are about the position alone: what a token does to the KL of those after it has to be charged in the reward.
"""

from __future__ import annotations

import torch
from torch import Tensor


def k1(logratio: Tensor) -> Tensor:
    """logratio: unbiased, any sign, high variance."""
    return logratio


def k2(logratio: Tensor) -> Tensor:
    """logratio^2 / 2: biased, never negative; its gradient as a loss is the gradient of KL(policy || ref)."""
    return logratio.square() / 2


def k3(logratio: Tensor) -> Tensor:
    """exp(-logratio) - 1 + logratio: unbiased, never negative, low variance while the two are close. For reports."""
    return torch.expm1(-logratio) + logratio


def exact_kl(policy_logprobs: Tensor, ref_logprobs: Tensor) -> Tensor:
    """KL(policy || ref) over the last dimension, from normalised log-probabilities [..., V] of both.

    Outcomes that the policy gives probability zero (-inf) add nothing; one that only the reference excludes
    gives inf.
    """
    difference = torch.where(policy_logprobs > -torch.inf, policy_logprobs - ref_logprobs, 0.0)
    return (policy_logprobs.exp() * difference).sum(-1)


ESTIMATORS = {"k1": k1, "k2": k2, "k3": k3}
