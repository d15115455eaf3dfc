"""Rate limits: how often something that costs much may be asked for, per user and server process.

Failed logins are limited elsewhere (`passwords.check_password`): they are counted in the database, by name and by place.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import anyio
from fastapi.concurrency import run_in_threadpool

from tutelage.feedback.errors import Refused

P = ParamSpec("P")
T = TypeVar("T")

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


class Gate:
    """A few of what takes much memory go on at once, each in a thread; the others wait without one, not for long."""

    def __init__(self, at_once: int = 2, most_waiting: int = 400, patience: float = 10.0) -> None:
        self._places, self._most, self._patience = anyio.Semaphore(at_once), most_waiting, patience

    async def run(self, function: Callable[P, T], *args: P.args, **named: P.kwargs) -> T:
        """What the function returns.  Refused: too-many, when too many wait, or no place came free in time."""
        if self._places.statistics().tasks_waiting >= self._most:
            raise self._refusal()
        try:
            with anyio.fail_after(self._patience):
                await self._places.acquire()
        except TimeoutError:
            raise self._refusal() from None
        try:
            return await run_in_threadpool(function, *args, **named)
        finally:
            self._places.release()

    def _refusal(self) -> Refused:
        wait = self._patience
        return Refused("too-many", f"too many are logging in just now: try again in {wait:.0f} s.", wait)
