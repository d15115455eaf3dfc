"""A linear score from few comparisons: the most probable weights under what other groups' weights were like.

Of n pairs with feature differences x [n, d] and shares of votes p [n] the log-likelihood (Bradley and Terry 1952) is

    l(w) = sum_i  p_i log sigmoid(x_i w) + (1 - p_i) log sigmoid(-x_i w)

`most_probable` maximises it plus the logarithm of a Gaussian prior, `best_mixture` over the mixtures of weights that are there.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from tutelage.statistics.calibration import sigmoid
from tutelage.statistics.intervals import Floats

STEPS = 100
EXACT = 1e-10  # of the objective's gain, relative, below which nothing is gained any more
COUNTED = 1.0  # pseudo-labels of a mixture, spread evenly: without a label all weights count alike


@dataclass(frozen=True)
class Gaussian:
    """What weights are like: mean [d] and covariance [d, d]."""

    mean: Floats
    covariance: Floats

    def margins(self, differences: ArrayLike) -> tuple[Floats, Floats]:
        """(mean [n], standard deviation [n]) of the score differences of pairs [n, d]."""
        x = np.asarray(differences, float)
        return x @ self.mean, np.sqrt(np.maximum(np.einsum("nd,de,ne->n", x, self.covariance, x), 0))

    def probabilities(self, differences: ArrayLike) -> Floats:
        """[n]: of preferring the first, with the weights unknown: sigmoid(mean / sqrt(1 + pi variance / 8)) (MacKay 1992)."""
        mean, std = self.margins(differences)
        return sigmoid(mean / np.sqrt(1 + np.pi * std**2 / 8))


def shrinkage_of(weights: ArrayLike) -> float:
    """How far the covariance of `weights` [g, d] is to be moved towards a multiple of the identity, 0 to 1 (Ledoit and Wolf 2004,
    doi 10.1016/S0047-259X(03)00096-4)."""
    x = np.asarray(weights, float)
    x = x - x.mean(0)
    g, d = x.shape
    squares = x @ x.T  # [g, g]; the covariance is x' x / g, and traces of its powers are sums over this
    mean = np.trace(squares) / (g * d)
    apart = (squares**2).sum() / g**2 - d * mean**2  # squared distance of the covariance to mean * identity
    noise = ((np.diag(squares) ** 2).sum() - (squares**2).sum() / g) / g**2
    return float(np.clip(noise / apart, 0, 1)) if apart > 0 else 1.0


def gaussian_of(weights: ArrayLike, shrinkage: float | None = None) -> Gaussian:
    """The Gaussian that `weights` [g, d] are taken to be drawn from: their mean; their covariance S as
    (1 - s) S + s trace(S) / d identity.  s: `shrinkage`, 1 for ridge regression around the mean; None: `shrinkage_of`.

    Raises ValueError when the weights are fewer than two, or all alike.
    """
    x = np.asarray(weights, float)
    if len(x) < 2:
        raise ValueError("one head has no spread: a prior needs heads of two groups or more")
    covariance = np.atleast_2d(np.cov(x.T, bias=True))
    if not np.trace(covariance) > 0:
        raise ValueError("all heads are alike, so that no group differs from any: train them for longer")
    s = shrinkage_of(x) if shrinkage is None else shrinkage
    even = np.eye(x.shape[1]) * np.trace(covariance) / x.shape[1]
    return Gaussian(x.mean(0), (1 - s) * covariance + s * even)


def log_likelihood(margins: ArrayLike, p: ArrayLike) -> float:
    """Of votes, in nats: margins [n] are score differences, p [n] the share of votes for the first."""
    m, share = np.asarray(margins, float), np.asarray(p, float)
    return float(-(share * np.logaddexp(0, -m) + (1 - share) * np.logaddexp(0, m)).sum())


def most_probable(differences: ArrayLike, p: ArrayLike, prior: Gaussian) -> Gaussian:
    """The weights' mode after these pairs, and Laplace's approximation around it: the inverse of the Hessian there.

    Newton's method in the coordinates in which the prior is the standard normal, with a step that is halved until the objective
    (concave) rises.  Without a pair it is the prior.
    """
    x, share = np.asarray(differences, float).reshape(-1, len(prior.mean)), np.asarray(p, float)
    values, vectors = np.linalg.eigh(prior.covariance)
    root = vectors * np.sqrt(np.maximum(values, 0))  # w = mean + root v
    z, offset = x @ root, x @ prior.mean

    def objective(v: Floats) -> float:
        return log_likelihood(offset + z @ v, share) - 0.5 * float(v @ v)

    v, reached = np.zeros(root.shape[1]), objective(np.zeros(root.shape[1]))
    for _ in range(STEPS):
        chosen = sigmoid(offset + z @ v)
        gradient = z.T @ (share - chosen) - v
        step = np.linalg.solve(_precision(z, chosen), gradient)
        size, found = 1.0, objective(v + step)
        while found < reached and size > 1e-8:
            size /= 2
            found = objective(v + size * step)
        if found - reached <= EXACT * (1 + abs(reached)):
            break
        v, reached = v + size * step, found
    covariance = root @ np.linalg.inv(_precision(z, sigmoid(offset + z @ v))) @ root.T
    return Gaussian(prior.mean + root @ v, (covariance + covariance.T) / 2)


def _precision(z: Floats, chosen: Floats) -> Floats:
    """Minus the objective's Hessian where the pairs are preferred with the probabilities `chosen`."""
    return (z * (chosen * (1 - chosen))[:, None]).T @ z + np.eye(z.shape[1])


def by_steps(differences: ArrayLike, p: ArrayLike, start: ArrayLike, steps: int, rate: float) -> Floats:
    """[d]: the weights after so many gradient steps on the mean negative log-likelihood, from `start`; that, without a pair."""
    w = np.array(start, float)
    x, share = np.asarray(differences, float).reshape(-1, len(w)), np.asarray(p, float)
    for _ in range(steps if len(x) else 0):
        w = w + rate * x.T @ (share - sigmoid(x @ w)) / len(x)
    return w


def best_mixture(differences: ArrayLike, p: ArrayLike, weights: ArrayLike) -> Floats:
    """[g]: the shares, 0 or more and with sum 1, in which `weights` [g, d] are mixed into those that the votes make most probable
    (compare Chen et al. 2024, PAL, arXiv 2406.08469).

    A Dirichlet prior with `COUNTED` pseudo-labels holds them near even shares.  Exponentiated gradients, with a step that is
    halved until the objective (concave) rises.
    """
    w, share = np.asarray(weights, float), np.asarray(p, float)
    z = np.asarray(differences, float).reshape(-1, w.shape[1]) @ w.T  # [n, g]: what each would say
    each = COUNTED / len(w)

    def objective(a: Floats) -> float:
        return log_likelihood(z @ a, share) + each * float(np.log(a).sum())

    a = np.full(len(w), 1 / len(w))
    reached, size = objective(a), 1.0
    for _ in range(20 * STEPS):
        gradient = z.T @ (share - sigmoid(z @ a)) + each / a
        while True:
            moved = a * np.exp(np.clip(size * (gradient - gradient @ a), -30, 30))
            moved = np.maximum(moved / moved.sum(), 1e-12)
            found = objective(moved)
            if found >= reached or size < 1e-12:
                break
            size /= 2
        gained = found - reached
        if gained <= EXACT * (1 + abs(reached)):
            break
        a, reached, size = moved, found, size * 1.5
    return a / a.sum()
