"""Process reward model: does it tell right steps from wrong ones, and find the first error?

Arrays in, rows out: the caller scores the steps.  Intervals are bootstraps over prompts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tutelage import statistics
from tutelage.data.steps import CLASSES
from tutelage.evals.rows import OVERALL, Row, row
from tutelage.statistics import Interval

Floats = NDArray[np.float64]
HALF = 0.5
"""A step is taken for right where its probability is at least this."""


UNMARKED = -1
NO_ERROR = -1
"""In the place of the number of the first wrong step: there is none."""


@dataclass(frozen=True)
class Classes:
    """Of each step of a solution [T], numbers in CLASSES: what the model takes it for, and what it is marked as, or UNMARKED."""

    said: NDArray[np.int64]
    marked: NDArray[np.int64]


@dataclass(frozen=True)
class Solution:
    """One solution: `right` float [T], what the model says of each step; `labels` float [T], the probability that it is right
    by the labels, NaN where nobody marked it; `first_error`, the number of the first wrong step, None without one; `score`, of
    the whole; `outcome`, whether the final answer is right, None where that is not known; `prompt`, its id; `classes`, where
    neutral is a class of its own."""

    right: Floats
    labels: Floats
    first_error: int | None
    score: float
    outcome: bool | None
    prompt: str
    classes: Classes | None = None

    @property
    def sound(self) -> bool:
        """Whether every step is marked, and none as wrong."""
        return self.first_error is None and not np.isnan(self.labels).any()

    @property
    def true_first(self) -> int | None:
        """The number of the first wrong step, NO_ERROR of a sound solution; None where the marks do not say."""
        return NO_ERROR if self.sound else self.first_error

    @property
    def said_first(self) -> int:
        """The number of the first step that the model takes for wrong, NO_ERROR where there is none."""
        wrong = np.flatnonzero(self.right < HALF)
        return int(wrong[0]) if wrong.size else NO_ERROR


def evaluate(model: str, solutions: Sequence[Solution], *, seed: int = 0, resamples: int = 300) -> list[Row]:
    """Rows for held-out solutions.

    step_f1_right, step_f1_wrong and their mean step_f1, step_accuracy; first_error_accuracy on solutions with an error (the
    very step), sound_accuracy on those without (no step is taken for wrong), and their harmonic mean first_error_f1 (Zheng
    et al. 2024, arXiv 2412.06559); step_calibration_error, and reliability/NN of ten bins; solution_auc, of the score for a
    right final answer; with three classes class_f1/NAME of each and their mean class_f1.  Without solutions: no rows.
    """
    return step_rows(model, solutions, seed=seed, resamples=resamples) + _first_errors(model, solutions, seed)


def step_rows(model: str, solutions: Sequence[Solution], *, seed: int = 0, resamples: int = 300) -> list[Row]:
    """The rows of `evaluate` but those of first errors."""
    if not solutions:
        return []
    labels = np.concatenate([one.labels for one in solutions])
    known = ~np.isnan(labels)
    right = np.concatenate([one.right for one in solutions])[known]
    prompts = [one.prompt for one in solutions for _ in one.labels]
    clusters = [prompt for prompt, there in zip(prompts, known, strict=True) if there]
    rows = _steps(model, right, labels[known], clusters, seed, resamples)
    return rows + _outcomes(model, solutions, seed, resamples) + _by_class(model, solutions, seed)


def _steps(
    model: str, right: Floats, labels: Floats, clusters: Sequence[str], seed: int, resamples: int
) -> list[Row]:
    said, true = right >= HALF, labels >= HALF
    counts = np.stack([said & true, said & ~true, ~said & true, ~said & ~true], axis=1).astype(float)

    def f1(hit: int) -> Callable[[Floats], Floats]:
        return lambda sums: _ratio(2 * sums[..., hit], 2 * sums[..., hit] + sums[..., 1] + sums[..., 2])

    def rated(measure: Callable[[Floats], Floats]) -> Interval:
        return statistics.bootstrap_sums(measure, counts, clusters, seed=seed)

    rows = [
        row(model, "step_f1", OVERALL, rated(lambda sums: (f1(0)(sums) + f1(3)(sums)) / 2), "share"),
        row(model, "step_f1_right", OVERALL, rated(f1(0)), "share"),
        row(model, "step_f1_wrong", OVERALL, rated(f1(3)), "share"),
    ]
    agreed = statistics.bootstrap_mean(said == true, clusters, rate=True, seed=seed)
    rows.append(row(model, "step_accuracy", OVERALL, agreed, "share"))
    inside = right.clip(1e-12, 1 - 1e-12)
    margins = np.log(inside) - np.log1p(-inside)

    def ece(chosen: NDArray[np.int64]) -> float:
        return statistics.expected_calibration_error(margins[chosen], labels[chosen])

    found = _by_prompt(ece, clusters, seed, resamples)
    rows.append(row(model, "step_calibration_error", OVERALL, found, "share"))
    for number, part in enumerate(statistics.reliability(margins, labels), 1):
        sure = Row(
            model,
            f"reliability/{number:02}/confidence",
            OVERALL,
            part.confidence,
            n=part.agreed.n,
            unit="share",
        )
        rows += [sure, row(model, f"reliability/{number:02}/accuracy", OVERALL, part.agreed, "share")]
    return rows


def _first_errors(model: str, solutions: Sequence[Solution], seed: int) -> list[Row]:
    """Where the first error is taken to be, against where it is."""
    judged = [(one, true) for one in solutions if (true := one.true_first) is not None]
    truth, said = (
        np.array(found, int)
        for found in ([true for _, true in judged], [one.said_first for one, _ in judged])
    )
    return first_error_rows(model, truth, said, [one.prompt for one, _ in judged], seed=seed)


def first_error_rows(
    model: str,
    truth: NDArray[np.int64],
    said: NDArray[np.int64],
    prompts: Sequence[str],
    task: str = OVERALL,
    *,
    seed: int = 0,
    resamples: int = statistics.RESAMPLES,
) -> list[Row]:
    """first_error_accuracy, sound_accuracy and first_error_f1 of n solutions; none without solutions.

    truth, said: int [n], the number of the first wrong step, or NO_ERROR (`said` may be anything else for no answer).
    """
    if not len(truth):
        return []
    sound, hits = truth == NO_ERROR, said == truth

    def hit(side: NDArray[np.bool_]) -> Interval:
        some = [prompt for prompt, there in zip(prompts, side, strict=True) if there]
        return statistics.bootstrap_mean(hits[side], some, rate=True, seed=seed, resamples=resamples)

    counts = first_error_counts(truth, said)
    both = statistics.bootstrap_sums(harmonic, counts, prompts, seed=seed, resamples=resamples)
    return [
        row(model, "first_error_accuracy", task, hit(~sound), "share"),
        row(model, "sound_accuracy", task, hit(sound), "share"),
        row(model, "first_error_f1", task, both, "share"),
    ]


def first_error_counts(truth: NDArray[np.int64], said: NDArray[np.int64]) -> Floats:
    """float64 [n, 4]: errors found, errors, sound solutions recognised, sound solutions."""
    sound, hits = truth == NO_ERROR, said == truth
    return np.stack([hits & ~sound, ~sound, hits & sound, sound], axis=1).astype(float)


def harmonic(sums: Floats) -> Floats:
    """F1 of sums [..., 4] of such counts; NaN where there is no error, or no sound solution."""
    wrong, right = _ratio(sums[..., 0], sums[..., 1]), _ratio(sums[..., 2], sums[..., 3])
    return np.where(wrong + right > 0, _ratio(2 * wrong * right, wrong + right), wrong + right)


def _by_class(model: str, solutions: Sequence[Solution], seed: int) -> list[Row]:
    """F1 of each class that is marked or said somewhere, and its mean over these (scikit-learn's "macro")."""
    judged = [(one.classes, one.prompt) for one in solutions if one.classes is not None]
    if not judged:
        return []
    said = np.concatenate([classes.said for classes, _ in judged])
    marked = np.concatenate([classes.marked for classes, _ in judged])
    prompts = np.repeat([prompt for _, prompt in judged], [len(classes.said) for classes, _ in judged])
    there = marked != UNMARKED
    said, marked, clusters = said[there], marked[there], prompts[there].tolist()
    some = [number for number in range(len(CLASSES)) if number in said or number in marked]
    hits = [(said == number) & (marked == number) for number in some]
    counts = np.stack(
        [*hits, *(1.0 * (said == number) + (marked == number) for number in some)], axis=1, dtype=float
    )

    def f1(which: int) -> Callable[[Floats], Floats]:
        return lambda sums: _ratio(2 * sums[..., which], sums[..., len(some) + which])

    def mean(sums: Floats) -> Floats:
        found: Floats = np.mean([f1(which)(sums) for which in range(len(some))], axis=0)
        return found

    measures = {f"class_f1/{CLASSES[number]}": f1(which) for which, number in enumerate(some)}
    if some:
        measures["class_f1"] = mean
    return [
        row(model, name, OVERALL, statistics.bootstrap_sums(measure, counts, clusters, seed=seed), "share")
        for name, measure in measures.items()
    ]


def _outcomes(model: str, solutions: Sequence[Solution], seed: int, resamples: int) -> list[Row]:
    judged = [one for one in solutions if one.outcome is not None]
    outcomes = np.array([bool(one.outcome) for one in judged])
    if not judged or outcomes.all() or not outcomes.any():
        return []
    scores = np.array([one.score for one in judged])
    clusters = [one.prompt for one in judged]
    found = _by_prompt(lambda chosen: auc(scores[chosen], outcomes[chosen]), clusters, seed, resamples)
    return [row(model, "solution_auc", OVERALL, found, "share")]


def auc(scores: Floats, outcomes: NDArray[np.bool_]) -> float:
    """The probability that a right solution scores higher than a wrong one, ties one half; NaN where there are not both."""
    rights, n = int(outcomes.sum()), len(outcomes)
    if rights in (0, n):
        return float("nan")
    _, which, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[which]  # equal scores share the mean of theirs
    return float((ranks[outcomes].sum() - rights * (rights + 1) / 2) / (rights * (n - rights)))


def _ratio(top: Floats, bottom: Floats) -> Floats:
    """NaN where there is nothing below."""
    return np.divide(top, bottom, out=np.full(np.shape(top), np.nan), where=np.asarray(bottom) > 0)


def _by_prompt(
    statistic: Callable[[NDArray[np.int64]], float], clusters: Sequence[str], seed: int, resamples: int
) -> Interval:
    """Any statistic of row numbers, with a bootstrap interval over prompts; `n` is the number of rows."""
    numbers = statistics.clusters_of(clusters)
    order = np.argsort(numbers, kind="stable")
    members = np.split(order, np.cumsum(np.bincount(numbers))[:-1])
    found = statistics.bootstrap(
        lambda drawn: statistic(np.concatenate([members[i] for i in drawn])),
        len(members),
        seed=seed,
        resamples=resamples,
    )
    return Interval(found.value, found.low, found.high, len(numbers))
