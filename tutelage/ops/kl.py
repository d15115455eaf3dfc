"""Kullback-Leibler divergence of the policy from the reference, KL(policy || ref), and its estimators.

The estimators take logratio = log policy(y) - log ref(y) of tokens or sequences **drawn from the policy** (J.
Schulman, "Approximating KL divergence", 2020). With samples from the reference they estimate something else.
Where they may stand differs: as a penalty inside the reward use k1; as a term of the loss use k2. The
gradient of k1 in the loss is zero in expectation, k3 in the loss has the gradient of KL(ref || policy), k2
and k3 in the reward fit neither. In the loss all of them, and the exact KL of each position's distribution,
are about the position alone: what a token does to the KL of those after it has to be charged in the reward.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

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


# ---- between a student and its teacher ---------------------------------------------------------------------------------

Divergence = Callable[[Tensor, Tensor], Tensor]
"""[...] from normalised log-probabilities [..., V] of one's own distribution and of another's."""


def forward_kl(student_logprobs: Tensor, teacher_logprobs: Tensor) -> Tensor:
    """KL(teacher || student) over the last dimension, from normalised log-probabilities [..., V]: wants everything that the
    teacher does."""
    return exact_kl(teacher_logprobs, student_logprobs)


def generalised_jsd(student_logprobs: Tensor, teacher_logprobs: Tensor, beta: float) -> Tensor:
    """beta KL(teacher || M) + (1 - beta) KL(student || M) over the last dimension, with M = beta teacher + (1 - beta) student
    (Agarwal et al. 2023, arXiv 2306.13649, eq. 1); 0 < beta < 1, from normalised log-probabilities [..., V].

    Divided by beta it tends to the forward KL as beta tends to 0, divided by 1 - beta to the reverse one as that tends to 0.
    """
    mixture = torch.logaddexp(teacher_logprobs + math.log(beta), student_logprobs + math.log1p(-beta))
    return beta * exact_kl(teacher_logprobs, mixture) + (1 - beta) * exact_kl(student_logprobs, mixture)


def divergence_of(name: str, beta: float) -> Divergence:
    """forward-kl, reverse-kl (KL(student || teacher): wants nothing that the teacher does not do) or jsd."""
    named: dict[str, Divergence] = {
        "forward-kl": forward_kl,
        "reverse-kl": exact_kl,
        "jsd": partial(generalised_jsd, beta=beta),
    }
    return named[name]
