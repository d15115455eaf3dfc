"""What careful people prefer, with each annotator's habits taken out: liking what is shown first, and liking length.

    logit P(annotator a votes for the first of pair i) = s_a d_i + b_a x + c_a z_i,    d_i ~ N(g z_i, spread^2)

x is 1 where the first of the pair was shown first and -1 where it was shown second; z_i is how much longer the first is, in
standard deviations of all such differences.  s_a says how sharply `a` tells differences (1 for most, 0 at random, below 0
upside down), b_a and c_a are the habits.  Bradley-Terry with annotator parameters, one difference to a pair
(`crowd_pairs` says why it is integrated over and not fitted): fitted by EM, with Newton's steps for annotators.

Responses are shown in a drawn order, so what people like in the first place is habit alone.  Longer responses may be better ones:
what all annotators like in length is `shared_length` (g) and stays in `d`; only what one of them likes more or less than
the others is a habit.  With `length="all"` the label is that of d_i - g z_i: right where length is no part of quality, which
votes cannot say.

Labels do not lean on g.  A label is shrunk towards its prior's mean, the more the fewer the votes; were that mean g z_i, what
learns from the labels would find every quality shrunk but length, and take length for more than it is (with one vote a pair, for
nearly three times as much).  So in labels the prior of `d`, with length in it, has mean 0 and the same variance.
With `length="all"` the prior of d_i - g z_i has mean 0 already, and g enters the votes' margins alone.

Standard errors come from the sums over pairs of the outer product of a pair's score (its gradient of the log-likelihood, which
is the posterior mean of that given d: Fisher's identity), with the priors: Berndt, Hall, Hall and Hausman 1974.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

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
AT_ONCE = 1000  # pairs whose scores are summed up together
Length = Literal["own", "all"]
"""What of a liking for length is taken out of labels: what is each annotator's own, or all of it."""


