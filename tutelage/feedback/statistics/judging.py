"""How far a judge (a program that gives votes) agrees with people, beside how far people agree with each other.

People's agreement with each other is the most that a judge can be asked for (Zheng et al. 2023 set the two side by side).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tutelage.feedback.statistics.agreement import cohen_kappa
from tutelage.feedback.statistics.estimate import DEFAULT, Estimate, Resampling, from_sums, same_length
from tutelage.feedback.statistics.votes import Votes
from tutelage.statistics import Floats


@dataclass(frozen=True)
class JudgeAgreement:
    """`majority`: share of items on which the judge says what most people say; `kappa`: the same beyond chance (Cohen).
    `person`: share of people that the judge agrees with, mean over items; `people`: share of pairs of people that agree,
    mean over the items with two or more; `gap`: `person` less `people`, over those items."""

    majority: Estimate
    kappa: Estimate
    person: Estimate
    people: Estimate
    gap: Estimate


def judge_agreement(
    items: ArrayLike, sides: ArrayLike, people: Votes, *, how: Resampling = DEFAULT
) -> JudgeAgreement:
    """One judge against the people on pairs.

    `items` and `sides` [n] are the judge's votes, one per item: -1 the first is better, 0 a tie, 1 the second.  `people`
    votes in the same categories; items that only one of the two judged are left out.  The majority is the sign of the
    summed sides: 0 where people are split evenly.
    Raises ValueError for lists of different lengths or other categories.
    """
    same_length(items=items, sides=sides)
    if not np.array_equal(people.categories, [-1, 0, 1]):
        raise ValueError("the votes of people must be sides: give categories=[-1, 0, 1].")
    people.require_one_each()
    counts = people.counts()
    seen = np.flatnonzero(counts.sum(axis=1))
    _, mine, theirs = np.intersect1d(np.asarray(items), people.items[seen], return_indices=True)
    theirs = seen[theirs]
    said, counts, clusters = np.asarray(sides, int)[mine], counts[theirs], people.cluster[theirs]
    n = counts.sum(axis=1)
    agree = counts[np.arange(n.size), said + 1] / n
    majority = np.sign(counts[:, 2] - counts[:, 0]).astype(int)
    several = n >= 2
    pairs = np.sum(counts * (counts - 1), axis=1)[several] / (n * (n - 1))[several]

    both = Votes.from_triplets(
        np.tile(theirs, 2),
        np.repeat(["judge", "people"], n.size),
        np.concatenate([said, majority]),
        categories=[-1, 0, 1],
        clusters=np.tile(clusters, 2),
        mirrored=True,
    )
    gap = agree[several] - pairs  # both are means over the same items
    return JudgeAgreement(
        majority=_mean(majority == said, clusters, how),
        kappa=cohen_kappa(both, how=how),
        person=_mean(agree, clusters, how),
        people=_mean(pairs, clusters[several], how),
        gap=_mean(gap, clusters[several], how, rate=False),
    )


def labels_per_person(
    items: ArrayLike, sides: ArrayLike, people: Votes, *, how: Resampling = DEFAULT
) -> Estimate:
    """How many of the judge's votes say as much as one person's, on items that several people decided.

    Let a person be right with probability (1 + h) / 2 and the judge with (1 + j) / 2, each on their own.  Two people then
    agree with p = (1 + h^2) / 2, the judge and a person with q = (1 + h j) / 2; and of votes that are right with (1 + s) / 2
    it takes 1 / s^2 times as many to be as sure (the variance of their mean, in units of its distance
    from one half).  So the rate is

        (h / j)^2 = ((2 p - 1) / (2 q - 1))^2

    Ties say nothing of h and j and are left out.  p and q are means over the same items.  The arguments are those of
    `judge_agreement`, and so are the errors.  Not defined where the judge agrees no more than by chance.
    """
    same_length(items=items, sides=sides)
    people.require_one_each()
    counts = people.counts()[:, [0, 2]]
    several = np.flatnonzero(counts.sum(axis=1) >= 2)
    judged = np.asarray(items)[np.asarray(sides) != 0]
    _, mine, theirs = np.intersect1d(judged, people.items[several], return_indices=True)
    theirs = several[theirs]
    said = np.asarray(sides)[np.asarray(sides) != 0][mine]
    counts = counts[theirs]
    n = counts.sum(axis=1)
    agree = counts[np.arange(n.size), (said > 0).astype(int)] / n
    pairs = np.sum(counts * (counts - 1), axis=1) / np.maximum(n * (n - 1), 1)

    def rate(sums: Floats) -> Floats:
        q, p = 2 * sums[..., 0] / sums[..., 2] - 1, 2 * sums[..., 1] / sums[..., 2] - 1
        return np.where(q > 0, np.square(np.maximum(p, 0) / np.where(q > 0, q, 1)), np.inf)

    columns = np.stack([agree, pairs, np.ones(n.size)], axis=1)
    undefined = "the judge agrees with people no more than chance would"
    return from_sums(rate, columns, people.cluster[theirs], n.size, "votes", how, undefined=undefined)


def _mean(values: ArrayLike, clusters: NDArray[np.int64], how: Resampling, rate: bool = True) -> Estimate:
    column = np.asarray(values, float)
    columns = np.stack([column, np.ones_like(column)], axis=1)
    return from_sums(
        lambda sums: sums[..., 0] / sums[..., 1], columns, clusters, column.size, "share", how, rate=rate
    )
