"""The likely mistakes: one file for what is seen in a single row, one for what only many rows show."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tutelage.inspect.facts import Mistake
from tutelage.inspect.mistakes.common import Detector
from tutelage.inspect.mistakes.many import many
from tutelage.inspect.mistakes.single import single
from tutelage.inspect.views import View


class Mistakes:
    """All detectors over all rows."""

    def __init__(self) -> None:
        self._detectors: list[Detector] = [*single(), *many()]

    def add(self, view: View, columns: Mapping[str, Any], first: bool) -> None:
        """first: the first record of its row."""
        for detector in self._detectors:
            detector.add(view, columns if first else {})

    @property
    def found(self) -> tuple[Mistake, ...]:
        """Mistakes before notes, the commonest first."""
        every = [mistake for detector in self._detectors for mistake in detector.found()]
        return tuple(sorted(every, key=lambda one: (one.level == "note", -one.rows / max(one.of, 1))))
