"""Random numbers that depend on names, not on history: (seed, "sampling", step, sample) always draws the same.

Nothing that matters uses a global generator, so a result does not change with the order of calls, with the number of
workers, or when a run is killed and started again.
"""

from __future__ import annotations

import hashlib
import json
import operator
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch

Key = str | int


def rng(seed: int, *keys: Key) -> np.random.Generator:
    """A numpy generator (Philox, counter based) for this seed and these keys; keys are text or whole numbers."""
    return np.random.Generator(np.random.Philox(key=np.frombuffer(_digest(seed, keys)[:16], dtype="<u8")))


def torch_generator(seed: int, *keys: Key) -> torch.Generator:
    """A torch CPU generator for this seed and these keys."""
    import torch  # here, because floor 0 is read by commands that must start without torch

    # Torch's CPU generator uses the low 32 bits of its seed and drops the rest.
    return torch.Generator().manual_seed(int.from_bytes(_digest(seed, keys)[:4], "little"))


def _digest(seed: int, keys: tuple[Key, ...]) -> bytes:
    """JSON keeps the boundaries between keys, so that ("a", "b") and ("ab",) differ, and 1 and "1" too."""
    named = [operator.index(seed), *(key if isinstance(key, str) else operator.index(key) for key in keys)]
    return hashlib.sha256(json.dumps(named).encode()).digest()