@dataclass(frozen=True, eq=False)
class HabitPairs:
    """`share` [I]: by pair, the probability that a careful annotator without habits prefers the first, given all votes; whatever
    its length, it starts from one half.

    By annotator [A]: `votes`; `sharpness` (s), `position` (b, logits for what is shown first), `length` (c, logits for one
    standard deviation more length than the others give it), with standard errors.  `shared_length` (g), `spread`: logits.
    `length_unit`: that standard deviation, in the unit that lengths were given in.  `objective`: log posterior after each step,
    which never falls.
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
    votes: NDArray
    position_error: Floats
    length_error: Floats
    shared_length_error: float
    length_unit: float


def habit_pairs(
    pairs: ArrayLike,
    annotators: ArrayLike,
    won: ArrayLike,
    first_shown: ArrayLike,
    length_difference: ArrayLike,
    *,
    length: Length = "own",
    spread: float = 2.0,
    iterations: int = 300,
    tolerance: float = 1e-6,
) -> HabitPairs:
    """Fit the model to votes [n].

    won: 1 for the first of the pair, 0 for the second (leave ties out).  first_shown: 1 where the first of the pair was shown
    first, else 0.  length_difference: the length of the first less that of the second, in any unit.  length: as `Length`.
    `spread` counts like ten pairs.  Raises ValueError for no votes, lists of different lengths, and values that are none of
    these.
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
    errors, shared_error = model.errors(state, posterior)
    sharpness, position, own = state.people.T
    return HabitPairs(
        pairs=model.keys,
        share=model.labels(state, length),
        annotators=model.names,
        sharpness=sharpness,
        position=position,
        length=own,
        shared_length=state.shared,
        spread=state.spread,
        objective=np.array(trace),
        votes=np.bincount(model.who, minlength=model.names.size),
        position_error=errors[:, 1],
        length_error=errors[:, 2],
        shared_length_error=shared_error,
        length_unit=float(np.sqrt(np.mean(np.square(np.asarray(length_difference, float))))),
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

    def differences(self, shared: float, spread: float) -> Floats:
        """d [I, nodes], with so much liking for length in it."""
        found: Floats = shared * self.z[:, None] + spread * self.nodes
        return found

    def labels(self, state: _State, length: Length) -> Floats:
        """The probability that a careful annotator without habits prefers the first [I].  Before votes it is one half for every
        pair, longer or not: the head of this file says why."""
        taken, spread = 0.0, float(np.hypot(state.spread, state.shared))
        if length == "all":
            taken, spread = state.shared, state.spread
        posterior, _ = self._posterior(state.people, self.differences(taken, spread))
        return posterior @ sigmoid(spread * self.nodes)

    def expect(self, state: _State) -> tuple[Floats, float]:
        """The posterior of each pair over the nodes [I, nodes], and the objective."""
        posterior, evidence = self._posterior(state.people, self.differences(state.shared, state.spread))
        ratio = (self.start / state.spread) ** 2
        before = (
            _log_prior(state.people).sum()
            - 0.5 * (state.shared / SHARED) ** 2
            + PAIRS / 2 * (np.log(ratio) - ratio)
        )
        return posterior, float(evidence + before)

    def _posterior(self, people: Floats, d: Floats) -> tuple[Floats, float]:
        """Of each pair over its nodes [I, nodes], and the log-likelihood of all votes."""
        logs = _log_sigmoid(self.sign[:, None] * self._margins(people, d))
        joint = np.add.reduceat(logs, self.first, axis=0) + self.log_weights
        top = joint.max(axis=1, keepdims=True)
        posterior = np.exp(joint - top)
        total = posterior.sum(axis=1, keepdims=True)
        return posterior / total, float(np.sum(top + np.log(total)))

    def maximise(self, state: _State, posterior: Floats) -> _State:
        """Annotators by a Newton step, halved until the expected log posterior rises; shared liking and spread in closed form."""
        d = self.differences(state.shared, state.spread)
        people = self._newton(state.people, d, posterior)
        mean = np.sum(posterior * d, axis=1)
        ridge = (state.spread / SHARED) ** 2
        shared = float(self.z @ mean) / float(self.z @ self.z + ridge)
        apart = np.sum(posterior * (d - shared * self.z[:, None]) ** 2)
        spread = np.sqrt((apart + PAIRS * self.start**2) / (self.keys.size + PAIRS))
        return _State(*_habits_apart(people, shared), float(spread))

    def errors(self, state: _State, posterior: Floats) -> tuple[Floats, float]:
        """Standard errors of the annotators' numbers [A, 3], and of what all like in length."""
        size = 3 * len(state.people)
        sd = np.array(PRIOR[1])
        information = np.diag(
            [*np.tile(sd**-2.0, len(state.people)), SHARED**-2.0, 2 * PAIRS / state.spread**2]
        )
        own, both = self._scores(state, posterior)
        columns = 3 * self.who[:, None] + np.arange(3)
        for start in range(0, self.keys.size, AT_ONCE):
            votes = slice(*np.searchsorted(self.pair, (start, start + AT_ONCE)))
            rows = np.zeros((min(AT_ONCE, self.keys.size - start), size + 2))
            at = self.pair[votes, None] - start
            np.add.at(rows, (at, columns[votes]), own[votes])
            np.add.at(rows, (at, np.array([[size, size + 1]])), both[votes])
            information += rows.T @ rows
        turn = _apart_slope(state.people)
        variance = np.einsum("ij,jk,ik->i", turn, np.linalg.inv(information), turn)
        found = np.sqrt(np.maximum(variance, 0))
        return found[:size].reshape(-1, 3), float(found[size])

    def _scores(self, state: _State, posterior: Floats) -> tuple[Floats, Floats]:
        """What each vote adds to its pair's gradient of the log-likelihood: by (s, b, c) of its annotator [n, 3], and by what is
        shared and the spread [n, 2]."""
        d = self.differences(state.shared, state.spread)
        rest = (self.sign[:, None] > 0) - sigmoid(self._margins(state.people, d))
        rest *= posterior[self.pair]
        total, s = rest.sum(1), state.people[self.who, 0]
        own = [np.sum(rest * d[self.pair], axis=1), total * self.shown, total * self.longer]
        return np.stack(own, axis=1), np.stack([s * total * self.longer, s * (rest @ self.nodes)], axis=1)

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


def _apart_slope(people: Floats) -> Floats:
    """[3A + 2, 3A + 2]: by how much `_habits_apart` moves each number when one changes: all (s, b, c), what is shared, the
    spread."""
    s, _, c = people.T
    size, square = people.size, float(s @ s)
    found = np.eye(size + 2)
    if square:
        sharp, liking = np.arange(0, size, 3), np.arange(2, size, 3)
        found[np.ix_(liking, liking)] -= np.outer(s, s) / square
        found[np.ix_(liking, sharp)] -= np.outer(s, c) / square
        found[size, liking], found[size, sharp] = s / square, c / square
    return found


def _log_prior(people: Floats) -> Floats:
    mean, sd = np.array(PRIOR[0]), np.array(PRIOR[1])
    found: Floats = -0.5 * np.sum(((people - mean) / sd) ** 2, axis=1)
    return found


def _log_sigmoid(x: Floats) -> Floats:
    return np.minimum(x, 0) - np.log1p(np.exp(-np.abs(x)))
