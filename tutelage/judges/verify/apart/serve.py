"""A helper: a small process that forks one child, or two, for every job, and ends them.

It reads jobs from its standard input and writes what came of them to its standard output, as frames.  Its children write a
result to a pipe; whoever has not ended when the time is up is killed.  It ends when its standard input closes.
"""

from __future__ import annotations

import gc
import json
import os
import select
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from tutelage.judges.verify.apart.frames import read_frame, write_frame

Start = Callable[[dict[str, Any], int], list[int]]  # (job, where results are written) -> its processes
RESULT = 1 << 16  # bytes: the longest result that is read


def serve(start: Start) -> None:
    """Do jobs until there are no more.  A job says its `seconds`."""
    while (message := read_frame(0)) is not None:
        job = json.loads(message)
        reader, writer = os.pipe()
        children = start(job, writer)
        os.close(writer)
        result = _read_until(reader, time.monotonic() + job["seconds"])
        os.close(reader)
        for child in children:
            with suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
        write_frame(1, result)


def fork(work: Callable[[], None]) -> int:
    """A child that does `work` and nothing after it."""
    child = os.fork()
    if child:
        return child
    try:
        work()
    except BaseException:
        os._exit(1)
    os._exit(0)


def only(*kept: int) -> None:
    """Close every file but these: what else this process has is not for its code."""
    nothing = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1, 2):
        if standard not in kept:
            os.dup2(nothing, standard)
    start = 3
    for descriptor in sorted(one for one in kept if one > 2):
        os.closerange(start, descriptor)
        start = descriptor + 1
    os.closerange(start, os.sysconf("SC_OPEN_MAX") if start < 1024 else start + 1024)


def _read_until(descriptor: int, deadline: float) -> bytes:
    """What is written there until it closes, or until the deadline."""
    found = b""
    while (left := deadline - time.monotonic()) > 0 and len(found) < RESULT:
        ready, _, _ = select.select([descriptor], [], [], left)
        part = os.read(descriptor, RESULT) if ready else b""
        if not part:
            break
        found += part
    return found


def main() -> None:
    """The helper for maths or code, as its argument says."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the trainer's; it closes our input
    kind = sys.argv[1]
    if kind == "maths":
        from tutelage.judges.verify.apart.symbols import start, warm_up

        warm_up()
    else:
        from tutelage.judges.verify.apart.run_code import start
    gc.freeze()  # children share the memory of what is here, as long as nobody counts in it
    sys.path.pop(0)  # this project is not for the code that runs here
    write_frame(1, b"ready")
    serve(start)
