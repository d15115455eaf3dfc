"""All figures of a reward model's card, from scores, lengths, comparisons and a judge: rows in, rows out, no training class."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from tutelage import statistics
from tutelage.evals import reward_model
from tutelage.evals.card import bag_of_words, people, probes, slices
from tutelage.evals.rows import OVERALL, Row, row
from tutelage.judges.judge import Judge
from tutelage.records import Comparison
from tutelage.statistics import Interval

TRAINING_PAIRS = 4000
"""So many training pairs, drawn by seed, teach the bag of words; more would take longer than they add."""


@dataclass(frozen=True, eq=False)
class Training:
    """A sample of n training pairs.

    texts: (chosen, rejected).  p_chosen: [n].  prompts: [n], equal where the prompts are.  margins: the model's, of the first
    pairs of the sample (as many as were scored).  shared: how many of the held-out prompts are among the training prompts.
    """

    texts: Sequence[tuple[str, str]]
    p_chosen: Sequence[float]
    prompts: Sequence[Hashable]
    margins: ArrayLike
    shared: int


def evaluate(
    model: str,
    comparisons: Sequence[Comparison],
    scores: ArrayLike,
    lengths: ArrayLike,
    *,
    judge: Judge | None = None,
    training: Training | None = None,
    votes: ArrayLike | None = None,
    seed: int = 0,
) -> list[Row]:
    """The rows of `reward_model.evaluate` and all others of the card; those whose material is missing are left out.

    scores, lengths (tokens): [n, 2] of the n held-out comparisons, (chosen, rejected).  judge: the model itself, for the probes.
    votes: [n, 2], how many people preferred each.  Raises ValueError when a score is not finite.
    """
    found, sizes = np.asarray(scores, float).reshape(-1, 2), np.asarray(lengths, float).reshape(-1, 2)
    p = np.array([c.p_chosen for c in comparisons], float)
    prompts = [c.prompt.id for c in comparisons]
    columns = (found[:, 0], found[:, 1], p, sizes[:, 0], sizes[:, 1])
    rows = reward_model.evaluate(model, *columns, clusters=prompts, seed=seed)
    margins = found[:, 0] - found[:, 1]
    strength = np.array([c.margin for c in comparisons], float)
    rows += slices.by_people(model, margins, p, strength, prompts, votes=votes, seed=seed)
    rows += slices.by_length(model, margins, p, sizes, prompts, seed=seed)
    rows += slices.abstaining(model, margins, p, seed=seed)
    rows += slices.histograms(model, found)
    if training is not None and comparisons:
        rows += _beside_training(model, comparisons, margins, p, prompts, training, seed)
    if votes is not None:
        rows += people.evaluate(model, margins, votes, prompts, seed=seed)
    if judge is not None:
        rows += probes.evaluate(model, judge, comparisons, float(found.std()), seed=seed)
    return rows


def _beside_training(
    model: str,
    comparisons: Sequence[Comparison],
    margins: np.ndarray,
    p: np.ndarray,
    prompts: Sequence[str],
    training: Training,
    seed: int,
) -> list[Row]:
    """What the training pairs tell: the bag of words, the accuracy on them, and prompts that stand on both sides."""
    n = len(training.texts)
    known = np.asarray(training.margins, float)
    there = statistics.correct(known, training.p_chosen[: known.size])
    keys = clusters_of(training.prompts[: known.size])
    rows = [
        row(
            model,
            "accuracy_train",
            OVERALL,
            statistics.bootstrap_mean(there, keys, rate=True, seed=seed, resamples=slices.RESAMPLES),
            "share",
        ),
        row(model, "prompts_shared", OVERALL, _plain(training.shared, len(set(prompts))), "prompts"),
    ]
    if len(set(training.prompts)) < bag_of_words.FOLDS:
        return rows
    words = bag_of_words.train(training.texts, training.p_chosen, training.prompts, seed=seed)
    theirs = words.margins([(c.chosen, c.rejected) for c in comparisons])
    rows += slices.baselines(model, margins, p, {"bag_of_words": theirs}, prompts, seed=seed)
    return [*rows, row(model, "bag_of_words_penalty", OVERALL, _plain(words.penalty, n), "")]


def clusters_of(keys: Sequence[Hashable]) -> list[int]:
    """A number for each key, the same for equal ones."""
    numbers = {key: number for number, key in enumerate(dict.fromkeys(keys))}
    return [numbers[key] for key in keys]


def _plain(value: float, n: int) -> Interval:
    return Interval(value, np.nan, np.nan, n)
