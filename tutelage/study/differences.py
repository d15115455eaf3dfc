"""Differences along an axis, or of two cells, paired by everything else, tested, and corrected for how many there are.  No torch.

A difference of two labels is taken in every repetition, and on every prompt where those are known: two cells that differ in
nothing else have the same seed and the same prompts.  Over all other axes it is the mean of the differences of the cells;
repetitions of the same label belong together, and so do answers to the same prompt, in whichever cells they are
(`statistics.crossed_mean`).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np

from tutelage.evals.findings import METRICS, REWARD_METRICS, Number, display, figure, number
from tutelage.evals.rows import OVERALL, Row, row
from tutelage.statistics import crossed_mean, crossed_test, holm
from tutelage.study.grid import Cell, cell_of, said, text_of
from tutelage.study.summary import Floats, Group

T = TypeVar("T")
LIMIT = 0.05
ONCE = ""  # the label of a result that does not depend on what is repeated
PRIMARY = ("gold", "score", "accuracy")
"""What is tested unless somebody says: the first of these that there is."""


@dataclass(frozen=True)
class Difference:
    """How much higher `metric` is at `first` than at `second`: labels of the same axes.

    at: the other axes, {} where it is over all of them.  row: mean, interval, and in `n` the repetitions.  won: the share of
    prompts on which `first` has more, ties half, None where prompts are not known.  p: of this test alone; p_holm: corrected for
    all tests of the study; NaN where nothing varies.  whose: the model, where several are compared.
    """

    first: Cell
    second: Cell
    model: str
    at: Cell
    cells: int
    row: Row
    won: Row | None
    p: float
    p_holm: float = math.nan
    whose: str = ""

    @property
    def passed(self) -> bool:
        return self.p_holm < LIMIT

    @property
    def metric(self) -> str:
        return self.row.metric

    @property
    def over_all(self) -> bool:
        """Whether it is over all cells of the other axes."""
        return not self.at


def measures(groups: Sequence[Group], wanted: Sequence[str]) -> list[str]:
    """The metrics that are tested.  Raises ValueError for one that no cell has."""
    there = {metric for group in groups for metric, task, _ in group.metrics if task == OVERALL}
    for metric in wanted:
        if groups and metric not in there:
            raise ValueError(f"measures: no cell has '{metric}': there are {', '.join(sorted(there))}.")
    return list(wanted) or [metric for metric in PRIMARY if metric in there][:1]


def differences(
    groups: Sequence[Group],
    pairs: Sequence[tuple[Cell, Cell]],
    metrics: Sequence[str],
    tuning: Sequence[str] = (),
) -> list[Difference]:
    """All of them: of each metric, over all other axes and then at each of their cells; corrected together.

    tuning: axes of settings to choose among, which are never looked at one by one.
    """
    found = [
        one
        for first, second in pairs
        for metric in metrics
        for one in _between(groups, first, second, metric, tuning)
    ]
    corrected = holm([one.p for one in found])
    several = len({one.model for one in found}) > 1
    return [
        replace(one, p_holm=p, whose=one.model if several else "")
        for one, p in zip(found, corrected, strict=True)
    ]


def pairs_of(
    compare: Mapping[str, Sequence[object]], contrasts: Sequence[Mapping[str, Mapping[str, object]]]
) -> list[tuple[Cell, Cell]]:
    """What is compared: the labels of an axis with each other, and the cells of each contrast."""
    along = [
        ({axis: first}, {axis: second})
        for axis, labels in compare.items()
        for first, second in itertools.combinations([text_of(label) for label in labels], 2)
    ]
    return along + [(cell_of(one["first"]), cell_of(one["second"])) for one in contrasts]


def _between(
    groups: Sequence[Group], first: Cell, second: Cell, metric: str, tuning: Sequence[str]
) -> Iterator[Difference]:
    """Two sides: over all cells, and where there are several, in each."""
    for model in dict.fromkeys(group.model for group in groups):
        pairs = _pairs([group for group in groups if group.model == model], first, second)
        tables: dict[tuple[tuple[str, str], ...], list[Paired]] = {}
        for key, pair in pairs.items():
            if table := paired(*pair, metric):
                at = tuple((axis, label) for axis, label in key if axis not in tuning)
                tables.setdefault(at, []).append(table)
        if not tables:
            continue
        unit = next(unit for name, _, unit in next(iter(pairs.values()))[0].metrics if name == metric)
        every = [table for parts in tables.values() for table in parts]
        several: list[tuple[Cell, list[Paired]]] = [({}, every)] if len(tables) > 1 else []
        for where, parts in [*several, *((dict(at), parts) for at, parts in tables.items())]:
            drawn = together(parts)
            if drawn is None:
                continue
            name = f"{said(first)} - {said(second)}"
            mean = replace(crossed_mean(drawn), n=len(drawn))
            measured = row(name, metric, OVERALL, mean, unit)
            won = _won(name, parts)
            yield Difference(first, second, model, where, len(parts), measured, won, crossed_test(drawn))


def _won(name: str, parts: Sequence[Paired]) -> Row | None:
    """How often the first side has more."""
    if any("" in of for part in parts for of in part.values()):
        return None
    signs = [
        {
            label: {prompt: 0.5 + 0.5 * float(np.sign(gap)) for prompt, gap in of.items()}
            for label, of in part.items()
        }
        for part in parts
    ]
    drawn = together(signs)
    return None if drawn is None else row(name, "win_rate", OVERALL, crossed_mean(drawn, rate=True), "share")


def _pairs(
    groups: Sequence[Group], first: Cell, second: Cell
) -> dict[tuple[tuple[str, str], ...], tuple[Group, Group]]:
    """Cells on either side that differ in nothing but these labels, by those that they share."""
    sides: tuple[dict[tuple[tuple[str, str], ...], Group], ...] = ({}, {})
    for side, labels in zip(sides, (first, second), strict=True):
        for group in groups:
            if all(group.cell.get(axis) == label for axis, label in labels.items()):
                side[tuple((axis, label) for axis, label in group.cell.items() if axis not in labels)] = group
    return {rest: (group, sides[1][rest]) for rest, group in sides[0].items() if rest in sides[1]}


Paired = dict[str, dict[str, float]]
"""Repetition -> prompt -> difference; where prompts are not known there is one, named ""."""


def paired(ours: Group, theirs: Group, metric: str, task: str = OVERALL) -> Paired:
    """What both have measured, one less the other.  A side that is not repeated stands against every repetition of the other."""
    of_ours, of_theirs = _beside(ours.of_prompts(metric, task), theirs.of_prompts(metric, task))
    same = [label for label in of_ours if set(of_ours[label]) == set(of_theirs.get(label, {}))]
    values, others = _beside(ours.values(metric, task), theirs.values(metric, task))
    both = [label for label in values if label in others]
    if same == both:
        return {
            label: {prompt: value - of_theirs[label][prompt] for prompt, value in of_ours[label].items()}
            for label in same
        }
    return {label: {"": values[label] - others[label]} for label in both}


def _beside(ours: dict[str, T], theirs: dict[str, T]) -> tuple[dict[str, T], dict[str, T]]:
    """Both by the labels of the repetitions that one of them has."""
    if set(ours) == {ONCE} != set(theirs):
        return dict.fromkeys(theirs, ours[ONCE]), theirs
    if set(theirs) == {ONCE} != set(ours):
        return ours, dict.fromkeys(ours, theirs[ONCE])
    return ours, theirs


def together(parts: Sequence[Paired]) -> Floats | None:
    """Differences [repetitions, prompts] of several cells as one table; None where they have no repetition in common.

    What several cells have of a prompt is averaged.  Where some cell does not know its prompts, each counts as a whole.
    """
    labels = [label for label in parts[0] if all(label in part for part in parts)]
    if not labels:
        return None
    asked = [part[labels[0]].keys() for part in parts]
    known = all(
        "" not in prompts and all(part[label].keys() == prompts for label in labels)
        for part, prompts in zip(parts, asked, strict=True)
    )
    if not known:
        means = [[np.mean(list(part[label].values())) for label in labels] for part in parts]
        return np.mean(np.array(means), axis=0)[:, None]
    prompts = dict.fromkeys(prompt for each in asked for prompt in each)
    return np.array(
        [
            [np.mean([part[label][prompt] for part in parts if prompt in part[label]]) for prompt in prompts]
            for label in labels
        ]
    )


# ---- in words --------------------------------------------------------------------------------------------------------


def called(metric: str) -> str:
    """A metric's name on the page."""
    return {**METRICS, **REWARD_METRICS}.get(metric, (metric.replace("_", " "), ""))[0]


