"""Log-probabilities under the reference, computed once before the first step, so that no second model is kept in memory.

They lie in the run folder, from which a stopped run takes them, and in the cache under all that they depend on: the weights,
the sequences, the arithmetic, and how they were put into batches (which changes the last bits).  So another run on the same
pairs, with another loss or beta, has them to the bit without computing them.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from tutelage.cache import claim
from tutelage.data.batch import TokenBatch, Tokens
from tutelage.files import folder_atomic
from tutelage.models.passes import forward_pass
from tutelage.models.policy import PolicyModule
from tutelage.parallel import World
from tutelage.runs import Run

RECORD = np.dtype([("key", "<u8"), ("logprob", "<f4")])
"""One line of the file: hash of a row's number and of one of its sequences, and its log-probability in nats."""

FILE = "reference.bin"

BATCHES = 16
"""Micro-batches between two writes: what a crash makes to do again."""


@dataclass(frozen=True)
class RowValues:
    """Numbers of some rows of a data set.  rows: int64 [n], ascending.  values: float32 [n, k]."""

    rows: np.ndarray
    values: Tensor

    def of(self, rows: Sequence[int]) -> Tensor:
        """float32 [len(rows) * k]: those of the given rows, one row after the other."""
        places = np.searchsorted(self.rows, np.asarray(rows))
        return self.values[torch.from_numpy(places)].flatten()


class Known:
    """What was computed before, by content; in a file that only grows, so that a run killed at any moment loses little.

    The run folder that the file lies in stands for the model.
    """

    def __init__(self, path: Path, writes: bool) -> None:
        self._path, self._writes = path, writes
        size = path.stat().st_size if path.exists() else 0
        whole = size // RECORD.itemsize  # a crash may have cut the last one
        if writes and size > whole * RECORD.itemsize:
            os.truncate(path, whole * RECORD.itemsize)
        found = np.fromfile(path, dtype=RECORD, count=whole) if whole else np.empty(0, dtype=RECORD)
        self._found = found[np.argsort(found["key"], kind="stable")]

    def values(self, keys: np.ndarray) -> np.ndarray:
        """float32, one per key uint64 [m]; NaN where unknown."""
        values = np.full(len(keys), np.nan, dtype=np.float32)
        places = np.searchsorted(self._found["key"], keys)
        there = places < len(self._found)
        there[there] = self._found["key"][places[there]] == keys[there]
        values[there] = self._found["logprob"][places[there]]
        return values

    def add(self, keys: np.ndarray, logprobs: np.ndarray) -> None:
        """Write what is new."""
        if self._writes:
            rows = np.empty(len(keys), dtype=RECORD)
            rows["key"], rows["logprob"] = keys, logprobs
            with self._path.open("ab") as stream:
                stream.write(rows.tobytes())
                stream.flush()
                os.fsync(stream.fileno())


def key_of(row: int, number: int, tokens: Tokens) -> int:
    """64 bits for sequence `number` of a row, with its mask."""
    digest = hashlib.sha256(f"{row} {number} {len(tokens)} ".encode())
    digest.update(np.asarray(tokens.ids, dtype="<i4").tobytes())
    digest.update(np.packbits(tokens.loss_mask).tobytes())
    return int.from_bytes(digest.digest()[:8], "little")


def reference_logprobs(
    model: PolicyModule,
    sequences: Callable[[int], Sequence[Tokens]],
    rows: Sequence[int] | np.ndarray,
    max_tokens: int,
    world: World,
    run: Run,
) -> RowValues:
    """Log-probabilities (nats, over `loss_mask`) of the k `sequences` of each of `rows` (ascending), on the CPU.

    `model` is the reference itself: call this before it is trained, and before a checkpoint is loaded into it.
    """
    weights = next((entry.get("sha256") for entry in run.lineage["inputs"] if entry["name"] == "model"), None)
    if weights is None or not world.leads:
        return _computed(model, sequences, rows, max_tokens, world, run, None)
    keys = _keys(sequences, rows)
    how = f"{weights} {model.dtype} {world.dtype} {world.device.type} {max_tokens} "
    with claim("reference", hashlib.sha256(how.encode() + keys.tobytes()).hexdigest()[:32]) as folder:
        # What a run knew before was perhaps put into other batches, when it was to make fewer steps.
        new = bool(np.isnan(Known(run.folder / FILE, False).values(keys)).all())
        found = _computed(model, sequences, rows, max_tokens, world, run, folder)
        if new and not folder.exists():
            with folder_atomic(folder) as partial:
                Known(partial / FILE, True).add(keys, found.values.flatten().numpy())
    return found


def _keys(sequences: Callable[[int], Sequence[Tokens]], rows: Sequence[int] | np.ndarray) -> np.ndarray:
    """uint64 [n * k]: of every sequence of every row."""
    found = [key_of(row, n, each) for row in rows for n, each in enumerate(sequences(row))]
    return np.array(found, dtype=np.uint64)


def _computed(
    model: PolicyModule,
    sequences: Callable[[int], Sequence[Tokens]],
    rows: Sequence[int] | np.ndarray,
    max_tokens: int,
    world: World,
    run: Run,
    cached: Path | None,
) -> RowValues:
    """What the run folder knows, then what the cache does (in the folder `cached`), then what the model says."""
    known = Known(run.folder / FILE, world.leads)  # what rank 0 knows counts
    before = Known(cached / FILE, False) if cached is not None and cached.exists() else None
    values = []
    with run.progress(len(rows), "reference") as bar:
        for some in _chunks(rows, sequences, max_tokens * BATCHES):
            tokens = [each for _, own in some for each in own]
            numbered = [(row, n, each) for row, own in some for n, each in enumerate(own)]
            keys = np.array([key_of(*each) for each in numbered], dtype=np.uint64)
            found = world.told(partial(_known, known, before, keys))
            new = np.isnan(found)
            if new.any():
                batch = TokenBatch.collate(tokens).to(world.device)
                computed = forward_pass(model, model.sequence_logprobs, batch, "sequences", max_tokens, world)
                found[new] = computed.cpu().numpy()[new]  # what was known stays, to the bit
                known.add(keys[new], found[new])
            values.append(torch.from_numpy(found).view(len(some), -1))
            bar.advance(len(some))
    return RowValues(np.asarray(rows, dtype=np.int64), torch.cat(values) if values else torch.empty(0, 1))


def _known(known: Known, before: Known | None, keys: np.ndarray) -> np.ndarray:
    """float32, one per key: what the run folder knows, and what it takes from the cache; NaN where neither does."""
    found = known.values(keys)
    if before is not None:
        there = np.isnan(found) & ~np.isnan(told := before.values(keys))
        found[there] = told[there]
        known.add(keys[there], found[there])
    return found


def _chunks(
    rows: Sequence[int] | np.ndarray, sequences: Callable[[int], Sequence[Tokens]], max_tokens: int
) -> Iterator[list[tuple[int, Sequence[Tokens]]]]:
    """All rows in their order with their sequences, about `max_tokens` tokens at a time.

    A run that was killed makes the same chunks again, so that every number comes out of the same products, to the bit.
    """
    chunk: list[tuple[int, Sequence[Tokens]]] = []
    held = 0
    for row in rows:
        own = sequences(row)
        chunk.append((row, own))
        held += sum(map(len, own))
        if held >= max_tokens:
            yield chunk
            chunk, held = [], 0
    if chunk:
        yield chunk
