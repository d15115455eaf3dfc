"""The baseline that any reward model has to beat: which words stand in a response, and nothing else.

    P(a preferred to b) = sigmoid(w . (x(a) - x(b))),   x(a) in {0, 1}: whether each word occurs in a

fitted by logistic regression with an L2 penalty |w|^2 * penalty / 2, which is chosen by cross-validation by prompt.  What it gets
right can be read off the surface; it knows neither the prompt nor the order of words.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tutelage.evals.text import words
from tutelage.seeds import rng
from tutelage.statistics import Floats, sigmoid

PENALTIES = (1.0, 3.0, 10.0, 30.0, 100.0, 300.0)
FOLDS = 5
SEEN = 2  # pairs in which a word must stand


@dataclass(frozen=True, eq=False)
class Differences:
    """n sparse rows x(a) - x(b) over V words: entry k is `sign[k]` (1 or -1) at [row[k], column[k]]."""

    n: int
    width: int
    row: NDArray[np.int64]
    column: NDArray[np.int64]
    sign: Floats

    @staticmethod
    def of(pairs: Sequence[tuple[str, str]], known: dict[str, int]) -> Differences:
        """Of pairs of texts, over the known words (word -> column)."""
        entries = [
            (number, known[word], 1.0 if word in first else -1.0)
            for number, (first, second) in enumerate((set(words(a)), set(words(b))) for a, b in pairs)
            for word in sorted(first ^ second)
            if word in known
        ]
        row, column, sign = zip(*entries, strict=True) if entries else ((), (), ())
        return Differences(
            len(pairs), len(known), np.array(row, int), np.array(column, int), np.array(sign, float)
        )

    def times(self, weights: Floats) -> Floats:
        """[n]: each row's product with weights [V]."""
        return np.bincount(self.row, self.sign * weights[self.column], self.n).astype(float)

    def summed(self, by_row: Floats) -> Floats:
        """[V]: the rows' sum, each times its number in [n]."""
        return np.bincount(self.column, self.sign * by_row[self.row], self.width).astype(float)

    def only(self, kept: NDArray[np.bool_]) -> Differences:
        """The rows where `kept` [n] holds, numbered anew."""
        inside = kept[self.row]
        number = np.cumsum(kept) - 1
        return Differences(
            int(kept.sum()), self.width, number[self.row[inside]], self.column[inside], self.sign[inside]
        )


def fit(rows: Differences, p: Floats, penalty: float, start: Floats | None = None) -> Floats:
    """Weights [V] of the least sum over rows of cross-entropy(p, sigmoid(row . w)) + penalty / 2 |w|^2.

    p: [n], the share of the votes for the first side.  Newton's method, each step by conjugate gradients (the Hessian is never
    formed), halved until the objective falls; it is strictly convex, so there is one answer.
    """
    weights = np.zeros(rows.width) if start is None else start.copy()

    def objective(w: Floats) -> float:
        z = rows.times(w)
        return float(np.logaddexp(0, z).sum() - p @ z + penalty / 2 * w @ w)

    value = objective(weights)
    for _ in range(50):
        chance = sigmoid(rows.times(weights))
        gradient = rows.summed(chance - p) + penalty * weights
        if np.abs(gradient).max(initial=0.0) < 1e-6:
            break
        step = _newton_step(rows, chance * (1 - chance), penalty, gradient)
        size = 1.0
        while (found := objective(weights - size * step)) > value and size > 1e-6:
            size /= 2
        if size <= 1e-6:
            break
        weights, value = weights - size * step, found
    return weights


def _newton_step(rows: Differences, curvature: Floats, penalty: float, gradient: Floats) -> Floats:
    """The Hessian's inverse times the gradient, by conjugate gradients."""
    solution, rest = np.zeros_like(gradient), gradient.copy()
    direction, square = rest.copy(), float(gradient @ gradient)
    enough = 1e-6 * square  # a rough step is enough: Newton's method corrects it
    for _ in range(200):
        if square <= enough:
            break
        image = rows.summed(curvature * rows.times(direction)) + penalty * direction
        length = square / float(direction @ image)
        solution += length * direction
        rest -= length * image
        before, square = square, float(rest @ rest)
        direction = rest + square / before * direction
    return solution


@dataclass(frozen=True, eq=False)
class BagOfWords:
    """A fitted baseline: the words it knows, their weights [V], and the penalty that cross-validation chose."""

    known: dict[str, int]
    weights: Floats
    penalty: float

    def margins(self, pairs: Sequence[tuple[str, str]]) -> Floats:
        """[n]: by how much it prefers the first text of each pair."""
        return Differences.of(pairs, self.known).times(self.weights)


def train(
    pairs: Sequence[tuple[str, str]], p_first: ArrayLike, prompts: Sequence[Hashable], *, seed: int = 0
) -> BagOfWords:
    """Fit on pairs of texts; p_first: [n], share of the votes for the first; prompts: [n], what must not be split over folds.

    The words are those in 2 pairs or more.  The penalty is the one of PENALTIES with the least held-out cross-entropy.
    """
    p = np.asarray(p_first, float)
    seen = Counter(word for a, b in pairs for word in {*words(a), *words(b)})
    known = {word: i for i, word in enumerate(sorted(word for word, n in seen.items() if n >= SEEN))}
    rows = Differences.of(pairs, known)
    numbers = {prompt: i for i, prompt in enumerate(dict.fromkeys(prompts))}
    places = rng(seed, "folds").permutation(len(numbers))
    fold = np.array([places[numbers[prompt]] % FOLDS for prompt in prompts], int)
    losses = np.zeros(len(PENALTIES))
    for k in range(FOLDS):
        here = fold == k
        inside, outside, weights = rows.only(~here), rows.only(here), None
        for i, penalty in reversed(
            list(enumerate(PENALTIES))
        ):  # from the stiffest, each the start of the next
            weights = fit(inside, p[~here], penalty, weights)
            z = outside.times(weights)
            losses[i] += float(np.logaddexp(0, z).sum() - p[here] @ z)
    best = PENALTIES[int(losses.argmin())]
    return BagOfWords(known, fit(rows, p, best), best)
