"""What changed from round to round of a pipeline: a figure and lines of a table per quantity.

A round is known from the folder of a run (OUT/round-N/NAME), or, in an evaluation of all rounds, from a model's name (round-N).
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tutelage.evals import figures
from tutelage.evals.findings import METRICS, display
from tutelage.evals.folders import RunFolder
from tutelage.evals.page.curves import FRONTIER, series
from tutelage.evals.rows import OVERALL, Row

MEASURED = ("win_rate", "gold", "score", "kl", "length")  # of an evaluation
ACCURACY = "Accuracy of the reward model"
NEW, OLD, BEFORE = "on the round's own pairs", "on earlier rounds' pairs", "model before, own pairs"
SCORE = "Score in training"
POOLED = "accuracy@earlier"


@dataclass(frozen=True)
class Drift:
    """One quantity of one kind of model: round -> its row."""

    quantity: str
    of: str
    rounds: dict[int, Row]


def drifts(runs: Sequence[RunFolder]) -> list[Drift]:
    """All that was measured in two rounds or more, by quantity."""
    found: dict[tuple[str, str], dict[int, Row]] = defaultdict(dict)
    for run in runs:
        for quantity, of, number, row in _measured(run):
            found[quantity, of][number] = row
    several = {quantity for (quantity, _), rounds in found.items() if len(rounds) > 1}
    lines = [
        Drift(quantity, of, dict(sorted(rounds.items())))
        for (quantity, of), rounds in found.items()
        if quantity in several
    ]
    order = [*(METRICS[metric][0] for metric in MEASURED), ACCURACY, SCORE]
    return sorted(lines, key=lambda line: order.index(line.quantity))


def draw(lines: Sequence[Drift]) -> list[str]:
    """A figure per quantity, against the round."""
    drawn = []
    for quantity in dict.fromkeys(line.quantity for line in lines):
        same = [line for line in lines if line.quantity == quantity]
        curves = [_curve(line, 1 + i % figures.SERIES) for i, line in enumerate(same)]
        unit = next(iter(same[0].rounds.values())).unit
        drawn.append(figures.curves(quantity, curves, "round", unit, whole=True))
    return drawn


def _curve(line: Drift, slot: int) -> figures.Line:
    rows = list(line.rounds.values())
    value, low, high = np.array([(row.value, row.low, row.high) for row in rows], float).T
    reach = np.maximum([value - low, high - value], 0)  # NaN where there is no interval
    return figures.Line(line.of, list(line.rounds), value, slot, reach)


Measured = Iterable[tuple[str, str, int, Row]]  # quantity, of what, round, row


def _measured(run: RunFolder) -> Measured:
    if run.command == "eval":
        return _evaluated(run)
    if run.round is None:
        return []
    return _reward(run, run.round) if run.command == "reward" else _trained(run, run.round)


def _evaluated(run: RunFolder) -> Measured:
    baseline = str(run.lineage.get("baseline", ""))
    for row in run.results:
        named = re.fullmatch(r"round-(\d+)", row.model)
        number = int(named[1]) if named else run.round
        usable = row.task == OVERALL and row.metric in MEASURED and row.value is not None
        if usable and number is not None and row.model != baseline:
            of = "policy" if named else display(row.model)
            yield METRICS[row.metric][0], of, number, row


def _reward(run: RunFolder, number: int) -> Measured:
    """Its accuracy on the pairs of this round (the last project that it learnt from) and on those of the rounds before."""
    data = run.settings.get("data")
    if not isinstance(data, list) or not data:
        return
    newest = str(data[-1]).partition(":")[2]
    by_metric = {row.metric: row for row in run.results if row.task == OVERALL and row.value is not None}
    for of, metric in ((NEW, f"accuracy@{newest}"), (BEFORE, f"accuracy_previous@{newest}")):
        if metric in by_metric:
            yield ACCURACY, of, number, by_metric[metric]
    old = [
        row
        for metric, row in by_metric.items()
        if metric.startswith("accuracy@") and metric != f"accuracy@{newest}"
    ]
    if old:
        yield ACCURACY, OLD, number, pooled(run.name, old)


def pooled(model: str, rows: Sequence[Row]) -> Row:
    """The accuracy on the pairs of all these rows together."""
    pairs = sum(row.n for row in rows)
    value = sum((row.value or 0.0) * row.n for row in rows) / pairs
    return Row(model, POOLED, OVERALL, value, n=pairs, unit="share")


def _trained(run: RunFolder, number: int) -> Measured:
    """The score that training ended with, in the units of that round's reward."""
    found: Any = series(run.metrics, [FRONTIER[1]])
    if len(found):
        averaged, step, value = found[-1]
        row = Row(run.name, f"{FRONTIER[1]}@{step:g}", OVERALL, float(value), n=int(averaged), unit="score")
        yield SCORE, display(run.path.name), number, row
