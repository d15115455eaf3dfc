"""Losses, one value per unit (token, pair): the training loop divides their sum once, by the global count.

Only `logsigmoid` is used, never log(sigmoid(x)) or log(1 + exp(x)): values and gradients stay finite for any
input.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def nll(logprobs: Tensor) -> Tensor:
    """Negative log-likelihood of every token, -log p(y_t): language modelling and supervised fine-tuning."""
    return -logprobs


def bradley_terry(delta: Tensor, p_chosen: Tensor | float = 1.0, margin: Tensor | float = 0.0) -> Tensor:
    """-p logsigmoid(delta - margin) - (1 - p) logsigmoid(-delta - margin), per pair.

    `delta` [P] is score(chosen) - score(rejected); `p_chosen` the share of people who prefer the chosen one
    (0.5 for a tie; Bradley & Terry 1952, Christiano et al. 2017 eq. 1); `margin` >= 0 (Touvron et al. 2023,
    arXiv 2307.09288, eq. 2). Swapping chosen and rejected (delta to -delta, p to 1 - p) leaves the loss as it
    is.
    """
    return -p_chosen * F.logsigmoid(delta - margin) - (1 - p_chosen) * F.logsigmoid(-delta - margin)


def step_marks(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy of marked steps, per step (Lightman et al. 2023, arXiv 2305.20050; Wang et al. 2023, arXiv 2312.08935).

    `labels` [M]: the probability that a step is right, or -1 for a neutral one.  `logits` [M] of being right:
    -p logsigmoid(x) - (1 - p) logsigmoid(-x).  `logits` [M, 3] of wrong, neutral and right: -sum_c p_c log softmax(x)_c,
    where a neutral step has all of p on its own class.
    """
    if logits.dim() == 1:
        return bradley_terry(logits, labels)
    neutral = (labels < 0).to(logits.dtype)
    right = labels.clamp(min=0)
    wanted = torch.stack([1 - neutral - right, neutral, right], dim=-1)
    return -(wanted * F.log_softmax(logits, dim=-1)).sum(-1)


def dpo(h: Tensor, *, beta: float, label_smoothing: float = 0.0, p_chosen: Tensor | float = 1.0) -> Tensor:
    """Direct preference optimisation, -logsigmoid(beta h), per pair (Rafailov et al. 2023, eq. 7).

    arXiv 2305.18290. `h` [P] = [log policy(chosen) - log ref(chosen)] - [log policy(rejected) - log
    ref(rejected)], log-probabilities summed over the response. `label_smoothing` is the assumed rate of
    flipped labels (conservative DPO: E. Mitchell, "A note on DPO with noisy preferences", 2023, eq. 3);
    `p_chosen` the share that prefers the chosen one.
    """
    p_chosen = p_chosen * (1 - label_smoothing) + (1 - p_chosen) * label_smoothing
    return bradley_terry(beta * h, p_chosen)


def clipped_policy(
    log_ratio: Tensor, advantages: Tensor, *, clip_low: float, clip_high: float, dual_clip: float = 0.0
) -> tuple[Tensor, Tensor]:
    """PPO's clipped surrogate, max(-A r, -A clip(r, 1 - clip_low, 1 + clip_high)), r = exp(log_ratio).

    Schulman et al. 2017, arXiv 1707.06347, eq. 7, with its sign turned round to be minimised.  `log_ratio` is log policy - log
    old policy; any shape.  `dual_clip` > 1: where A < 0 the loss is at most dual_clip x |A|, however large r (Ye et al. 2020,
    arXiv 1912.09729, eq. 5); 0: no bound.  Returns (loss, clipped); `clipped` is True where a clip holds, which is where the
    gradient is zero.  `advantages` are constants: no gradient flows to them.
    """
    ratio, advantages = torch.exp(log_ratio), advantages.detach()
    plain = -advantages * ratio
    near = -advantages * ratio.clamp(1 - clip_low, 1 + clip_high)
    loss, clipped = torch.maximum(plain, near), near > plain
    if dual_clip:
        bound = -advantages * dual_clip
        over = (advantages < 0) & (loss > bound)
        loss, clipped = torch.where(over, bound, loss), clipped | over
    return loss, clipped


def clipped_value(values: Tensor, old_values: Tensor, returns: Tensor, *, clip: float) -> Tensor:
    """max((V - G)^2, (clip(V, V_old - clip, V_old + clip) - G)^2) / 2, per token, any shape.

    The critic's loss of the PPO implementations (OpenAI baselines; Huang et al. 2024, arXiv 2403.17031,
    detail 17). `old_values` and `returns` are constants: no gradient flows to them.
    """
    old_values, returns = old_values.detach(), returns.detach()
    near = old_values + (values - old_values).clamp(-clip, clip)
    return torch.maximum((values - returns).square(), (near - returns).square()) / 2
