"""Methods side by side, drawn and said from the rows of `eval methods`: the command and the report show the same.  No torch."""

from __future__ import annotations

import math
from collections.abc import Sequence

from rich.console import Group

from tutelage.evals import figures
from tutelage.evals.findings import METRICS, display, number, one, verdict
from tutelage.evals.rows import OVERALL, Row
from tutelage.evals.shown import cell, columns_table

SHOWN = (
    "win_rate",
    "gold",
    "score",
    "kl",
    "length",
    "missing_eos",
    "unique_share",
    "distinct_2",
    "entropy",
    "eval_loss",
    "tokens_per_answer",
    "cost/tokens_generated",
    "time",
    "cost/peak_memory",
)
"""The columns of the table."""


def ordered(rows: Sequence[Row], baseline: str) -> list[str]:
    """The methods, the one that wins most often first; the baseline is the last."""
    won = {r.model: r.value or 0.0 for r in rows if r.metric == "win_rate" and r.task == OVERALL}
    return [*sorted(won, key=lambda name: -won[name]), baseline]


def table(rows: Sequence[Row], names: Sequence[str], title: str, width: int) -> Group:
    """A line for each method, a column for each measure that some method has."""
    columns = {
        METRICS[metric][0]: [cell(rows, name, metric) for name in names] for metric in shown(rows, names)
    }
    return columns_table(title, "method", [display(name) for name in names], columns, width)


def shown(rows: Sequence[Row], names: Sequence[str]) -> list[str]:
    """The measures that some method has."""
    return [metric for metric in SHOWN if any(one(rows, name, metric) for name in names)]


def draw(rows: Sequence[Row], baseline: str) -> str:
    """Win rate, and how far from the reference it took, of each method: the figure as inline SVG."""
    names = ordered(rows, baseline)[:-1]
    panels = []
    for metric, label, scale, middle in (
        ("win_rate", f"win rate against {display(baseline)} (%)", 100, 50.0),
        ("kl", "KL to the reference (nats)", 1, None),
    ):
        found = [(name, one(rows, name, metric)) for name in names]
        dots = [_dot(name, r, scale) for name, r in found if r is not None]
        if dots:
            panels.append((label, dots, middle))
    return figures.panels("What each method is worth", panels)


def compared(rows: Sequence[Row], names: Sequence[str]) -> list[str]:
    """Which method is shown to be better than which, in a sentence for each that beats another."""
    said = []
    for name in names:
        beaten = [r for r in rows if r.model == name and r.metric.startswith("win_rate@") and verdict(r) > 0]
        if beaten:
            others = ", ".join(
                f"{display(r.metric.partition('@')[2])} ({number(r).text} {number(r).interval})"
                for r in beaten
            )
            said.append(f"{display(name)} beats {others}.")
    return said


def _dot(name: str, r: Row, scale: float) -> figures.Dot:
    value, low, high = (scale * (math.nan if each is None else each) for each in (r.value, r.low, r.high))
    return figures.Dot("", display(name), value, low, high, 1)
