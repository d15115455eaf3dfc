"""What people say of the same pairs, vote by vote: how often they agree with each other, and how often the model does with one.

Where two votes on a pair agree with probability a, no judge who has not seen them can agree with one of them more often than

    (1 + sqrt(2 a - 1)) / 2

on average: with p the probability of a vote for the first response, a = E[1/2 + 2 (p - 1/2)^2], the best judge is right on
E[1/2 + |p - 1/2|], and E|x| <= sqrt(E x^2).  More than this is not skill: the labels have leaked.  A model above `agreement` but
below this may just be right more often than one annotator is.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from tutelage import statistics
from tutelage.evals.card.slices import RESAMPLES
from tutelage.evals.rows import OVERALL, Row, row
from tutelage.statistics import Interval


def evaluate(
    model: str, margins: ArrayLike, votes: ArrayLike, clusters: Sequence[str], *, seed: int = 0
) -> list[Row]:
    """Rows agreement, agreement_limit and accuracy_votes, over the pairs that two people or more decided; none without such.

    margins: [n], chosen - rejected.  votes: [n, 2], how many people preferred (chosen, rejected); ties do not count.
    """
    delta, counts = np.asarray(margins, float), np.asarray(votes, float).reshape(-1, 2)
    several = counts.sum(axis=1) >= 2
    if not several.any():
        return []
    counts, keys = counts[several], np.asarray(clusters)[several]
    n = counts.sum(axis=1)
    agreed = (counts * (counts - 1)).sum(axis=1) / (n * (n - 1))
    with_model = statistics.correct(delta[several], counts[:, 0] / n)
    people = statistics.bootstrap_mean(agreed, keys, rate=True, seed=seed, resamples=RESAMPLES)
    ours = statistics.bootstrap_mean(with_model, keys, rate=True, seed=seed, resamples=RESAMPLES)
    limit = Interval(_limit(people.value), _limit(people.low), _limit(people.high), people.n)
    return [
        row(model, "agreement", OVERALL, people, "share"),
        row(model, "agreement_limit", OVERALL, limit, "share"),
        row(model, "accuracy_votes", OVERALL, ours, "share"),
    ]


def _limit(agreement: float) -> float:
    return (1 + math.sqrt(max(0.0, 2 * agreement - 1))) / 2
