"""The decoding loop: token ids in, drawn token ids and their log-probabilities out."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from tutelage.models.decode import Decoding
from tutelage.models.policy import PolicyModule
from tutelage.rollout.draw import draw_tokens

REPLACED_SHARE = 0.125
"""Finished rows are replaced when they are at least this share of the rows: prompts cost less together."""

Advanced = Callable[[int, int], None]
"""Told after every step: tokens drawn in it for rows that were not finished, rows that it finished."""

Key = tuple[int, int]
"""(number of the prompt, which of its samples)."""


@dataclass(frozen=True)
class Job:
    """A prompt's samples `first .. first + count - 1`, which are continued together; ids: those of the prompt; limit: the most
    tokens of a sample."""

    prompt: int
    first: int
    count: int
    ids: Sequence[int]
    limit: int

    @property
    def reach(self) -> int:
        """The most tokens of a row, its prompt's included."""
        return len(self.ids) + self.limit

    @property
    def keys(self) -> list[Key]:
        return [(self.prompt, self.first + k) for k in range(self.count)]


@dataclass(frozen=True)
class Drawn:
    """One row: its ids (ending with the end token when `ended`) and their log-probabilities (nats)."""

    ids: list[int]
    logprobs: list[float]
    ended: bool


@torch.inference_mode()
def decode(
    model: PolicyModule,
    waiting: deque[Job],
    rows: int,
    uniforms: Callable[[Key], np.ndarray],
    temperature: float,
    eos_ids: Sequence[int],
    advanced: Advanced,
) -> dict[Key, Drawn]:
    """Continue jobs from the left of `waiting`, at most `rows` rows at a time: as many as fit at once, and then, where the model
    lets rows be replaced, all others, each as soon as there is room.

    model: prepared (see `models.loading`), in eval mode.  waiting: no prompt is longer than the first.  uniforms: float32, as
    many as any row has tokens at most, in [0, 1): what a row draws with.  A job's prompt is computed once.
    """
    limit, reach = max(job.limit for job in waiting), max(job.reach for job in waiting)
    jobs = _taken(
        waiting, max(rows, waiting[0].count)
    )  # what is free may have shrunk since the jobs were made
    decoding = Decoding(model, [job.ids for job in jobs], reach - 1 - max(len(job.ids) for job in jobs))
    decoding.repeat([job.count for job in jobs])
    page = _Page(sum(job.count for job in jobs), limit, eos_ids, decoding.logits)
    page.begin(page.idle, jobs, uniforms)
    # A finished row of a padded cache grows like the others: it must not outgrow the context that it had room in.
    patience = decoding.patience if decoding.admits or len({job.limit for job in jobs}) == 1 else 0.0
    while True:
        tokens, logprobs = draw_tokens(decoding.logits, page.draws(), temperature)
        going, ended = page.going, page.write(tokens, logprobs)
        advanced(going, ended)
        replaces = decoding.admits and len(waiting) > 0
        if page.going == 0 and not replaces:
            return page.found
        if ended:
            decoding.leave(page.idle)
        if not replaces and len(page.idle) and len(page.idle) >= patience * decoding.rows:
            keep = page.compact()
            decoding.select(keep)
            tokens = tokens[keep]
        if page.going:
            decoding.step(tokens)
        if replaces and (page.going == 0 or len(page.idle) >= REPLACED_SHARE * decoding.rows):
            jobs = _taken(waiting, len(page.idle))
            if jobs:
                here = page.idle[: sum(job.count for job in jobs)]
                decoding.replace(here, [job.ids for job in jobs], [job.count for job in jobs])
                page.begin(here, jobs, uniforms)


def _taken(waiting: deque[Job], rows: int) -> list[Job]:
    """The jobs from the left that fit so many rows, no longer waiting."""
    taken = []
    while waiting and waiting[0].count <= rows:
        rows -= waiting[0].count
        taken.append(waiting.popleft())
    return taken


class _Page:
    """What has been drawn so far in every row of the cache, and which rows are still being written.

    found: the rows that are finished.  going: how many are not.  idle: int64, rows of the cache that are there for nothing.
    """

    def __init__(self, rows: int, limit: int, eos_ids: Sequence[int], logits: Tensor) -> None:
        device = logits.device
        self._ids = torch.zeros(rows, limit, dtype=torch.long, device=device)
        self._logprobs = torch.zeros(rows, limit, device=device)
        self._draws = torch.zeros(rows, limit, device=device)
        self._limit = torch.full((rows,), limit, device=device)
        self._step = torch.zeros(rows, dtype=torch.long, device=device)
        self._live = torch.zeros(rows, dtype=torch.bool, device=device)
        self._is_eos = torch.zeros(logits.shape[-1], dtype=torch.bool, device=device)
        self._is_eos[list(eos_ids)] = True
        self._keys: list[Key] = [(-1, -1)] * rows
        self._all = torch.arange(rows, device=device)
        self.found: dict[Key, Drawn] = {}
        self.going = 0
        self.idle = self._all

    def begin(self, rows: Tensor, jobs: Sequence[Job], uniforms: Callable[[Key], np.ndarray]) -> None:
        """New responses in these rows of the cache."""
        keys = [key for job in jobs for key in job.keys]
        draws = np.stack([uniforms(key)[: self._ids.shape[1]] for key in keys])
        self._draws[rows] = torch.from_numpy(draws).to(self._draws)
        self._limit[rows] = torch.tensor([job.limit for job in jobs for _ in job.keys]).to(self._limit)
        self._step[rows], self._live[rows] = 0, True
        for row, key in zip(rows.tolist(), keys, strict=True):
            self._keys[row] = key
        self._count()

    def draws(self) -> Tensor:
        """float32 [rows]: what each row draws its next token with."""
        return self._draws[self._all, self._step]

    def write(self, tokens: Tensor, logprobs: Tensor) -> int:
        """Put down one token per row (for idle rows too: nobody reads them); how many ended with it."""
        self._ids[self._all, self._step] = tokens
        self._logprobs[self._all, self._step] = logprobs
        self._step += 1
        full = self._step == self._limit
        ended = (self._is_eos[tokens] | full) & self._live
        count = int(ended.sum())
        if count:
            self._take(ended.nonzero().squeeze(-1))
            self._live &= ~ended
            self._count()
        self._step.masked_fill_(full, 0)  # an idle row starts over
        return count

    def compact(self) -> Tensor:
        """Forget the idle rows; the cache rows (int64) that stay."""
        keep = self._live.nonzero().squeeze(-1)
        self._keys = [self._keys[row] for row in keep.tolist()]
        fields = self._ids, self._logprobs, self._draws, self._limit, self._step, self._live
        self._ids, self._logprobs, self._draws, self._limit, self._step, self._live = (
            field[keep] for field in fields
        )
        self._all = self._all[: len(keep)]
        self._count()
        return keep

    def _take(self, rows: Tensor) -> None:
        """These rows are finished."""
        lengths = self._step[rows].tolist()
        ids, logprobs = self._ids[rows].tolist(), self._logprobs[rows].tolist()
        ends = self._is_eos[self._ids[rows, self._step[rows] - 1]].tolist()
        for row, length, *of_row in zip(rows.tolist(), lengths, ids, logprobs, ends, strict=True):
            mine, values, ended = of_row
            self.found[self._keys[row]] = Drawn(mine[:length], values[:length], ended)

    def _count(self) -> None:
        self.idle = (~self._live).nonzero().squeeze(-1)
        self.going = len(self._keys) - len(self.idle)
