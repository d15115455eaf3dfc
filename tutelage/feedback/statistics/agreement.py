"""Agreement between annotators, and how much of it is more than chance.

All measures are functions of sums over items, so their bootstrap over items is one matrix product. Every function takes
`Votes` or a table [items, annotators] with None or NaN for missing votes, and leaves out items that too few people saw.

Chance is told from how often each category occurs.  Of votes on pairs (`Votes.mirrored`) that would depend on which side of
each pair happens to stand first, so every such vote counts both ways: as it is, and as the vote that it would be with the
sides swapped.  All measures are those of the plain votes on twice the items, each pair standing there in either order.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tutelage.feedback.statistics.estimate import DEFAULT, Estimate, Resampling, from_sums
from tutelage.feedback.statistics.votes import Votes, as_votes
from tutelage.statistics import Floats

Weights = Literal["none", "linear", "quadratic"] | ArrayLike
Level = Literal["nominal", "ordinal"]
ALIKE = "not defined: all votes are the same, so chance alone would agree as much"
OVERLAP = "items with two votes or more"
Measure = Literal["share", "alpha"]


@dataclass(frozen=True)
class Contrast:
    """A measure of two sets of votes on the same items, and `first` less `second`."""

    first: Estimate
    second: Estimate
    difference: Estimate


@dataclass(frozen=True, eq=False)
class _Summable:
    """A measure as a statistic of column sums, over the items [I] with two votes or more."""

    columns: Floats
    statistic: Callable[[Floats], Floats]
    items: NDArray
    clusters: NDArray[np.int64]


def percent_agreement(
    votes: Votes | ArrayLike, *, weights: Weights = "none", how: Resampling = DEFAULT
) -> Estimate:
    """The share of pairs of votes on an item that agree, mean over items with two votes or more.

    `weights` give partial credit (see `fleiss_kappa`). When every item agrees, or none does, the bootstrap has no width
    and the Wilson interval over the clusters stands in for it.
    """
    agreed, clusters, _ = _item_agreement(as_votes(votes), weights)
    columns = np.stack([agreed, np.ones_like(agreed)], axis=1)
    return from_sums(_ratio, columns, clusters, agreed.size, "share", how, what=OVERLAP, rate=True)


def cohen_kappa(
    first: ArrayLike,
    second: ArrayLike,
    *,
    weights: Weights = "none",
    categories: ArrayLike | None = None,
    clusters: ArrayLike | None = None,
    mirrored: bool = False,
    how: Resampling = DEFAULT,
) -> Estimate:
    """Cohen's kappa of two annotators (or a judge and people) on the same items: 1 - observed / expected disagreement.

    `first` and `second` [items] hold None or NaN where one of them did not vote. `weights` say how bad a disagreement is:
    "none" (all alike), "linear" or "quadratic" in the distance of the categories' ranks, or a matrix [C, C] of
    disagreements with a zero diagonal (Cohen 1960, 1968). `mirrored` as in `Votes`.
    """
    pair = np.stack([np.asarray(first, object), np.asarray(second, object)], axis=1)
    votes = Votes.from_matrix(pair, categories, clusters, mirrored=mirrored)
    return _cohen(votes, 0, 1, weights, how)


def fleiss_kappa(
    votes: Votes | ArrayLike, *, weights: Weights = "none", how: Resampling = DEFAULT
) -> Estimate:
    """Fleiss's kappa (1971) for any number of annotators, who need not be the same from item to item.

    With numbers of votes that differ from item to item, an item counts as one whatever its number (Gwet 2014, chapter 2).
    `weights` as in `cohen_kappa`; the largest disagreement counts as none agreed.
    """
    return _beyond_chance(votes, weights, how, lambda p, agree: np.einsum("...k,kl,...l->...", p, agree, p))


def gwet_ac(votes: Votes | ArrayLike, *, weights: Weights = "none", how: Resampling = DEFAULT) -> Estimate:
    """Gwet's AC1, or AC2 with `weights` (as in `fleiss_kappa`): agreement beyond chance that stays meaningful on skewed labels.

    Chance depends on how many categories are possible: give `Votes` with its `categories` when not all of them occur
    (Gwet 2008; 2014, chapters 2 and 5).
    """

    def chance(p: Floats, agree: Floats) -> Floats:
        size = agree.shape[0]
        return agree.sum() / max(1, size * (size - 1)) * np.sum(p * (1 - p), axis=-1)

    return _beyond_chance(votes, weights, how, chance)


def krippendorff_alpha(
    votes: Votes | ArrayLike, level: Level = "nominal", *, how: Resampling = DEFAULT
) -> Estimate:
    """Krippendorff's alpha: 1 - observed / expected disagreement, with missing votes as they are.

    `level` says what a disagreement costs: "nominal" (all alike), "ordinal" (how many votes lie between).
    Krippendorff 2011. Of `mirrored` votes it is the alpha
    of twice the items (see above), his correction for few votes included: it then counts 2N votes.
    """
    columns, statistic, kept, clusters = _alpha(as_votes(votes), level)
    return from_sums(
        statistic, columns, clusters, kept.size, "coefficient", how, what=OVERLAP, undefined=ALIKE
    )


def contrast(
    first: Votes, second: Votes, measure: Measure = "alpha", *, how: Resampling = DEFAULT
) -> Contrast:
    """Agreement on the same items asked in two ways: over the items that have two votes or more in both sets.

    `measure`: "share" as in `percent_agreement`, or nominal "alpha".  Items are known by their names in `Votes.items`; the
    interval of the difference comes from drawing each item with its votes of both sets.
    """
    one, other = (_shared_measure(votes, measure) for votes in (first, second))
    _, mine, theirs = np.intersect1d(one.items, other.items, assume_unique=True, return_indices=True)
    columns = np.concatenate([one.columns[mine], other.columns[theirs]], axis=1)
    cut = one.columns.shape[1]
    unit = "share" if measure == "share" else "coefficient"

    def estimated(statistic: Callable[[Floats], Floats], rate: bool) -> Estimate:
        return from_sums(
            statistic,
            columns,
            one.clusters[mine],
            mine.size,
            unit,
            how,
            what="items with two votes or more in both",
            undefined=ALIKE,
            rate=rate,
        )

    return Contrast(
        estimated(lambda sums: one.statistic(sums[..., :cut]), measure == "share"),
        estimated(lambda sums: other.statistic(sums[..., cut:]), measure == "share"),
        estimated(lambda sums: one.statistic(sums[..., :cut]) - other.statistic(sums[..., cut:]), False),
    )


def disagreement(weights: Weights, size: int) -> Floats:
    """The matrix [size, size] of what a disagreement costs, 0 on the diagonal; ValueError for a wrong matrix."""
    ranks = np.arange(size)
    distance = np.abs(ranks[:, None] - ranks[None, :]).astype(float)
    if isinstance(weights, str):
        known = {"none": np.sign(distance), "linear": distance, "quadratic": distance**2}
        if weights not in known:
            raise ValueError(
                f"weights={weights!r} is none of {', '.join(known)}; or give a matrix of disagreements."
            )
        return known[weights]
    matrix = np.asarray(weights, float)
    if matrix.shape != (size, size) or np.any(np.diag(matrix) != 0) or np.any(matrix < 0):
        raise ValueError(
            f"the weights must be {size} x {size} disagreements, not below 0 and 0 on the diagonal, for the {size} "
            "categories of these votes."
        )
    return matrix


def _alpha(
    votes: Votes, level: Level
) -> tuple[Floats, Callable[[Floats], Floats], NDArray, NDArray[np.int64]]:
    """Alpha as a statistic of column sums; and the names and the clusters of the items that it is over."""
    votes.require_one_each()
    counts = votes.counts()
    kept = counts.sum(axis=1) >= 2
    counts = counts[kept]
    if votes.mirrored:
        columns, statistic = _ALPHA[level](np.concatenate([counts, counts[:, ::-1]]))
        columns = columns[: len(counts)] + columns[len(counts) :]
    else:
        columns, statistic = _ALPHA[level](counts)
    return columns, statistic, votes.items[kept], votes.cluster[kept]


def _shared_measure(votes: Votes, measure: Measure) -> _Summable:
    if measure == "alpha":
        return _Summable(*_alpha(votes, "nominal"))
    agreed, clusters, _ = _item_agreement(votes, "none")
    names = votes.items[votes.counts().sum(axis=1) >= 2]
    return _Summable(np.stack([agreed, np.ones_like(agreed)], axis=1), _ratio, names, clusters)


def _cost(votes: Votes, weights: Weights) -> Floats:
    """`disagreement` between the categories; of mirrored votes, its mean over both orders of the sides."""
    cost = disagreement(weights, len(votes.categories))
    return (cost + cost[::-1, ::-1]) / 2 if votes.mirrored else cost


def _ratio(sums: Floats) -> Floats:
    with np.errstate(invalid="ignore", divide="ignore"):
        return sums[..., 0] / sums[..., 1]


def _one_minus(top: Floats, bottom: Floats) -> Floats:
    """1 - top / bottom, NaN where bottom is 0 but for rounding."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(bottom > 1e-12, 1 - top / bottom, np.nan)


