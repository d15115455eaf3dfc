"""How long prompts and responses are."""

from __future__ import annotations

from array import array
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from tutelage.inspect.facts import Lengths, Spread
from tutelage.inspect.views import View
from tutelage.statistics import percentiles

BINS = 24


class Characters:
    """Collects lengths in characters, four bytes each."""

    def __init__(self) -> None:
        self._lengths = {name: array("I") for name in ("text", "prompt", "response")}

    def add(self, view: View) -> None:
        if view.kind == "text":
            self._lengths["text"].append(len(view.prompt))
            return
        self._lengths["prompt"].append(len(view.prompt) + len(view.system))
        self._lengths["response"].extend(map(len, view.responses))

    @property
    def found(self) -> Lengths:
        return lengths("characters", {name: np.frombuffer(own, "u4") for name, own in self._lengths.items() if own})  # fmt: skip


def lengths(unit: Literal["characters", "tokens"], named: dict[str, np.ndarray], limit: int = 0, sequences: int = 0,
            over: int = 0, shortened: int = 0) -> Lengths:  # fmt: skip
    """Facts about lengths by name; those of one unit share their edges, so that they can be drawn one below the other."""
    edges = _edges(np.concatenate(list(named.values()))) if named else []
    spreads = tuple(
        Spread(name, percentiles(own), tuple(edges), tuple(np.histogram(own, edges)[0].tolist()))
        for name, own in named.items()
    )
    return Lengths(unit, spreads, limit, sequences, over, shortened)


def _edges(values: ArrayLike) -> list[float]:
    """Edges of bins that grow by one factor: lengths differ by factors."""
    low, high = max(int(np.min(values)), 1), int(np.max(values)) + 1
    grown = np.geomspace(low, max(high, low + 1), BINS + 1)
    whole = sorted({int(edge) for edge in np.round(grown)})
    whole[-1] = max(whole[-1], high)
    first = 0 if np.min(values) == 0 else whole[0]
    return [float(edge) for edge in sorted({first, *whole})]
