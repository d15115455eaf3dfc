"""Rate limits: how often something may be tried, per name (an account, an address)."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

MOST_NAMES = 20_000  # beyond that, the names that are back at their full allowance are forgotten


class Limit:
    """`burst` tries at once, then one every `seconds`, per name.  In memory: a restart forgives."""

    def __init__(self, burst: int, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._burst, self._seconds, self._clock = burst, seconds, clock
        self._free_at: dict[str, float] = {}  # when the name has its full allowance again
        self._lock = threading.Lock()

    def wait(self, name: str) -> float:
        """Count one try; 0 when it may be made, otherwise the seconds until the next one may (not counted then)."""
        now = self._clock()
        with self._lock:
            if len(self._free_at) > MOST_NAMES:
                self._free_at = {key: free for key, free in self._free_at.items() if free > now}
            free = max(self._free_at.get(name, now), now) + self._seconds
            excess = free - now - self._burst * self._seconds
            if excess > 1e-9:
                return excess
            self._free_at[name] = free
            return 0.0