def compared(one: Difference) -> str:
    """What is compared, on the page: a metric, and whose where there are several models."""
    return called(one.metric) + (f" ({display(one.whose)})" if one.whose else "")


def shown(one: Difference) -> Number:
    """A difference as it is printed, with its sign."""
    found = number(one.row)
    sign = "+" if (one.row.value or 0) > 0 else ""
    unit = " points" if one.row.unit == "share" else ""
    return replace(found, text=f"{sign}{found.text.replace(' %', unit)}")


def p_text(p: float) -> str:
    """A p as it is printed; a dash where there was nothing to test."""
    return "–" if math.isnan(p) else figure(p, "p")


def conclusion(found: Sequence[Difference], repeats: str) -> list[str]:
    """What can be said: of every pair, over all cells where there are several; of single cells only what passed."""
    sentences = []
    tests = sum(not math.isnan(one.p) for one in found)
    lone = {_which(one) for one in found if one.over_all}
    for one in found:
        main = one.over_all or _which(one) not in lone
        if main or one.passed:
            sentences.append(_sentence(one, tests, repeats))
    return sentences


def _which(one: Difference) -> tuple[str, str, str, str]:
    return said(one.first), said(one.second), one.model, one.metric


def side(cell: Cell) -> str:
    """One side of a difference as a reader knows it: its labels."""
    return " · ".join(map(display, cell.values()))


def _sentence(one: Difference, tests: int, repeats: str) -> str:
    where = f"At {said(one.at)}: " if one.at else ""
    first, second = side(one.first), side(one.second)
    told = shown(one)
    numbers = f"{told.text} {told.interval}".strip()
    over = f"{one.row.n} {repeats}s" if one.row.n > 1 else f"one {repeats}, so that others may say otherwise"
    corrected = f" after correction for {tests} tests" if tests > 1 else ""
    p = f"p = {p_text(one.p_holm)}{corrected}".replace("= <", "<")
    basis = f"{'nothing varies' if math.isnan(one.p) else p}; {over}"
    name = compared(one)
    if not one.passed:
        return f"{where}{name}: {first} and {second} are not distinguishable ({numbers}; {basis})."
    higher, lower = (first, second) if (one.row.value or 0) > 0 else (second, first)
    won = "" if one.won is None else f"; {first} has more on {number(one.won).text} of the prompts"
    return f"{where}{name} is higher with {higher} than with {lower} ({first} less {second}: {numbers}{won}; {basis})."
