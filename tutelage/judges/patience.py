"""Asking a server that may be busy: what may pass is tried again, for so long."""

from __future__ import annotations

import asyncio
import random
import time
from asyncio import sleep
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, TypeVar

FIRST_PAUSE = 0.5  # seconds; doubled every time
LONGEST_PAUSE = 30.0
T = TypeVar("T")


class Again(Exception):
    """What may pass, in words; `wait`: the server asked to be left alone for so many seconds; `said`: what else it said."""

    def __init__(self, fault: str, wait: float = 0.0, said: bytes = b"") -> None:
        super().__init__(fault)
        self.wait, self.said = wait, said


class GaveUp(Exception):
    """It did not pass: the last fault, and how long it was tried (seconds)."""

    def __init__(self, fault: Again, spent: float) -> None:
        asked = f", which asks to wait for {fault.wait:.0f} s" if fault.wait else ""
        super().__init__(f"({fault}{asked}) after {spent:.0f} s of trying")


async def patiently(attempt: Callable[[], Awaitable[T]], patience: float, told: Callable[[Again], None]) -> T:
    """What `attempt` returns, tried again after growing pauses, or when the server says, whenever it raises `Again`.

    told: hears of every fault that is waited out.  Raises GaveUp where the next try would come after `patience` seconds.
    """
    started, pause = time.monotonic(), FIRST_PAUSE
    while True:
        try:
            return await attempt()
        except Again as fault:
            jitter = random.SystemRandom().uniform(0.5, 1.0)  # so that not all come back at once
            wait = max(fault.wait, pause * jitter)
            spent = time.monotonic() - started
            if spent + wait > patience:
                raise GaveUp(fault, spent) from None
            told(fault)
            await sleep(wait)
            pause = min(2 * pause, LONGEST_PAUSE)


def retry_after(said: str) -> float:
    """Seconds to wait, from a number of them or a date (RFC 9110, 10.2.3); 0: not said."""
    if said.isdecimal():
        return float(said)
    try:
        date = parsedate_to_datetime(said)
    except ValueError:
        return 0.0
    return max(0.0, (date.replace(tzinfo=date.tzinfo or UTC) - datetime.now(UTC)).total_seconds())


def run_here(work: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Wait for a coroutine; in a thread of its own where a loop runs in this one, as in a notebook."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(work())
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(lambda: asyncio.run(work())).result()


async def all_or_first_fault(tasks: list[Coroutine[Any, Any, T]]) -> list[T]:
    """The results in order; the first that fails ends the others and is raised."""
    try:
        async with asyncio.TaskGroup() as group:
            started = [group.create_task(task) for task in tasks]
    except ExceptionGroup as errors:
        raise errors.exceptions[0] from None
    return [task.result() for task in started]
