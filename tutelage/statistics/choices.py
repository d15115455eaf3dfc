"""Which of several was chosen, as a log-linear model of features: the conditional logit (McFadden 1974).

    p(candidate of a set) = exp(base + theta . f) / sum over the set of the same

Fitted by Newton's method: the log-likelihood is concave, and with l2 above 0 strictly so.  It is also the maximum-entropy
distribution with given means of the features, relative to exp(base): at the maximum (l2 = 0) the chosen ones have the mean
features that the model expects.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from tutelage.statistics.intervals import Floats

Ints = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Choices:
    """n choices.  chosen: features [n, d].  candidates: features [R, d] of all sets, one set behind the other, none empty;
    `starts` [n] says where each begins.  base [R]: log-weight of each before any feature.  clusters [n]: choices that are not
    independent of each other share a number."""

    chosen: Floats
    candidates: Floats
    starts: Ints
    base: Floats
    clusters: Ints

    @cached_property
    def sizes(self) -> Ints:
        """[n]: candidates of each set."""
        return np.diff(np.append(self.starts, len(self.candidates)))

    @cached_property
    def sets(self) -> Ints:
        """[R]: the set of each candidate."""
        return np.repeat(np.arange(len(self.starts)), self.sizes)

    def weights(self, theta: Floats) -> tuple[Floats, Floats]:
        """The probability of every candidate in its set [R], and the log of each set's sum [n]."""
        logits = self.base + self.candidates @ theta
        highest = np.maximum.reduceat(logits, self.starts)
        shares = np.exp(logits - highest[self.sets])
        sums = np.add.reduceat(shares, self.starts)
        return shares / sums[self.sets], highest + np.log(sums)

    def expected(self, weights: Floats) -> Floats:
        """[n, d]: the mean features of each set under such weights [R]."""
        return np.add.reduceat(weights[:, None] * self.candidates, self.starts)

    def spread(self) -> Floats:
        """[d]: standard deviation of each feature within the sets, under the base weights alone."""
        weights, _ = self.weights(np.zeros(self.chosen.shape[1]))
        off = self.candidates - self.expected(weights)[self.sets]
        found: Floats = np.sqrt((weights[:, None] * off**2).sum(0) / len(self.starts))
        return found


@dataclass(frozen=True, eq=False)
class Fitted:
    """theta [d], its covariance [d, d] (sandwich, by cluster), the mean log-likelihood of a choice less that at 0, and whether
    the slope had vanished."""

    theta: Floats
    covariance: Floats
    gain: float
    converged: bool


def fit(choices: Choices, l2: float = 0.0, *, steps: int = 100, tolerance: float = 1e-9) -> Fitted:
    """The theta of greatest mean log-likelihood less l2 / 2 * |theta|^2, by Newton's method with halved steps."""
    theta: Floats = np.zeros(choices.chosen.shape[1])
    value, slope, curvature = _at(choices, theta, l2)
    first = value
    for _ in range(steps):
        if np.abs(slope).max(initial=0) < tolerance:
            break
        step = _solved(curvature, slope)
        length = 1.0
        for _ in range(40):  # halved until the objective does not fall
            reached = theta + length * step
            found, slope, curvature = _at(choices, reached, l2)
            if found >= value - 1e-14 * (1 + abs(value)):
                break
            length /= 2
        theta, value = reached, found
    gain = value + l2 / 2 * float(theta @ theta) - first
    converged = bool(np.abs(slope).max(initial=0) < 1e-6)
    return Fitted(theta, _covariance(choices, theta, curvature), gain, converged)


def log_likelihood(choices: Choices, theta: Floats) -> Floats:
    """[n]: log of the probability of what was chosen, but for its base weight, which theta does not change."""
    return choices.chosen @ theta - choices.weights(theta)[1]


def _at(choices: Choices, theta: Floats, l2: float) -> tuple[float, Floats, Floats]:
    """The objective, its slope [d], and its curvature (the negative Hessian) [d, d]."""
    weights, sums = choices.weights(theta)
    means = choices.expected(weights)
    n = len(choices.starts)
    value = float(np.mean(choices.chosen @ theta - sums)) - l2 / 2 * float(theta @ theta)
    slope = (choices.chosen - means).mean(0) - l2 * theta
    second = choices.candidates.T @ (weights[:, None] * choices.candidates)
    return value, slope, (second - means.T @ means) / n + l2 * np.eye(len(theta))


def _solved(curvature: Floats, slope: Floats) -> Floats:
    """curvature^-1 slope; of least length where features say the same of every candidate."""
    found = np.linalg.lstsq(curvature, slope, rcond=1e-12)[0]
    return np.asarray(found, np.float64)


def _covariance(choices: Choices, theta: Floats, curvature: Floats) -> Floats:
    """Huber's sandwich with the slopes of a cluster added up: right also where the model is not."""
    weights, _ = choices.weights(theta)
    slopes = choices.chosen - choices.expected(weights)
    _, cluster = np.unique(choices.clusters, return_inverse=True)
    summed: Floats = np.zeros((cluster.max(initial=0) + 1, slopes.shape[1]))
    np.add.at(summed, cluster, slopes)
    inverse = np.asarray(np.linalg.pinv(curvature, rcond=1e-12, hermitian=True), np.float64)
    found: Floats = inverse @ (summed.T @ summed) @ inverse / len(slopes) ** 2
    return found
