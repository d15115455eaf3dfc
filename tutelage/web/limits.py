"""Rate limits: how often something that costs much may be asked for, per user and server process.

Failed logins are limited elsewhere (`accounts.check_password`): they are counted in the database, by name and by place.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable

from tutelage.feedback.errors import Refused

MOST_NAMES = 20_000  # beyond that, the names that are back at their full allowance are forgotten


def retry_after(error: Refused) -> dict[str, str]:
    """The header that says when to try again, for what is refused only for now."""
    return {"Retry-After": str(max(1, math.ceil(error.wait)))} if error.reason == "too-many" else {}


class Limit:
    """`burst` tries at once, then one every `seconds`, per name; `of` says what.  In memory: a restart forgives."""

    def __init__(
        self, burst: int, seconds: float, of: str = "requests", clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._burst, self._seconds, self._of, self._clock = burst, seconds, of, clock
        self._free_at: dict[str, float] = {}  # when the name has its full allowance again
        self._lock = threading.Lock()

    def take(self, name: str) -> None:
        """Count one try.  Refused: too-many."""
        wait = self.wait(name)
        if wait:
            raise Refused("too-many", f"too many {self._of} at once: try again in {math.ceil(wait)} s.", wait)

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
