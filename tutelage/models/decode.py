"""Cached decoding: prompts in, logits of the next token out, one token per row and step."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from tutelage.models.attention import Layout
from tutelage.models.cache import StaticKV
from tutelage.models.forward import flat_inputs, plain


class Decoding:
    """A batch of sequences being continued by one model.

    `prefill` reads the prompts and leaves the logits of each row's next token in `logits` [rows, V]; `step(tokens)`
    appends one token to every row and renews them. `select` drops or reorders rows, `repeat` copies each of them.
    Use under `torch.inference_mode()` with the model in eval mode. Logits are what the model's own forward returns.
    """

    def __init__(self, model: nn.Module, prompts: Sequence[Sequence[int]], new_tokens: int) -> None:
        self.model = plain(model)
        device = next(self.model.parameters()).device
        layout = Layout([len(p) for p in prompts], device)
        self.cache = StaticKV(max(layout.lengths) + new_tokens)
        self.cache.prefill(layout)
        ids = torch.tensor([t for p in prompts for t in p], device=device)
        out = self.model(
            **flat_inputs(ids, layout), past_key_values=self.cache, use_cache=True, logits_to_keep=layout.last
        )
        self.cache.advance()
        self.logits: Tensor = out.logits[0]

    @property
    def rows(self) -> int:
        return self.cache.rows

    def step(self, tokens: Tensor) -> Tensor:
        """tokens [rows] (LongTensor) -> logits [rows, V] of what follows them."""
        out = self.model(
            input_ids=tokens[:, None],
            position_ids=self.cache.positions()[:, None],
            attention_mask=self.cache.mask(self.logits.dtype),
            past_key_values=self.cache,
            use_cache=True,
        )
        self.cache.advance()
        self.logits = out.logits[:, 0]
        return self.logits

    def select(self, rows: Tensor) -> None:
        """Keep these rows (LongTensor), in this order."""
        self.cache.select(rows)
        self.logits = self.logits[rows]

    def repeat(self, times: int) -> None:
        """Each row `times` times, copies next to each other."""
        self.cache.repeat(times)
        self.logits = self.logits.repeat_interleave(times, dim=0)
