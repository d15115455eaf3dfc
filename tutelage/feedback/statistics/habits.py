"""Habits of annotators: which side they favour, whether they favour length, whether they agree with themselves.

Rows are votes as they stood on the screen: `first_won` is 1 where the response shown first won, 0 where the other did,
one half for a tie. All answers are by annotator; give one name to all rows for everybody together.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tutelage.feedback.statistics.estimate import (
    DEFAULT,
    Estimate,
    Resampling,
    by_name,
    estimate,
    insufficient,
    numbered,
    same_length,
    share,
)
from tutelage.feedback.statistics.logit import Design, fitted
from tutelage.statistics import Floats, percentile_interval

RIDGE = 0.01  # keeps a slope finite where the votes are perfectly separated
DECIDED = "votes that are no ties"


@dataclass(frozen=True)
class PositionBias:
    """`rate`: share of decided votes for what was shown first (0.5 is fair), with Wilson interval. `side`: logits in favour
    of it (0 is fair), ties as half wins."""

    rate: Estimate
    side: Estimate


def position_bias(
    annotators: ArrayLike,
    first_won: ArrayLike,
    *,
    clusters: ArrayLike | None = None,
    how: Resampling = DEFAULT,
) -> dict[object, PositionBias]:
    """Whether each annotator favours what is shown first.  `clusters` [n]: drawn together."""
    n = same_length(annotators=annotators, first_won=first_won, clusters=clusters)
    won, drawn = _shares(first_won), numbered(clusters, n)
    columns = np.ones((n, 1))
    found = {}
    for name, rows in by_name(annotators):
        mine = won[rows]
        rate = share(mine[mine != 0.5] > 0.5, how, what=DECIDED)
        side = _effect(columns[rows], mine, drawn[rows], how)
        found[name] = PositionBias(rate, side)
    return found


def length_bias(
    annotators: ArrayLike,
    first_won: ArrayLike,
    length_difference: ArrayLike,
    *,
    clusters: ArrayLike | None = None,
    how: Resampling = DEFAULT,
) -> dict[object, Estimate]:
    """Logits by which each annotator favours a response that is longer by one standard deviation (of all the differences).

    `length_difference` [n] is the length of the first shown response less that of the second, in any unit. A side term is
    fitted beside it. Longer responses may be better ones: compare people with each other, or with gold.
    """
    n = same_length(
        annotators=annotators, first_won=first_won, length_difference=length_difference, clusters=clusters
    )
    won, drawn = _shares(first_won), numbered(clusters, n)
    columns = np.stack([standard(length_difference, "length_difference"), np.ones(n)], axis=1)
    return {name: _effect(columns[rows], won[rows], drawn[rows], how) for name, rows in by_name(annotators)}


def consistency(
    annotators: ArrayLike, before: ArrayLike, again: ArrayLike, *, how: Resampling = DEFAULT
) -> dict[object, Estimate]:
    """The share of repeated items that each annotator answers as before, with Wilson interval.

    `before` and `again` [n] are the two answers to the same item, in terms of the item (not of the screen, whose sides
    are swapped when it is shown again).
    """
    same_length(annotators=annotators, before=before, again=again)
    same = np.asarray(before) == np.asarray(again)
    return {name: share(same[rows], how, what="repeated items") for name, rows in by_name(annotators)}


def _shares(first_won: ArrayLike) -> Floats:
    won = np.asarray(first_won, float)
    if not np.all((won >= 0) & (won <= 1)):
        raise ValueError(
            "first_won must lie between 0 (the second shown won) and 1 (the first did); 0.5 is a tie."
        )
    return won


def standard(values: ArrayLike, name: str) -> Floats:
    """In standard deviations from zero: no difference stays no difference."""
    array = np.asarray(values, float)
    if not np.all(np.isfinite(array)):
        raise ValueError(f"{name} holds values that are not numbers: leave those votes out.")
    spread = float(np.sqrt(np.mean(array**2))) if array.size else 0.0
    return array / spread if spread > 0 else array


def _effect(columns: Floats, won: Floats, clusters: NDArray[np.int64], how: Resampling) -> Estimate:
    """The first effect of a logistic regression on the columns [n, Q], with its bootstrap interval."""
    n = won.size
    if n < how.enough:
        return insufficient(n, "logit", how, "votes")
    rows, cells = np.unique(columns, axis=0, return_inverse=True)
    none = np.zeros(len(rows), np.int64)
    value, drawn = fitted(Design(none, none, 0, rows), cells, won, RIDGE, clusters, how)
    found = percentile_interval(float(value[0]), drawn[:, 0], n, how.confidence)
    return estimate(found, "logit", how, what="votes")
