"""Helpers: processes that do for the trainer what could hang, crash or cheat it (`apart/serve.py`), several at a time."""

from __future__ import annotations

import json
import os
import queue
import select
import subprocess
import sys
import weakref
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

from tutelage.judges.verify.apart.frames import read_frame, write_frame

ROOT = str(Path(__file__).resolve().parents[3])
START = (
    "import sys; sys.path.insert(0, {root!r}); from tutelage.judges.verify.apart.serve import main; main()"
)
PATIENCE = 120.0  # seconds that a helper may take to start
SLACK = 20.0  # seconds that a helper may be late, on a machine that does much else

Job = tuple[dict[str, Any], Any]  # what the helper is told, and what only a child of it reads (None: nothing)


class Lost(Exception):
    """A helper has ended, or does not answer."""


class Helpers:
    """Some helpers of one kind, "maths" or "code", started when they are first needed.

    They share the trainer's lifetime: their standard input closes when it ends, however it ends.
    """

    def __init__(self, kind: str, workers: int) -> None:
        self._kind = kind
        self._size = workers or _cores()
        self._free: queue.LifoQueue[_Helper] = queue.LifoQueue()
        for _ in range(self._size):
            self._free.put(_Helper(kind))

    def run(self, jobs: Sequence[Job]) -> list[bytes]:
        """What came of each job, in order; b"" for one at which a helper was lost twice: it does not kill the trainer."""
        if not jobs:
            return []
        with ThreadPoolExecutor(min(self._size, len(jobs))) as threads:
            return list(threads.map(self._one, jobs))

    def _one(self, job: Job) -> bytes:
        helper = self._free.get()
        try:
            for _ in range(2):
                with suppress(Lost):
                    return helper.do(job)
            return b""
        finally:
            self._free.put(helper)


class _Helper:
    def __init__(self, kind: str) -> None:
        self._kind = kind
        # -I: no variable and no folder of the user changes what runs; -S: code has the standard library, and nothing else.
        flags = ["-I", "-S"] if kind == "code" else ["-I"]
        self._command = [sys.executable, *flags, "-c", START.format(root=ROOT), kind]
        self._process: subprocess.Popen[bytes] | None = None

    def do(self, job: Job) -> bytes:
        """What comes of a job.  Raises Lost, and then a new helper starts with the next job."""
        process = self._process = self._process or self._start()
        assert process.stdin is not None and process.stdout is not None
        told, secret = job
        try:
            write_frame(process.stdin.fileno(), json.dumps(told).encode())
            if secret is not None:
                write_frame(process.stdin.fileno(), json.dumps(secret).encode())
            ready, _, _ = select.select([process.stdout], [], [], told["seconds"] + SLACK)
            result = read_frame(process.stdout.fileno()) if ready else None
        except OSError:
            result = None
        if result is None or (
            secret is not None and not result
        ):  # nobody has read the secret: it stands in the way
            self._process = None
            _stop(process)
            raise Lost
        return result

    def _start(self) -> subprocess.Popen[bytes]:
        """A new process, when it is ready.  Raises ValueError where it cannot be: that is no fault of an answer."""
        pipe = subprocess.PIPE
        process = subprocess.Popen(
            self._command, stdin=pipe, stdout=pipe, stderr=pipe, bufsize=0,
            cwd="/", env={"PATH": os.defpath}, start_new_session=True,
        )  # fmt: skip
        assert process.stdout is not None and process.stderr is not None
        ready, _, _ = select.select([process.stdout], [], [], PATIENCE)
        if not ready or read_frame(process.stdout.fileno()) != b"ready":
            process.kill()
            said = process.stderr.read().decode(errors="replace").strip().splitlines()
            _stop(process)
            raise ValueError(
                f"the helper process of verify:{self._kind} did not start ({said[-1] if said else 'no answer'}): verify:code and "
                "verify:maths need Linux or macOS, where Python can start another Python."
            )
        process.stderr.close()
        weakref.finalize(self, _stop, process)
        return process


def _stop(process: subprocess.Popen[bytes]) -> None:
    """End a helper; a child of it that is still running ends by its own limits."""
    process.kill()
    for pipe in (process.stdin, process.stdout, process.stderr):
        if pipe is not None:
            with suppress(OSError):
                pipe.close()
    process.wait()


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
