"""The conditional logit: closed forms, another optimiser, and standard errors that are the spread over repetitions."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import logsumexp

from tutelage.statistics.choices import Choices, fit, log_likelihood


def of(sets: list[np.ndarray], chosen: list[int], base: list[np.ndarray] | None = None) -> Choices:
    """Sets of candidates [k, d] and which of each was chosen."""
    starts = np.cumsum([0, *map(len, sets)])[:-1]
    weights = np.concatenate(base) if base else np.zeros(sum(map(len, sets)))
    picked = np.array([candidates[number] for candidates, number in zip(sets, chosen, strict=True)])
    return Choices(picked, np.concatenate(sets), starts, weights, np.arange(len(sets)))


def test_a_coin_by_hand() -> None:
    """One feature, 0 or 1, and 30 of 40 chose 1: log odds log(30 / 10), its standard error sqrt(1/30 + 1/10)."""
    found = fit(of([np.array([[0.0], [1.0]])] * 40, [1] * 30 + [0] * 10))
    assert found.theta == pytest.approx([np.log(3)], abs=1e-9) and found.converged
    assert np.sqrt(found.covariance[0, 0]) == pytest.approx(np.sqrt(1 / 30 + 1 / 10), abs=1e-9)
    entropy = -(0.75 * np.log(0.75) + 0.25 * np.log(0.25))
    assert found.gain == pytest.approx(np.log(2) - entropy, abs=1e-12)


def test_base_weights_are_where_it_starts() -> None:
    """What was likely before is no merit: chosen as often as the base says, the weight is 0."""
    base = np.log(np.array([0.25, 0.75]))
    found = fit(of([np.array([[0.0], [1.0]])] * 40, [1] * 30 + [0] * 10, [base] * 40))
    assert found.theta == pytest.approx([0.0], abs=1e-9) and found.gain == pytest.approx(0.0, abs=1e-12)


def ragged(seed: int, n: int = 60) -> tuple[list[np.ndarray], list[int], list[np.ndarray]]:
    generator = np.random.default_rng(seed)
    sets = [generator.normal(size=(int(generator.integers(2, 7)), 3)) for _ in range(n)]
    base = [generator.normal(size=len(candidates)) for candidates in sets]
    logits = [b + candidates @ [1.0, -0.5, 0.0] for candidates, b in zip(sets, base, strict=True)]
    chosen = [int(generator.choice(len(one), p=np.exp(one - logsumexp(one)))) for one in logits]
    return sets, chosen, base


@pytest.mark.parametrize("l2", [0.0, 0.1])
def test_as_another_optimiser_finds_it(l2: float) -> None:
    sets, chosen, base = ragged(0)

    def loss(theta: np.ndarray) -> float:
        each = [
            (b + candidates @ theta)[number] - logsumexp(b + candidates @ theta)
            for candidates, number, b in zip(sets, chosen, base, strict=True)
        ]
        return -float(np.mean(each)) + l2 / 2 * float(theta @ theta)

    choices = of(sets, chosen, base)
    found = fit(choices, l2)
    other = minimize(loss, np.zeros(3), method="BFGS", options={"gtol": 1e-10})
    assert found.theta == pytest.approx(other.x, abs=1e-5)
    own = log_likelihood(choices, found.theta).mean() + np.mean(
        [b[c] for b, c in zip(base, chosen, strict=True)]
    )
    assert -own + l2 / 2 * found.theta @ found.theta == pytest.approx(loss(found.theta), abs=1e-12)


def test_chosen_ones_have_the_expected_features() -> None:
    """The fixed point of maximum entropy."""
    choices = of(*ragged(1))
    weights, _ = choices.weights(fit(choices).theta)
    assert choices.expected(weights).mean(0) == pytest.approx(choices.chosen.mean(0), abs=1e-9)


def test_standard_errors_are_the_spread_over_repetitions() -> None:
    fits = [fit(of(*ragged(seed, 150))) for seed in range(60)]
    spread = np.std([one.theta for one in fits], axis=0)
    said = np.sqrt(np.mean([np.diag(one.covariance) for one in fits], axis=0))
    assert said == pytest.approx(spread, rel=0.3)


def test_what_is_counted_twice_is_no_more_certain_in_one_cluster() -> None:
    sets, chosen, base = ragged(2)
    once = fit(of(sets, chosen, base))
    twice = of(sets * 2, chosen * 2, base * 2)
    apart = fit(twice)
    together = fit(
        Choices(twice.chosen, twice.candidates, twice.starts, twice.base, np.tile(np.arange(60), 2))
    )
    assert together.covariance == pytest.approx(once.covariance, rel=1e-6)
    assert apart.covariance == pytest.approx(once.covariance / 2, rel=1e-6)


def test_features_that_say_the_same_share_a_weight_and_l2_holds_what_separates() -> None:
    sets, chosen, base = ragged(3)
    doubled = of([np.hstack([one, one[:, :1]]) for one in sets], chosen, base)
    single = fit(of(sets, chosen, base))
    found = fit(doubled)
    assert found.theta[0] == pytest.approx(found.theta[3]) == pytest.approx(single.theta[0] / 2, abs=1e-6)
    apart = of([np.array([[0.0], [1.0]])] * 5, [1] * 5)
    held = fit(apart, 0.01)
    assert held.converged and held.theta[0] == pytest.approx((1 / (1 + np.exp(held.theta[0]))) / 0.01)