def _cohen(votes: Votes, a: int, b: int, weights: Weights, how: Resampling) -> Estimate:
    size = len(votes.categories)
    said = np.full((2, len(votes.items)), -1)
    for row, annotator in enumerate((a, b)):
        mine = votes.annotator == annotator
        said[row, votes.item[mine]] = votes.label[mine]
    both = np.all(said >= 0, axis=0)
    table = np.eye(size * size)[said[0, both] * size + said[1, both]]
    if votes.mirrored:
        table = table + table[:, ::-1]
    cost = _cost(votes, weights)

    def kappa(sums: Floats) -> Floats:
        cells = sums.reshape(*sums.shape[:-1], size, size)
        n = cells.sum(axis=(-2, -1))
        expected = np.einsum("...k,kl,...l->...", cells.sum(axis=-1), cost, cells.sum(axis=-2))
        return _one_minus(n * np.sum(cells * cost, axis=(-2, -1)), expected)

    clusters = votes.cluster[both]
    what = "items that both voted on"
    return from_sums(kappa, table, clusters, int(both.sum()), "coefficient", how, what=what, undefined=ALIKE)


def _item_agreement(votes: Votes, weights: Weights) -> tuple[Floats, np.ndarray, Floats]:
    """Per item with two votes or more: the share of pairs that agree; its cluster; and the matrix of agreements."""
    votes.require_one_each()
    counts, cost = votes.counts(), _cost(votes, weights)
    agree = 1 - cost / (cost.max() or 1)
    kept = counts.sum(axis=1) >= 2
    mine = counts[kept]
    n = mine.sum(axis=1)
    return np.sum(mine * (mine @ agree - 1), axis=1) / (n * (n - 1)), votes.cluster[kept], agree


