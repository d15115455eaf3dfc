"""Taking turns: several processes, each holding one side of a comparison, run one step at a time, one after the other.

What disturbs the machine then disturbs both sides.  A process reports the step that it has finished and waits, idle,
for its next turn.  Standard library only.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Step:
    """seconds: wall time of the step.  cpu_seconds: processor time of all threads.  peak_mib: the most memory that the
    process has had so far."""

    seconds: float
    cpu_seconds: float
    peak_mib: float


class Turns:
    """In the process that works.  Takes standard output for itself: what libraries print goes to standard error."""

    def __init__(self) -> None:
        self._channel = os.fdopen(os.dup(1), "w", buffering=1)
        os.dup2(2, 1)
        self._started, self._cpu = time.perf_counter(), time.process_time()

    def wait(self) -> None:
        """At the end of every step: report it and wait for the next turn.  Ends the process when there is none."""
        step = Step(time.perf_counter() - self._started, time.process_time() - self._cpu, peak_mib())
        self._channel.write(json.dumps(vars(step)) + "\n")
        if not sys.stdin.readline():
            raise SystemExit
        self._started, self._cpu = time.perf_counter(), time.process_time()


class Worker:
    """In the process that measures: one process that works.

    Raises RuntimeError with the end of its log when it stops early.
    """

    def __init__(self, command: Sequence[str], env: Mapping[str, str], log: Path) -> None:
        self._log = log
        root = Path(__file__).resolve().parent.parent
        with log.open("w") as errors:
            pipes: dict[str, Any] = {
                "stdin": subprocess.PIPE,
                "stdout": subprocess.PIPE,
                "stderr": errors,
                "text": True,
            }
            self._process = subprocess.Popen(command, env={**os.environ, **env}, cwd=root, **pipes)
        assert self._process.stdin is not None and self._process.stdout is not None
        self._input, self._output = self._process.stdin, self._process.stdout

    def ready(self) -> None:
        """Wait until the first step is done."""
        self._report()

    def turn(self) -> Step:
        """Let it run one step."""
        self._input.write("\n")
        self._input.flush()
        return self._report()

    def close(self) -> None:
        """No more turns; wait for its end, and end it when it does not."""
        self._input.close()
        try:
            self._process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _report(self) -> Step:
        line = self._output.readline()
        if not line:
            self._process.wait()
            last = " | ".join(self._log.read_text(errors="replace").strip().splitlines()[-3:])
            raise RuntimeError(last or f"ended with exit code {self._process.returncode}")
        return Step(**json.loads(line))


def peak_mib() -> float:
    """Peak resident memory of this process.  From /proc where there is one: getrusage may carry over the parent's."""
    status = Path("/proc/self/status")
    if status.exists():
        lines = dict(line.split(":", 1) for line in status.read_text().splitlines() if ":" in line)
        return int(lines["VmHWM"].split()[0]) / 1024
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 1024
