"""Circles among preferences: A over B, B over C, C over A."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tutelage.feedback.statistics.estimate import DEFAULT, Estimate, Resampling, estimate, same_length
from tutelage.statistics import Floats, bootstrap_ratio


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
    counts = _counts(np.asarray(groups), np.asarray(winners), np.asarray(losers))
    cycles, triples = (round(total) for total in counts.sum(axis=0).tolist())
    found = bootstrap_ratio(counts[:, 0], counts[:, 1], rate=True, **how.draws)
    rate = estimate(replace(found, n=triples), "share", how, what="triples")
    return Cycles(cycles, triples, rate)


def _counts(groups: NDArray, winners: NDArray, losers: NDArray) -> Floats:
    """(cycles, decided triples) of every group [G, 2]: closed walks of three steps, each met three (six) times."""
    group = np.unique(groups, return_inverse=True)[1]
    names, number = np.unique(np.concatenate([winners, losers]), return_inverse=True)
    # Within its group every response has a place of its own: a group is then a small matrix of who beat whom how often.
    keys, place = np.unique(np.tile(group, 2) * names.size + number, return_inverse=True)
    sizes = np.bincount(keys // max(1, names.size))
    place = place.reshape(2, -1) - (np.cumsum(sizes) - sizes)[group]
    counts = np.zeros((sizes.size, 2))
    for size in np.unique(sizes).tolist():
        of_size = np.flatnonzero(sizes == size)
        rows = np.flatnonzero(sizes[group] == size)
        net = np.zeros((of_size.size, size, size))
        np.add.at(net, (np.searchsorted(of_size, group[rows]), *place[:, rows]), 1)
        beats = (net > net.transpose(0, 2, 1)).astype(float)
        for column, (walks, times) in enumerate(((beats, 3), (beats + beats.transpose(0, 2, 1), 6))):
            closed = np.sum((walks @ walks) * walks.transpose(0, 2, 1), axis=(1, 2))
            counts[of_size, column] = closed / times
    return counts
