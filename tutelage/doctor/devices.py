"""What computes: the processor and its threads, GPUs and their driver, a C compiler for the kernels."""

from __future__ import annotations

import csv
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from tutelage.doctor.asked import Asked
from tutelage.doctor.check import GIB, Check, fail, ok, warn
from tutelage.doctor.versions import cpu_build_beside_gpu
from tutelage.models.cpu.compiler import kernels_here

FAST = {"amx_bf16": "AMX", "avx512_bf16": "AVX512-BF16", "bf16": "BF16"}
"""Flags of processors that multiply bf16 (the last: ARM's)."""
WIDE = {"avx512f": "AVX512", "avx2": "AVX2", "sve": "SVE", "asimd": "NEON"}
QUERY = "name,memory.total,memory.free,driver_version,compute_cap"
BF16_FROM = 8.0
"""Compute capability (Ampere)."""


def checks(asked: Asked) -> Iterator[Check]:
    yield processor(_flags(Path("/proc/cpuinfo")))
    yield threads(cores(), os.environ)
    gpus = list(read_gpus(_nvidia_smi(asked.timeout)))
    yield from (gpu_check(number, gpu) for number, gpu in enumerate(gpus))
    if not gpus:
        yield ok("gpu", "none here, so models run on the processor", gpus=0)
    elif found := cpu_build_beside_gpu(len(gpus)):
        yield found
    else:
        yield seen_by_torch(len(gpus))
    built = kernels_here()
    if built.library is not None:
        yield ok("kernels", "compiled for this processor")
    elif gpus:
        yield ok("kernels", f"none ({built.why}), and a GPU needs none")
    else:
        yield warn(
            "kernels", built.why, "install gcc or clang: training is up to 1.9 times faster with kernels"
        )


def _flags(cpuinfo: Path) -> set[str]:
    try:
        lines = cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return set()
    found = (line.partition(":") for line in lines)
    return {
        flag
        for name, _, flags in found
        if name.strip().lower() in ("flags", "features")
        for flag in flags.split()
    }


def processor(flags: set[str]) -> Check:
    """What it multiplies fast."""
    fast = [name for flag, name in FAST.items() if flag in flags]
    wide = next((name for flag, name in WIDE.items() if flag in flags), "no wide arithmetic known")
    if fast:
        return ok("cpu", f"{wide}, multiplies bf16 ({', '.join(fast)})", bf16=True)
    return ok("cpu", f"{wide}, no bf16 arithmetic: models on it compute in fp32", bf16=False)


def cores(root: Path = Path("/")) -> float:
    """Cores that this process may use: those it is bound to, or less where its container has a quota."""
    bound = (
        float(len(os.sched_getaffinity(0)))
        if hasattr(os, "sched_getaffinity")
        else float(os.cpu_count() or 1)
    )
    try:
        quota, period = (root / "sys/fs/cgroup/cpu.max").read_text().split()
    except (OSError, ValueError):
        return bound
    return bound if quota == "max" else min(bound, int(quota) / int(period))


def threads(count: float, environ: Mapping[str, str]) -> Check:
    """OMP_NUM_THREADS against the cores, shared among the processes that torchrun starts here."""
    given, ranks = environ.get("OMP_NUM_THREADS", ""), int(environ.get("LOCAL_WORLD_SIZE", "1"))
    facts = {"cores": count, "threads": given, "local_ranks": ranks}
    if not given:
        return ok("cores", f"{count:g}, all used (OMP_NUM_THREADS is not set)", **facts)
    if not given.isdigit() or int(given) < 1:
        return fail(
            "cores",
            f"OMP_NUM_THREADS={given} is no number of threads",
            "unset it, or set it to the cores",
            **facts,
        )
    wanted = int(given) * ranks
    if wanted > count:
        said = f"{count:g}, and OMP_NUM_THREADS={given} for {ranks} processes wants {wanted}"
        return warn("cores", said, f"set OMP_NUM_THREADS={max(int(count) // ranks, 1)}", **facts)
    if wanted <= count / 2:
        said = f"{count:g}, of which OMP_NUM_THREADS={given} for {ranks} processes uses {wanted}"
        return warn("cores", said, f"set OMP_NUM_THREADS={int(count) // ranks}, or unset it", **facts)
    return ok("cores", f"{count:g}, OMP_NUM_THREADS={given}", **facts)


@dataclass(frozen=True)
class GPUFound:
    """total, free: bytes.  capability: as 9.0."""

    name: str
    total: float
    free: float
    driver: str
    capability: float


def _nvidia_smi(timeout: float) -> str:
    """What the driver's program says; "" where there is none."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return ""
    command = [program, f"--query-gpu={QUERY}", "--format=csv,noheader,nounits"]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return ""


def read_gpus(said: str) -> Iterator[GPUFound]:
    """The rows of nvidia-smi."""
    for row in csv.reader(said.splitlines(), skipinitialspace=True):
        if len(row) == len(QUERY.split(",")):
            name, total, free, driver, capability = row
            yield GPUFound(name, float(total) * 2**20, float(free) * 2**20, driver, float(capability))


def gpu_check(number: int, gpu: GPUFound) -> Check:
    said = (
        f"{gpu.name}, {gpu.free / GIB:.1f} of {gpu.total / GIB:.1f} GiB free, driver {gpu.driver}, compute capability "
        f"{gpu.capability:g}"
    )
    facts = {"gpu": gpu.name, "free_gib": gpu.free / GIB, "driver": gpu.driver, "capability": gpu.capability}
    if gpu.free < 0.8 * gpu.total:
        return warn(f"gpu {number}", said, "another process holds its memory: nvidia-smi names it", **facts)
    if gpu.capability < BF16_FROM:
        return warn(
            f"gpu {number}", f"{said}, no bf16", "set precision=fp32, or use a GPU of 2020 or later", **facts
        )
    return ok(f"gpu {number}", f"{said}, bf16", **facts)


def seen_by_torch(count: int) -> Check:
    """Whether torch reaches the GPUs, and multiplies on them."""
    import torch

    if not torch.cuda.is_available():
        do = f"the driver is too old for CUDA {torch.version.cuda}, or CUDA_VISIBLE_DEVICES hides them"
        return fail("torch on gpu", f"nvidia-smi lists {count} GPUs, and torch sees none", do)
    seen = torch.cuda.device_count()
    for number in range(seen):
        x = torch.ones(64, 64, device=f"cuda:{number}", dtype=torch.bfloat16)
        if float((x @ x).sum()) != 64.0**3:
            return fail("torch on gpu", f"GPU {number} multiplies wrongly", "take it out of service")
    return ok("torch on gpu", f"{seen} seen, each multiplies (CUDA {torch.version.cuda})", seen=seen)
