"""The figures of an evaluation: its models beside each other.  No torch."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

from tutelage.evals import figures, frontier
from tutelage.evals.acts import ACTS, telling
from tutelage.evals.findings import JUDGED, METRICS, display, one
from tutelage.evals.rows import OVERALL, Row


def draw(rows: Sequence[Row], slots: Mapping[str, int], baseline: str, judge: str) -> list[tuple[str, str]]:
    """(figure as inline SVG, caption) of an evaluation: who is preferred to the baseline, what responses do, scores, and scores
    against distance.  slots: the colour of each model."""
    return [*((svg, "") for svg in _beside(rows, slots, baseline, judge)), *_frontier(rows, slots)]


def _beside(rows: Sequence[Row], slots: Mapping[str, int], baseline: str, judge: str) -> list[str]:
    drawn = []
    win = _dots(rows, "win_rate", slots)
    if win:
        title = f"Preferred to {display(baseline)}, by {judge}"
        drawn.append(figures.dots(title, win, "win rate, ties as one half", share=True, middle=0.5))
    drawn += _acts(rows, slots)
    for metric in JUDGED:
        name, found = METRICS[metric][0], _dots(rows, metric, slots)
        if found:
            drawn.append(figures.dots(name, found, f"mean {name.lower()}", share=False))
    return drawn


def _frontier(rows: Sequence[Row], slots: Mapping[str, int]) -> list[tuple[str, str]]:
    """The score of each model against its distance from the reference; nothing where too few models have both."""
    metric = next((name for name in JUDGED if any(r.metric == name for r in rows)), "")
    made = frontier.points(list(slots), metric, lambda model, name: one(rows, model, name))
    drawn = frontier.draw(made, slots, METRICS[metric][0].lower()) if made else ""
    return [(drawn, frontier.CAPTION)] if drawn else []


def _acts(rows: Sequence[Row], slots: Mapping[str, int]) -> list[str]:
    """What the responses of each model do; nothing where hardly any does something else than answer."""
    if not telling(rows):
        return []
    found = [
        replace(dot, group=METRICS[act][0])
        for act in ACTS
        for dot in _dots([r for r in rows if r.task == OVERALL], act, slots)
    ]
    return [figures.dots("What responses do", found, "share of the responses", share=True)]


def _dots(rows: Sequence[Row], metric: str, slots: Mapping[str, int]) -> list[figures.Dot]:
    found = []
    for r in rows:
        if r.metric == metric and r.value is not None:
            low, high = (math.nan if bound is None else bound for bound in (r.low, r.high))
            group = "all tasks" if r.task == OVERALL else r.task
            found.append(figures.Dot(display(r.model), group, r.value, low, high, slots[r.model]))
    return found
