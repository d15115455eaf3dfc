"""The world that a run lives in: its device and arithmetic.  One process; every command gets one of these."""

from __future__ import annotations

import ctypes
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class World:
    """device: where tensors live.  dtype: torch.bfloat16 (autocast; weights stay float32) or torch.float32."""

    device: torch.device
    dtype: torch.dtype = torch.float32

    def autocast(self) -> AbstractContextManager[None]:
        """bfloat16 autocast where that was chosen, nothing otherwise."""
        if self.dtype == torch.float32:
            return nullcontext()
        return torch.autocast(self.device.type, dtype=self.dtype)


def keep_freed_memory() -> None:
    """Have the C library keep what a step frees for the next step.

    glibc gives large blocks back to the system, which then hands them out again page by page: 5 to 10 % of a step at a
    million parameters.  Blocks over 128 MiB still go back.  Does nothing where the library is another one.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):
        return
    trim_threshold, mmap_threshold = -1, -3  # malloc.h
    mallopt(mmap_threshold, 2**27)
    mallopt(trim_threshold, 2**31 - 1)
