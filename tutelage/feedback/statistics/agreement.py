"""Agreement between annotators, and how much of it is more than chance.

All measures are functions of sums over items, so their bootstrap over items is one matrix product. Every function leaves
out items that too few people saw.

Chance is told from how often each category occurs.  Of votes on pairs (`Votes.mirrored`) that would depend on which side of
each pair happens to stand first, so every such vote counts both ways: as it is, and as the vote that it would be with the
sides swapped.  All measures are those of the plain votes on twice the items, each pair standing there in either order.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from tutelage.feedback.statistics.estimate import DEFAULT, Estimate, Resampling, from_sums
from tutelage.feedback.statistics.votes import Votes
from tutelage.statistics import Floats

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

    def estimate(self, unit: str, how: Resampling, what: str, rate: bool = False) -> Estimate:
        sums = (self.statistic, self.columns, self.clusters, self.items.size)
        return from_sums(*sums, unit, how, what=what, undefined=ALIKE, rate=rate)


def percent_agreement(votes: Votes, *, how: Resampling = DEFAULT) -> Estimate:
    """The share of pairs of votes on an item that agree, mean over items with two votes or more.

    When every item agrees, or none does, the bootstrap has no width and the Wilson interval over the clusters stands in.
    """
    return _item_agreement(votes).estimate("share", how, OVERLAP, rate=True)


def cohen_kappa(votes: Votes, *, how: Resampling = DEFAULT) -> Estimate:
    """Cohen's kappa (1960) of two annotators on the items that both saw: agreement as (observed - expected) / (1 - expected)."""
    size = len(votes.categories)
    said = np.full((2, len(votes.items)), -1)
    said[votes.annotator, votes.item] = votes.label
    both = np.all(said >= 0, axis=0)
    table = np.eye(size * size)[said[0, both] * size + said[1, both]]
    if votes.mirrored:
        table = table + table[:, ::-1]

    def kappa(sums: Floats) -> Floats:
        cells = sums.reshape(*sums.shape[:-1], size, size)
        n = cells.sum(axis=(-2, -1))
        observed = np.trace(cells, axis1=-2, axis2=-1) / n
        expected = np.sum(cells.sum(axis=-1) * cells.sum(axis=-2), axis=-1) / n**2
        return _one_minus(1 - observed, 1 - expected)

    n, what = int(both.sum()), "items that both voted on"
    return from_sums(kappa, table, votes.cluster[both], n, "coefficient", how, what=what, undefined=ALIKE)


def fleiss_kappa(votes: Votes, *, how: Resampling = DEFAULT) -> Estimate:
    """Fleiss's kappa (1971) for any number of annotators, who need not be the same from item to item.

    With numbers of votes that differ from item to item, an item counts as one whatever its number (Gwet 2014, chapter 2).
    """
    return _beyond_chance(votes, how, lambda p: np.sum(p**2, axis=-1))


def gwet_ac(votes: Votes, *, how: Resampling = DEFAULT) -> Estimate:
    """Gwet's AC1: agreement beyond chance that stays meaningful on skewed labels.

    Chance depends on how many categories are possible: give `Votes` with its `categories` when not all of them occur
    (Gwet 2008; 2014, chapters 2 and 5).
    """
    return _beyond_chance(votes, how, lambda p: np.sum(p * (1 - p), axis=-1) / max(1, p.shape[-1] - 1))


def krippendorff_alpha(votes: Votes, level: Level = "nominal", *, how: Resampling = DEFAULT) -> Estimate:
    """Krippendorff's alpha: 1 - observed / expected disagreement, with missing votes as they are.

    `level` says what a disagreement costs: "nominal" (all alike), "ordinal" (how many votes lie between). Krippendorff
    2011. Of `mirrored` votes it is the alpha of twice the items (see above), his correction for few votes included: it
    then counts 2N votes.
    """
    return _alpha(votes, level).estimate("coefficient", how, OVERLAP)


