"""Who watches over the ranks of a run: when one fails, all end with its reason; when one is stuck, it is named with its stack.

A thread on every rank leaves a sign of life every two seconds where all can read it, with how often the rank has moved on
(`moved`) and where it is.  Rank 0 reads them.  Nothing here stops a run that is only slow.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from torch import distributed

from tutelage.errors import sentence_of
from tutelage.ranks.meeting import messages
from tutelage.ranks.place import Place

BEAT = 2.0
"""Seconds between two signs of life."""

STUCK = 40.0
"""Seconds without a move of any rank after which it is said who holds the others up."""

GRACE = 3.0
"""Seconds that a rank has to say itself what went wrong before it is ended."""

FRAMES = 6
_moves = count(1)
_moved = 0


def moved() -> None:
    """This rank has got on: it has computed a micro-batch, drawn a token, or talked to the others."""
    global _moved
    _moved = next(_moves)


@dataclass(frozen=True)
class Sign:
    """A sign of life: how often the rank has moved, whether it waits for the others, and its innermost frames."""

    number: int
    moves: int
    waits: bool
    stack: tuple[str, ...]


class Watch:
    """Watches over this rank, and on rank 0 over all of them, from a thread, as long as the block lasts.

    say: tells people.  end: ends this process with a sentence.
    """

    def __init__(self, place: Place, say: Callable[[str], None], end: Callable[[str], None]) -> None:
        self._rank, self._size = place.rank, place.size
        self._own = messages()
        self._say, self._end = say, end
        self._main = threading.main_thread().ident
        self._parent = os.getppid()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join(BEAT + GRACE)

    def reason(self, error: Exception) -> Exception:
        """Why this rank ends, which the others are told: `error`, or what another rank has failed of where that is only a
        consequence of it (nobody answers any more)."""
        said = self._blamed() if isinstance(error, RuntimeError) else None
        if said is not None:
            return ValueError(said)
        self._fail(sentence_of(error) or type(error).__name__)
        return error

    def _fail(self, sentence: str) -> None:
        """Tell the others why this rank ends."""
        try:
            self._own.compare_set("failed", "", json.dumps([self._rank, sentence]))
        except (RuntimeError, distributed.DistError):  # who kept the messages is gone, and the others with it
            return

    def _blamed(self) -> str | None:
        """What another rank has failed of, if one has: then what happens here is only a consequence."""
        deadline = time.monotonic() + GRACE
        while time.monotonic() < deadline:
            try:
                found = self._failure()
            except (RuntimeError, distributed.DistError):
                return None
            if found is not None:
                rank, sentence = found
                return None if rank == self._rank else f"rank {rank}: {sentence}"
            time.sleep(0.1)
        return None

    def _failure(self) -> tuple[int, str] | None:
        if not self._own.check(["failed"]):
            return None
        rank, sentence = json.loads(self._own.get("failed"))
        return int(rank), str(sentence)

    def _run(self) -> None:
        signs = Signs(self._size)
        for number in count():
            try:
                self._beat(number)
                found = self._failure()
                if found is not None and found[0] != self._rank:
                    if not self._over.wait(GRACE):  # else it has ended by itself meanwhile
                        self._end(f"rank {found[0]}: {found[1]}")
                    return
                if self._rank == 0:
                    for sentence in signs.read(self._read(), time.monotonic()):
                        self._say(sentence)
            except (RuntimeError, distributed.DistError):
                if not self._over.wait(GRACE):
                    self._end("the rank that kept the others together is gone.")
                return
            if os.getppid() != self._parent:
                self._end("the process that had started this rank is gone.")
            if self._over.wait(BEAT):
                return

    def _beat(self, number: int) -> None:
        frame = sys._current_frames().get(self._main or 0)
        stack = traceback.extract_stack(frame) if frame else []
        waits = any("/torch/distributed/" in one.filename for one in stack)
        own = [one for one in stack if "/torch/distributed/" not in one.filename][-FRAMES:]
        lines = [f"{_short(one.filename)}:{one.lineno} {one.name}" for one in own]
        self._own.set(f"sign/{self._rank}", json.dumps([number, _moved, waits, lines]))

    def _read(self) -> dict[int, Sign]:
        found = {}
        for rank in range(self._size):
            if self._own.check([f"sign/{rank}"]):
                number, moves, waits, lines = json.loads(self._own.get(f"sign/{rank}"))
                found[rank] = Sign(number, moves, waits, tuple(lines))
        return found


class Signs:
    """What rank 0 makes of the signs of life: at most one sentence for each time that all stand still."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._numbers: dict[int, tuple[int, float]] = {}
        self._moves: Sequence[int] = ()
        self._since, self._said = 0.0, False

    def read(self, signs: Mapping[int, Sign], now: float) -> list[str]:
        """What is to be said of the signs that are there at the time `now` (seconds)."""
        for rank, sign in signs.items():
            if self._numbers.get(rank, (-1, 0.0))[0] != sign.number:
                self._numbers[rank] = (sign.number, now)
        moves = [signs[rank].moves if rank in signs else 0 for rank in range(self._size)]
        if moves != self._moves:
            self._moves, self._since, self._said = moves, now, False
        still = now - self._since
        if self._said or still < STUCK or len(signs) < self._size:
            return []
        self._said = True
        return [
            self._sentence(rank, sign, still, now)
            for rank, sign in signs.items()
            if self._holds_up(rank, signs, now)
        ]

    def _silent(self, rank: int, now: float) -> float:
        return now - self._numbers[rank][1]

    def _holds_up(self, rank: int, signs: Mapping[int, Sign], now: float) -> bool:
        """Whether the others wait for this rank: it gives no sign, or is the one that waits for nobody, or is furthest behind."""
        silent = {other for other in signs if self._silent(other, now) > STUCK / 2}
        if silent:
            return rank in silent
        busy = {other for other, sign in signs.items() if not sign.waits}
        if busy and len(busy) < self._size:
            return rank in busy
        return signs[rank].moves == min(self._moves)

    def _sentence(self, rank: int, sign: Sign, still: float, now: float) -> str:
        silent = self._silent(rank, now)
        what = (
            f"has given no sign of life for {silent:.0f} s"
            if silent > STUCK / 2
            else "waits for the others, too"
            if sign.waits
            else "holds the others up"
        )
        return f"No rank has moved for {still:.0f} s: rank {rank} {what}; it is in {' < '.join(reversed(sign.stack))}."


def _short(path: str) -> str:
    """The end of a path that tells where code is."""
    return "/".join(Path(path).parts[-3:])
