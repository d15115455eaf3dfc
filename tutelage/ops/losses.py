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


def davidson(delta: Tensor, tie: Tensor, p_chosen: Tensor | float, log_strength: Tensor) -> Tensor:
    """-log P(outcome), per pair, where P(chosen) : P(tie) : P(rejected) = e^(delta/2) : strength : e^(-delta/2).

    Davidson 1970, JASA 65, eq. 2.3, with worths e^score.  `delta` [P] as in `bradley_terry`; `tie` bool [P]: nobody saw one
    as better; `p_chosen` as there, where it is no tie; `log_strength` a scalar: how readily people call a tie.
    """
    logs = torch.stack([delta / 2, log_strength.expand_as(delta), -delta / 2])
    chosen, tied, rejected = logs.log_softmax(0)
    return torch.where(tie, -tied, -p_chosen * chosen - (1 - p_chosen) * rejected)


def rao_kupper(delta: Tensor, tie: Tensor, p_chosen: Tensor | float, threshold: Tensor) -> Tensor:
    """-log P(outcome), per pair: a difference below `threshold` >= 0 (a scalar, in logits) may not be noticed.

    P(chosen) = sigmoid(delta - threshold), P(rejected) = sigmoid(-delta - threshold), the rest is a tie (Rao and Kupper
    1967, JASA 62, eq. 2.4-2.6, threshold = log theta).  Arguments as in `davidson`.
    """
    chosen, rejected = F.logsigmoid(delta - threshold), F.logsigmoid(-delta - threshold)
    # 1 - sigmoid(d - t) - sigmoid(-d - t) = (e^2t - 1) sigmoid(d - t) sigmoid(-d - t)
    tied = torch.log(torch.expm1(2 * threshold)) + chosen + rejected
    return torch.where(tie, -tied, -p_chosen * chosen - (1 - p_chosen) * rejected)


def plackett_luce(scores: Tensor, ranks: Tensor, there: Tensor) -> Tensor:
    """Negative log-likelihood of each ranking: -sum over places of [r - logsumexp of it and of all that are ranked below].

    scores [U, K]; ranks [U, K], the lowest is the best; there bool [U, K]: the rest is padding.  Returns [U].  Plackett 1975
    (Applied Statistics 24); Luce 1959.  Equal ranks each stand against each other and all below them (Breslow 1974); of K
    different ones the last has none below it and adds nothing, so that K equal scores give log K!.
    """
    below = (ranks[:, None, :] >= ranks[:, :, None]) & there[:, None, :]  # [U, of, against]
    against = torch.where(below, scores[:, None, :], -torch.inf)
    rest = against.logsumexp(-1).where(there, 0.0)
    return torch.where(there, rest - scores, 0.0).sum(1)


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
    ref(rejected)], log-probabilities of the response. `label_smoothing` is the assumed rate of
    flipped labels (conservative DPO: E. Mitchell, "A note on DPO with noisy preferences", 2023, eq. 3);
    `p_chosen` the share that prefers the chosen one.
    """
    p_chosen = p_chosen * (1 - label_smoothing) + (1 - p_chosen) * label_smoothing
    return bradley_terry(beta * h, p_chosen)


def robust_dpo(h: Tensor, *, beta: float, flipped: float, p_chosen: Tensor | float = 1.0) -> Tensor:
    """[(1 - e) L(h) - e L(-h)] / (1 - 2 e), L that of `dpo`: its mean over labels of which the share e = `flipped` < 1/2 is
    wrong is L on the right ones (Chowdhury et al. 2024, arXiv 2403.00409).  May be negative."""
    kept, turned = (dpo(sign * h, beta=beta, p_chosen=p_chosen) for sign in (1, -1))
    return ((1 - flipped) * kept - flipped * turned) / (1 - 2 * flipped)


def ipo(h: Tensor, *, beta: float, p_chosen: Tensor | float = 1.0) -> Tensor:
    """(h - 1 / (2 beta))^2, per pair: identity preference optimisation (Azar et al. 2023, arXiv 2310.12036, eq. 17, tau =
    beta); for a soft label the mean over both directions."""
    half = 1 / (2 * beta)
    return p_chosen * (h - half).square() + (1 - p_chosen) * (h + half).square()


def hinge(h: Tensor, *, beta: float, p_chosen: Tensor | float = 1.0) -> Tensor:
    """max(0, 1 - beta h), per pair: SLiC-HF's calibration loss on the ratio to a reference (Zhao et al. 2023, arXiv
    2305.10425; Liu et al. 2023, arXiv 2309.06657); for a soft label the mean over both directions."""
    return p_chosen * F.relu(1 - beta * h) + (1 - p_chosen) * F.relu(1 + beta * h)


def odds_ratio(chosen: Tensor, rejected: Tensor, p_chosen: Tensor | float = 1.0) -> Tensor:
    """-logsigmoid(log odds(chosen) - log odds(rejected)), per pair, odds p / (1 - p) of p = exp(mean log-probability of a
    token): the second term of ORPO (Hong et al. 2024, arXiv 2403.07691, eq. 4 and 7).  Arguments [P]: those means, nats."""
    return bradley_terry(_log_odds(chosen) - _log_odds(rejected), p_chosen)


def _log_odds(logprob: Tensor) -> Tensor:
    """log p - log(1 - p); p is kept a little below 1, where the odds are infinite."""
    logprob = logprob.clamp(max=-1e-6)
    return logprob - torch.log(-torch.expm1(logprob))


def simpo(
    chosen: Tensor, rejected: Tensor, *, beta: float, gamma: float, p_chosen: Tensor | float = 1.0
) -> Tensor:
    """-logsigmoid(beta (chosen - rejected) - gamma), per pair (Meng et al. 2024, arXiv 2405.14734, eq. 6).  Arguments [P]: mean
    log-probabilities of a token, nats; for a soft label the mean over both directions."""
    return bradley_terry(beta * (chosen - rejected), p_chosen, margin=gamma)


def kto(log_ratio: Tensor, good: Tensor, baseline: Tensor, *, beta: float) -> Tensor:
    """1 - sigmoid(beta (log_ratio - baseline)) for good responses, 1 - sigmoid(beta (baseline - log_ratio)) for others.

    Ethayarajh et al. 2024, arXiv 2402.01306, eq. 8, without the weights.  `log_ratio` [B]: log policy - log reference of a
    response, nats; `good` bool [B]; `baseline` a constant, or [B]: how far the policy is from the reference on average.
    """
    sign = torch.where(good, 1.0, -1.0).to(log_ratio.dtype)
    return 1 - torch.sigmoid(beta * sign * (log_ratio - baseline.detach()))


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