def _beyond_chance(
    votes: Votes | ArrayLike, weights: Weights, how: Resampling, chance: Callable[[Floats, Floats], Floats]
) -> Estimate:
    """(observed - chance) / (1 - chance), with chance from the mean shares of the categories over all items with a vote."""
    found = as_votes(votes)
    agreed, _, agree = _item_agreement(found, weights)
    counts = found.counts()
    n = counts.sum(axis=1)
    seen = n >= 1
    columns = np.zeros((int(seen.sum()), counts.shape[1] + 3))
    columns[n[seen] >= 2, 0] = agreed
    columns[:, 1] = n[seen] >= 2
    columns[:, 2] = 1
    shares = counts[seen] / n[seen, None]
    columns[:, 3:] = (shares + shares[:, ::-1]) / 2 if found.mirrored else shares

    def coefficient(sums: Floats) -> Floats:
        by_chance = chance(sums[..., 3:] / sums[..., 2:3], agree)
        return _one_minus(1 - _ratio(sums), 1 - by_chance)

    return from_sums(
        coefficient,
        columns,
        found.cluster[seen],
        agreed.size,
        "coefficient",
        how,
        what=OVERLAP,
        undefined=ALIKE,
    )


# ---- alpha: columns whose sums give the observed and the expected disagreement, per level ------------------------------

Parts = tuple[Floats, Callable[[Floats], Floats]]


def _nominal(counts: Floats) -> Parts:
    n = counts.sum(axis=1)
    apart = np.sum(counts * (n[:, None] - counts), axis=1) / np.maximum(n - 1, 1)

    def alpha(sums: Floats) -> Floats:
        total = sums[..., 1:].sum(axis=-1)
        return _one_minus((total - 1) * sums[..., 0], total**2 - np.sum(sums[..., 1:] ** 2, axis=-1))

    return np.column_stack([apart, counts]), alpha


def _ordinal(counts: Floats) -> Parts:
    """The cost depends on how often the categories between occur, so the whole table of coincidences is kept."""
    size = counts.shape[1]
    n = counts.sum(axis=1)
    coincide = counts[:, :, None] * counts[:, None, :]
    coincide[:, np.arange(size), np.arange(size)] -= counts
    coincide /= np.maximum(n - 1, 1)[:, None, None]

    def alpha(sums: Floats) -> Floats:
        totals = sums[..., :size]
        cells = sums[..., size:].reshape(*sums.shape[:-1], size, size)
        rank = np.cumsum(totals, axis=-1) - totals / 2
        rank = rank - (np.sum(totals * rank, axis=-1) / totals.sum(axis=-1))[..., None]
        square = np.sum(totals * rank**2, axis=-1)
        observed = square - np.sum(rank * np.einsum("...kl,...l->...k", cells, rank), axis=-1)
        expected = totals.sum(axis=-1) * square - np.sum(totals * rank, axis=-1) ** 2
        return _one_minus((totals.sum(axis=-1) - 1) * observed, expected)

    return np.column_stack([counts, coincide.reshape(len(counts), size * size)]), alpha


_ALPHA: dict[str, Callable[[Floats], Parts]] = {
    "nominal": _nominal,
    "ordinal": _ordinal,
}
