"""A linear score from few comparisons, against scikit-learn, scipy and differences of the objective."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import softmax
from sklearn.covariance import ledoit_wolf
from sklearn.linear_model import LogisticRegression

from tutelage.statistics.few_labels import (
    Gaussian,
    best_mixture,
    gaussian_of,
    log_likelihood,
    most_probable,
    shrinkage_of,
)

Floats = NDArray[np.float64]


@pytest.fixture
def pairs() -> tuple[Floats, Floats, Floats]:
    """(differences [30, 4], shares of votes [30], heads of twelve groups [12, 4]); some votes are split."""
    draw = np.random.default_rng(0)
    heads = draw.normal(size=(12, 4)) * [1, 2, 0.5, 3] + [1, -1, 0, 2]
    x = draw.normal(size=(30, 4))
    p = (draw.random(30) < 1 / (1 + np.exp(-x @ heads[3]))).astype(float)
    p[:4] = 0.7
    return x, p, heads


def negative(w: Floats, x: Floats, p: Floats, prior: Gaussian) -> float:
    off = w - prior.mean
    return -log_likelihood(x @ w, p) + 0.5 * float(off @ np.linalg.solve(prior.covariance, off))


def test_the_covariance_is_scikit_learns_ledoit_wolf(pairs: tuple[Floats, Floats, Floats]) -> None:
    for heads in (pairs[2], pairs[2][:3], pairs[2].T):
        covariance, shrinkage = ledoit_wolf(heads)
        assert shrinkage_of(heads) == pytest.approx(shrinkage)
        assert gaussian_of(heads).covariance == pytest.approx(covariance)


def test_without_labels_the_head_is_the_prior(pairs: tuple[Floats, Floats, Floats]) -> None:
    prior = gaussian_of(pairs[2], 0.1)
    found = most_probable(np.zeros((0, 4)), [], prior)
    assert found.mean == pytest.approx(pairs[2].mean(0))
    assert found.covariance == pytest.approx(prior.covariance)


def test_under_a_ridge_it_is_scikit_learns_logistic_regression(pairs: tuple[Floats, Floats, Floats]) -> None:
    """Mean 0 and covariance C times the identity is LogisticRegression(C), each pair once with every outcome, by its share."""
    x, p, _ = pairs
    both, outcome = np.concatenate([x, x]), np.repeat([1, 0], len(x))
    theirs = LogisticRegression(C=1.7, fit_intercept=False, tol=1e-10, max_iter=1000)
    theirs.fit(both, outcome, sample_weight=np.concatenate([p, 1 - p]))
    found = most_probable(x, p, Gaussian(np.zeros(4), 1.7 * np.eye(4)))
    assert found.mean == pytest.approx(theirs.coef_[0], abs=1e-5)


@pytest.mark.parametrize("shrinkage", [0.0, 0.3, 1.0])
def test_the_mode_is_what_a_general_optimiser_finds(
    pairs: tuple[Floats, Floats, Floats], shrinkage: float
) -> None:
    x, p, heads = pairs
    prior = gaussian_of(heads, shrinkage)
    theirs = minimize(negative, prior.mean, (x, p, prior), method="BFGS", options={"gtol": 1e-8})
    assert most_probable(x, p, prior).mean == pytest.approx(theirs.x, abs=1e-4)


def test_the_covariance_is_the_inverse_of_the_second_differences(
    pairs: tuple[Floats, Floats, Floats],
) -> None:
    x, p, heads = pairs
    prior = gaussian_of(heads, 0.2)
    found, e = most_probable(x, p, prior), 1e-4 * np.eye(4)

    def at(*moves: Floats) -> float:
        return negative(found.mean + sum(moves), x, p, prior)

    hessian = [[(at(a, b) - at(a, -b) - at(-a, b) + at(-a, -b)) / 4e-8 for b in e] for a in e]
    assert found.covariance == pytest.approx(np.linalg.inv(hessian), rel=1e-4, abs=1e-6)


def test_a_head_outside_the_span_of_the_prior_is_not_found() -> None:
    """Two groups that differ in one direction leave no room for another: nothing is learnt about it, and nothing breaks."""
    prior = gaussian_of([[1.0, 0, 0], [-1.0, 0, 0]], 0.0)
    found = most_probable(np.array([[0, 1.0, 0]] * 20), np.ones(20), prior)
    assert found.mean == pytest.approx([0, 0, 0], abs=1e-9)


def test_separable_labels_stay_finite_and_more_of_them_leave_less_open(
    pairs: tuple[Floats, Floats, Floats],
) -> None:
    x, _, heads = pairs
    prior, told = gaussian_of(heads), (x @ heads[0] > 0).astype(float)
    spread = [most_probable(x[:n], told[:n], prior).margins(x)[1].mean() for n in (0, 4, 30)]
    assert np.isfinite(spread).all() and spread[0] > spread[1] > spread[2]


def test_probabilities_average_over_what_is_not_known(pairs: tuple[Floats, Floats, Floats]) -> None:
    """MacKay's formula against draws of the weights."""
    x, p, heads = pairs
    found = most_probable(x[:8], p[:8], gaussian_of(heads))
    drawn = np.random.default_rng(1).multivariate_normal(found.mean, found.covariance, 40_000)
    assert found.probabilities(x) == pytest.approx((1 / (1 + np.exp(-drawn @ x.T))).mean(0), abs=0.02)


def test_the_mixture_is_what_scipy_finds_on_the_simplex(pairs: tuple[Floats, Floats, Floats]) -> None:
    x, p, heads = pairs

    def objective(a: Floats) -> float:
        return -log_likelihood(x @ heads.T @ a, p) - float(np.log(a).sum()) / 12

    theirs = minimize(
        lambda free: objective(softmax(free)), np.zeros(12), method="BFGS", options={"gtol": 1e-7}
    )
    found = best_mixture(x, p, heads)
    assert found.sum() == pytest.approx(1) and found.min() >= 0
    assert objective(found) == pytest.approx(theirs.fun, abs=1e-6)
    assert best_mixture(np.zeros((0, 4)), [], heads) == pytest.approx(np.full(12, 1 / 12))


def test_one_head_or_heads_alike_are_no_prior() -> None:
    with pytest.raises(ValueError, match="one head has no spread"):
        gaussian_of([[1.0, 2.0]])
    with pytest.raises(ValueError, match="all heads are alike"):
        gaussian_of([[1.0, 2.0], [1.0, 2.0]])
