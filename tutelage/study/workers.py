"""Processes that do one instance after another, each with its share of the cores.  What they say goes into OUT/logs.

A worker ends with the process that started it, however that ends: a study that was killed leaves nobody behind who would hold its
folders.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path

from rich.console import Console

from tutelage.study.doing import attempt
from tutelage.study.plan import Instance

THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


PATIENCE = 5.0  # seconds that a process without work has to end


@dataclass
class Worker:
    """A process and what it is doing."""

    process: SpawnProcess
    pipe: Connection
    doing: Instance | None = None


class Workers:
    """`count` processes."""

    def __init__(self, count: int, instances: Mapping[str, Instance], out: Path) -> None:
        self._instances, self._out = instances, out
        self._threads = max(1, (os.cpu_count() or 1) // count)
        self._workers = [self._start() for _ in range(count)]

    @property
    def free(self) -> bool:
        return any(worker.doing is None for worker in self._workers)

    @property
    def doing(self) -> list[Instance]:
        return [worker.doing for worker in self._workers if worker.doing is not None]

    def begin(self, one: Instance) -> None:
        """Give it to a worker that is free."""
        worker = next(worker for worker in self._workers if worker.doing is None)
        worker.doing = one
        worker.pipe.send(one.name)

    def ended(self, timeout: float) -> list[tuple[Instance, str | None]]:
        """Who has ended within so many seconds, with why it failed; a process that died is replaced."""
        busy = {worker.pipe: worker for worker in self._workers if worker.doing is not None}
        found = []
        for pipe in wait(list(busy), timeout):
            worker = busy[pipe]  # type: ignore[index]  # of the pipes that were given
            one, reason = worker.doing, None
            assert one is not None, "the busy ones do something"
            try:
                reason = worker.pipe.recv()
                worker.doing = None
            except EOFError:
                worker.process.join()
                reason = _died(worker.process.exitcode)
                self._workers[self._workers.index(worker)] = self._start()
            found.append((one, reason))
        return found

    def close(self) -> None:
        """End them all, also those that do something: what they have done so far stays, and can be gone on with."""
        for worker in self._workers:
            worker.pipe.close()  # who waits for work ends by itself, and leaves nothing behind that somebody complains of
            if worker.doing is not None:
                worker.process.terminate()
        for worker in self._workers:
            worker.process.join(PATIENCE)
            worker.process.terminate()
            worker.process.join()

    def _start(self) -> Worker:
        context = multiprocessing.get_context("spawn")
        here, there = context.Pipe()
        process = context.Process(
            target=_work, args=(there, dict(self._instances), self._out, self._threads), daemon=True
        )
        process.start()
        there.close()  # so that the end of the process is the end of the pipe
        return Worker(process, here)


def _died(code: int | None) -> str:
    if code is not None and code < 0:
        with suppress(ValueError):
            return f"its process was killed ({signal.Signals(-code).name}; for want of memory, perhaps)"
    return f"its process ended with {code}"


def _work(pipe: Connection, instances: Mapping[str, Instance], out: Path, threads: int) -> None:
    """The life of a worker."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to answer
    os.environ.update(dict.fromkeys(THREADS, str(threads)))
    _end_with_parent()
    while True:
        try:
            name = pipe.recv()
        except EOFError:
            return
        log = out / "logs" / f"{name.replace('/', '.')}.txt"
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("a", encoding="utf-8") as stream:
            reason = attempt(instances[name], instances, out, Console(file=stream, width=120))
        pipe.send(reason)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None, "a worker has been started"

    def watch() -> None:
        wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
