"""Commands in processes of their own, which can be killed: forked off one that has imported everything, as a start is
mostly imports.

What the interpreter does when `python -m tutelage` starts is for tests/test_cli.py and tests/web/test_serve.py.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["tests.preloaded"])  # type: ignore[no-untyped-call]


class Started:
    """`python -m tutelage WORDS`; what it prints, errors too, goes to the file `said`."""

    def __init__(
        self, words: Sequence[str], said: Path, environment: Mapping[str, str] | None = None
    ) -> None:
        self._file = said
        self._process = CONTEXT.Process(target=_run, args=(list(words), str(said), dict(environment or {})))
        self._process.start()

    @property
    def pid(self) -> int:
        assert self._process.pid is not None
        return self._process.pid

    @property
    def said(self) -> str:
        return self._file.read_text() if self._file.exists() else ""

    @property
    def running(self) -> bool:
        return self._process.is_alive()

    def says(self, words: str) -> None:
        """Wait until it has printed `words`."""
        while words not in self.said:
            assert self.running, self.said
            time.sleep(0.01)

    def wait(self, timeout: float = 300) -> int:
        """Its exit code, negative for a signal."""
        self._process.join(timeout)
        assert self._process.exitcode is not None, f"it still runs: {self.said}"
        return self._process.exitcode

    def kill(self) -> None:
        """kill -9, and wait until it is gone."""
        self._process.kill()
        self._process.join()


def _run(words: list[str], said: str, environment: dict[str, str]) -> None:
    os.environ.update(environment)
    out = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    for stream in (1, 2):
        os.dup2(out, stream)
    for opened in (sys.stdout, sys.stderr):
        opened.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    sys.argv = ["tutelage", *words]
    from tutelage.cli import main

    main()
