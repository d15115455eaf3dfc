"""The key/value cache of the local generator: allocated once, rows right-aligned, finished rows dropped in place."""

from __future__ import annotations

import torch
from torch import Tensor
from transformers import Cache

from tutelage.models.attention import Layout


class StaticKV(Cache):
    """Keys and values of a batch of sequences that grow together, one column per step.

    Every sequence ends in the same column: row b occupies columns `starts[b] .. used - 1`, so short prompts leave
    unused columns on the left, which `mask()` hides. Storage is `[rows, Hkv, columns, d]` per layer, allocated when
    a layer first writes, in the dtype of that write.

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

    def update(
        self, key_states: Tensor, value_states: Tensor, layer_idx: int, *args: object, **kwargs: object
    ) -> tuple[Tensor, Tensor]:
        """Called by every attention layer. Flat form: [1, Hkv, N, d] is stored and returned as it is. Step form:
        [rows, Hkv, 1, d] is written to the current column, and all columns so far are returned (a view)."""
        if layer_idx not in self.stored:
            shape = (self.rows, key_states.shape[1], self.columns)
            self.stored[layer_idx] = (  # zeros: a hidden column is multiplied by weight 0, and 0 * NaN is NaN
                key_states.new_zeros(*shape, key_states.shape[-1]),
                value_states.new_zeros(*shape, value_states.shape[-1]),
            )
        keys, values = self.stored[layer_idx]
        if self._slots is not None:
            row, column = self._slots
            keys[row, :, column] = key_states[0].transpose(0, 1)
            values[row, :, column] = value_states[0].transpose(0, 1)
            return key_states, value_states
        keys[: self.rows, :, self.used] = key_states[:, :, 0].to(keys.dtype)
        values[: self.rows, :, self.used] = value_states[:, :, 0].to(values.dtype)
        return keys[: self.rows, :, : self.used + 1], values[: self.rows, :, : self.used + 1]

    def advance(self) -> None:
        """After a forward: a flat one is complete, or the column just written counts from now on."""
        if self._slots is not None:
            self._slots = None
        else:
            self.used += 1

    def mask(self) -> Tensor:
        """Mask [rows, 1, 1, used + 1] for the next one-token forward, True where a row may look: from its start on."""
        columns = torch.arange(self.used + 1, device=self.starts.device)
        return (columns >= self.starts[:, None])[:, None, None]

    def positions(self) -> Tensor:
        """[rows] position of the token that the next forward brings, within its own sequence."""
        return self.used - self.starts

    def select(self, rows: Tensor) -> None:
        """Keep `rows` (LongTensor of row numbers, in the new order); columns that no kept row uses are dropped."""
        starts = self.starts[rows]
        first = int(starts.min()) if len(starts) else 0
        for keys, values in self.stored.values():
            for stored in (keys, values):
                stored[: len(rows), :, : self.used - first] = stored[rows, :, first : self.used]
        self.rows, self.used, self.starts = len(rows), self.used - first, starts - first

    def repeat(self, times: int) -> None:
        """Each row `times` times, copies next to each other: several samples of one prompt after one prefill."""
        if times == 1:
            return
        for layer, (keys, values) in self.stored.items():
            self.stored[layer] = (
                keys[: self.rows].repeat_interleave(times, dim=0),
                values[: self.rows].repeat_interleave(times, dim=0),
            )
        self.rows, self.starts = self.rows * times, self.starts.repeat_interleave(times)

    # What transformers asks of a cache.

    def __len__(self) -> int:
        return len(self.stored)

    def get_seq_length(self, layer_idx: int = 0) -> int:
        return 0 if self._slots is not None else self.used

    def get_mask_sizes(self, query_length: int, layer_idx: int) -> tuple[int, int]:
        return self.get_seq_length() + query_length, 0
