"""Which arithmetic to compute in: bf16 where the processor has it, fp32 elsewhere. Weights stay fp32 for the optimizer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch


@dataclass(frozen=True)
class Precision:
    """The choice (`dtype`) and the sentence to print (`said`)."""

    dtype: torch.dtype
    said: str


def device_for(asked: str = "auto") -> str:
    """The device that `asked` means here: cpu, cuda or mps.  Raises ValueError where it is not there."""
    if asked == "cuda" and not torch.cuda.is_available():
        raise ValueError("device=cuda, but there is no GPU here: use device=cpu or device=auto.")
    if asked == "mps" and not torch.backends.mps.is_available():
        raise ValueError(
            "device=mps, but this is no Mac with a GPU that torch can use: use device=cpu or device=auto."
        )
    if asked != "auto":
        return asked
    return "cuda" if torch.cuda.is_available() else "cpu"


def choose(precision: Literal["auto", "bf16", "fp32"] = "auto", device: str = "cpu") -> Precision:
    """`device` is "cpu", "cuda" or "mps". Raises ValueError when bf16 is asked for on a GPU that has none."""
    if precision == "fp32":
        return Precision(torch.float32, "Computing in fp32, as asked.")
    able, what = has_bf16(device)
    if precision == "bf16":
        if not able and device != "cpu":
            raise ValueError(f"precision=bf16, but {what} has no bf16 arithmetic; use precision=fp32.")
        slow = "" if able else f", though {what} has no bf16 arithmetic and will be slow"
        return Precision(torch.bfloat16, f"Computing in bf16, as asked{slow}.")
    if able:
        return Precision(torch.bfloat16, f"Computing in bf16: {what} has it (weights stay fp32).")
    return Precision(torch.float32, f"Computing in fp32: {what} has no bf16 arithmetic.")


def has_bf16(device: str = "cpu") -> tuple[bool, str]:
    """(bf16 multiplies faster than fp32 there, name of the processor)."""
    if device == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False), torch.cuda.get_device_name()
    if device == "mps":
        return False, "Apple's GPU (as far as has been tried)"
    # AVX512-BF16 and AMX multiply bf16; plain AVX512 only converts, and is slower than fp32 at it.
    abilities = torch.cpu.get_capabilities()
    return bool(
        abilities.get("avx512_bf16") or abilities.get("amx_bf16") or abilities.get("bf16")
    ), "this processor"
