"""What a report shows of a process reward model: its figures on held-out solutions, with intervals, and its calibration."""

from __future__ import annotations

from collections.abc import Sequence

from tutelage.evals import figures
from tutelage.evals.card.page import Line, reliability_dots
from tutelage.evals.findings import PROCESS_METRICS, number, one
from tutelage.evals.rows import Row


def lines(rows: Sequence[Row], model: str) -> list[Line]:
    """(name, what it is, number) of what was measured."""
    return [
        (name, what, number(found))
        for metric, (name, what) in PROCESS_METRICS.items()
        if (found := one(rows, model, metric)) is not None and found.value is not None
    ]


def draw(rows: Sequence[Row], model: str) -> list[tuple[str, str]]:
    """(SVG, caption) of the calibration of its steps; nothing where it was not measured."""
    confidence, found = reliability_dots(rows, model)
    if not found:
        return []
    title, labels = (
        f"{model}: calibration on held-out steps",
        ("confidence of the model", "right as it is marked"),
    )
    caption = "Each dot is a tenth of the steps. Below the dashed line the model is over-confident, above it under-confident."
    return [(figures.reliability(title, confidence, found, *labels), caption)]