def contrast(
    first: Votes, second: Votes, measure: Measure = "alpha", *, how: Resampling = DEFAULT
) -> Contrast:
    """Agreement on the same items asked in two ways: over the items that have two votes or more in both sets.

    `measure`: "share" as in `percent_agreement`, or nominal "alpha".  Items are known by their names in `Votes.items`; the
    interval of the difference comes from drawing each item with its votes of both sets.
    """
    rate = measure == "share"
    one, other = (_item_agreement(v) if rate else _alpha(v, "nominal") for v in (first, second))
    _, mine, theirs = np.intersect1d(one.items, other.items, assume_unique=True, return_indices=True)
    columns = np.concatenate([one.columns[mine], other.columns[theirs]], axis=1)
    cut = one.columns.shape[1]
    unit, what = "share" if rate else "coefficient", "items with two votes or more in both"

    def estimated(statistic: Callable[[Floats], Floats], rate: bool = False) -> Estimate:
        clusters = one.clusters[mine]
        return from_sums(
            statistic, columns, clusters, mine.size, unit, how, what=what, undefined=ALIKE, rate=rate
        )

    return Contrast(
        estimated(lambda sums: one.statistic(sums[..., :cut]), rate),
        estimated(lambda sums: other.statistic(sums[..., cut:]), rate),
        estimated(lambda sums: one.statistic(sums[..., :cut]) - other.statistic(sums[..., cut:])),
    )


def _alpha(votes: Votes, level: Level) -> _Summable:
    votes.require_one_each()
    counts = votes.counts()
    kept = counts.sum(axis=1) >= 2
    counts = counts[kept]
    said = np.concatenate([counts, counts[:, ::-1]]) if votes.mirrored else counts
    columns, statistic = _ALPHA[level](said)
    if votes.mirrored:
        columns = columns[: len(counts)] + columns[len(counts) :]
    return _Summable(columns, statistic, votes.items[kept], votes.cluster[kept])


def _item_agreement(votes: Votes) -> _Summable:
    """The share of pairs of votes on an item that agree."""
    votes.require_one_each()
    counts = votes.counts()
    kept = counts.sum(axis=1) >= 2
    n = counts[kept].sum(axis=1)
    agreed = np.sum(counts[kept] * (counts[kept] - 1), axis=1) / (n * (n - 1))
    columns = np.stack([agreed, np.ones_like(agreed)], axis=1)
    return _Summable(columns, _ratio, votes.items[kept], votes.cluster[kept])


def _ratio(sums: Floats) -> Floats:
    with np.errstate(invalid="ignore", divide="ignore"):
        return sums[..., 0] / sums[..., 1]


def _one_minus(top: Floats, bottom: Floats) -> Floats:
    """1 - top / bottom, NaN where bottom is 0 but for rounding."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(bottom > 1e-12, 1 - top / bottom, np.nan)


def _beyond_chance(votes: Votes, how: Resampling, chance: Callable[[Floats], Floats]) -> Estimate:
    """(observed - chance) / (1 - chance), with chance from the mean shares of the categories over all items with a vote."""
    agreed = _item_agreement(votes).columns[:, 0]
    counts = votes.counts()
    size = counts.sum(axis=1)
    seen = size >= 1
    columns = np.zeros((int(seen.sum()), counts.shape[1] + 3))
    columns[size[seen] >= 2, 0] = agreed
    columns[:, 1] = size[seen] >= 2
    columns[:, 2] = 1
    shares = counts[seen] / size[seen, None]
    columns[:, 3:] = (shares + shares[:, ::-1]) / 2 if votes.mirrored else shares

    def coefficient(sums: Floats) -> Floats:
        by_chance = chance(sums[..., 3:] / sums[..., 2:3])
        return _one_minus(1 - _ratio(sums), 1 - by_chance)

    clusters, n = votes.cluster[seen], agreed.size
    return from_sums(coefficient, columns, clusters, n, "coefficient", how, what=OVERLAP, undefined=ALIKE)


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


_ALPHA: dict[str, Callable[[Floats], Parts]] = {"nominal": _nominal, "ordinal": _ordinal}
