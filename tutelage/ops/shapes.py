"""Sizes at which to compute."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch

_said: ContextVar[str] = ContextVar("_said", default="")


def device_type(device: torch.device) -> str:
    """Which way to compute what lies on `device`: its type, or what `computing_as` says."""
    return _said.get() or device.type


@contextmanager
def computing_as(kind: str) -> Iterator[None]:
    """Inside, everything is computed the way that suits a device of type `kind`, wherever it lies: so that a machine without
    a GPU can tell what a GPU would have to hold."""
    token = _said.set(kind)
    try:
        yield
    finally:
        _said.reset(token)


def wide(x: torch.Tensor) -> torch.Tensor:
    """`x` in the widest numbers that its device has: float64, or float32 on Apple's GPUs, which have no other."""
    return x.float() if x.device.type == "mps" else x.double()


def round_up(count: int, device_type: str = "cpu") -> int:
    """How many rows to compute for `count`: on a CPU the next of a few sizes, at most a 32nd more (or 15 rows).

    oneDNN writes a kernel for every new shape, which takes longer than a small product, and ragged text brings a new
    shape with every step.  There are 32 sizes from each power of two to the next.
    """
    if device_type != "cpu":
        return count
    step = max(16, 1 << max(count.bit_length() - 6, 0))
    return -(-count // step) * step
