"""What a service says when it does not do what was asked."""

from __future__ import annotations

from typing import Literal

Reason = Literal["invalid", "unauthenticated", "forbidden", "not-found", "conflict", "gone", "too-many"]


class Refused(ValueError):
    """A request that is refused, in one sentence; `reason` is for programs.

    invalid: the content cannot be (422); unauthenticated: nobody is known by that (401); forbidden: known, but not
    allowed (403); not-found (404); conflict: it contradicts what is stored (409); gone: it was there and is used up
    or has ended (410); too-many: try again later (429), in `wait` seconds.
    """

    def __init__(self, reason: Reason, sentence: str, wait: float = 0.0) -> None:
        super().__init__(sentence)
        self.reason, self.wait = reason, wait
