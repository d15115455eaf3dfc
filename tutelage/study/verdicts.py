"""Does a claim hold?  An effect of its study, with an interval over repetitions and prompts, against a bound set beforehand.

An effect holds where its whole 95 % interval is on the right side of the bound, does not where it is wholly on the other, and is
not distinguishable in between.  A claim holds where all of its effects do, and does not where one of them does not.  No torch.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from tutelage.evals.findings import Number, number
from tutelage.evals.rows import OVERALL, Row, row
from tutelage.settings.claims import EffectSettings
from tutelage.statistics import Interval, crossed_mean
from tutelage.study.cells import Result
from tutelage.study.differences import Paired, paired, together
from tutelage.study.grid import Cell, said, text_of
from tutelage.study.summary import Group

MODEL = "model"
HOLDS, FAILS, OPEN = "holds here", "does not hold here", "not distinguishable"


@dataclass(frozen=True)
class Effect:
    """What a number is (`what`), the number with its interval, in `row.n` repetitions; the bound as it was set, and what it says
    of the claim."""

    what: str
    row: Row
    bound: str
    verdict: str
    difference: bool = False

    @property
    def shown(self) -> Number:
        """As it is printed; what one side has more than another with its sign, and in points where it is of shares."""
        found = number(self.row)
        if not self.difference:
            return found
        sign = "+" if (self.row.value or 0) > 0 else ""
        return replace(found, text=f"{sign}{found.text.replace(' %', ' points')}")


def verdict_of(effects: Sequence[Effect]) -> str:
    """Of the claim."""
    said = [effect.verdict for effect in effects]
    return FAILS if FAILS in said else OPEN if OPEN in said else HOLDS


def effect_of(wanted: EffectSettings, results: Sequence[Result], repeats: str) -> Effect:
    """What the results say.  Raises ValueError where no cell has the metric, or a side names none."""
    lines = _lines(results, repeats)
    first = _side(lines, wanted.first, wanted)
    task = wanted.task or OVERALL
    if wanted.second is None:
        parts = [_alone(group, wanted.metric, task) for group in first.values()]
    else:
        second = _side(lines, wanted.second, wanted)
        both = [(group, second[rest]) for rest, group in first.items() if rest in second]
        if not both:
            raise ValueError(
                f"'{wanted.what}': no cell of one side differs from one of the other in that alone."
            )
        parts = [paired(*pair, wanted.metric, task) for pair in both]
    drawn = together([part for part in parts if part]) if any(parts) else None
    if drawn is None or not np.isfinite(drawn).all():
        raise ValueError(f"'{wanted.what}': there is no '{wanted.metric}' of task '{task}' in these cells.")
    unit = next(
        unit
        for group in first.values()
        for name, of, unit in group.metrics
        if (name, of) == (wanted.metric, task)
    )
    found = crossed_mean(drawn)
    if math.isnan(found.low) and len(drawn) > 1:  # every repetition gives the same
        found = Interval(found.value, found.value, found.value, found.n)
    measured = row("", wanted.metric, task, replace(found, n=len(drawn)), unit)
    apart = wanted.second is not None
    return Effect(wanted.what, measured, _bound(wanted, unit), _judged(wanted, found), apart)


def _lines(results: Sequence[Result], repeats: str) -> list[Group]:
    """Every model of every cell in its repetitions, the one that others are compared with too."""
    found: dict[tuple[tuple[tuple[str, str], ...], str], dict[str, Result]] = {}
    for result in results:
        cell = tuple((axis, label) for axis, label in result.cell.items() if axis != repeats)
        for model in dict.fromkeys(one.model for one in result.rows):
            found.setdefault((cell, model), {})[result.cell.get(repeats, "")] = result
    return [Group(dict(cell), model, each, alone=False) for (cell, model), each in found.items()]


def _side(
    lines: Sequence[Group], labels: Mapping[str, object], wanted: EffectSettings
) -> dict[tuple[tuple[str, str], ...], Group]:
    """The groups of a side, by what of their cells it does not say."""
    wants = {axis: text_of(label) for axis, label in labels.items()}
    model = wants.pop(MODEL, None)
    chosen = [
        group
        for group in lines
        if all(group.cell.get(axis) == label for axis, label in wants.items())
        and model in (None, group.model)
    ]
    models = {group.model for group in chosen}
    if len(models) > 1:
        raise ValueError(
            f"'{wanted.what}': the cells have {', '.join(sorted(models))}: say which, as model: policy."
        )
    if not chosen:
        told = said({**wants, **({MODEL: model} if model else {})})
        raise ValueError(f"'{wanted.what}': there is nothing at {told or 'all'}.")
    return {_rest(group.cell, wanted): group for group in chosen}


def _rest(cell: Cell, wanted: EffectSettings) -> tuple[tuple[str, str], ...]:
    named = {*wanted.first, *(wanted.second or {})}
    return tuple((axis, label) for axis, label in cell.items() if axis not in named)


def _alone(group: Group, metric: str, task: str) -> Paired:
    """Repetition -> prompt -> value, as differences have it."""
    values, of_prompts = group.values(metric, task), group.of_prompts(metric, task)
    if of_prompts.keys() == values.keys():
        return of_prompts
    return {label: {"": value} for label, value in values.items()}


def _bound(wanted: EffectSettings, unit: str) -> str:
    """In the unit of the number."""
    points = wanted.second is not None

    def said(value: float) -> str:
        text = number(Row("", wanted.metric, OVERALL, value, unit=unit)).text
        return text.replace(" %", " points") if points else text

    if wanted.within is not None:
        return f"within ±{said(wanted.within)}"
    name, value = ("above", wanted.above) if wanted.above is not None else ("below", wanted.below)
    assert value is not None, "an effect has a bound"
    return f"{name} {said(value)}"


def _judged(wanted: EffectSettings, found: Interval) -> str:
    low, high = found.low, found.high
    if math.isnan(low) or math.isnan(high):
        return OPEN
    if wanted.within is not None:
        inside, outside = (
            -wanted.within < low and high < wanted.within,
            low > wanted.within or high < -wanted.within,
        )
        return HOLDS if inside else FAILS if outside else OPEN
    if wanted.above is not None:
        return HOLDS if low > wanted.above else FAILS if high < wanted.above else OPEN
    assert wanted.below is not None, "an effect has a bound"
    return HOLDS if high < wanted.below else FAILS if low > wanted.below else OPEN
