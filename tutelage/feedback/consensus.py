"""From several people's labels to one, by Dawid and Skene: whoever is right more often counts for more.

The one place that calls `statistics.dawid_skene` for training data.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence

from tutelage.records import Comparison
from tutelage.store import Ties, VotedPair
from tutelage.store.aggregate import oriented

Label = tuple[str, str, int]  # unit, annotator, value


def soft_labels(labels: Sequence[Label], categories: Sequence[int]) -> dict[str, Mapping[int, float]]:
    """unit -> category -> probability, from everybody's labels."""
    from tutelage.feedback.statistics import (  # numpy's linear algebra: when used
        Resampling,
        Votes,
        dawid_skene,
    )

    if not labels:
        return {}
    units, annotators, values = (list(column) for column in zip(*labels, strict=True))
    votes = Votes.from_triplets(units, annotators, values, categories=list(categories))
    no_intervals = Resampling(enough=sys.maxsize)
    found = dawid_skene(votes, how=no_intervals)
    return {
        str(unit): {int(c): float(p) for c, p in zip(found.categories, row, strict=True)}
        for unit, row in zip(found.items, found.soft, strict=True)
    }


def comparisons_by_skill(pairs: Sequence[VotedPair], ties: Ties) -> list[Comparison]:
    """One row per pair; p_chosen is the probability by Dawid and Skene, a true tie counting half."""
    labels = [
        (str(number), vote.annotator, (vote.preference > 0) - (vote.preference < 0))
        for number, pair in enumerate(pairs)
        for vote in pair.votes
    ]
    soft = soft_labels(labels, (-1, 0, 1))
    rows = []
    for number, pair in enumerate(pairs):
        by_side = soft[str(number)]
        rows.append(oriented(pair, round(by_side[-1] + by_side[0] / 2, 6), ties))
    return [row for row in rows if row is not None]
