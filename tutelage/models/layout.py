"""Where sequences lie in a flat row, and how they are gathered into buckets of similar length."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

BUCKETS = 4
"""At most so many length buckets per forward; more save padding but cost calls."""

BUCKET_COST = 15_000.0
"""What the calls of one more bucket cost, in the units of `_work`: small batches are better off with one bucket."""

CANDIDATES = 24
"""Lengths tried as borders between buckets: enough to come near the best cut in well under a millisecond."""


@dataclass(frozen=True)
class Bucket:
    """Sequences of similar length, padded on the right to the longest of them.

    `index` [b * width]: flat position of every slot (padding slots point at the sequence's first token);
    `padding` [b * width] bool, True at padding slots, or None when there are none.
    """

    rows: int
    width: int
    index: Tensor
    padding: Tensor | None


class Layout:
    """Where each sequence lies in a flat row.

    lengths: tokens of each sequence, all >= 1, in flat order; device: where the forward runs.
    """

    def __init__(self, lengths: Sequence[int], device: torch.device | str = "cpu") -> None:
        assert lengths and min(lengths) > 0, "every sequence of a layout has at least one token"
        self.lengths = tuple(int(n) for n in lengths)
        self.device = torch.device(device)
        self.masks: dict[tuple[object, ...], Tensor] = {}  # made by attention, shared by the layers
        self.watch: list[int | None] | None = None  # a list collects the window of every attention call

    @property
    def total(self) -> int:
        return sum(self.lengths)

    @cached_property
    @torch.inference_mode(False)  # inference tensors could not serve a later training pass
    def positions(self) -> Tensor:
        """[N] position of each token inside its own sequence."""
        return torch.cat([torch.arange(n) for n in self.lengths]).to(self.device)

    @cached_property
    @torch.inference_mode(False)
    def last(self) -> Tensor:
        """[B] flat position of every sequence's last token."""
        return (torch.tensor(self.lengths).cumsum(0) - 1).to(self.device)

    @cached_property
    def equal(self) -> bool:
        """All sequences have one length: buckets are plain reshapes."""
        return len(set(self.lengths)) == 1

    @cached_property
    @torch.inference_mode(False)
    def buckets(self) -> tuple[Bucket, ...]:
        starts = (torch.tensor((0, *self.lengths)).cumsum(0)[:-1]).tolist()
        found = []
        for group in _groups(self.lengths):
            width = max(self.lengths[i] for i in group)
            slots = torch.arange(width)
            lengths = torch.tensor([self.lengths[i] for i in group])[:, None]
            real = slots < lengths
            index = torch.tensor([starts[i] for i in group])[:, None] + torch.where(real, slots, 0)
            padding = None if bool(real.all()) else ~real.flatten().to(self.device)
            found.append(Bucket(len(group), width, index.flatten().to(self.device), padding))
        return tuple(found)

    @cached_property
    @torch.inference_mode(False)
    def inverse(self) -> Tensor:
        """[N] slot, counted through all buckets one after the other, of every flat token."""
        index = torch.cat([b.index for b in self.buckets])
        padding = torch.cat(
            [
                torch.zeros_like(b.index, dtype=torch.bool) if b.padding is None else b.padding
                for b in self.buckets
            ]
        )
        slots = torch.arange(len(index), device=self.device)[~padding]
        inverse = torch.empty(self.total, dtype=torch.long, device=self.device)
        inverse[index[~padding]] = slots
        return inverse


def _groups(lengths: Sequence[int]) -> list[list[int]]:
    """Sequence indices in at most BUCKETS groups of similar length, cut where the work is least.

    A dynamic programme over sorted lengths; `best[p]` is (work, cuts) for the p shortest sequences.
    """
    order = sorted(range(len(lengths)), key=lambda i: lengths[i])
    count = len(order)
    steps = [p for p in range(1, count) if lengths[order[p - 1]] < lengths[order[p]]]
    candidates = [*steps[:: -(-len(steps) // CANDIDATES) or 1], count]
    best: dict[int, tuple[float, tuple[int, ...]]] = {0: (0.0, ())}
    for _ in range(BUCKETS):
        longer = dict(best)
        for cut in candidates:
            each = _work(lengths[order[cut - 1]])
            found = min(
                (work + (cut - p) * each + BUCKET_COST, (*cuts, cut))
                for p, (work, cuts) in best.items()
                if p < cut
            )
            longer[cut] = min(found, longer.get(cut, found))
        best = longer
    cuts = best[count][1]
    return [order[low:high] for low, high in zip((0, *cuts), cuts, strict=False)]


def _work(width: int) -> float:
    """Work of one sequence in a bucket of this width, up to a factor: copies grow with the width, scores with its square."""
    return width * (width + 64.0)
