"""The decoding loop: token ids in, drawn token ids and their log-probabilities out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tutelage.models.decode import Decoding
from tutelage.models.policy import PolicyModule
from tutelage.rollout.draw import draw_tokens

COMPACT_SHARE = 0.125
"""Finished rows are dropped when they are at least this share of the rows: dropping copies the others' cache."""

Advanced = Callable[[int, int], None]
"""Told after every step: tokens drawn in it for rows that were not finished, rows that it finished."""


@dataclass(frozen=True)
class Drawn:
    """One row: its ids (ending with the end token when `ended`) and their log-probabilities (nats)."""

    ids: list[int]
    logprobs: list[float]
    ended: bool


@torch.inference_mode()
def decode(
    model: PolicyModule,
    prompts: Sequence[Sequence[int]],
    uniforms: Tensor,
    temperature: float,
    eos_ids: Sequence[int],
    advanced: Advanced,
) -> list[Drawn]:
    """Continue every prompt with `R / len(prompts)` rows; row r draws with `uniforms[r]`, rows of a prompt adjacent.

    model: prepared (see `models.loading`), in eval mode. uniforms: float32 [R, max_new_tokens] on its device.
    A prompt is computed once, whatever number of rows continue it.
    """
    rows, limit = uniforms.shape
    decoding = Decoding(model, prompts, limit - 1)
    decoding.repeat(rows // len(prompts))
    page = _Page(rows, limit, eos_ids, decoding.logits)
    draws = uniforms.t().contiguous()
    for step in range(limit):
        tokens, logprobs = draw_tokens(decoding.logits, draws[step, page.live], temperature)
        ended = page.write(step, tokens, logprobs)
        going = len(page.live) - page.idle
        last = going == 0 or step + 1 == limit
        advanced(going + ended, going + ended if last else ended)
        if last:
            break
        if page.idle >= COMPACT_SHARE * len(page.live):
            keep = page.compact()
            decoding.select(keep)
            tokens = tokens[keep]
        decoding.step(tokens)
    return page.rows()


class _Page:
    """What has been drawn so far, and which rows of it are still being written.

    live: int64 [n] page row of every row of the cache; idle: how many of these have finished.
    """

    def __init__(self, rows: int, limit: int, eos_ids: Sequence[int], logits: Tensor) -> None:
        device = logits.device
        self._ids = torch.zeros(limit, rows, dtype=torch.long, device=device)
        self._logprobs = torch.zeros(limit, rows, device=device)
        self._lengths = torch.full((rows,), limit, device=device)
        self._is_eos = torch.zeros(logits.shape[-1], dtype=torch.bool, device=device)
        self._is_eos[list(eos_ids)] = True
        self._done = torch.zeros(rows, dtype=torch.bool, device=device)
        self.live = torch.arange(rows, device=device)
        self.idle = 0

    def write(self, step: int, tokens: Tensor, logprobs: Tensor) -> int:
        """Put down one token per cache row (for finished rows too: they are cut off later); how many ended with it."""
        self._ids[step, self.live] = tokens
        self._logprobs[step, self.live] = logprobs
        ended = self._is_eos[tokens] & ~self._done
        count = int(ended.sum())
        if count:
            self._lengths[self.live[ended]] = step + 1
            self._done |= ended
            self.idle += count
        return count

    def compact(self) -> Tensor:
        """Forget the finished rows; the cache rows (int64) that stay."""
        keep = (~self._done).nonzero().squeeze(-1)
        self.live, self._done, self.idle = self.live[keep], self._done[keep], 0
        return keep

    def rows(self) -> list[Drawn]:
        ids, logprobs, lengths = self._ids.t().tolist(), self._logprobs.t().tolist(), self._lengths.tolist()
        is_eos = self._is_eos.tolist()
        return [
            Drawn(row[:length], values[:length], is_eos[row[length - 1]])
            for row, values, length in zip(ids, logprobs, lengths, strict=True)
        ]
