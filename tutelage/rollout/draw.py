"""Drawing one token per row by inverse CDF, from uniforms that belong to the row and not to the batch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from tutelage.rollout.generator import Sampling
from tutelage.seeds import rng

_BELOW_ONE = 1.0 - 2.0**-24  # the largest float32 below 1: keeps `u * total` strictly below `total`


def row_uniforms(sampling: Sampling, prompt_id: str, sample_index: int) -> np.ndarray:
    """Uniforms in [0, 1), float32 [max_new_tokens], one per token of the response.

    Keyed by (seed, step, prompt or prefix, sample number). A longer `max_new_tokens` continues the same numbers, so a
    response does not depend on the limit until it reaches it.
    """
    draws = rng(sampling.seed, "rollout", sampling.step, prompt_id, sample_index).random(
        sampling.max_new_tokens
    )
    return np.minimum(draws, _BELOW_ONE).astype(np.float32)


def sample_numbers(ids: Sequence[str], samples: int) -> list[range]:
    """The numbers of the samples of each prompt (or prefix), given by its id: where it stands again, they go on.

    They depend on how often the prompt stood before, not on the other prompts, so that a prompt drawn four times into
    one step gets four responses of its own, and one that stands there once gets samples 0, 1, ... as always.
    """
    seen: Counter[str] = Counter()
    numbers = []
    for name in ids:
        start = seen[name] * samples
        seen[name] += 1
        numbers.append(range(start, start + samples))
    return numbers


def draw_tokens(logits: Tensor, uniforms: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """One token per row and its log-probability.

    logits: [R, V], any float dtype; uniforms: float32 [R] in [0, 1); temperature: 0 = the likeliest token
    (its log-probability is then the policy's own, at temperature 1).
    Returns tokens int64 [R] and log-probabilities float32 [R] at the sampling temperature.

    A token of probability zero is never drawn: the drawn token is the first whose cumulative weight exceeds
    `u * total`. The softmax is float32 whatever the dtype of the weights.
    """
    logits = logits.float()
    scale = temperature or 1.0
    most = logits.amax(-1, keepdim=True)
    weights = (logits - most).div_(scale).exp_()
    if temperature == 0.0:
        tokens = logits.argmax(-1, keepdim=True)
        total = weights.sum(-1, keepdim=True)
    else:
        cumulative = weights.cumsum_(
            -1
        )  # in place: with a large vocabulary, fresh memory costs more than the sums
        total = cumulative[:, -1:]
        tokens = torch.searchsorted(cumulative, uniforms.unsqueeze(-1) * total, right=True)
    logprobs = (logits.gather(-1, tokens) - most) / scale - total.log()
    return tokens.squeeze(-1), logprobs.squeeze(-1)
