"""Log-probabilities under the reference, computed once before the first step, so that no second model is kept in memory."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from tutelage.data.batch import TokenBatch, Tokens
from tutelage.models.passes import forward_pass
from tutelage.models.policy import PolicyModule
from tutelage.parallel import World
from tutelage.runs import Run

RECORD = np.dtype([("key", "S32"), ("logprob", "<f4")])
"""One line of the file: hash of a sequence, and its log-probability in nats."""

BATCHES = 16
"""Micro-batches between two writes: what a crash makes to do again."""


class Known:
    """What has been computed, by content; in a file that only grows, so that a run killed at any moment loses little.

    A sequence is known by its ids and by which of them count; the run folder it lies in stands for the model.
    """

    def __init__(self, path: Path, writes: bool) -> None:
        self._path, self._writes = path, writes
        found = np.frombuffer(path.read_bytes() if path.exists() else b"", dtype=np.uint8)
        whole = found[: len(found) // RECORD.itemsize * RECORD.itemsize].view(
            RECORD
        )  # a crash may cut the last one
        if writes and len(found) > whole.nbytes:
            os.truncate(path, whole.nbytes)
        self._values = dict(zip(whole["key"].tolist(), whole["logprob"].tolist(), strict=True))

    def __contains__(self, key: bytes) -> bool:
        return key in self._values

    def __getitem__(self, key: bytes) -> float:
        return self._values[key]

    def add(self, keys: Sequence[bytes], logprobs: Tensor) -> None:
        """Those that are new; what is known stays as it is, to the bit."""
        new = {key: value for key, value in zip(keys, logprobs.tolist(), strict=True) if key not in self}
        self._values.update(new)
        if self._writes:
            with self._path.open("ab") as stream:
                stream.write(np.array(list(new.items()), dtype=RECORD).tobytes())
                stream.flush()
                os.fsync(stream.fileno())


def key_of(tokens: Tokens) -> bytes:
    """32 hex digits for a sequence and its mask."""
    digest = hashlib.sha256(np.asarray(tokens.ids, dtype="<i4").tobytes())
    digest.update(np.packbits(tokens.loss_mask).tobytes())
    return digest.hexdigest()[:32].encode()


def reference_logprobs(
    model: PolicyModule,
    sequences: Callable[[int], Sequence[Tokens]],
    rows: Sequence[int],
    max_tokens: int,
    world: World,
    run: Run,
) -> dict[int, Tensor]:
    """Row -> float32 [k] on the CPU: log-probabilities (nats, over `loss_mask`) of the k `sequences` of each row.

    `model` is the reference itself: call this before it is trained, and before a checkpoint is loaded into it.
    """
    known = Known(run.folder / "reference.bin", world.leads)
    keys = {row: [key_of(tokens) for tokens in sequences(row)] for row in rows}
    with run.progress(len(rows), "reference") as bar:
        for some in _chunks(rows, sequences, max_tokens * BATCHES):
            wanted = [key for row in some for key in keys[row]]
            if not all(key in known for key in wanted):
                batch = TokenBatch.collate([tokens for row in some for tokens in sequences(row)])
                known.add(
                    wanted,
                    forward_pass(
                        model, model.sequence_logprobs, batch.to(world.device), "sequences", max_tokens, world
                    ),
                )
            bar.advance(len(some))
    return {row: torch.tensor([known[key] for key in keys[row]]) for row in rows}


def _chunks(
    rows: Sequence[int], sequences: Callable[[int], Sequence[Tokens]], max_tokens: int
) -> Iterator[list[int]]:
    """All rows in their order, about `max_tokens` tokens at a time.  A run that was killed makes the same chunks again, so
    that every number comes out of the same products, to the bit."""
    chunk: list[int] = []
    held = 0
    for row in rows:
        chunk.append(row)
        held += sum(map(len, sequences(row)))
        if held >= max_tokens:
            yield chunk
            chunk, held = [], 0
    if chunk:
        yield chunk
