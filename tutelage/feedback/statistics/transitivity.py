"""Circles among preferences: A over B, B over C, C over A."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from tutelage.feedback.statistics.estimate import (
    DEFAULT,
    Estimate,
    Resampling,
    by_name,
    estimate,
    same_length,
)
from tutelage.statistics import Interval, bootstrap_ratio


@dataclass(frozen=True)
class Cycles:
    """`cycles` of the `triples` whose three pairs are decided; `rate` has its interval over groups (chance gives one quarter),
    and its n is the triples."""

    cycles: int
    triples: int
    rate: Estimate


def three_cycles(
    groups: ArrayLike, winners: ArrayLike, losers: ArrayLike, *, how: Resampling = DEFAULT
) -> Cycles:
    """Count 3-cycles in comparisons of several responses to a prompt.

    `winners` and `losers` [n] name the responses, `groups` [n] the prompt (with the annotator, for cycles within one
    person's votes). A pair that meets more than once goes to who won more often; ties, and pairs that end even, are left out.
    """
    same_length(groups=groups, winners=winners, losers=losers)
    won, lost = np.asarray(winners), np.asarray(losers)
    counts = np.array([_count(won[rows], lost[rows]) for _, rows in by_name(groups)], float).reshape(-1, 2)
    cycles, triples = (round(total) for total in counts.sum(axis=0).tolist())
    found = bootstrap_ratio(
        counts[:, 0],
        counts[:, 1],
        rate=True,
        seed=how.seed,
        resamples=how.resamples,
        confidence=how.confidence,
    )
    rate = estimate(Interval(found.value, found.low, found.high, triples), "share", how, what="triples")
    return Cycles(cycles, triples, rate)


def _count(winners: np.ndarray, losers: np.ndarray) -> tuple[float, float]:
    """(cycles, decided triples) of one group: closed walks of three steps, each met three (six) times."""
    names, numbers = np.unique(np.concatenate([winners, losers]), return_inverse=True)
    net = np.zeros((names.size, names.size))
    np.add.at(net, (numbers[: winners.size], numbers[winners.size :]), 1)
    beats = (net > net.T).astype(float)
    decided = beats + beats.T
    return float(np.trace(beats @ beats @ beats)) / 3, float(np.trace(decided @ decided @ decided)) / 6
