"""Memory of the machine and of its shared part, through which processes of one machine pass tensors."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from tutelage.doctor.asked import Asked
from tutelage.doctor.check import GIB, Check, ok, warn
from tutelage.models.free import machine_bytes

SHARED = Path("/dev/shm")
LITTLE = 1.0  # GiB; containers are given 0.0625 where nobody says otherwise
SCARCE = 2.0


def checks(asked: Asked) -> Iterator[Check]:
    yield free()
    yield from shared()


def free(root: Path = Path("/")) -> Check:
    """What a process may still take, within the limits of its container."""
    gib = machine_bytes(root) / GIB
    if gib < SCARCE:
        return warn(
            "memory",
            f"{gib:.1f} GiB free",
            "end other programs, or raise the container's limit",
            free_gib=gib,
        )
    return ok("memory", f"{gib:.1f} GiB free", free_gib=gib)


def shared(folder: Path = SHARED) -> Iterator[Check]:
    try:
        stat = os.statvfs(folder)
    except OSError:
        return
    gib = stat.f_frsize * stat.f_bavail / GIB
    if gib < LITTLE:
        do = "start the container with --shm-size=8g (docker), or mount an emptyDir of medium Memory there (Kubernetes)"
        yield warn(
            str(folder), f"{gib:.2f} GiB free; NCCL and loaders of data pass tensors there", do, free_gib=gib
        )
    else:
        yield ok(str(folder), f"{gib:.1f} GiB free", free_gib=gib)
