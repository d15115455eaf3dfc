"""The key/value cache of the local generator: rows right-aligned, grown by blocks, finished rows dropped."""

from __future__ import annotations

import torch
from torch import Tensor
from transformers import Cache

from tutelage.models.layout import Layout

BLOCK = 32
"""Columns are added so many at a time: a product over a part of a tensor's columns would copy them at every step."""


class StaticKV(Cache):
    """Keys and values of a batch of sequences that grow together, one column per step.

    Every sequence ends in the same column: row b occupies columns `starts[b] .. used - 1`, so short prompts leave
    unused columns on the left; `mask()` hides those, and the ones on the right that nothing has been written to yet.
    Storage is `[rows, Hkv, allocated columns, d]` per layer, in the dtype of the first write, never more than
    `columns` wide.

    Filled in two ways: `prefill(layout)` switches to the flat form, where a layer writes the keys of all prompts at
    once; afterwards every forward appends one column, and `advance()` (once per forward) moves on to the next.
    """

    def __init__(self, columns: int) -> None:
        super().__init__(layers=[])
        self.columns = columns
        self.rows = 0
        self.used = 0
        self.starts = torch.zeros(0, dtype=torch.long)
        self.stored: dict[int, tuple[Tensor, Tensor]] = {}
        self._slots: tuple[Tensor, Tensor] | None = None

    def prefill(self, layout: Layout) -> None:
        """The next forward brings whole prompts, flat. Raises ValueError when the longest does not fit."""
        longest = max(layout.lengths)
        if longest > self.columns:
            raise ValueError(
                f"a prompt of {longest} tokens does not fit a key/value cache of {self.columns} columns"
            )
        lengths = torch.tensor(layout.lengths)
        self.rows, self.used, self.starts = len(lengths), longest, (longest - lengths).to(layout.device)
        row = torch.arange(self.rows).repeat_interleave(lengths).to(layout.device)
        self._slots = (row, self.starts[row] + layout.positions)

    @property
    def allocated(self) -> int:
        """Columns of the storage: room for one more than are used, in whole blocks."""
        return min(self.columns, (self.used // BLOCK + 1) * BLOCK)

    def update(
        self, key_states: Tensor, value_states: Tensor, layer_idx: int, *args: object, **kwargs: object
    ) -> tuple[Tensor, Tensor]:
        """Called by every attention layer. Flat form: [1, Hkv, N, d] is stored and returned as it is. Step form:
        [rows, Hkv, 1, d] is written to the current column, and all allocated columns are returned."""
        if layer_idx not in self.stored:
            self.stored[layer_idx] = (
                key_states.new_empty(self.rows, key_states.shape[1], 0, key_states.shape[-1]),
                value_states.new_empty(self.rows, value_states.shape[1], 0, value_states.shape[-1]),
            )
        keys, values = self.room(layer_idx)
        if self._slots is not None:
            row, column = self._slots
            keys[row, :, column] = key_states[0].transpose(0, 1)
            values[row, :, column] = value_states[0].transpose(0, 1)
            return key_states, value_states
        keys[:, :, self.used] = key_states[:, :, 0].to(keys.dtype)
        values[:, :, self.used] = value_states[:, :, 0].to(values.dtype)
        return keys, values

    def room(self, layer_idx: int) -> tuple[Tensor, Tensor]:
        """The storage of a layer that has been written to, with a column for the next token."""
        keys, values = self.stored[layer_idx]
        if keys.shape[2] < self.allocated:
            keys, values = _widened(keys, self.allocated), _widened(values, self.allocated)
            self.stored[layer_idx] = keys, values
        return keys, values

    def advance(self) -> None:
        """After a forward: a flat one is complete, or the column just written counts from now on."""
        if self._slots is not None:
            self._slots = None
        else:
            self.used += 1

    def mask(self, dtype: torch.dtype) -> Tensor:
        """Additive mask [rows, 1, 1, allocated] for the next one-token forward: 0 from a row's start to the column
        about to be written, -inf elsewhere."""
        columns = torch.arange(self.allocated, device=self.starts.device)
        hidden = (columns < self.starts[:, None]) | (columns > self.used)
        return torch.zeros(hidden.shape, dtype=dtype, device=hidden.device).masked_fill_(hidden, -torch.inf)[
            :, None, None
        ]

    def positions(self) -> Tensor:
        """[rows] position of the token that the next forward brings, within its own sequence."""
        return self.used - self.starts

    def select(self, rows: Tensor) -> None:
        """Keep `rows` (LongTensor of row numbers, in the new order); columns that no kept row uses are dropped."""
        starts = self.starts[rows]
        first = int(starts.min()) if len(starts) else 0
        self.rows, self.used, self.starts = len(rows), self.used - first, starts - first
        last = first + self.allocated
        for layer, stored in self.stored.items():
            keys, values = (t[rows, :, first:last] for t in stored)
            self.stored[layer] = keys, values

    def repeat(self, times: int) -> None:
        """Each row `times` times, copies next to each other: several samples of one prompt after one prefill."""
        for layer, stored in self.stored.items():
            keys, values = (t.repeat_interleave(times, dim=0) for t in stored)
            self.stored[layer] = keys, values
        self.rows, self.starts = self.rows * times, self.starts.repeat_interleave(times)

    # What transformers asks of a cache.

    def __len__(self) -> int:
        return len(self.stored)

    def get_seq_length(self, layer_idx: int = 0) -> int:
        return 0 if self._slots is not None else self.used

    def get_mask_sizes(self, query_length: int, layer_idx: int) -> tuple[int, int]:
        return self.get_seq_length() + query_length, 0


def _widened(stored: Tensor, columns: int) -> Tensor:
    """With zeros in the new columns: a hidden column is multiplied by weight 0, and 0 * NaN would be NaN."""
    rows, heads, old, width = stored.shape
    wide = stored.new_zeros(rows, heads, columns, width)
    wide[:, :, :old] = stored
    return wide
