"""From scores to rewards of tokens."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from tutelage.ops.masked import mask_from_lengths, pad, whiten


def token_rewards(
    charges: Tensor, scores: Tensor, lengths: Sequence[int], whiten_rewards: bool = False
) -> Tensor:
    """float32 [B, T], right-padded: the score that stands at each response token, less what the token is charged.

    charges: float32 [M], flat; kl_coef times log policy - log reference, say.  scores: float32 [M]: that of a whole response
    stands at its last token.
    `whiten_rewards` scales them to unit variance and leaves the mean where it is.  (Ziegler et al. 2019, arXiv
    1909.08593, eq. 2, with the KL where it arises.)
    """
    rewards = pad(scores - charges, lengths)
    if whiten_rewards:
        rewards = whiten(rewards, mask_from_lengths(lengths).to(rewards.device), shift_mean=False)
    return rewards
