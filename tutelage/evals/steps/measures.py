"""Is the first wrong step found?  By subset, as ProcessBench counts (Zheng et al. 2024, arXiv 2412.06559), and the same of
answers that know the lengths alone."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tutelage import statistics
from tutelage.evals.process_model import NO_ERROR, first_error_counts, first_error_rows, harmonic
from tutelage.evals.rows import OVERALL, Row, row
from tutelage.evals.steps.reading import Item
from tutelage.records import StepMarks

Ints = NDArray[np.int64]
UNREAD = -2
"""In the place of the first wrong step: the model could not read the solution, which is a miss."""


def evaluate(
    model: str, items: Sequence[Item], said: Ints, *, seed: int = 0, resamples: int = 1000
) -> list[Row]:
    """Rows of one model; said: int [n], the step that it takes for the first wrong one, NO_ERROR or UNREAD.

    first_error_accuracy, sound_accuracy and first_error_f1 of all solutions and of each subset; and first_error_f1_subsets, the
    mean of the subsets' F1, where there are several and each has solutions of both kinds.  Intervals are bootstraps over
    problems, of the mean within subsets.
    """
    truth = np.array([item.truth for item in items], int)
    problems = [item.marks.prompt.id for item in items]
    rows = first_error_rows(model, truth, said, problems, seed=seed, resamples=resamples)
    subsets = members(items)
    if len(subsets) == 1:
        return rows
    for name, those in subsets.items():
        own = [problems[i] for i in those]
        rows += first_error_rows(model, truth[those], said[those], own, name, seed=seed, resamples=resamples)
    mean = _mean_of_subsets(truth, said, problems, list(subsets.values()), seed, resamples)
    return rows if mean is None else [*rows, row(model, "first_error_f1_subsets", OVERALL, mean, "share")]


def members(items: Sequence[Item]) -> dict[str, list[int]]:
    """Subset -> numbers of its solutions."""
    subsets: dict[str, list[int]] = {}
    for number, item in enumerate(items):
        subsets.setdefault(item.subset, []).append(number)
    return subsets


def _mean_of_subsets(
    truth: Ints, said: Ints, problems: Sequence[str], subsets: Sequence[list[int]], seed: int, resamples: int
) -> statistics.Interval | None:
    """Each subset is resampled on its own, as it was drawn on its own."""
    values, drawn = [], []
    for number, those in enumerate(subsets):
        counts = first_error_counts(truth[those], said[those])
        clusters = statistics.clusters_of([problems[i] for i in those])
        values.append(float(harmonic(counts.sum(axis=0))))
        drawn.append(harmonic(statistics.resampled_sums(counts, clusters, seed + number, resamples)))
    if not np.isfinite(values).all():
        return None
    return statistics.percentile_interval(float(np.mean(values)), np.mean(drawn, axis=0), len(truth))


# ---- what needs no model -----------------------------------------------------------------------------------------------

NOTHING, LONGEST, LONGER_HALF = "no error", "longest step", "longer half"


def baselines(items: Sequence[Item]) -> dict[str, Ints]:
    """Name -> what it says of each solution, int [n].  They know no label, and have no threshold to choose.

    no error: no step of any solution is wrong.  longest step: of every solution the step with the most characters (the first of
    several) is the first wrong one.  longer half: the same of solutions with more characters than the median of their subset,
    and nothing is wrong in the others.
    """
    longest = np.array([int(np.argmax(_lengths(item.marks))) for item in items], int)
    sizes = np.array([sum(_lengths(item.marks)) for item in items])
    halves = np.full(len(items), NO_ERROR)
    for those in members(items).values():
        longer = sizes[those] > np.median(sizes[those])
        halves[those] = np.where(longer, longest[those], NO_ERROR)
    return {NOTHING: np.full(len(items), NO_ERROR), LONGEST: longest, LONGER_HALF: halves}


def _lengths(marks: StepMarks) -> list[int]:
    return [len(step) for step in marks.steps]
