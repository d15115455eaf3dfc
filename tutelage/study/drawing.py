"""The figures of a study.  No torch."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial

import numpy as np

from tutelage.evals import figures, frontier
from tutelage.evals.findings import display
from tutelage.evals.rows import OVERALL, Row
from tutelage.study.differences import called, side
from tutelage.study.summary import JUDGED, Group
from tutelage.study.told import Told, columns, measured

DRAWN = ("gold", "score", "accuracy", "win_rate", "kl", "length")
FRONTIER = "frontier"  # what its figure is called
HALF = {"win_rate": 50.0}
SPREAD = 10  # times the lowest: from there on an axis is logarithmic


def figures_of(told: Told) -> dict[str, str]:
    """Name -> figure as inline SVG: cells beside each other, measures against what they cost, what tuning is worth."""
    return {**_cells(told), **_frontier(told), **_against(told), **_tuning(told)}


def _cells(told: Told) -> dict[str, str]:
    """A line for each cell, its mean with the interval, and a small mark for each repetition."""
    drawn = {}
    for metric, unit in columns(told):
        if metric not in (*told.measures, *DRAWN):
            continue
        name, scale = _axis(metric, unit)
        dots = [dot for group in told.groups for dot in _dots(told, group, metric, unit, scale)]
        if dots:
            title = f"{called(metric)} of each cell"
            drawn[metric.replace("/", "_")] = figures.panels(
                title, [(name, dots, HALF.get(metric))], width=figures.WIDE
            )
    return drawn


def _axis(metric: str, unit: str) -> tuple[str, int]:
    """(label of the axis, what values are multiplied with)."""
    return (f"{called(metric)} (%)", 100) if unit == "share" else (called(metric), 1)


def _dots(told: Told, group: Group, metric: str, unit: str, scale: int) -> Iterator[figures.Dot]:
    found = measured(group, metric, unit)
    if found is None or found.row.value is None:
        return
    nothing = math.nan
    for value in found.each.values():
        yield figures.Dot("", group.name, scale * value, nothing, nothing, 0, 3.5)
    low, high = (nothing if bound is None else scale * bound for bound in (found.row.low, found.row.high))
    yield figures.Dot("", group.name, scale * found.row.value, low, high, _slot(told, group))


def _slot(told: Told, group: Group) -> int:
    """A colour for each label of the first axis that is compared."""
    axis = next(iter(told.settings.compare), None)
    labels = list(dict.fromkeys(other.cell.get(axis, "") for other in told.groups)) if axis else [""]
    return 1 + labels.index(group.cell.get(axis, "") if axis else "") % figures.SERIES


def _frontier(told: Told) -> dict[str, str]:
    """The score of each cell against its distance from the reference, with the best of n where that was measured."""
    there = [metric for metric, _ in columns(told)]
    metric = next((name for name in JUDGED if name in there), "")
    if not metric or "kl" not in there:
        return {}
    points, slots = frontier_points(told, metric)
    drawn = frontier.draw(points, slots, called(metric).lower())
    return {FRONTIER: drawn} if drawn else {}


def frontier_points(told: Told, metric: str) -> tuple[list[frontier.Point], dict[str, int]]:
    """The cells that have this score and a KL, named as their lines of the tables are; and the colour of each name."""
    made: list[tuple[Group, frontier.Point]] = []
    for cell in dict.fromkeys(tuple(group.cell.items()) for group in told.groups):
        own = _with_baseline([group for group in told.groups if tuple(group.cell.items()) == cell])
        made += [(own[p.name], p) for p in frontier.points(list(own), metric, partial(_row, own))]
    shared = _shared([point for _, point in made])
    named: dict[str, frontier.Point] = {}
    slots: dict[str, int] = {}
    for group, point in made:
        name = display(point.name) if point.name in shared else group.name
        start = point.best_of and (
            display(point.best_of) if point.best_of in shared else replace(group, model=point.best_of).name
        )
        named.setdefault(name, replace(point, name=name, best_of=start))
        slots.setdefault(name, 0 if point.name in shared else _slot(told, group))
    return list(named.values()), slots


def _with_baseline(groups: Sequence[Group]) -> dict[str, Group]:
    """The models of a cell, and the one they are compared with, which is no line of the tables."""
    first = next(iter(groups[0].repetitions.values()))
    baseline = str(first.run.lineage.get("baseline", ""))
    own = {baseline: replace(groups[0], model=baseline, alone=False)} if baseline else {}
    return own | {group.model: group for group in groups}


def _row(own: Mapping[str, Group], model: str, metric: str) -> Row | None:
    """The mean of a model's metric; None where a repetition lacks it."""
    group = own.get(model)
    units = {name: unit for name, task, unit in group.metrics if task == OVERALL} if group else {}
    found = measured(group, metric, units[metric]) if group and metric in units else None
    return found.row if found is not None and found.row.value is not None else None


