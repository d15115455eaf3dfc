"""Rate limits: how often something that costs much may be asked for, per user, counted in the store over all its servers.

Failed logins are limited elsewhere (`passwords.check_password`): they are counted there too, by name and by place.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, ParamSpec, TypeVar

import anyio
from fastapi.concurrency import run_in_threadpool

from tutelage.feedback.errors import Refused
from tutelage.feedback.people import allowances
from tutelage.store.database import Database

Costly = Literal["generate", "export", "token", "invite"]
P = ParamSpec("P")
T = TypeVar("T")


def retry_after(error: Refused) -> dict[str, str]:
    """The header that says when to try again, for what is refused only for now."""
    return {"Retry-After": str(max(1, math.ceil(error.wait)))} if error.reason == "too-many" else {}


@dataclass(frozen=True)
class Limit:
    """`burst` tries at once, then one every `seconds`, per name; `of` says what."""

    burst: int
    seconds: float
    of: str = "requests"


@dataclass(frozen=True)
class Limits:
    """How often a user may ask for what costs much, on all servers together (docs/serve.md lists these)."""

    generate: Limit = Limit(burst=20, seconds=3, of="texts by models")
    export: Limit = Limit(burst=10, seconds=10, of="exports")
    token: Limit = Limit(burst=10, seconds=60, of="new tokens")
    invite: Limit = Limit(burst=30, seconds=20, of="invitations")

    def take(self, what: Costly, database: Database, name: str) -> None:
        """Count one try.  Refused: too-many."""
        limit: Limit = getattr(self, what)
        wait = allowances.take(database, what, name, limit.burst, limit.seconds)
        if wait:
            raise Refused("too-many", f"too many {limit.of} at once: try again in {math.ceil(wait)} s.", wait)


class Gate:
    """A few of what takes much memory go on at once in this process, each in a thread; the others wait for a while."""

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
