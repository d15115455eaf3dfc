"""Whether an annotator reads before answering: speed, and runs of the same answer.

None of these proves anything alone: they say where to look.
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
    row_weights,
    same_length,
)
from tutelage.seeds import rng
from tutelage.statistics import Floats, percentile_interval


@dataclass(frozen=True)
class Run:
    """`longest`: the longest run of the same answer, in votes, with the range that shuffled votes would give as its low and
    high. `chance`: the probability that shuffled votes hold a run as long; near 0 is a reason to look."""

    longest: Estimate
    chance: float | None


def speed(annotators: ArrayLike, seconds: ArrayLike, *, how: Resampling = DEFAULT) -> dict[object, Estimate]:
    """Median seconds per vote of each annotator.  Raises ValueError for times below 0 or missing."""
    same_length(annotators=annotators, seconds=seconds)
    taken = np.asarray(seconds, float)
    if not np.all(taken >= 0):
        raise ValueError("seconds holds times below 0 or none at all: leave those votes out.")
    return {name: _median(taken[rows], how) for name, rows in by_name(annotators)}


def straight_lining(
    annotators: ArrayLike, answers: ArrayLike, *, how: Resampling = DEFAULT
) -> dict[object, Run]:
    """The longest run of one answer by each annotator; `answers` [n] as clicked on the screen, in the order of time."""
    same_length(annotators=annotators, answers=answers)
    codes = np.unique(np.asarray(answers), return_inverse=True)[1]
    return {name: _run(codes[rows], str(name), how) for name, rows in by_name(annotators)}


def _median(seconds: Floats, how: Resampling) -> Estimate:
    """The (lower) median and its bootstrap: where the drawn weights, in order of time, pass one half."""
    if seconds.size < how.enough:
        return insufficient(seconds.size, "s", how, "votes")
    order = np.argsort(seconds, kind="stable")
    drawn = []
    for weight in row_weights(None, seconds.size, how):
        passed = np.cumsum(weight[:, order], axis=1)
        drawn.append(seconds[order][np.argmax(passed >= passed[:, -1:] / 2, axis=1)])
    value = float(np.median(seconds))
    found = percentile_interval(value, np.concatenate(drawn), seconds.size, how.confidence)
    return estimate(found, "s", how, what="votes")


def _run(codes: NDArray, name: str, how: Resampling) -> Run:
    n = codes.size
    if n < how.enough:
        return Run(insufficient(n, "votes", how, "votes"), None)
    generator = rng(how.seed, "straight lining", name)
    shuffled = longest_run(generator.permuted(np.tile(codes, (how.resamples, 1)), axis=1))
    mine = int(longest_run(codes[None])[0])
    low, high = np.quantile(shuffled, [(1 - how.confidence) / 2, (1 + how.confidence) / 2])
    # The votes as they are count as one of the shuffles, so that the probability is never 0.
    chance = (1 + np.sum(shuffled >= mine)) / (1 + how.resamples)
    return Run(Estimate(float(mine), float(low), float(high), n, "votes"), float(chance))


def longest_run(rows: NDArray) -> NDArray[np.int64]:
    """The length of the longest run of equal neighbours in each row [r, n]."""
    same = np.zeros(rows.shape, np.int64)
    same[:, 1:] = rows[:, 1:] == rows[:, :-1]
    passed = np.cumsum(same, axis=1)
    started = np.maximum.accumulate(np.where(same == 0, passed, 0), axis=1)
    return (passed - started).max(axis=1) + 1
