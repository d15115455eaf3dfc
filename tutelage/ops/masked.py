"""Reductions over masked tensors and over the flat layout (all sequences one after the other).

A mask is a bool tensor, True = real. What stands under a False never counts, not even NaN or inf: values are
selected with `torch.where`, because NaN x 0 is NaN. Masks come from lengths, never from `ids != pad`.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from tutelage.ops.shapes import wide

WHITEN_EPS = 1e-8


def masked_sum(x: Tensor, mask: Tensor, dim: int | None = None) -> Tensor:
    """Sum of `x` where `mask` is True; over everything, or over `dim`."""
    kept = torch.where(mask, x, 0)
    return kept.sum() if dim is None else kept.sum(dim)


def masked_mean(x: Tensor, mask: Tensor, dim: int | None = None) -> Tensor:
    """Mean of `x` where `mask` is True; 0 where nothing is."""
    mask = mask.expand_as(x)
    count = mask.sum() if dim is None else mask.sum(dim)
    return masked_sum(x, mask, dim) / count.clamp(min=1)


def masked_var(x: Tensor, mask: Tensor) -> Tensor:
    """Biased variance (divided by the count) of `x` where `mask` is True; 0 when nothing is."""
    deviation = torch.where(mask, x, 0.0) - masked_mean(x, mask)
    return masked_mean(deviation.square(), mask)


def whiten(x: Tensor, mask: Tensor, shift_mean: bool = True) -> Tensor:
    """(x - mean) / sqrt(var + 1e-8) over the True places of `mask`, 0 at the others.

    With `shift_mean=False` the mean is added back, so that only the scale changes. The moments are taken in
    float64: a constant input gives zeros, not its rounding error divided by 1e-4. Detached: advantages are
    constants.
    """
    exact = wide(x.detach())
    mean = masked_mean(exact, mask)
    white = (exact - mean) * torch.rsqrt(masked_var(exact, mask) + WHITEN_EPS)
    if not shift_mean:
        white = white + mean
    return torch.where(mask, white, 0.0).to(x.dtype)


def mask_from_lengths(lengths: Sequence[int], device: torch.device | None = None) -> Tensor:
    """[B, max(lengths)] bool, True at the first `lengths[b]` places of row b (right padding)."""
    steps = torch.arange(max(lengths, default=0), device=device)
    return steps < torch.tensor(lengths, dtype=torch.long, device=device)[:, None]


def pad(flat: Tensor, lengths: Sequence[int]) -> Tensor:
    """[N, ...] -> [B, max(lengths), ...], zeros on the right."""
    assert sum(lengths) == flat.shape[0], f"lengths add up to {sum(lengths)}, not to {flat.shape[0]}"
    width = max(lengths, default=0)
    index = mask_from_lengths(lengths, flat.device).flatten().nonzero().squeeze(1)
    padded = flat.new_zeros(len(lengths) * width, *flat.shape[1:]).index_copy(0, index, flat)
    return padded.view(len(lengths), width, *flat.shape[1:])


def unpad(padded: Tensor, lengths: Sequence[int]) -> Tensor:
    """[B, T, ...] -> [N, ...]: the first `lengths[b]` places of every row, one row after the other."""
    width = max(lengths, default=0)
    assert len(lengths) == padded.shape[0], f"{len(lengths)} lengths for {padded.shape[0]} rows"
    assert width <= padded.shape[1], f"a length of {width} in {padded.shape[1]} columns"
    index = mask_from_lengths(lengths, padded.device).flatten().nonzero().squeeze(1)
    return padded[:, :width].flatten(0, 1).index_select(0, index)


def segment_sum(flat: Tensor, lengths: Sequence[int]) -> Tensor:
    """[N] -> [B]: the sum over every sequence, 0 for an empty one. Differentiable.

    Summed in float64 over the padded form: the same bits whatever else is in the batch, on any device.
    """
    return pad(wide(flat), lengths).sum(1).to(flat.dtype)
