"""Best-of-n in numbers: how far it is from plain sampling, and what it would score for every n, from one set of samples.

The best of n is what scores highest among n independent samples; of equals, any (the first one is any: they were drawn alike).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def kl_bound(n: int) -> float:
    """log n - (n - 1) / n, in nats: the most that KL(best of n || one sample) can be (Beirami et al. 2024, arXiv 2401.01879).

    It is reached where no two responses score alike and none has much probability of its own; where one response is nearly
    certain the true KL is near 0.
    """
    if n < 1:
        raise ValueError(f"n is {n}: the best of at least 1 is needed.")
    return math.log(n) - (n - 1) / n


def kl_estimate(scores: Tensor, n: int) -> float:
    """KL(best of n || one sample) of one prompt in nats, from the scores [N] of N plain samples of it.

    Choosing looks at the score alone, so the KL is that of the scores: with F the share of samples that score at most as much,
    F- that of those that score less, a score of which there are several gives G log(G / (F - F-)) with G = F^n - F-^n
    (`probabilities`), and one that stands once, which is no tie, the integral of n u^(n-1) log(n u^(n-1)) from F- to F: where
    no two are equal the sum is `kl_bound`.  It is too small where N is not several times n.
    """
    if not len(scores):
        raise ValueError("there are no scores: at least one sample is needed.")
    _, counts = torch.unique(scores, return_counts=True)
    most = counts.cumsum(0).double() / counts.sum()
    less = torch.cat([torch.zeros(1, dtype=torch.float64), most[:-1]])
    gained = most**n - less**n
    tied = torch.special.xlogy(gained, gained / (most - less))
    alone = _density_integral(most, n) - _density_integral(less, n)
    return float(torch.where(counts == 1, alone, tied).sum())


def _density_integral(share: Tensor, n: int) -> Tensor:
    """The integral of f log f with f = n u^(n-1), from 0 to `share`."""
    power = share**n
    return power * (math.log(n) - (n - 1) / n) + (n - 1) * torch.special.xlogy(power, share)


def probabilities(sampled: Tensor, scores: Tensor, n: int) -> Tensor:
    """float64 [K]: the probability of each of K responses as the best of n.

    sampled, scores: [K], the probability of each in plain sampling (they add up to 1) and its score.  With F the probability
    of scoring at most as much and F- of scoring less, those of one score have F^n - F-^n together (Beirami et al. 2024, lemma
    1), shared out as they are sampled.
    """
    _, level = torch.unique(scores, return_inverse=True)
    mass = torch.zeros(int(level.max()) + 1, dtype=torch.float64).index_add(0, level, sampled.double())
    most = mass.cumsum(0)
    less = most - mass
    share = torch.where(mass > 0, (most**n - less**n) / mass, 0.0)
    return sampled.double() * share[level]


def expected(scores: Tensor, values: Tensor) -> Tensor:
    """float64 [..., N]: unbiased estimates of E[value of the best of n] for n = 1 .. N, from N samples of one prompt.

    scores: [..., N], by which the best is chosen; values: [..., N], what is measured of it (the scores themselves, or another
    judge's).  It is the mean over all choices of n of the N samples, without making them: the i-th smallest is the best in
    C(i - 1, n - 1) of C(N, n) (Nakano et al. 2021, arXiv 2112.09332, appendix I); equals share their values.
    """
    count = scores.shape[-1]
    ascending, order = scores.double().sort(-1)
    shared = _shared(ascending, values.double().gather(-1, order))
    weights = torch.tensor(
        [
            [math.comb(i, n - 1) / math.comb(count, n) for i in range(count)]  # whole numbers: exact
            for n in range(1, count + 1)
        ],
        dtype=torch.float64,
    )
    return shared @ weights.T


def _shared(ascending: Tensor, values: Tensor) -> Tensor:
    """The mean of `values` over places where `ascending` is the same."""
    starts = torch.ones_like(ascending, dtype=torch.bool)
    starts[..., 1:] = ascending[..., 1:] != ascending[..., :-1]
    level = starts.long().cumsum(-1) - 1
    sums, counts = (
        torch.zeros_like(values).scatter_add(-1, level, added) for added in (values, torch.ones_like(values))
    )
    return (sums / counts.clamp(min=1)).gather(-1, level)
