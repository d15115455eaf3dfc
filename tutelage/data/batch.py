"""Batches of token sequences, laid out flat: one sequence after the other, no padding.

Every per-token field has one entry per token ([N, ...]), every per-unit field one entry per unit ([U, ...]).  A unit is
what must stay together when a batch is cut into micro-batches: one sequence, or the two sequences of a pair.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from itertools import accumulate, pairwise
from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor

SHARED_SHARE = 0.1
"""Share of a batch's tokens that neighbours must have in common before it is worth computing those once."""


@dataclass(frozen=True)
class Tokens:
    """One tokenised sequence: `ids` int32 [T]; `loss_mask` bool [T], True = trained on (entry t is about token t)."""

    ids: np.ndarray
    loss_mask: np.ndarray

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True)
class TokenBatch:
    """B sequences, flat.

    ids: int64 [N], N = sum of lengths.  lengths: B integers.  loss_mask: bool [N], True = trained on.  rows: B indices
    into the data set, so that an error can say which rows it is about.
    """

    ids: Tensor
    lengths: tuple[int, ...]
    loss_mask: Tensor
    rows: tuple[int, ...]

    sequences_per_unit: ClassVar[int] = 1
    per_token: ClassVar[tuple[str, ...]] = ("ids", "loss_mask")
    per_unit: ClassVar[tuple[str, ...]] = ()

    @staticmethod
    def collate(sequences: Sequence[Tokens], rows: Sequence[int] | None = None) -> TokenBatch:
        """Lay sequences out one after the other."""
        ids, loss_mask, lengths = flatten(sequences)
        return TokenBatch(
            ids, lengths, loss_mask, tuple(rows) if rows is not None else tuple(range(len(sequences)))
        )

    @property
    def device(self) -> torch.device:
        return self.ids.device

    @cached_property
    def shared_prefixes(self) -> tuple[int, ...] | None:
        """How many tokens each sequence has in common with the one before it, at the start: what a causal model need
        compute only once.  None where that is not worth the trouble."""
        ids = np.split(self.ids.cpu().numpy(), list(accumulate(self.lengths))[:-1])
        shared = [0, *(_common(one, other) for one, other in pairwise(ids))]
        return tuple(shared) if sum(shared) >= SHARED_SHARE * sum(self.lengths) else None

    def __len__(self) -> int:
        """The number of units."""
        return len(self.lengths) // self.sequences_per_unit

    def to(self, device: torch.device | str) -> Self:
        """The same batch on another device (itself when it is there already)."""
        if self.device == torch.device(device):
            return self
        moved: dict[str, Any] = {
            f.name: value.to(device)
            for f in fields(self)
            if isinstance(value := getattr(self, f.name), Tensor)
        }
        return replace(self, **moved)

    def take(self, units: Sequence[int]) -> Self:
        """The given units, in the given order."""
        k = self.sequences_per_unit
        chosen = [unit * k + j for unit in units for j in range(k)]
        index = self.token_index(units)
        picked: dict[str, Any] = {name: self._pick(name, index) for name in self.per_token}
        unit_index = torch.tensor(list(units), device=self.device)
        picked |= {name: self._pick(name, unit_index) for name in self.per_unit}
        lengths, rows = tuple(self.lengths[i] for i in chosen), tuple(self.rows[i] for i in chosen)
        return replace(self, lengths=lengths, rows=rows, **picked)

    def _pick(self, name: str, index: Tensor) -> Tensor | None:
        value: Tensor | None = getattr(self, name)
        return None if value is None else value[index]

    def groups(self, max_tokens: int) -> list[list[int]]:
        """The units of each micro-batch: at most `max_tokens` tokens (always at least one unit), sorted by length.

        Sorting puts sequences of like length together, which is what attention per length bucket likes.  All hold about
        as much: a small rest would cost as many calls as a full one.
        """
        k = self.sequences_per_unit
        sizes = [sum(self.lengths[unit * k : unit * k + k]) for unit in range(len(self))]
        if sum(sizes) <= max_tokens:
            return [list(range(len(self)))]
        groups: list[list[int]] = [[]]
        total, fair = 0, sum(sizes) / -(-sum(sizes) // max_tokens)
        for unit in sorted(range(len(self)), key=lambda unit: (sizes[unit], unit)):
            if groups[-1] and (total >= fair or total + sizes[unit] > max_tokens):
                groups.append([])
                total = 0
            groups[-1].append(unit)
            total += sizes[unit]
        return groups

    def split(self, max_tokens: int) -> Iterator[Self]:
        """Micro-batches (see `groups`).  How a batch is split changes no gradient: losses are sums, and `fit` divides
        once by the count of the whole batch."""
        groups = self.groups(max_tokens)
        return iter([self]) if len(groups) == 1 else (self.take(group) for group in groups)

    def token_index(self, units: Sequence[int]) -> Tensor:
        """int64 positions in the flat layout of all tokens of the given units, in order."""
        k = self.sequences_per_unit
        starts = [0, *accumulate(self.lengths)]
        spans = [(starts[unit * k], starts[unit * k + k]) for unit in units]
        return torch.cat([torch.arange(start, end) for start, end in spans]).to(self.device)


@dataclass(frozen=True)
class PairBatch(TokenBatch):
    """P pairs: sequence 2i is the chosen response of pair i, 2i+1 the rejected one (with their prompt in front).

    p_chosen: float32 [P], probability that the chosen one is better.  margin: float32 [P], in score units.
    ref_logprobs: float32 [P, 2] or None: the reference's log-probability of (chosen, rejected), summed over loss_mask.
    """

    p_chosen: Tensor
    margin: Tensor
    ref_logprobs: Tensor | None = None

    sequences_per_unit: ClassVar[int] = 2
    per_unit: ClassVar[tuple[str, ...]] = ("p_chosen", "margin", "ref_logprobs")


@dataclass(frozen=True)
class RolloutBatch(TokenBatch):
    """B prompts with their responses (loss_mask True on the response), and what the policy update needs.

    old_logprobs (nats), advantages, returns, values: float32 [N], zero where loss_mask is False.
    """

    old_logprobs: Tensor
    advantages: Tensor
    returns: Tensor
    values: Tensor

    per_token: ClassVar[tuple[str, ...]] = (
        "ids",
        "loss_mask",
        "old_logprobs",
        "advantages",
        "returns",
        "values",
    )


def _common(one: np.ndarray, other: np.ndarray) -> int:
    """The length of the prefix that two sequences have in common."""
    short = min(len(one), len(other))
    same = one[:short] == other[:short]
    return short if same.all() else int(same.argmin())


def flatten(sequences: Sequence[Tokens]) -> tuple[Tensor, Tensor, tuple[int, ...]]:
    """(ids int64 [N], loss_mask bool [N], lengths) of sequences laid one after the other.

    Nothing comes before the first token of a sequence, so it cannot be predicted and is never trained.
    """
    ids = torch.from_numpy(np.concatenate([s.ids for s in sequences]).astype(np.int64))
    loss_mask = torch.from_numpy(np.concatenate([s.loss_mask for s in sequences]).astype(bool))
    lengths = tuple(len(s) for s in sequences)
    loss_mask[torch.tensor([0, *accumulate(lengths)][:-1])] = False
    return ids, loss_mask, lengths
