"""The verdict: how far annotators agree, by Krippendorff's bounds, and the items they part on."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Literal

import numpy as np

from tutelage.feedback import statistics
from tutelage.feedback.asking.payloads import Model
from tutelage.feedback.insights.labels import Column, Pairs, Values
from tutelage.feedback.statistics import Estimate

# Krippendorff, Content Analysis (2004), p. 241: rely on alpha of 0.8 and more, draw tentative conclusions from 0.667 on.
RELIABLE, TENTATIVE = 0.8, 0.667
WORST = 10  # items that are shown

Level = Literal["alone", "few", "unclear", "chance", "part", "tentative", "reliable"]


class Parted(Model):
    """An item that annotators part on; `spread`: from 0, all said the same, to 1, half of them either end of the scale."""

    item_id: int
    question: str
    spread: float
    answers: int
    prompt: str = ""


class Verdict(Model):
    """`level`: see the function; `question`: what it is about; `missing`: items that are still needed before anything can
    be said; `between`: the bounds that the interval of alpha crosses."""

    level: Level
    question: str
    alpha: Estimate
    missing: int
    between: tuple[float, ...]


class Question(Model):
    """How far annotators agree on one question; `level` as in `Verdict`."""

    name: str
    criterion: str
    alpha: Estimate
    level: Level


def level(alpha: Estimate) -> Level:
    """What may be said of an alpha: only what its whole interval says.

    alone: nobody has judged the same; few: too few items; chance: not told from chance; part: below what Krippendorff
    asks even for tentative conclusions; tentative, reliable: at least his bounds; unclear: across one of them.
    """
    if alpha.n == 0:
        return "alone"
    if alpha.value is None or alpha.low is None or alpha.high is None:
        return "few"
    if alpha.low <= 0:
        return "chance" if alpha.high < TENTATIVE else "unclear"
    if alpha.high < TENTATIVE:
        return "part"
    if alpha.low >= RELIABLE:
        return "reliable"
    return "tentative" if alpha.low >= TENTATIVE else "unclear"


def verdict(questions: Sequence[Question]) -> Verdict | None:
    """About the question with the most items that several people answered; None when there are no answers.

    Whether responses are acceptable is asked beside another question, and of every response: it counts twice as often,
    and is spoken of only where nothing else is asked.
    """
    if not questions:
        return None
    mains = [one for one in questions if one.name != "acceptable"] or questions
    question = max(mains, key=lambda one: one.alpha.n)
    alpha = question.alpha
    crossed = [
        bound
        for bound in (0.0, TENTATIVE, RELIABLE)
        if alpha.low is not None and alpha.high is not None and alpha.low <= bound < alpha.high
    ]
    return Verdict(
        level=question.level,
        question=question.name,
        alpha=alpha,
        missing=max(0, statistics.ENOUGH - alpha.n),
        between=tuple(crossed),
    )


def worst_items(pairs: Pairs, values: Values) -> tuple[Parted, ...]:
    """The items that annotators part on most, worst first."""
    found = _spread(pairs.item, pairs.item * 0, pairs.preference, "pair", 6.0)
    for name in np.unique(values.question).tolist():
        own = values.where(values.question == name)
        unit = own.place + (1 + own.place.max()) * np.unique(own.criterion, return_inverse=True)[1]
        found += _spread(own.item, unit, own.value, name, float(own.value.max() - own.value.min()))
    return _worst(found)


def parted_from_judges(people: Pairs, judges: Pairs) -> tuple[Parted, ...]:
    """The pairs on which the mean answers of people and of judges lie furthest apart."""
    sums = [_mean_by_item(one) for one in (people, judges)]
    shared, mine, theirs = np.intersect1d(sums[0][0], sums[1][0], assume_unique=True, return_indices=True)
    apart = np.abs(sums[0][1][mine] - sums[1][1][theirs]) / 6
    answers = sums[0][2][mine] + sums[1][2][theirs]
    return _worst(_parted(shared, "pair", apart, answers))


def _mean_by_item(pairs: Pairs) -> tuple[Column, Column, Column]:
    items, number = np.unique(pairs.item, return_inverse=True)
    n = np.bincount(number)
    return items, np.bincount(number, pairs.preference) / n, n


def _spread(item: Column, unit: Column, said: Column, question: str, width: float) -> list[Parted]:
    """How far each unit of an item is spread: twice the standard deviation, as a share of the scale's width."""
    if not item.size or not width:
        return []
    keys, group = np.unique(np.stack([item, unit]), axis=1, return_inverse=True)
    group = group.reshape(-1)
    n = np.bincount(group)
    mean = np.bincount(group, said) / n
    spread = 2 * np.sqrt(np.maximum(np.bincount(group, said.astype(float) ** 2) / n - mean**2, 0)) / width
    return _parted(keys[0], question, spread, n)


def _parted(items: Column, question: str, spread: Column, answers: Column) -> list[Parted]:
    order = np.lexsort((items, -answers, -spread.round(6)))
    rows = zip(items[order].tolist(), spread[order].tolist(), answers[order].tolist(), strict=True)
    return [
        Parted(item_id=item, question=question, spread=round(apart, 6), answers=n)
        for item, apart, n in itertools.islice(rows, 20 * WORST)  # an item may stand there several times
        if apart > 1e-9
    ]


def _worst(found: list[Parted]) -> tuple[Parted, ...]:
    by_item: dict[int, Parted] = {}
    for one in sorted(found, key=lambda one: (-one.spread, -one.answers, one.item_id)):
        by_item.setdefault(one.item_id, one)
    return tuple(by_item.values())[:WORST]
