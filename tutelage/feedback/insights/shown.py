"""A statistic with its name, and the way from columns of answers to votes."""

from __future__ import annotations

from dataclasses import dataclass

from tutelage.feedback import statistics
from tutelage.feedback.insights.labels import Column, Pairs, Sides, Values
from tutelage.feedback.statistics import Estimate

HOW = statistics.Resampling(resamples=200)  # two digits are shown, and people wait for them
SIDES = (-1, 0, 1)
SCALE = (-3, -2, -1, 0, 1, 2, 3)  # of an answer to a pair


@dataclass(frozen=True)
class Line:
    """One named estimate."""

    name: str
    estimate: Estimate


def votes_of(pairs: Pairs | Sides, said: Column, categories: tuple[int, ...]) -> statistics.Votes:
    """Votes on pairs, whose sides mean nothing, with prompts as clusters."""
    units = pairs.pair if isinstance(pairs, Sides) else pairs.item
    return statistics.Votes.from_triplets(
        units, pairs.annotator, said, categories, clusters=pairs.prompt, mirrored=True
    )


def value_votes(values: Values) -> statistics.Votes:
    """Votes on what several annotators judge: a slot or a step of an item."""
    unit = values.item * (1 + values.place.max(initial=0)) + values.place
    return statistics.Votes.from_triplets(unit, values.annotator, values.value, clusters=values.prompt)
