"""Work on several ranks in forked processes that talk over gloo."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from tutelage.parallel import World


def on_ranks(size: int, folder: Path, work: Callable[[World], Any], seconds: float = 120) -> list[Any]:
    """What `work` gives on every rank; with one rank in this process, without a process group."""
    if size == 1:
        return [work(World(torch.device("cpu")))]
    folder.mkdir(parents=True)
    context = multiprocessing.get_context("fork")
    ranks = [context.Process(target=_one, args=(rank, size, folder, work)) for rank in range(size)]
    for process in ranks:
        process.start()
    for process in ranks:
        process.join(seconds)
    codes = [process.exitcode for process in ranks]
    for process in ranks:
        process.kill()
    said = [path.read_text() for path in sorted(folder.glob("*.txt"))]
    assert codes == [0] * size, (codes, *said)
    return [pickle.loads((folder / f"{rank}.pickle").read_bytes()) for rank in range(size)]


def _one(rank: int, size: int, folder: Path, work: Callable[[World], Any]) -> None:
    torch.set_num_threads(1)
    warnings.filterwarnings("error", message="FSDP2-wrapped module")
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": str(size)}
    try:
        torch.distributed.init_process_group(
            "gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=size
        )
        found = work(World(torch.device("cpu"), torch.float32, rank, size))
        (folder / f"{rank}.pickle").write_bytes(pickle.dumps(found))
        if torch.distributed.is_initialized():  # a command has left already
            torch.distributed.barrier()
    except BaseException:
        (folder / f"{rank}.txt").write_text(traceback.format_exc()[-1500:])
        os._exit(1)
    os._exit(0)  # gloo's threads may abort an ordinary exit
