"""What careful people prefer, with each annotator's habits taken out: liking what is shown first, and liking length.

    logit P(annotator a votes for the first of pair i) = s_a d_i + b_a x + c_a z_i,    d_i ~ N(g z_i, spread^2)

x is 1 where the first of the pair was shown first and -1 where it was shown second; z_i is how much longer the first is, in
standard deviations of all such differences.  s_a says how sharply `a` tells differences (1 for most, 0 at random, below 0
upside down), b_a and c_a are the habits.  Bradley-Terry with annotator parameters, one difference to a pair
(`crowd_pairs` says why it is integrated over and not fitted): fitted by EM, with Newton's steps for annotators.

Responses are shown in a drawn order, so what people like in the first place is habit alone.  Longer responses may be better ones:
what all annotators like in length is `shared_length` (g) and stays in `d`; only what one of them likes more or less than
the others is a habit.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tutelage.feedback.statistics.estimate import same_length
from tutelage.feedback.statistics.habits import standard
from tutelage.statistics import Floats, sigmoid

NODES = 21  # of Gauss-Hermite quadrature, as in `crowd_pairs`
PRIOR = (1.0, 0.0, 0.0), (0.5, 1.0, 0.5)
"""Means and standard deviations of (s, b, c) before any vote: most tell differences alike, and habits are not large."""
SHARED = 1.0
"""Standard deviation, in logits, of what all like in length, before any vote."""
PAIRS = 10.0  # what the spread given beforehand counts for


@dataclass(frozen=True, eq=False)
class HabitPairs:
    """`share` [I]: by pair, the probability that a careful annotator without habits prefers the first, given all votes.

    By annotator [A]: `sharpness` (s), `position` (b, logits for what is shown first), `length` (c, logits for one standard
    deviation more length than the others give it).  `shared_length` (g), `spread`: logits.  `objective`: log posterior after
    each step, which never falls.
    """

    pairs: NDArray
    share: Floats
    annotators: NDArray
    sharpness: Floats
    position: Floats
    length: Floats
    shared_length: float
    spread: float
    objective: Floats


def habit_pairs(
    pairs: ArrayLike,
    annotators: ArrayLike,
    won: ArrayLike,
    first_shown: ArrayLike,
    length_difference: ArrayLike,
    *,
    spread: float = 2.0,
    iterations: int = 300,
    tolerance: float = 1e-6,
) -> HabitPairs:
    """Fit the model to votes [n].

    won: 1 for the first of the pair, 0 for the second (leave ties out).  first_shown: 1 where the first of the pair was shown
    first, else 0.  length_difference: the length of the first less that of the second, in any unit.  `spread` counts like ten
    pairs.  Raises ValueError for no votes, lists of different lengths, and values that are none of these.
    """
    n = same_length(
        pairs=pairs,
        annotators=annotators,
        won=won,
        first_shown=first_shown,
        length_difference=length_difference,
    )
    if not n:
        raise ValueError("there are no votes to learn from: collect some first.")
    for name, values in (("won", won), ("first_shown", first_shown)):
        if not np.all(np.isin(np.asarray(values, float), (0, 1))):
            raise ValueError(f"{name} must be 1 (the first of the pair) or 0 (the second): leave ties out.")
    model = _Model(pairs, annotators, won, first_shown, length_difference, spread)
    state = _State(np.tile(np.array(PRIOR[0]), (model.names.size, 1)), 0.0, spread)
    trace = list[float]()
    while True:
        posterior, value = model.expect(state)
        trace.append(value)
        if len(trace) >= iterations or (
            len(trace) > 1 and trace[-1] - trace[-2] < tolerance * model.keys.size
        ):
            break
        state = model.maximise(state, posterior)
    share = np.sum(posterior * sigmoid(model.differences(state)), axis=1)
    sharpness, position, length = state.people.T
    return HabitPairs(
        model.keys,
        share,
        model.names,
        sharpness,
        position,
        length,
        state.shared,
        state.spread,
        np.array(trace),
    )


@dataclass(frozen=True, eq=False)
class _State:
    people: Floats  # [A, 3]: s, b, c
    shared: float
    spread: float


class _Model:
    """EM over votes in the order of their pairs; tables are [.., nodes]."""

    def __init__(
        self,
        pairs: ArrayLike,
        annotators: ArrayLike,
        won: ArrayLike,
        first_shown: ArrayLike,
        length_difference: ArrayLike,
        spread: float,
    ) -> None:
        self.keys, pair = np.unique(np.asarray(pairs), return_inverse=True)
        self.names, who = np.unique(np.asarray(annotators), return_inverse=True)
        order = np.argsort(pair, kind="stable")
        self.pair, self.who = pair[order], who[order]
        self.sign = np.where(np.asarray(won, float) == 1, 1.0, -1.0)[order]
        self.shown = np.where(np.asarray(first_shown, float) == 1, 1.0, -1.0)[order]
        self.longer = standard(length_difference, "length_difference")[order]
        self.first = np.searchsorted(self.pair, np.arange(self.keys.size))  # where each pair's votes begin
        self.z = self.longer[self.first]
        self.start = spread
        self.nodes, weights = np.polynomial.hermite_e.hermegauss(NODES)
        self.log_weights = np.log(weights / weights.sum())

    def differences(self, state: _State) -> Floats:
        """d [I, nodes]."""
        found: Floats = state.shared * self.z[:, None] + state.spread * self.nodes
        return found

    def expect(self, state: _State) -> tuple[Floats, float]:
        """The posterior of each pair over the nodes [I, nodes], and the objective."""
        logs = _log_sigmoid(self.sign[:, None] * self._margins(state.people, self.differences(state)))
        joint = np.add.reduceat(logs, self.first, axis=0) + self.log_weights
        top = joint.max(axis=1, keepdims=True)
        posterior = np.exp(joint - top)
        total = posterior.sum(axis=1, keepdims=True)
        ratio = (self.start / state.spread) ** 2
        before = (
            _log_prior(state.people).sum()
            - 0.5 * (state.shared / SHARED) ** 2
            + PAIRS / 2 * (np.log(ratio) - ratio)
        )
        return posterior / total, float(np.sum(top + np.log(total)) + before)

    def maximise(self, state: _State, posterior: Floats) -> _State:
        """Annotators by a Newton step, halved until the expected log posterior rises; shared liking and spread in closed form."""
        d = self.differences(state)
        people = self._newton(state.people, d, posterior)
        mean = np.sum(posterior * d, axis=1)
        ridge = (state.spread / SHARED) ** 2
        shared = float(self.z @ mean) / float(self.z @ self.z + ridge)
        apart = np.sum(posterior * (d - shared * self.z[:, None]) ** 2)
        spread = np.sqrt((apart + PAIRS * self.start**2) / (self.keys.size + PAIRS))
        return _State(*_habits_apart(people, shared), float(spread))

    def _margins(self, people: Floats, d: Floats) -> Floats:
        """[n, nodes], in favour of the first."""
        s, b, c = people[self.who].T
        found: Floats = s[:, None] * d[self.pair] + (b * self.shown + c * self.longer)[:, None]
        return found

    def _newton(self, people: Floats, d: Floats, posterior: Floats) -> Floats:
        """One step for every annotator by themselves: each has three numbers, and votes of their own."""
        mine, weight = d[self.pair], posterior[self.pair]
        margins = self._margins(people, d)
        p = sigmoid(margins)
        rest = weight * ((self.sign[:, None] > 0) - p)
        curve = weight * p * (1 - p)
        ones = self.shown, self.longer
        slope = np.stack([np.sum(rest * mine, axis=1), *(rest.sum(1) * x for x in ones)], axis=1)
        inner = curve.sum(1)
        cross = np.sum(curve * mine, axis=1)
        rows = [[np.sum(curve * mine**2, axis=1), *(cross * x for x in ones)]]
        rows += [[cross * x, *(inner * x * y for y in ones)] for x in ones]
        hessian = np.stack([np.stack(row, axis=1) for row in rows], axis=1)  # [n, 3, 3]
        mean, sd = np.array(PRIOR[0]), np.array(PRIOR[1])
        slope = self._by_person(slope) - (people - mean) / sd**2
        hessian = self._by_person(hessian.reshape(-1, 9)).reshape(-1, 3, 3) + np.diag(sd**-2.0)
        step = np.linalg.solve(hessian, slope[:, :, None])[:, :, 0]
        before = self._expected(people, d, posterior)
        length = np.ones((len(people), 1))
        for _ in range(20):
            reached = people + length * step
            worse = self._expected(reached, d, posterior) < before
            if not worse.any():
                break
            length[worse] /= 2
        return np.where(worse[:, None], people, reached)

    def _expected(self, people: Floats, d: Floats, posterior: Floats) -> Floats:
        """By annotator, the expected log-likelihood of their votes, with the prior."""
        logs = _log_sigmoid(self.sign[:, None] * self._margins(people, d))
        votes = np.sum(posterior[self.pair] * logs, axis=1)
        found: Floats = np.bincount(self.who, weights=votes, minlength=len(people)) + _log_prior(people)
        return found

    def _by_person(self, columns: Floats) -> Floats:
        """Sums over each annotator's votes: [n, C] -> [A, C]."""
        size = len(self.names)
        return np.stack(
            [np.bincount(self.who, weights=column, minlength=size) for column in columns.T], axis=1
        )


def _habits_apart(people: Floats, shared: float) -> tuple[Floats, float]:
    """The same votes with as little habit as they allow: what all like in length, each as sharply as they tell differences, is
    moved from `c` to what is shared.  No margin changes."""
    s, _, c = people.T
    common = float(s @ c) / float(s @ s) if s.any() else 0.0
    return people - np.outer(s, [0.0, 0.0, common]), shared + common


def _log_prior(people: Floats) -> Floats:
    mean, sd = np.array(PRIOR[0]), np.array(PRIOR[1])
    found: Floats = -0.5 * np.sum(((people - mean) / sd) ** 2, axis=1)
    return found


def _log_sigmoid(x: Floats) -> Floats:
    return np.minimum(x, 0) - np.log1p(np.exp(-np.abs(x)))
