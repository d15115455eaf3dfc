"""Writers of one process take turns: first come, first served.

SQLite makes writers wait by asking again and again, each after a pause of its own; with a server's many threads the one
that waited longest is not the one that gets in, and some wait for minutes.  A queue in the process costs nothing.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager


class Turns:
    """A lock that is given in the order of asking."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._queue: deque[threading.Event] = deque()

    @contextmanager
    def turn(self, patience: float) -> Iterator[None]:
        """Wait for the own turn, and have it for the block.  Raises TimeoutError after `patience` seconds."""
        mine = threading.Event()
        with self._guard:
            self._queue.append(mine)
            if self._queue[0] is mine:
                mine.set()
        try:
            if not mine.wait(patience):
                raise TimeoutError
            yield
        finally:
            with self._guard:
                self._queue.remove(mine)
                if self._queue:
                    self._queue[0].set()
