"""`kernels.c`, compiled for the processor at hand when it is first needed, and kept in the cache."""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import shutil
import subprocess
import sys
from functools import lru_cache
from pathlib import Path
from typing import Literal, NamedTuple

from tutelage.cache import claim
from tutelage.files import folder_atomic

SOURCE = Path(__file__).with_name("kernels.c")
FLAGS = [
    "-std=gnu11",
    "-O3",
    "-march=native",
    "-fno-math-errno",
    "-fno-strict-aliasing",
    "-fopenmp",
    "-fPIC",
    "-shared",
]
COMPILERS = ["cc", "gcc", "clang"]
NAME = "kernels.so"
PATIENCE = 60.0  # seconds; it takes about five


class Built(NamedTuple):
    """The library, or why there is none."""

    library: ctypes.CDLL | None
    why: str = ""

    @property
    def said(self) -> str:
        """The sentence to print."""
        return "Kernels compiled for this processor." if self.library else f"No compiled kernels: {self.why}."


_wanted = True


def use(kernels: Literal["auto", "off"]) -> None:
    """Say for this process whether to use them (auto: where they can be built).  Nothing is built yet."""
    global _wanted
    _wanted = kernels == "auto"


def kernels_here() -> Built:
    """The compiled kernels, built on the first call."""
    return _built() if _wanted else Built(None, "kernels=off")


@lru_cache(maxsize=1)
def _built() -> Built:
    if not sys.platform.startswith("linux"):
        return Built(None, f"they are built on Linux only, and this is {platform.system()}")
    named = os.environ.get("CC")
    compiler = next(filter(None, map(shutil.which, [named] if named else COMPILERS)), None)
    if compiler is None:
        missing = f"CC names {named}, which is not there" if named else "there is no C compiler (gcc) here"
        return Built(None, f"{missing}, so everything takes longer")
    try:
        return Built(_load(compiler))
    except (ValueError, OSError, subprocess.SubprocessError) as error:
        lines = str(getattr(error, "stderr", None) or error).strip().splitlines()
        line = next((line for line in lines if "error" in line), lines[-1] if lines else type(error).__name__)
        return Built(None, f"{compiler} did not build them ({line})")


def _load(compiler: str) -> ctypes.CDLL:
    """From the cache, or compiled into it.  With gcc threads come from the OpenMP library that torch has loaded already."""
    with claim("kernels", _key(compiler)) as folder:
        if not folder.exists():
            with folder_atomic(folder) as partial:
                command = [compiler, *FLAGS, str(SOURCE), "-o", str(partial / NAME), "-lm"]
                subprocess.run(command, check=True, capture_output=True, text=True, timeout=PATIENCE)
        return ctypes.CDLL(str(folder / NAME))


def _key(compiler: str) -> str:
    """A hash of all that the result depends on: source, flags, compiler, processor."""
    version = subprocess.run(
        [compiler, "--version"], check=True, capture_output=True, text=True, timeout=PATIENCE
    )
    parts = [SOURCE.read_text("utf-8"), *FLAGS, compiler, version.stdout, platform.machine(), _processor()]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]


def _processor() -> str:
    """What the processor can do, as the kernel of the system lists it."""
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        return ""
    return "\n".join(
        sorted({line for line in lines if line.lower().startswith(("flags", "features", "model name"))})
    )
