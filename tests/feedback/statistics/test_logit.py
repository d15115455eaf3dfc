"""The derivatives of the objective against differences of its values, and rows that do not touch each other."""

from __future__ import annotations

import numpy as np
import pytest

from tutelage.feedback.statistics.logit import Design, _Objective, fit


def some(rows: int, seed: int = 0) -> tuple[Design, np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    first = generator.integers(0, 4, 30)
    second = (first + generator.integers(1, 4, 30)) % 4
    design = Design(first, second, 4, generator.normal(size=(30, 2)))
    won, lost = generator.integers(0, 8, (2, rows, 30)) / 2
    return design, won, won + lost


def test_slopes_and_curvatures_are_derivatives() -> None:
    size, fitted = 6, _Objective(*some(rows=2), np.full((2, 6), 0.1))
    at = np.random.default_rng(1).normal(size=(2, size))
    _, slope, curvature = fitted.at(at)
    for number in range(size):
        step = 1e-5 * np.eye(size)[number]
        up, down = fitted.at(at + step), fitted.at(at - step)
        assert (up[0] - down[0]) / 2e-5 == pytest.approx(slope[:, number], abs=1e-4)
        column = fitted.times(curvature, np.tile(np.eye(size)[number], (2, 1)))
        assert -(up[1] - down[1]) / 2e-5 == pytest.approx(column, abs=1e-4)
        assert (fitted.design.diagonal(curvature) + 0.1)[:, number] == pytest.approx(column[:, number])


def test_each_row_is_a_fit_of_its_own() -> None:
    design, won, n = some(rows=3)
    together = fit(design, won, n, 0.1)
    for row in range(3):
        one = slice(row, row + 1)
        assert fit(design, won[one], n[one], 0.1)[0] == pytest.approx(together[row], abs=1e-6)


def test_a_start_far_off_ends_at_the_same_place() -> None:
    design, won, n = some(rows=1)
    near, far = (
        fit(design, won, n, 0.1),
        fit(design, won, n, 0.1, start=np.full(6, 25.0) * [1, -1, 1, -1, 1, -1]),
    )
    assert far == pytest.approx(near, abs=1e-5)
