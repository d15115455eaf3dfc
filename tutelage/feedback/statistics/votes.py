"""Votes as plain numbers: who said what of which item."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tutelage.statistics import Floats, clusters_of

Ints = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Votes:
    """N votes on I items by A annotators, each one of C categories.

    `item`, `annotator` and `label` [N] are positions in `items` [I], `annotators` [A] and `categories` [C]. The order of
    the categories is their rank where a measure is ordinal. `cluster` [I] says which items are drawn together in a
    bootstrap (pairs of one prompt).

    `mirrored`: the items are pairs whose two sides stand in an order that means nothing. With the sides of an item swapped,
    category k of C on it becomes C - 1 - k; no measure of `mirrored` votes depends on which pairs stand which way round.
    """

    items: NDArray
    annotators: NDArray
    categories: NDArray
    item: Ints
    annotator: Ints
    label: Ints
    cluster: Ints
    mirrored: bool = False

    def __post_init__(self) -> None:
        if self.mirrored and self.categories.dtype.kind in "iuf" and self.categories.size:
            around = self.categories + self.categories[::-1]
            if np.any(around != around[0]):
                raise ValueError(
                    f"the categories {', '.join(map(str, self.categories.tolist()))} of mirrored votes are not the same the "
                    "other way round: give all possible ones, as in -1, 0, 1."
                )

    @classmethod
    def from_triplets(
        cls,
        items: ArrayLike,
        annotators: ArrayLike,
        labels: ArrayLike,
        categories: ArrayLike | None = None,
        clusters: ArrayLike | None = None,
        *,
        mirrored: bool = False,
    ) -> Votes:
        """From three lists [N], one entry per vote; `clusters` [N] names the cluster of the vote's item.

        Raises ValueError when the lists differ in length, an item lies in two clusters, a label is no category, or the
        categories of `mirrored` votes are not symmetric.
        """
        arrays = [np.asarray(values) for values in (items, annotators, labels)]
        if len({array.shape for array in arrays}) > 1 or arrays[0].ndim != 1:
            raise ValueError(
                "items, annotators and labels must be three lists of one length, one entry per vote, "
                f"but have the shapes {', '.join(str(array.shape) for array in arrays)}."
            )
        keys, item = np.unique(arrays[0], return_inverse=True)
        names, annotator = np.unique(arrays[1], return_inverse=True)
        possible, label = _coded(arrays[2], categories)
        cluster = np.arange(keys.size)
        if clusters is not None:
            numbers = clusters_of(clusters)
            if numbers.shape != item.shape:
                raise ValueError(
                    f"clusters names {numbers.size} clusters for {item.size} entries: give one per entry."
                )
            cluster[item] = numbers
            wrong = np.flatnonzero(cluster[item] != numbers)
            if wrong.size:
                worst = keys[item[wrong[0]]]
                raise ValueError(f"item {worst!s} lies in two clusters: give every vote on it the same one.")
        return cls(keys, names, possible, item, annotator, label, cluster, mirrored)

    def counts(self) -> Floats:
        """How many votes each item has in each category [I, C]."""
        size = len(self.categories)
        cells = np.bincount(self.item * size + self.label, minlength=len(self.items) * size)
        return cells.reshape(-1, size).astype(float)

    def require_one_each(self) -> None:
        """ValueError when somebody votes twice on an item: agreement is between people."""
        pairs = self.item * len(self.annotators) + self.annotator
        where = np.flatnonzero(np.bincount(pairs) > 1) if pairs.size else pairs
        if where.size:
            item, annotator = divmod(int(where[0]), len(self.annotators))
            raise ValueError(
                f"annotator {self.annotators[annotator]!s} votes twice on item {self.items[item]!s}: keep one vote "
                "for agreement; repeats are what `consistency` is for."
            )


def _coded(values: NDArray, categories: ArrayLike | None) -> tuple[NDArray, Ints]:
    """The categories, and the position of each value among them."""
    if categories is None:
        possible, label = np.unique(values, return_inverse=True)
        return possible, label.astype(np.int64)
    possible = np.asarray(categories)
    order = np.argsort(possible, kind="stable")
    if not values.size:
        return possible, np.zeros(0, np.int64)
    label = order[np.minimum(np.searchsorted(possible, values, sorter=order), possible.size - 1)]
    wrong = np.flatnonzero(possible[label] != values)
    if wrong.size:
        known = ", ".join(map(str, possible.tolist()))
        raise ValueError(
            f"label {values[wrong[0]]!s} is none of the categories {known}: correct the vote or add it."
        )
    return possible, label.astype(np.int64)
