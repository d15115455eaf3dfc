"""Batches of token sequences, laid out flat: one sequence after the other, no padding.

A unit is what must stay together when a batch is cut: a sequence, the two responses of a pair, all responses to a prompt.
Fields stand beside the tokens by what they have one entry for: `per_token` [N, ...], `per_sequence` [B, ...],
`per_unit` [U, ...]; whatever an algorithm puts there is cut along with the tokens.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import accumulate, pairwise
from typing import Literal, Self

import numpy as np
import torch
from torch import Tensor

Unit = Literal["tokens", "sequences", "pairs", "units"]
"""What a loss can be averaged over."""

Fields = Mapping[str, Tensor]

SHARED_SHARE = 0.1
"""Share of a batch's tokens that neighbours must have in common before it is worth computing those once."""


COPIES = 4
"""A micro-batch may have so many times its tokens where those that are shared count once: attention still copies them."""


@dataclass(frozen=True)
class Tokens:
    """One tokenised sequence: `ids` int32 [T]; `loss_mask` bool [T], True = trained on (entry t is about token t)."""

    ids: np.ndarray
    loss_mask: np.ndarray

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True)
class TokenBatch:
    """B sequences in U units, flat.

    ids: int64 [N], N = sum of lengths.  lengths: B integers.  loss_mask: bool [N], True = trained on.  rows: B indices
    into the data set, so that an error can say which rows it is about.  unit_sizes: how many sequences each unit has, in
    order; empty: each sequence is a unit.  objective: which of several objectives of one update the batch belongs to;
    each is averaged over its own counts.
    """

    ids: Tensor
    lengths: tuple[int, ...]
    loss_mask: Tensor
    rows: tuple[int, ...]
    unit_sizes: tuple[int, ...] = ()
    per_token: Fields = field(default_factory=dict)
    per_sequence: Fields = field(default_factory=dict)
    per_unit: Fields = field(default_factory=dict)
    objective: str = ""

    @staticmethod
    def collate(sequences: Sequence[Tokens], rows: Sequence[int] | None = None) -> TokenBatch:
        """Lay sequences out one after the other.

        Nothing comes before the first token of a sequence, so it cannot be predicted and is never trained.
        """
        ids = torch.from_numpy(np.concatenate([s.ids for s in sequences]).astype(np.int64))
        loss_mask = torch.from_numpy(np.concatenate([s.loss_mask for s in sequences]).astype(bool))
        lengths = tuple(len(s) for s in sequences)
        loss_mask[torch.tensor([0, *accumulate(lengths)][:-1])] = False
        return TokenBatch(ids, lengths, loss_mask, tuple(range(len(sequences)) if rows is None else rows))

    @property
    def device(self) -> torch.device:
        return self.ids.device

    @cached_property
    def shared_prefixes(self) -> tuple[int, ...] | None:
        """How many tokens each sequence has in common with the one before it, at the start: what a causal model need
        compute only once.  None where that is not worth the trouble."""
        numbers = np.arange(len(self.lengths))
        shared = [0, *common_starts(self.ids.cpu().numpy(), self._first_token, numbers[:-1], numbers[1:])]
        return tuple(shared) if sum(shared) >= SHARED_SHARE * sum(self.lengths) else None

    def __len__(self) -> int:
        """The number of units."""
        return len(self.unit_sizes or self.lengths)

    def units(self) -> dict[Unit, int]:
        """How many there are of everything that a loss can be averaged over.

        A unit of k sequences has k (k - 1) / 2 pairs.
        """
        pairs = sum(k * (k - 1) // 2 for k in self.unit_sizes)
        tokens = int(self.loss_mask.sum())
        return {"tokens": tokens, "sequences": len(self.lengths), "pairs": pairs, "units": len(self)}

    def with_fields(self, **per_token: Tensor) -> Self:
        """The same batch with further fields per token."""
        return replace(self, per_token={**self.per_token, **per_token})

    def to(self, device: torch.device | str) -> Self:
        """The same batch on another device (itself when it is there already)."""
        where = torch.device(device)
        if self.device == where:
            return self

        def moved(fields: Fields) -> Fields:
            return {name: _moved(value, where) for name, value in fields.items()}

        return replace(
            self,
            ids=_moved(self.ids, where),
            loss_mask=_moved(self.loss_mask, where),
            per_token=moved(self.per_token),
            per_sequence=moved(self.per_sequence),
            per_unit=moved(self.per_unit),
        )

    def take(self, units: Sequence[int]) -> Self:
        """The given units, in the given order."""
        chosen = np.asarray(units, dtype=np.int64)
        sequences = spans(self._first_sequence, chosen)
        tokens = self._index(spans(self._first_token, sequences))
        of_sequences, of_units = self._index(sequences), self._index(chosen)
        return replace(
            self,
            ids=self.ids[tokens],
            loss_mask=self.loss_mask[tokens],
            lengths=tuple(self.lengths[i] for i in sequences.tolist()),
            rows=tuple(self.rows[i] for i in sequences.tolist()),
            unit_sizes=tuple(self.unit_sizes[i] for i in chosen.tolist()) if self.unit_sizes else (),
            per_token=_picked(self.per_token, tokens),
            per_sequence=_picked(self.per_sequence, of_sequences),
            per_unit=_picked(self.per_unit, of_units),
        )

    def groups(self, max_tokens: int, padded: bool = False) -> list[list[int]]:
        """The units of each micro-batch: at most `max_tokens` tokens (always at least one unit), sorted by length.

        Sorting puts sequences of like length together, which is what attention per length bucket likes.  Units of one row of
        the data stay together before that, where what they share at their start is worth computing once: then it counts once,
        too.  All groups hold about as much: a small rest would cost as many calls as a full one.  `padded`: tokens are
        counted as they are laid out by a model that pads every sequence to the longest of its micro-batch.
        """
        longest, sizes, counts = self._measures()
        order = sorted(range(len(self)), key=lambda unit: (sizes[unit], unit))
        if padded:
            return _groups_padded(order, longest, counts, max_tokens)
        rows, shared = self._by_row()
        total = sum(sizes) - sum(shared)
        if total <= max_tokens and sum(sizes) <= COPIES * max_tokens:
            return [[unit for units in rows for unit in units]]
        rows.sort(key=lambda units: (max(sizes[unit] for unit in units), units))
        groups: list[list[int]] = [[]]
        held, whole, fair = 0, 0, total / -(-total // max_tokens)
        for unit in (unit for units in rows for unit in units):
            more = sizes[unit] - shared[unit]
            full = held + more > max_tokens or whole + sizes[unit] > COPIES * max_tokens
            if groups[-1] and (full or (held >= fair and not shared[unit])):
                groups.append([])
                held, whole, more = 0, 0, sizes[unit]
            groups[-1].append(unit)
            held, whole = held + more, whole + sizes[unit]
        return groups

    def _by_row(self) -> tuple[list[list[int]], list[int]]:
        """The units, those of one row of the data together, and how many tokens each shares with the one before it among these;
        each by itself where little is shared."""
        rows: dict[int, list[int]] = {}
        firsts = self._first_sequence.tolist()
        for unit, sequence in enumerate(firsts[:-1]):
            rows.setdefault(self.rows[sequence], []).append(unit)
        shared = [0] * len(self)
        if len(rows) < len(self):
            neighbours = [pair for units in rows.values() for pair in pairwise(units)]
            last = np.asarray(
                [firsts[one + 1] - 1 for one, _ in neighbours]
            )  # of the unit before, its last sequence
            first = np.asarray([firsts[other] for _, other in neighbours])
            starts = common_starts(self.ids.cpu().numpy(), self._first_token, last, first)
            for (_, other), length in zip(neighbours, starts, strict=True):
                shared[other] = length
        if sum(shared) < SHARED_SHARE * sum(self.lengths):
            return [[unit] for unit in range(len(self))], [0] * len(self)
        return list(rows.values()), shared

    def split(self, max_tokens: int, padded: bool = False) -> Iterator[Self]:
        """Micro-batches (see `groups`).  How a batch is split changes no gradient: losses are sums, and `fit` divides
        by the counts of the whole update."""
        groups = self.groups(max_tokens, padded)
        return iter([self]) if groups == [list(range(len(self)))] else (self.take(group) for group in groups)

    def dealt(self, hands: int) -> list[list[int]]:
        """The units in `hands` parts of about as many tokens, each in ascending order; what shares its start stays together where
        there is enough to deal.  Fewer units than hands leave some empty."""
        _, sizes, _ = self._measures()
        rows, _ = self._by_row()
        if len(rows) < 2 * hands:
            rows = [[unit] for unit in range(len(self))]
        parts: list[list[int]] = [[] for _ in range(hands)]
        held = [0] * hands
        for row in sorted(rows, key=lambda units: (-sum(sizes[unit] for unit in units), units)):
            least = held.index(min(held))
            parts[least] += row
            held[least] += sum(sizes[unit] for unit in row)
        return [sorted(part) for part in parts]

    def token_index(self, units: Sequence[int]) -> Tensor:
        """int64 positions in the flat layout of all tokens of the given units, in order."""
        return self._index(spans(self._first_token, self._sequences(units)))

    def sequence_index(self, units: Sequence[int]) -> Tensor:
        """int64 numbers of the sequences of the given units, in order."""
        return self._index(self._sequences(units))

    def _sequences(self, units: Sequence[int]) -> np.ndarray:
        return spans(self._first_sequence, np.asarray(units, dtype=np.int64))

    def _index(self, numbers: np.ndarray) -> Tensor:
        return torch.from_numpy(numbers).to(self.device)

    @cached_property
    def _first_token(self) -> np.ndarray:
        """[B + 1]: where each sequence starts, and the end."""
        return np.concatenate([[0], np.cumsum(self.lengths, dtype=np.int64)])

    @cached_property
    def _first_sequence(self) -> np.ndarray:
        """[U + 1]: the first sequence of each unit, and the end."""
        return np.concatenate([[0], np.cumsum(self.unit_sizes or (1,) * len(self.lengths), dtype=np.int64)])

    def _measures(self) -> tuple[list[int], list[int], list[int]]:
        """Per unit: its longest sequence, its tokens, its sequences."""
        if not self.unit_sizes:
            return list(self.lengths), list(self.lengths), [1] * len(self.lengths)
        parts = [self.lengths[low:high] for low, high in pairwise(self._first_sequence.tolist())]
        return [max(p) for p in parts], [sum(p) for p in parts], list(self.unit_sizes)


def _moved(tensor: Tensor, device: torch.device) -> Tensor:
    """On another device; to a GPU from memory that stays in its place, so that nobody waits for the copy."""
    if device.type == "cuda" and tensor.device.type == "cpu":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)


def spans(first: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """int64 numbers first[i] ... first[i + 1] - 1 for every i of `chosen`, one after the other; linear in their number."""
    sizes = first[chosen + 1] - first[chosen]
    ends = np.cumsum(sizes)
    return np.repeat(first[chosen] - (ends - sizes), sizes) + np.arange(ends[-1] if len(ends) else 0)


def _picked(fields: Fields, index: Tensor) -> Fields:
    return {name: value[index] for name, value in fields.items()}


def _groups_padded(
    order: Sequence[int], longest: Sequence[int], counts: Sequence[int], max_tokens: int
) -> list[list[int]]:
    """Units put together as long as all their sequences, padded to the longest, take at most `max_tokens`."""
    groups: list[list[int]] = [[]]
    width = held = 0
    for unit in order:
        width, held = max(width, longest[unit]), held + counts[unit]
        if groups[-1] and width * held > max_tokens:
            groups.append([])
            width, held = longest[unit], counts[unit]
        groups[-1].append(unit)
    return groups


def common_starts(ids: np.ndarray, first: np.ndarray, one: np.ndarray, other: np.ndarray) -> list[int]:
    """`common_start` of many pairs of sequences of flat `ids`, all at once.

    first: [B + 1], where each sequence starts, and the end.  one, other: [P] numbers of sequences.
    """
    sizes = first[1:] - first[:-1]
    short = np.minimum(sizes[one], sizes[other])
    ends = np.cumsum(short)
    within = np.arange(ends[-1] if len(ends) else 0) - np.repeat(ends - short, short)
    same = ids[np.repeat(first[one], short) + within] == ids[np.repeat(first[other], short) + within]
    shared, differs = short.copy(), np.flatnonzero(~same)[::-1]
    shared[np.repeat(np.arange(len(short)), short)[differs]] = within[
        differs
    ]  # the first of a pair is written last
    found: list[int] = shared.tolist()
    return found


def common_start(one: np.ndarray, other: np.ndarray) -> int:
    """The length of the prefix that two sequences have in common."""
    short = min(len(one), len(other))
    same = one[:short] == other[:short]
    return short if same.all() else int(same.argmin())
