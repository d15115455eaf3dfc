"""Several processes that answer at one port: uvicorn starts them, hands them the socket, and starts anew what dies.

What they must agree on is in the store (sessions, limits, leases, who is at work on what) or in a folder that they share (exports
to be fetched, counts for the monitor).
"""

from __future__ import annotations

import os
import socket
import tempfile
from functools import partial
from pathlib import Path

from fastapi import FastAPI
from rich.console import Console
from uvicorn.supervisors import Multiprocess

from tutelage.settings.web import ServeSettings as Settings
from tutelage.store.database import Database
from tutelage.web.metrics import SHARED_COUNTS

THREADS = 40  # requests worked on at once, by all processes together: as many as one process would
FEWEST = 8  # by each
SPARE = 8  # connections beyond the threads, for work that needs two


def share(settings: Settings, console: Console, listener: socket.socket) -> None:
    """Serve with `settings.workers` processes until interrupted."""
    from tutelage.web.serve import configured

    if settings.models:
        console.print(
            f"Each of the {settings.workers} processes loads the models for itself.", soft_wrap=True
        )
    with tempfile.TemporaryDirectory(prefix="tutelage-workers-") as folder:
        exports, counts = Path(folder) / "exports", Path(folder) / "counts"
        counts.mkdir()
        os.environ[SHARED_COUNTS] = str(counts)  # read when a process starts: before any counter is made
        app = partial(worker, settings, None if settings.exports else exports)
        config = configured(settings, app, factory=True, workers=settings.workers)
        Multiprocess(config, sockets=[listener]).run()


def worker(settings: Settings, exports: Path | None) -> FastAPI:
    """The app of one of the processes, on connections of its own."""
    from dataclasses import replace

    from tutelage.web.app import build_app
    from tutelage.web.serve import site

    threads = threads_of(settings.workers)
    database = Database(settings.store, connections=threads + SPARE)
    return build_app(replace(site(settings, database, exports), threads=threads, own_database=True))


def threads_of(workers: int) -> int:
    """Requests that each of so many processes works on at once."""
    return max(FEWEST, THREADS // workers)
