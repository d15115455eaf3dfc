"""The key/value cache of the local generator: every row at its own place, finished rows dropped or given to others."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import Cache

from tutelage.models.layout import Layout

BLOCK = 32
"""Columns are added so many at a time: a product over a part of a tensor's columns would copy them at every step."""

BLOCK_GPU = 256
"""On a GPU every block means that the step is recorded anew (`graphs`)."""


class StaticKV(Cache):
    """Keys and values of a batch of sequences that grow together, one token per row and step.

    Row b occupies columns 0 .. lengths[b] - 1; `mask()` hides the others, also those that nothing has been written to yet.
    Storage is `[rows, Hkv, allocated columns, d]` per layer, in the dtype of the first write, never more than
    `columns` wide.

    Filled in two ways: `prefill(layout)` switches to the flat form, where a layer writes the keys of all prompts at
    once; otherwise a forward brings the next token of every row.  `advance()` once after each.  A row that is finished may be
    left (`leave`: it begins again, and costs next to nothing) until another prompt takes its place, because whatever a row
    holds beyond its length is never seen.
    """

    def __init__(self, columns: int) -> None:
        super().__init__(layers=[])
        self.columns = columns
        self.rows = 0
        self.longest = 0
        self.lengths = torch.zeros(0, dtype=torch.long)
        self.stored: dict[int, tuple[Tensor, Tensor]] = {}
        self._flat: _Flat | None = None

    def prefill(self, layout: Layout, rows: Tensor | None = None, counts: Sequence[int] = ()) -> None:
        """The next forward brings whole prompts, flat, for new rows, or for `rows` (LongTensor), which begin anew: `counts` of
        them, next to each other, for each prompt.  Raises ValueError when the longest does not fit."""
        longest = max(layout.lengths)
        if longest > self.columns:
            raise ValueError(
                f"a prompt of {longest} tokens does not fit a key/value cache of {self.columns} columns"
            )
        lengths = torch.tensor(layout.lengths)
        if rows is None:
            assert not self.stored, "rows are added to an empty cache only"
            self.rows, rows = len(lengths), torch.arange(len(lengths))
            self.lengths = torch.zeros_like(lengths).to(layout.device)
        else:
            lengths = lengths.repeat_interleave(torch.tensor(counts))
        self._flat = _Flat(layout, rows.to(layout.device), lengths.to(layout.device), counts)

    @property
    def allocated(self) -> int:
        """Columns of the storage: room for one token more in the longest row, in whole blocks."""
        return max(self._needed, next(iter(self.stored.values()))[0].shape[2] if self.stored else 0)

    @property
    def _needed(self) -> int:
        longest = max(self._flat.layout.lengths) if self._flat else 0
        block = BLOCK if self.lengths.device.type == "cpu" else BLOCK_GPU
        return min(self.columns, (max(self.longest, longest) // block + 1) * block)

    def update(
        self, key_states: Tensor, value_states: Tensor, layer_idx: int, *args: object, **kwargs: object
    ) -> tuple[Tensor, Tensor]:
        """Called by every attention layer. Flat form: [1, Hkv, N, d] is stored and returned as it is. Step form:
        [rows, Hkv, 1, d] is written to every row's next column, and all allocated columns are returned."""
        if layer_idx not in self.stored:
            self.stored[layer_idx] = (
                key_states.new_empty(self.rows, key_states.shape[1], 0, key_states.shape[-1]),
                value_states.new_empty(self.rows, value_states.shape[1], 0, value_states.shape[-1]),
            )
        keys, values = self.room(layer_idx)
        if self._flat is not None:
            self._flat.write(key_states[0], keys)
            self._flat.write(value_states[0], values)
            return key_states, value_states
        row = torch.arange(self.rows, device=self.lengths.device)
        keys[row, :, self.lengths] = key_states[:, :, 0].to(keys.dtype)
        values[row, :, self.lengths] = value_states[:, :, 0].to(values.dtype)
        return keys, values

    def room(self, layer_idx: int) -> tuple[Tensor, Tensor]:
        """The storage of a layer that has been written to, with a column for the next token of every row."""
        keys, values = self.stored[layer_idx]
        if keys.shape[2] < self._needed:
            keys, values = _widened(keys, self._needed), _widened(values, self._needed)
            self.stored[layer_idx] = keys, values
        return keys, values

    def make_room(self) -> None:
        """A column for the next token of every row, in all layers."""
        for layer in self.stored:
            self.room(layer)

    @property
    def storage(self) -> tuple[object, ...]:
        """Where everything lies that a step reads and writes: other storage, another tuple."""
        tensors = [self.lengths, *(tensor for pair in self.stored.values() for tensor in pair)]
        return tuple((tensor.data_ptr(), tensor.shape, tensor.stride()) for tensor in tensors)

    def advance(self) -> None:
        """After a forward: the tokens that it brought count from now on."""
        if self._flat is not None:
            self.lengths[self._flat.rows] = self._flat.lengths
            self.longest = max(self.longest, *self._flat.layout.lengths)
            self._flat = None
        else:
            self.lengths += 1  # where it lies: recorded steps read it there
            self.longest += 1

    def leave(self, rows: Tensor) -> None:
        """These rows (LongTensor) begin again with nothing."""
        self.lengths[rows] = 0
        self.longest = int(self.lengths.max())

    def mask(self, dtype: torch.dtype) -> Tensor:
        """Additive mask [rows, 1, 1, allocated] for the next one-token forward: 0 up to the column about to be written, -inf
        after it."""
        columns = torch.arange(self.allocated, device=self.lengths.device)
        hidden = columns > self.lengths[:, None]
        return torch.zeros(hidden.shape, dtype=dtype, device=hidden.device).masked_fill_(hidden, -torch.inf)[
            :, None, None
        ]

    def positions(self) -> Tensor:
        """[rows] position of the token that the next forward brings, within its own sequence: also the column that it takes."""
        return self.lengths

    def select(self, rows: Tensor) -> None:
        """Keep `rows` (LongTensor of row numbers, in the new order; one that stands there twice becomes two); columns that
        none of them needs are dropped."""
        self.rows, self.lengths = len(rows), self.lengths[rows]
        self.longest = int(self.lengths.max()) if len(rows) else 0
        columns = self._needed
        for layer, stored in self.stored.items():
            keys, values = (t[rows, :, :columns] for t in stored)
            self.stored[layer] = keys, values

    # What transformers asks of a cache.

    def __len__(self) -> int:
        return len(self.stored)

    def get_seq_length(self, layer_idx: int = 0) -> int:
        return 0 if self._flat is not None else self.longest

    def get_mask_sizes(self, query_length: int, layer_idx: int) -> tuple[int, int]:
        return self.get_seq_length() + query_length, 0


class _Flat:
    """Where the tokens of whole prompts go.  rows [R]; lengths [R]: of their prompts."""

    def __init__(self, layout: Layout, rows: Tensor, lengths: Tensor, counts: Sequence[int]) -> None:
        self.layout, self.rows, self.lengths = layout, rows, lengths
        pieces = torch.arange(layout.total, device=rows.device).split(layout.lengths)
        copies = [
            piece
            for piece, count in zip(pieces, counts or [1] * len(pieces), strict=True)
            for _ in range(count)
        ]
        self._token = torch.cat(copies)
        self._row, self._column = rows.repeat_interleave(lengths), layout.positions[self._token]

    def write(self, states: Tensor, stored: Tensor) -> None:
        """states [Hkv, N, d] -> stored [rows, Hkv, columns, d]."""
        stored[self._row, :, self._column] = states.transpose(0, 1)[self._token]


def _widened(stored: Tensor, columns: int) -> Tensor:
    """With zeros in the new columns: a hidden column is multiplied by weight 0, and 0 * NaN would be NaN."""
    rows, heads, old, width = stored.shape
    wide = stored.new_zeros(rows, heads, columns, width)
    wide[:, :, :old] = stored
    return wide
