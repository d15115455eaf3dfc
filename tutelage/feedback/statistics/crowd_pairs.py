"""Crowd-BT (Chen et al. 2013) for pairs that each stand alone: what share of careful people would prefer the first.

    P(vote for the first) = eta * sigmoid(d) + (1 - eta) * sigmoid(-d),   d ~ N(0, spread^2) of every pair its own

With models as players the strengths are met by hundreds of votes.  A pair of responses is met by a
handful, to which a strength of its own would bend: so `d` is not fitted but integrated over, on the nodes of
Gauss-Hermite quadrature, and only the reliabilities and the spread are learnt, from all pairs together, by EM.

Ties are left to the caller: as half a vote each way they would make everybody who ever ties look like a coin.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tutelage.feedback.statistics.estimate import same_length
from tutelage.statistics import Floats, sigmoid

NODES = 21  # of the quadrature; twice as many change no share by 0.001


@dataclass(frozen=True, eq=False)
class CrowdPairs:
    """`share` [I]: by pair, the probability that a careful annotator prefers the first, given all votes.  `reliability`
    [A]: by annotator, the probability of voting like a careful one (below one half: upside down).  `spread`: of the
    differences, in logits.  `objective`: log posterior after each step, which never falls."""

    pairs: NDArray
    share: Floats
    annotators: NDArray
    reliability: Floats
    spread: float
    objective: Floats


def crowd_pairs(
    pairs: ArrayLike,
    annotators: ArrayLike,
    won: ArrayLike,
    *,
    prior: tuple[float, float] = (4.0, 2.0),
    spread: float = 2.0,
    iterations: int = 500,
    tolerance: float = 1e-6,
) -> CrowdPairs:
    """Fit the model to votes [n]: `won` is 1 for the first and 0 for the second.

    `prior` is the Beta prior of a reliability, worth (a - 1) votes like a careful annotator's and (b - 1) against; its mean
    above one half says which way is up.  `spread` counts like ten pairs when the spread is learnt: with one vote a pair,
    which says nothing about it, it stays.  Raises ValueError for no votes, lists of different lengths, other
    values of `won`, and a prior that is not a sensible one.
    """
    n = same_length(pairs=pairs, annotators=annotators, won=won)
    shares = np.asarray(won, float)
    if not n:
        raise ValueError("there are no votes to learn from: collect some first.")
    if not np.all(np.isin(shares, (0, 1))):
        raise ValueError("won must be 1 (the first won) or 0 (the second did): leave ties out.")
    if min(prior) < 1 or spread <= 0:
        raise ValueError(f"prior={prior} must be at least 1, both, and spread={spread} above 0.")
    model = _Model(pairs, annotators, shares, prior, spread)
    trace, enough = list[float](), tolerance * model.keys.size
    state = _State(np.full(model.names.size, max(0.75, prior[0] / sum(prior))), spread)
    while True:
        posterior, value = model.expect(state)
        trace.append(value)
        if len(trace) >= iterations or (len(trace) > 1 and trace[-1] - trace[-2] < enough):
            break
        state = model.maximise(state, posterior)
    share = posterior @ sigmoid(state.spread * model.nodes)
    return CrowdPairs(model.keys, share, model.names, state.reliability, state.spread, np.array(trace))


@dataclass(frozen=True, eq=False)
class _State:
    reliability: Floats  # [A]
    spread: float


class _Model:
    """EM over votes in the order of their pairs; tables are [.., nodes]."""

    PAIRS = 10.0  # what the spread given beforehand counts for

    def __init__(
        self, pairs: ArrayLike, annotators: ArrayLike, won: Floats, prior: tuple[float, float], spread: float
    ) -> None:
        self.keys, pair = np.unique(np.asarray(pairs), return_inverse=True)
        self.names, who = np.unique(np.asarray(annotators), return_inverse=True)
        order = np.argsort(pair, kind="stable")
        self.pair, self.who = pair[order], who[order]
        self.row = 2 * self.who + (won[order] == 0)  # of the table of all possible votes [A * 2, nodes]
        self.first = np.searchsorted(self.pair, np.arange(self.keys.size))  # where each pair's votes begin
        self.prior, self.spread = prior, spread
        self.nodes, weights = np.polynomial.hermite_e.hermegauss(NODES)
        self.log_weights = np.log(weights / weights.sum())
        self.votes = np.bincount(self.who)

    def expect(self, state: _State) -> tuple[Floats, float]:
        """The posterior of each pair over the nodes [I, nodes], and the objective."""
        logs = np.log(self._votes(state))
        joint = np.add.reduceat(logs[self.row], self.first, axis=0) + self.log_weights
        top = joint.max(axis=1, keepdims=True)
        posterior = np.exp(joint - top)
        total = posterior.sum(axis=1, keepdims=True)
        a, b = self.prior
        before = np.sum((a - 1) * np.log(state.reliability) + (b - 1) * np.log1p(-state.reliability))
        ratio = (self.spread / state.spread) ** 2
        before += self.PAIRS / 2 * (np.log(ratio) - ratio)
        return posterior / total, float(np.sum(top + np.log(total)) + before)

    def maximise(self, state: _State, posterior: Floats) -> _State:
        """Reliabilities from how likely each vote was a careful one, and the spread from how far apart pairs are."""
        p = sigmoid(state.spread * self.nodes)
        said = np.stack([p, 1 - p])  # by a careful annotator
        careful = (state.reliability[:, None, None] * said).reshape(-1, NODES) / self._votes(state)
        expected = np.einsum("ng,ng->n", careful[self.row], posterior[self.pair])
        a, b = self.prior
        told = np.bincount(self.who, weights=expected)
        reliability = np.clip((told + a - 1) / np.maximum(self.votes + a + b - 2, 1e-9), 1e-6, 1 - 1e-6)
        square = state.spread**2 * np.sum(posterior @ self.nodes**2)
        spread = (square + self.PAIRS * self.spread**2) / (self.keys.size + self.PAIRS)
        return _State(reliability, float(np.sqrt(spread)))

    def _votes(self, state: _State) -> Floats:
        """The probability of a vote for the first, then of one for the second, by annotator [A * 2, nodes]."""
        p, mine = sigmoid(state.spread * self.nodes), state.reliability[:, None]
        first = np.clip(mine * p + (1 - mine) * (1 - p), 1e-12, 1 - 1e-12)
        return np.stack([first, 1 - first], axis=1).reshape(-1, NODES)
