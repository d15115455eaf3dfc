"""What a score costs in distance: models that were evaluated, score against the square root of the KL to their reference, and
the best of n beside them.  The report of evaluations and that of a study draw the same figure.  No torch."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from tutelage.evals import figures
from tutelage.evals.findings import display
from tutelage.evals.goodhart import distance
from tutelage.evals.rows import Row

CAPTION = (
    "Open circle: the model that the KL is measured to. A line, where there is one, joins the best of n of its responses, as far "
    "away as choosing can lead: √(log n − (n − 1) / n). Bars: 95 % intervals."
)
X_LABEL = "distance from the reference: √KL (√nats)"
FEWEST = 2  # models besides the start: one is no frontier
BEST = re.compile(r"(.+)-best-of-\d+")  # how `eval` calls the best of several responses of a model


@dataclass(frozen=True)
class Point:
    """A model with its KL in nats and its score.  best_of: whose best of n it is, where that is the reference; then `kl` is the
    bound log n - (n - 1) / n."""

    name: str
    kl: Row
    score: Row
    best_of: str = ""

    @property
    def is_start(self) -> bool:
        return not self.best_of and self.kl.value == 0


def points(models: Sequence[str], metric: str, found: Callable[[str, str], Row | None]) -> list[Point]:
    """The models that have both numbers; found: the row of (model, metric), None where there is none with a value."""
    made = []
    for model in models:
        score, kl, source = found(model, metric), found(model, "kl"), _source(model, found)
        bound = found(model, "kl_bound") if source else None
        if score is not None and bound is not None:
            made.append(Point(model, bound, score, source))
        elif score is not None and kl is not None:
            made.append(Point(model, kl, score))
    return made


def _source(model: str, found: Callable[[str, str], Row | None]) -> str:
    """Whose best of n a model is, where that is the reference itself."""
    match = BEST.fullmatch(model)
    own = found(match[1], "kl") if match else None
    return match[1] if match and own is not None and own.value == 0 else ""


def draw(made: Sequence[Point], slots: Mapping[str, int], y_label: str) -> str:
    """The figure as inline SVG; "" with fewer than two models besides the start.  slots: the colour of each name; the best of n
    has that of the model it is drawn from."""
    if sum(not point.is_start for point in made) < FEWEST:
        return ""
    title = f"{y_label[:1].upper()}{y_label[1:]} against distance"
    lines, starts = lines_of(made, slots)
    return figures.frontier(title, lines, X_LABEL, y_label, starts=starts, size=figures.LARGE)


def lines_of(
    made: Sequence[Point], slots: Mapping[str, int]
) -> tuple[list[figures.Line], list[figures.Line]]:
    """(the best of n of each start, and every other model by itself; the starts), with √KL as x."""
    starts = [_line(display(p.name), [p], slots[p.name]) for p in made if p.is_start]
    alone = [_line(display(p.name), [p], slots[p.name]) for p in made if not p.is_start and not p.best_of]
    chosen = [
        _best_of_n(made, start, slots[start]) for start in dict.fromkeys(p.best_of for p in made) if start
    ]
    return [*chosen, *alone], starts


def _best_of_n(made: Sequence[Point], start: str, slot: int) -> figures.Line:
    """From the model itself, which is the best of 1, to the largest n."""
    own = [p for p in made if p.best_of == start or (p.name == start and p.is_start)]
    return _line(f"{display(start)}, best of n", sorted(own, key=lambda p: p.kl.value or 0.0), slot)


def _line(name: str, own: Sequence[Point], slot: int) -> figures.Line:
    x, across = _measured([p.kl for p in own], distance)
    y, reach = _measured([p.score for p in own], np.asarray)
    return figures.Line(name, x, y, slot, reach, across)


def _measured(rows: Sequence[Row], put: Callable[[np.ndarray], np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """(values [n], how far their intervals reach below and above [2, n]) on the axis onto which `put` brings them."""
    values, low, high = (
        put(np.array([math.nan if bound is None else bound for bound in column], float))
        for column in zip(*((r.value, r.low, r.high) for r in rows), strict=True)
    )
    return values, np.stack([values - low, high - values])
