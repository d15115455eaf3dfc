"""One rank of the measured interconnect: `python -m tutelage.doctor.rank`, started by `interconnect`.

The bandwidth is that of the bus, as NCCL's tests give it: what a link would have to carry, whatever the number of ranks.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from datetime import timedelta

import torch
from torch import Tensor, distributed

SIZE = {"nccl": 256 * 2**20, "gloo": 16 * 2**20}
"""Bytes that are summed, and gathered."""
TIMES = 5
SMALL_TIMES = 50


def main() -> None:
    rank, ranks = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    backend = "nccl" if torch.cuda.is_available() and torch.cuda.device_count() >= ranks else "gloo"
    if backend == "nccl":
        torch.cuda.set_device(rank)
    torch.set_num_threads(1)
    distributed.init_process_group(backend, timeout=timedelta(seconds=60))
    found = measure(backend, rank, ranks)
    distributed.barrier()
    if rank == 0:
        print(json.dumps(found), flush=True)
    sys.stdout.flush()
    os._exit(0)  # threads of gloo may abort an ordinary exit


def measure(backend: str, rank: int, ranks: int) -> dict[str, object]:
    """Bytes per second of the bus, and seconds of a sum of one number."""
    device = f"cuda:{rank}" if backend == "nccl" else "cpu"
    size = SIZE[backend]
    whole = torch.ones(size // 4, device=device)
    part = torch.ones(size // 4 // ranks, device=device)
    together = torch.empty(part.numel() * ranks, device=device)
    one = torch.ones(1, device=device)
    share = (ranks - 1) / ranks
    summed = _seconds(lambda: distributed.all_reduce(whole), TIMES, whole)
    gathered = _seconds(lambda: distributed.all_gather_into_tensor(together, part), TIMES, together)
    return {
        "backend": backend,
        "all_reduce": 2 * share * size / summed,
        "all_gather": share * size / gathered,
        "latency": _seconds(lambda: distributed.all_reduce(one), SMALL_TIMES, one),
    }


def _seconds(act: Callable[[], object], times: int, result: Tensor) -> float:
    """Of one call, after one that nobody counts."""
    act()
    _wait(result)
    started = time.perf_counter()
    for _ in range(times):
        act()
    _wait(result)
    return (time.perf_counter() - started) / times


def _wait(result: Tensor) -> None:
    if result.is_cuda:
        torch.cuda.synchronize()


if __name__ == "__main__":
    main()
