"""Counts of words: repetition, copying, diversity, lengths."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray


def ngrams(words: Sequence, n: int) -> list[tuple]:
    """All n-grams of a sequence, in order."""
    return [tuple(words[i : i + n]) for i in range(len(words) - n + 1)]


def distinct(grams: Sequence, size: int) -> float:
    """Distinct-n (Li et al. 2016) at a given amount: how many different ones there are among `size` of the n-grams, over
    `size`, in expectation over all ways to draw them without putting back (Hurlbert 1971, eq. 15).

    With all of them drawn it is the share of different ones.  NaN when `size` is 0 or more than there are.
    """
    total = len(grams)
    if not 0 < size <= total:
        return math.nan
    counts = np.array(list(Counter(grams).values()))
    logs = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, total + 1)))])  # log k!
    absent = np.zeros(counts.size)  # the probability that none of an n-gram's places is drawn
    some = counts <= total - size
    left = total - counts[some]
    absent[some] = np.exp(logs[left] - logs[left - size] - logs[total] + logs[total - size])
    return float(np.sum(1 - absent) / size)


def copied(response: Sequence, source: Sequence, n: int) -> tuple[int, int]:
    """(n-grams of the response that also stand in the source, n-grams of the response)."""
    known = set(ngrams(source, n))
    grams = ngrams(response, n)
    return sum(gram in known for gram in grams), len(grams)


def percentiles(lengths: Sequence[int] | NDArray[Any]) -> dict[str, int]:
    """min, p5, median, p95 and max of whole numbers, each one that is among them; empty where there is none."""
    if not len(lengths):
        return {}
    names = {"min": 0, "p5": 5, "median": 50, "p95": 95, "max": 100}
    values = np.percentile(lengths, list(names.values()), method="nearest")
    return {name: int(value) for name, value in zip(names, values, strict=True)}
