"""The world that a run lives in: its device and arithmetic.  One process; every command gets one of these."""

from __future__ import annotations

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
