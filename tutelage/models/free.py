"""How much memory is free: of the machine, of the container that the process lives in, of a GPU."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # who asks about the machine alone need not wait for torch
    import torch


def free_bytes(device: torch.device, root: Path = Path("/")) -> int:
    """Bytes that this process may still take on `device`; `root`: where proc and sys are.

    On a CPU what the system calls available, or less where a control group (a container, a batch job) has a limit.  On a
    GPU what the driver and torch's own cache have left.
    """
    if device.type == "cuda":
        import torch

        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(torch.cuda.mem_get_info(device)[0]) + unused
    return machine_bytes(root)


def machine_bytes(root: Path = Path("/")) -> int:
    """Bytes that this process may still take of the machine's memory."""
    return max(0, min([_available(root), *_left_in_groups(root)]))


def _available(root: Path) -> int:
    """What the system can hand out without swapping; where it does not say (no Linux), all that the machine has."""
    try:
        lines = (root / "proc/meminfo").read_text().splitlines()
    except OSError:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    known = {name: int(value.split()[0]) * 1024 for name, _, value in (line.partition(":") for line in lines)}
    return known["MemAvailable"]


def _left_in_groups(root: Path) -> Iterator[int]:
    """What the limits of the process's control groups, and of those around them, leave: version 2 and version 1."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            base, names = root / "sys/fs/cgroup", ("memory.max", "memory.current", "inactive_file")
        elif "memory" in controllers.split(","):
            base = root / "sys/fs/cgroup/memory"
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
        else:
            continue
        inner = base / path.lstrip("/")
        for folder in (inner, *inner.parents):
            yield from _left(folder, *names)
            if folder == base:
                break


def _left(folder: Path, limit: str, usage: str, cached: str) -> Iterator[int]:
    """The limit less the usage, of which cached files are given up when memory is short; nothing where there is no limit."""
    try:
        most, used = (folder / limit).read_text().strip(), int((folder / usage).read_text())
        facts = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
    except (OSError, ValueError):
        return
    if most != "max":
        yield int(most) - used + int(facts.get(cached, 0))
