"""The metric lines of a run, as rules look at them: means over windows, against the run's own first steps."""

from __future__ import annotations

import math
import statistics
from collections import deque
from collections.abc import Mapping
from typing import Any

WINDOW = 10  # steps that a mean is taken over
FIRST = 5  # steps that stand for the start of the run
LINES = 2 * WINDOW  # that are remembered from the beginning and from the end


class History:
    """The first and the last LINES values of every metric."""

    def __init__(self) -> None:
        self._first: dict[str, list[float]] = {}
        self._recent: dict[str, deque[float]] = {}
        self._count: dict[str, int] = {}

    def add(self, line: Mapping[str, Any]) -> None:
        """The line of a step; what is no finite number is passed over."""
        for name, value in line.items():
            if isinstance(value, int | float) and math.isfinite(value):
                first = self._first.setdefault(name, [])
                if len(first) < LINES:
                    first.append(value)
                self._recent.setdefault(name, deque(maxlen=LINES)).append(value)
                self._count[name] = self._count.get(name, 0) + 1

    def count(self, name: str) -> int:
        """How many steps had this metric."""
        return self._count.get(name, 0)

    def now(self, name: str, steps: int = WINDOW) -> float:
        """Mean of the last `steps` (at most LINES); nan, which no comparison is true of, where there are fewer."""
        recent = list(self._recent.get(name, ()))
        return statistics.fmean(recent[-steps:]) if len(recent) >= steps else math.nan

    def middle(self, name: str) -> float:
        """Median of the last WINDOW, which a few strange steps do not move; nan where there are fewer."""
        recent = list(self._recent.get(name, ()))[-WINDOW:]
        return statistics.median(recent) if len(recent) == WINDOW else math.nan

    def before(self, name: str) -> float:
        """Mean of the WINDOW before the last one; nan where there is none."""
        recent = list(self._recent.get(name, ()))
        return statistics.fmean(recent[:WINDOW]) if len(recent) == LINES else math.nan

    def start(self, name: str) -> float:
        """Mean of the FIRST steps; nan where there are fewer."""
        first = self._first.get(name, [])
        return statistics.fmean(first[:FIRST]) if len(first) >= FIRST else math.nan

    def opening(self, name: str, steps: int = 3) -> float:
        """Median of the first values, of as many as there are; nan where there is none."""
        first = self._first.get(name, [])
        return statistics.median(first[:steps]) if first else math.nan

    def change(self, name: str) -> float:
        """The mean of the last WINDOW less that of the first one, in standard errors of this difference; nan before both are
        there."""
        first, recent = self._first.get(name, [])[:WINDOW], list(self._recent.get(name, ()))[-WINDOW:]
        if self.count(name) < LINES:
            return math.nan
        error = math.sqrt((statistics.variance(first) + statistics.variance(recent)) / WINDOW)
        return (statistics.fmean(recent) - statistics.fmean(first)) / max(error, 1e-12)
