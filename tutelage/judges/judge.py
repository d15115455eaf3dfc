"""The contract of a judge."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from tutelage.records import Response, Score


class Judge(Protocol):
    """Scores responses: higher is better, comparable within one judge."""

    def score(self, responses: Sequence[Response]) -> list[Score]:
        """One score per response, in order."""
        ...
