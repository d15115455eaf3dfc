"""Dawid and Skene (1979): the true labels and everybody's habits of error, found together by EM."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tutelage.feedback.statistics.estimate import FEWER, Estimate, Resampling, estimate, row_weights
from tutelage.feedback.statistics.votes import Votes
from tutelage.statistics import Floats, Interval, percentile_interval

TINY = 1e-300  # keeps the logarithm of an impossible vote finite


@dataclass(frozen=True, eq=False)
class DawidSkene:
    """What EM found. Items, annotators and categories are in the order of the votes.

    `soft` [I, C]: probability of each true label. `prevalence` [C]: how common each true label is. `confusion`
    [A, C, C]: probability that annotator a says column c when row c is true. `accuracy`: by annotator, the probability
    of the right label, as common as the labels are; None below enough items that others voted on too. `objective`: log
    posterior (log-likelihood when there is no prior) after each step, which never falls.
    """

    items: NDArray
    annotators: NDArray
    categories: NDArray
    soft: Floats
    prevalence: Floats
    confusion: Floats
    accuracy: dict[object, Estimate]
    objective: Floats


def dawid_skene(
    votes: Votes,
    *,
    strength: float = 2.0,
    trust: float = 0.7,
    iterations: int = 1000,
    tolerance: float = 1e-8,
    how: Resampling = FEWER,
) -> DawidSkene:
    """Fit the model to votes with gaps and repeats, of two or more categories.

    The prior counts as `strength` votes of every annotator on each true label, of which the share `trust` was right:
    it keeps newcomers near ordinary people, and the labels from changing their names. `strength=0` is the model as
    published, which starts from the shares of the votes. EM stops when the objective gains less than `tolerance` per
    item, or after `iterations`. Of `mirrored` votes both sides are equally often right, and nobody errs more on one of them:
    which one stands first means nothing. The intervals of `accuracy` come from a bootstrap over items, each begun at the
    full fit.
    Raises ValueError when there are no votes or the prior is not a sensible one.
    """
    if not votes.item.size:
        raise ValueError("there are no votes to learn from: collect some first.")
    if strength < 0 or not 0 < trust < 1:
        raise ValueError(
            f"strength={strength} must not be below 0, and trust={trust} must lie between 0 and 1."
        )
    model = _Model(votes, strength, trust)
    counts = votes.counts()
    n = counts.sum(axis=1, keepdims=True)
    start = np.where(n > 0, counts / np.maximum(n, 1), 1 / counts.shape[1])[model.first]
    state, objective = model.run(start, np.ones(len(counts)), iterations, tolerance)
    return DawidSkene(
        items=votes.items,
        annotators=votes.annotators,
        categories=votes.categories,
        soft=state.soft[model.pattern],
        prevalence=state.prevalence,
        confusion=state.confusion,
        accuracy=_accuracy(votes, model, state, iterations, how),
        objective=objective,
    )


@dataclass(frozen=True, eq=False)
class _State:
    prevalence: Floats  # [C]
    confusion: Floats  # [A, C, C]
    soft: Floats  # [P, C]

    @property
    def accuracy(self) -> Floats:
        return np.einsum("c,acc->a", self.prevalence, self.confusion)


class _Model:
    """EM on counts: an item's votes are one row [A * C], so that both steps are matrix products.

    Items with the same votes by the same people are one of P patterns: `pattern` [I], and `first` [P], an item of each.
    """

    def __init__(self, votes: Votes, strength: float, trust: float) -> None:
        self.mirrored = votes.mirrored
        people, size = len(votes.annotators), len(votes.categories)
        self.shape = (people, size, size)
        cell = (votes.item * people + votes.annotator) * size + votes.label
        said = np.bincount(cell, minlength=len(votes.items) * people * size)
        rows = said.reshape(len(votes.items), people * size).astype(float)
        self.said, self.first, self.pattern = np.unique(rows, axis=0, return_index=True, return_inverse=True)
        wrong = (1 - trust) / max(1, size - 1)
        self.prior = strength * (wrong + (trust - wrong) * np.eye(size))
        self.prior_prevalence = strength / size

    def run(self, soft: Floats, weight: Floats, most: int, tolerance: float) -> tuple[_State, Floats]:
        """From soft labels [P, C] and how often each item counts [I]: the final state, and the objective."""
        trace: list[float] = []
        enough = tolerance * len(weight)
        weight = np.bincount(self.pattern, weights=weight).astype(float)
        while True:
            prevalence, confusion = self._maximise(soft * weight[:, None])
            soft, evidence = self._expect(prevalence, confusion)
            prior = np.sum(self.prior * np.log(np.maximum(confusion, TINY)))
            prior += self.prior_prevalence * np.sum(np.log(np.maximum(prevalence, TINY)))
            trace.append(float(weight @ evidence + prior))
            if len(trace) >= most or (len(trace) > 1 and trace[-1] - trace[-2] < enough):
                return _State(prevalence, confusion, soft), np.array(trace)

    def _maximise(self, soft: Floats) -> tuple[Floats, Floats]:
        people, size, _ = self.shape
        prevalence = soft.sum(axis=0) + self.prior_prevalence
        cells = (self.said.T @ soft).reshape(people, size, size).transpose(0, 2, 1) + self.prior
        if self.mirrored:
            prevalence, cells = prevalence + prevalence[::-1], cells + cells[:, ::-1, ::-1]
        total = cells.sum(axis=2, keepdims=True)
        confusion = np.where(total > 0, cells / np.where(total > 0, total, 1), 1 / size)
        return prevalence / prevalence.sum(), confusion

    def _expect(self, prevalence: Floats, confusion: Floats) -> tuple[Floats, Floats]:
        """Soft labels, and the log-probability of each pattern's votes."""
        people, size, _ = self.shape
        logs = np.log(np.maximum(confusion, TINY)).transpose(0, 2, 1).reshape(people * size, size)
        joint = self.said @ logs + np.log(np.maximum(prevalence, TINY))
        top = joint.max(axis=1, keepdims=True)
        soft = np.exp(joint - top)
        total = soft.sum(axis=1, keepdims=True)
        return soft / total, (top + np.log(total))[:, 0]


def _accuracy(
    votes: Votes, model: _Model, state: _State, iterations: int, how: Resampling
) -> dict[object, Estimate]:
    """By annotator; an item counts when somebody else voted on it too."""
    names = votes.annotators.tolist()
    voted = np.zeros((len(votes.items), len(names)), bool)
    voted[votes.item, votes.annotator] = True
    shared = voted & (voted.sum(axis=1, keepdims=True) > 1)
    n = np.sum(shared, axis=0)
    drawn = np.full((0, len(names)), np.nan)
    if np.any(n >= how.enough):
        weights = (weight for block in row_weights(votes.cluster, len(votes.items), how) for weight in block)
        fits = (model.run(state.soft, weight, min(iterations, 50), 1e-5)[0] for weight in weights)
        drawn = np.array([fit.accuracy for fit in fits])
    found = {}
    for number, (name, value, size) in enumerate(zip(names, state.accuracy.tolist(), n.tolist())):
        interval = Interval(value, np.nan, np.nan, size)
        if len(drawn):
            draws = np.unique(votes.cluster[shared[:, number]]).size
            interval = percentile_interval(value, drawn[:, number], size, how.confidence, draws=draws)
        found[name] = estimate(interval, "share", how, what="items that others voted on too")
    return found
