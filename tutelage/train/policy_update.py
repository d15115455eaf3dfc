"""What the on-policy algorithms share of an update: the passes over a step's responses, and the policy's part of the loss."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from tutelage.data.batch import TokenBatch, Unit
from tutelage.ops.kl import ESTIMATORS, k2
from tutelage.ops.losses import clipped_policy
from tutelage.ops.masked import masked_sum, segment_sum
from tutelage.rollout.experience import Experience
from tutelage.seeds import rng
from tutelage.settings.onpolicy import RLSettings
from tutelage.train.algorithm import Sum, Term, Updates

UNCLIPPED = float("inf")


class Objective(NamedTuple):
    """clip, reduction: as `settings.rl` names them.  kl: the estimator that stands in the loss, or "exact"; "" for none."""

    clip: str = "token"
    reduction: str = "token-mean"
    kl: str = ""


def passes(
    batch: TokenBatch,
    first: Mapping[str, Tensor],
    settings: RLSettings,
    step: int,
    log: Callable[[Mapping[str, float]], None],
) -> Updates:
    """Updates with a step's responses: `inner_epochs` times, in `minibatches` parts; fewer when the policy has moved too far.

    first: fields of the first update, which takes over a forward that was made before.  log: takes what the first update says of
    the policy, which must not have moved yet.
    """
    begun = False
    for epoch in range(settings.inner_epochs):
        order = rng(settings.seed, "minibatches", step, epoch).permutation(len(batch))
        for part in np.array_split(order, settings.minibatches):
            if not len(part):
                continue
            # In their order: responses to one prompt stand together, so that it is computed once.
            update = batch if settings.minibatches == 1 else batch.take(sorted(part.tolist()))
            moved = yield [update.with_fields(**first)]
            if not begun and "val/ratio" in moved:
                metrics = {
                    "val/first_ratio": moved["val/ratio"],
                    "policy/first_approxkl": moved["policy/approxkl_avg"],
                }
                log(metrics)
            begun, first = True, {}
            if moved.get("policy/approxkl_avg", 0.0) > settings.max_approx_kl:
                return


def charges(
    experience: Experience, kl_coefs: Tensor | float, entropy_coef: float, estimator: str = "k1"
) -> Tensor:
    """float32 [M]: what each response token costs, in units of the score: the KL to the reference, and less entropy.

    kl_coefs: the weight of the KL of each response [B], or one for all.
    entropy_coef x log policy: the objective gains entropy_coef x the entropy of whole responses, whose optimum is
    ~ (reference^kl_coef exp(score))^(1 / (kl_coef + entropy_coef)) (maximum-entropy RL).
    """
    mask = experience.batch.loss_mask
    exact = estimator == "exact"
    kl = (
        experience.batch.per_token["old_kl"][mask]
        if exact
        else ESTIMATORS[estimator](experience.log_ratio[mask])
    )
    if isinstance(kl_coefs, Tensor):
        kl_coefs = spread(kl_coefs.float(), experience.batch)[mask]
    return kl_coefs * kl + entropy_coef * experience.batch.per_token["old_logprobs"][mask]


def policy_terms(
    batch: TokenBatch,
    logprobs: Tensor,
    settings: RLSettings,
    objective: Objective,
    kl_coef: float,
    exact_kl: Tensor | None = None,
) -> tuple[dict[str, Term], dict[str, Sum]]:
    """Terms and metrics of the policy: clipped surrogate and KL, both reduced in the same way.

    The batch has `old_logprobs`, `ref_logprobs`, `advantages` and `importance`, float32 [N]; where tasks have weights of the KL
    of their own also `kl_coefs`, which stand in place of kl_coef.  exact_kl: [N], where the objective has that.
    """
    mask, known = batch.loss_mask, batch.per_token
    moved = torch.where(mask, logprobs - known["old_logprobs"], 0.0)
    tokens = spread(segment_sum(mask.float(), batch.lengths), batch)  # of the token's own response
    ratio, share = _ratio(moved, tokens, batch, objective.clip)
    free = objective.clip == "none"
    loss, clipped = clipped_policy(
        ratio,
        known["advantages"],
        clip_low=1.0 if free else settings.clip_low,
        clip_high=UNCLIPPED if free else settings.clip_high,
        dual_clip=settings.dual_clip,
    )
    weight, per = _reduction(objective.reduction, tokens, settings.max_new_tokens)

    def reduced(values: Tensor, coefficient: float = 1.0) -> Term:
        return Term(masked_sum(values * weight, mask), per, coefficient)

    terms = {"policy": reduced(loss * share * known["importance"])}
    if objective.kl:
        if exact_kl is None:
            exact_kl = ESTIMATORS[objective.kl](logprobs - known["ref_logprobs"])
        own = known.get("kl_coefs")
        terms["kl"] = reduced(exact_kl, kl_coef) if own is None else reduced(exact_kl * own)
    metrics = {
        "policy/approxkl_avg": k2(moved),
        "policy/clipfrac_avg": clipped.float(),
        "val/ratio": ratio.exp(),
    }
    return terms, {name: Sum(masked_sum(value.detach(), mask), "tokens") for name, value in metrics.items()}


def spread(values: Tensor, batch: TokenBatch) -> Tensor:
    """[B] -> [N]: at every token the value of its sequence."""
    return values.repeat_interleave(torch.tensor(batch.lengths, device=values.device))


def _ratio(moved: Tensor, tokens: Tensor, batch: TokenBatch, clip: str) -> tuple[Tensor, Tensor | float]:
    """(log ratio at every token, the token's share of its response's loss).

    sequence: the ratio of the whole response, so its loss counts once, not once per token (Ahmadian et al. 2024).
    sequence-mean: the geometric mean of its tokens' ratios (GSPO: Zheng et al. 2025, arXiv 2507.18071, eq. 7).  Where the
    policy has not moved yet the gradient is the same for all.
    """
    if not clip.startswith("sequence"):
        return moved, 1.0
    whole = spread(segment_sum(moved, batch.lengths), batch)
    return (whole, 1 / tokens.clamp(min=1)) if clip == "sequence" else (whole / tokens.clamp(min=1), 1.0)


def _reduction(name: str, tokens: Tensor, longest: int) -> tuple[Tensor | float, Unit]:
    """(weight of a token, what the sum is divided by the number of)."""
    if name == "token-mean":
        return 1.0, "tokens"
    if name == "sequence-mean":
        return 1 / tokens.clamp(min=1), "sequences"
    return (1 / longest if name == "constant" else 1.0), "sequences"
