"""The derivatives of both likelihoods against differences of their values, and rows that do not touch each other."""

from __future__ import annotations

import numpy as np
import pytest

from tutelage.feedback.statistics.logit import Design, Outcomes, _Davidson, _HalfWins, fit


def some(rows: int, seed: int = 0) -> tuple[Design, Outcomes]:
    generator = np.random.default_rng(seed)
    first = generator.integers(0, 4, 30)
    second = (first + generator.integers(1, 4, 30)) % 4
    design = Design(first, second, 4, generator.normal(size=(30, 2)))
    return design, Outcomes(*generator.integers(0, 4, (3, rows, 30)).astype(float))


@pytest.mark.parametrize(("model", "size"), [(_HalfWins, 6), (_Davidson, 7)])
def test_slopes_and_curvatures_are_derivatives(model, size) -> None:
    fitted = model(*some(rows=2))
    at = np.random.default_rng(1).normal(size=(2, size))
    _, slope, curvature = fitted.at(at)
    for number in range(size):
        step = 1e-5 * np.eye(size)[number]
        up, down = fitted.at(at + step), fitted.at(at - step)
        assert (up[0] - down[0]) / 2e-5 == pytest.approx(slope[:, number], abs=1e-4)
        column = fitted.times(curvature, np.tile(np.eye(size)[number], (2, 1)))
        assert -(up[1] - down[1]) / 2e-5 == pytest.approx(column, abs=1e-4)
        assert fitted.diagonal(curvature)[:, number] == pytest.approx(column[:, number])


@pytest.mark.parametrize("davidson", [False, True])
def test_each_row_is_a_fit_of_its_own(davidson) -> None:
    design, outcomes = some(rows=3)
    together = fit(design, outcomes, 0.1, davidson=davidson)
    for row in range(3):
        one = Outcomes(*(part[row : row + 1] for part in (outcomes.win, outcomes.tie, outcomes.loss)))
        assert fit(design, one, 0.1, davidson=davidson)[0] == pytest.approx(together[row], abs=1e-6)


def test_a_start_far_off_ends_at_the_same_place() -> None:
    design, outcomes = some(rows=1)
    near, far = (
        fit(design, outcomes, 0.1),
        fit(design, outcomes, 0.1, start=np.full(6, 25.0) * [1, -1, 1, -1, 1, -1]),
    )
    assert far == pytest.approx(near, abs=1e-5)
