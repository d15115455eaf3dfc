"""Votes written as tables, as books print them."""

from __future__ import annotations

import functools

import numpy as np

from tutelage.feedback.statistics import Votes
from tutelage.feedback.statistics.estimate import numbered
from tutelage.feedback.statistics.votes import _coded


def votes_of(labels, categories=None, clusters=None, *, mirrored: bool = False) -> Votes:
    """From a table [items, annotators]; None and NaN are missing votes; `clusters` [items]."""
    table = np.asarray(labels, dtype=object)
    missing = np.array([value is None or value != value for value in table.flat], bool).reshape(table.shape)
    rows, columns = np.nonzero(~missing)
    possible, label = _coded(np.array(table[rows, columns].tolist()), categories)
    items, annotators = (np.arange(size) for size in table.shape)
    return Votes(items, annotators, possible, rows, columns, label, numbered(clusters, items.size), mirrored)


def tabled(measure):
    """A measure that takes a table, too."""

    @functools.wraps(measure)
    def measured(votes, *rest, **more):
        return measure(votes if isinstance(votes, Votes) else votes_of(votes), *rest, **more)

    return measured