def _shared(made: Sequence[frontier.Point]) -> set[str]:
    """Starts, and the best of n of these, that are the same in all cells: drawn once."""
    values: dict[str, set[tuple[float | None, float | None]]] = {}
    for point in made:
        if point.is_start or point.best_of:
            values.setdefault(point.name, set()).add((point.kl.value, point.score.value))
    return {name for name, each in values.items() if len(each) == 1}


def _against(told: Told) -> dict[str, str]:
    """Each tested measure against what `against` names, a line through the labels of its axis."""
    units = dict(columns(told))
    wanted = [(axis, metric) for axis, metrics in told.settings.against.items() for metric in metrics]
    for _, metric in wanted:
        if metric not in units and not told.missing:  # else one of those that are missing may have it
            raise ValueError(
                f"against: no cell has '{metric}': there are {', '.join(sorted(units)) or 'none'}."
            )
    drawn = {}
    for axis, x_metric in wanted:
        for metric in told.measures:
            x, y = (x_metric, units.get(x_metric, "")), (metric, units[metric])
            if lines := _lines(told.groups, axis, x, y):
                title = f"{called(metric)} against {called(x_metric)}"
                drawn[f"{metric}_against_{x_metric}".replace("/", "_")] = _drawn(title, lines, x, y)
    return drawn


def _drawn(title: str, lines: Sequence[figures.Line], x: tuple[str, str], y: tuple[str, str]) -> str:
    values = np.concatenate([np.asarray(line.x, float) for line in lines])
    log = bool(values.min() > 0 and values.max() > SPREAD * values.min())
    names = _axis(*x)[0], _axis(*y)[0]
    return figures.curves(title, lines, *names, whole=True, log=log, size=figures.LARGE)


def _lines(groups: Sequence[Group], axis: str, x: tuple[str, str], y: tuple[str, str]) -> list[figures.Line]:
    """A line for each cell of the other axes: (x, y, reach of the interval of y) at every label."""
    found: dict[str, list[tuple[float, float, float, float]]] = {}
    for group in groups:
        ours, theirs = measured(group, *x), measured(group, *y)
        if ours is None or theirs is None or ours.row.value is None or theirs.row.value is None:
            continue
        scale = _axis(*y)[1]
        value, low, high = (
            math.nan if bound is None else scale * bound
            for bound in (theirs.row.value, theirs.row.low, theirs.row.high)
        )
        name = side({key: label for key, label in group.cell.items() if key != axis}) or display(group.model)
        x_value = _axis(*x)[1] * ours.row.value
        found.setdefault(name, []).append((x_value, value, value - low, high - value))
    lines = []
    for k, (name, points) in enumerate(found.items()):
        x_values, y_values, below, above = np.array(sorted(points)).T
        slot = 1 + k % figures.SERIES
        lines.append(figures.Line(name, x_values, y_values, slot, np.stack([below, above])))
    return lines


def _tuning(told: Told) -> dict[str, str]:
    """What the best of so many settings has."""
    if not told.tuned:
        return {}
    metric = told.tuned[0].metric
    name, scale = _axis(metric, dict(columns(told))[metric])
    lines = [
        figures.Line(
            side(one.cell) or display(one.model),
            np.arange(1, len(one.best_of) + 1),
            scale * one.best_of,
            1 + k % figures.SERIES,
        )
        for k, one in enumerate(told.tuned)
    ]
    title = "The best of the settings that were tried"
    return {"tuning": figures.curves(title, lines, "settings tried", name, whole=True, size=figures.LARGE)}
