"""Which of the ranks of a run a process is.  No torch here."""

from __future__ import annotations

import os
from dataclasses import dataclass

LAST_WORDS = 10.0
"""Seconds that rank 0, which speaks for all, has to say what went wrong: a rank that ended before could be the reason to end
all of them at once."""


@dataclass(frozen=True)
class Place:
    """rank of `size`; `local`: which of those on this machine."""

    rank: int = 0
    size: int = 1
    local: int = 0

    @property
    def leads(self) -> bool:
        return self.rank == 0

    @staticmethod
    def here() -> Place:
        """As the environment says, in which whoever starts ranks puts RANK, WORLD_SIZE and LOCAL_RANK."""
        rank, size = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
        return Place(rank, size, int(os.environ.get("LOCAL_RANK", str(rank))))


def is_a_rank() -> bool:
    """Whether this process was started as a rank, if only as the one of one."""
    return "RANK" in os.environ and "WORLD_SIZE" in os.environ
