"""Progress, shown once something takes longer than a moment."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator, Sized
from contextlib import contextmanager
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

PATIENCE = 2.0  # seconds until a progress bar appears
T = TypeVar("T")


@contextmanager
def patient(doing: str, console: Console | None = None) -> Iterator[None]:
    """Says what is being done from when it takes longer than `PATIENCE`, where nobody can tell how long it will."""
    status = (console or Console()).status(doing)
    timer = threading.Timer(max(PATIENCE, 0.0), status.start)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        timer.join()
        status.stop()


def watched(
    rows: Iterable[T], doing: str, console: Console | None = None, total: int | None = None
) -> Iterator[T]:
    """The rows, with a progress bar on the console from when it takes longer than `PATIENCE`.

    It has an end where the number of rows is known without walking through them.
    """
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        TextColumn("{task.completed:,} rows"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    progress = Progress(*columns, console=console, transient=True)
    task = progress.add_task(doing, total=len(rows) if isinstance(rows, Sized) else total)
    started = shown = time.monotonic()
    try:
        for number, row in enumerate(rows):
            now = time.monotonic()
            if now - started > PATIENCE and now - shown > 0.1:
                progress.start()
                progress.update(task, completed=number)
                shown = now
            yield row
    finally:
        if progress.live.is_started:
            progress.stop()
