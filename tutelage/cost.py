"""What a run cost: tokens, seconds, peak memory, and arithmetic by a rule of thumb.  No torch here.

    FLOPs = 6 * parameters * tokens trained + 2 * parameters * tokens generated

An estimate (Kaplan et al. 2020, arXiv 2001.08361, section 2.1): two operations per parameter and token in a forward pass, four
in a backward pass.  Attention is left out, and so is what only reads: references, reward models, evaluation while training.
Under an adapter all parameters count, though frozen ones need no gradient of their own: it is too high then, by up to a half.
"""

from __future__ import annotations

import resource
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

MIB = 2**20


class PeakMemory:
    """The most memory that this process has taken since this was made: of a GPU where one is used, else of the machine.

    Where the system cannot start to measure anew (no Linux, or not allowed) it is the peak since the process began.
    """

    def __init__(self, gpu: bool) -> None:
        self._gpu = gpu
        if gpu:
            sys.modules["torch"].cuda.reset_peak_memory_stats()
        with suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")

    def facts(self) -> dict[str, float]:
        """MiB, as they stand in lineage.json."""
        found = {"peak_memory_mib": round(_resident() / MIB, 1)}
        if self._gpu:
            used = sys.modules["torch"].cuda.max_memory_allocated()
            found["peak_gpu_memory_mib"] = round(used / MIB, 1)
        return found


def _resident() -> int:
    """Bytes."""
    with suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def flops(parameters: float, trained: float = 0, generated: float = 0) -> float:
    """The estimate at the top, for one model."""
    return 6 * parameters * trained + 2 * parameters * generated


def of_run(lineage: Mapping[str, Any], metrics: Sequence[Mapping[str, Any]]) -> dict[str, tuple[float, str]]:
    """Name -> (value, unit) of what is known: tokens_trained, tokens_generated, peak_memory, peak_gpu_memory, flops.

    lineage: `parameters` (name of a trained module -> how many) of a training run; `tokens_generated` and `flops` of a
    command that only generates; peaks.  metrics: the lines of metrics.jsonl, in which a training run counts its tokens.
    """
    found: dict[str, tuple[float, str]] = {}
    trained = max((line["num_tokens"] for line in metrics if "num_tokens" in line), default=0)
    generated = sum(line.get("completions/tokens", 0) for line in metrics) or lineage.get(
        "tokens_generated", 0
    )
    parameters: Mapping[str, float] = lineage.get("parameters") or {}
    total = float(lineage.get("flops") or 0)
    if parameters:
        total = flops(sum(parameters.values()), trained) + flops(parameters.get("policy", 0), 0, generated)
    for name, value, unit in (
        ("tokens_trained", trained, "tokens"),
        ("tokens_generated", generated, "tokens"),
        ("peak_memory", lineage.get("peak_memory_mib", 0), "MiB"),
        ("peak_gpu_memory", lineage.get("peak_gpu_memory_mib", 0), "MiB"),
        ("flops", total, "FLOPs"),
    ):
        if value:
            found[name] = float(value), unit
    return found


def amount(size: float) -> str:
    """Bytes in MiB or GiB; a dash for none."""
    if size >= 2**30:
        return f"{size / 2**30:.1f} GiB"
    return f"{max(size / 2**20, 1):.0f} MiB" if size else "-"
