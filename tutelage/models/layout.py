"""Where sequences lie in a flat row, and how they are gathered into buckets of similar length."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

BUCKETS = 4
"""At most so many length buckets per forward, and as many for sequences that begin with copies: more save padding, cost calls."""

BUCKET_COST = 15_000.0
"""What the calls of one more bucket cost, in the units of `_work`: small batches are better off with one bucket."""

CANDIDATES = 24
"""Lengths tried as borders between buckets: enough to come near the best cut in well under a millisecond."""


WIDTHS = 32
"""On a CPU the widths of buckets are multiples of this: shapes that come again (`ops/shapes.py`), and whole vectors."""


@dataclass(frozen=True)
class Bucket:
    """Sequences of similar length, padded on the right to the longest of them.

    `index` [b * width]: row position of every slot (padding slots point at the sequence's first token);
    `unread` [b * width] bool, True at slots whose result nobody reads, which are padding and second copies of shared
    tokens; None when there are none.  `first`: in no sequence is an earlier slot read.
    """

    rows: int
    width: int
    first: int
    index: Tensor
    unread: Tensor | None


class Layout:
    """Where the tokens of each sequence lie in one row that is computed in one go.

    lengths: tokens of each sequence, all >= 1; device: where the forward runs.
    shared: how many tokens at the start of each sequence are those of the sequence before it.  In a causal model the same
    tokens at the same places have the same states: they lie in the row once.  None: every token lies there by itself.
    """

    def __init__(
        self,
        lengths: Sequence[int],
        device: torch.device | str = "cpu",
        shared: Sequence[int] | None = None,
    ) -> None:
        assert lengths and min(lengths) > 0, "every sequence of a layout has at least one token"
        self.lengths = tuple(int(n) for n in lengths)
        self.shared = tuple(shared) if shared is not None and any(shared) else (0,) * len(self.lengths)
        self.device = torch.device(device)
        self.watch: list[int | None] | None = None  # a list collects the window of every attention call

    @property
    def total(self) -> int:
        """Tokens in the row."""
        return sum(self.lengths) - sum(self.shared)

    @cached_property
    def _own(self) -> Tensor:
        """[T] bool: True where a token of the sequences lies in the row by itself, False where it is a shared copy."""
        pieces = zip(self.lengths, self.shared, strict=True)
        return torch.cat([torch.arange(n) >= shared for n, shared in pieces])

    @cached_property
    def place_on_cpu(self) -> Tensor:
        """[T] row position of every token of the sequences."""
        own = self._own.cumsum(0) - 1
        pieces = list(own.split(self.lengths))
        for i, shared in enumerate(self.shared):
            if shared:
                pieces[i] = torch.cat([pieces[i - 1][:shared], pieces[i][shared:]])
        return torch.cat(pieces)

    @cached_property
    @torch.inference_mode(False)  # inference tensors could not serve a later training pass
    def place(self) -> Tensor | None:
        """`place_on_cpu` where the forward runs; None when that is its flat position."""
        return self.place_on_cpu.to(self.device) if any(self.shared) else None

    @cached_property
    @torch.inference_mode(False)
    def kept(self) -> Tensor:
        """[N] flat position of every token of the row."""
        return self._own.nonzero().squeeze(1).to(self.device)

    @cached_property
    @torch.inference_mode(False)
    def positions(self) -> Tensor:
        """[N] position of each token of the row inside its own sequence."""
        return torch.cat([torch.arange(n) for n in self.lengths])[self._own].to(self.device)

    @cached_property
    @torch.inference_mode(False)
    def last(self) -> Tensor:
        """[B] flat position of every sequence's last token."""
        return (torch.tensor(self.lengths).cumsum(0) - 1).to(self.device)

    @cached_property
    @torch.inference_mode(False)
    def starts(self) -> tuple[Tensor, Tensor]:
        """int32 [B + 1] each: where the tokens of every sequence begin, and the last ends, in the row (shared copies left out)
        and among the tokens of all sequences."""
        own = [length - shared for length, shared in zip(self.lengths, self.shared, strict=True)]
        row, everything = (torch.tensor([0, *lengths]).cumsum(0).int() for lengths in (own, self.lengths))
        return row.to(self.device), everything.to(self.device)

    @cached_property
    def equal(self) -> bool:
        """All sequences have one length and share nothing: buckets are plain reshapes."""
        return len(set(self.lengths)) == 1 and not any(self.shared)

    @cached_property
    @torch.inference_mode(False)
    def buckets(self) -> tuple[Bucket, ...]:
        places = self.place_on_cpu.split(self.lengths)
        shared = torch.tensor(self.shared)
        found = []
        for group in self._grouped:
            width = self._slots(max(self.lengths[i] for i in group))
            slots = torch.arange(width)
            index = torch.stack(
                [torch.cat([places[i], places[i][:1].expand(width - len(places[i]))]) for i in group]
            )
            lengths = torch.tensor([self.lengths[i] for i in group])[:, None]
            read = (slots < lengths) & (slots >= shared[group, None])
            unread = None if bool(read.all()) else ~read.flatten().to(self.device)
            found.append(
                Bucket(len(group), width, self._first(group), index.flatten().to(self.device), unread)
            )
        return tuple(found)

    @cached_property
    @torch.inference_mode(False)
    def inverse(self) -> Tensor:
        """[N] slot, counted through all buckets one after the other, of every token of the row."""
        return self._slots_of_tokens[self._own].to(self.device)

    @cached_property
    @torch.inference_mode(False)
    def copies(self) -> tuple[tuple[Tensor, Tensor], ...]:
        """Second, third, ... copies of shared tokens: (row positions, none twice; their slots) for each."""
        places = self.place_on_cpu.split(self.lengths)
        slots = self._slots_of_tokens.split(self.lengths)
        seen: dict[int, list[tuple[Tensor, Tensor]]] = {}
        depth = 0
        for i, shared in enumerate(self.shared):
            depth = depth + 1 if shared else 0
            if shared:
                seen.setdefault(depth, []).append((places[i][:shared], slots[i][:shared]))
        return tuple(
            (
                torch.cat([p for p, _ in parts]).to(self.device),
                torch.cat([s for _, s in parts]).to(self.device),
            )
            for parts in seen.values()
        )

    @cached_property
    def _grouped(self) -> list[list[int]]:
        """Sequences that begin with copies lie apart from others where so much of them need not be computed that it pays."""
        copies = [i for i, shared in enumerate(self.shared) if shared]
        if copies and len(copies) * _work(self._first(copies)) > BUCKET_COST:
            return [*self._cut([i for i, shared in enumerate(self.shared) if not shared]), *self._cut(copies)]
        return self._cut(range(len(self.lengths)))

    def _cut(self, group: Sequence[int]) -> list[list[int]]:
        return [[group[i] for i in part] for part in _groups([self._slots(self.lengths[i]) for i in group])]

    def _first(self, group: Sequence[int]) -> int:
        """The first slot that is read in any of these sequences, rounded down."""
        return min(self.shared[i] for i in group) // WIDTHS * WIDTHS

    def _slots(self, length: int) -> int:
        """The slots for a sequence of so many tokens."""
        exact = self.equal or self.device.type != "cpu"
        return length if exact else -(-length // WIDTHS) * WIDTHS

    @cached_property
    def _slots_of_tokens(self) -> Tensor:
        """[T] slot of every token of the sequences, shared copies included, counted through all buckets."""
        pieces: list[Tensor] = [torch.empty(0)] * len(self.lengths)
        start = 0
        for group in self._grouped:
            width = self._slots(max(self.lengths[i] for i in group))
            for row, i in enumerate(group):
                first = start + row * width
                pieces[i] = torch.arange(first, first + self.lengths[i])
            start += len(group) * width
        return torch.cat(pieces)


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
