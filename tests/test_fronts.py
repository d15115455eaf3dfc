"""Fronts and what they cover: by hand, against darts, and what must not matter."""

from __future__ import annotations

import numpy as np
import pytest

from tutelage.evals.front.measures import Front, group_rows, model_rows, monotone, nadir
from tutelage.statistics import hypervolume, non_dominated


def test_who_is_dominated_by_hand() -> None:
    points = [[1, 5], [2, 4], [2, 3], [4, 1], [4, 1], [0, 0]]
    assert non_dominated(points).tolist() == [True, True, False, True, True, False]
    stacked = non_dominated(np.array([points, np.negative(points)], float))
    assert stacked.shape == (2, 6) and stacked[1].tolist() == [False] * 5 + [True]


def test_volumes_by_hand() -> None:
    # Three steps of a stair: 1 x 3 and 1 x 2 and 1 x 1.
    assert hypervolume([[1, 3], [2, 2], [3, 1]], [0, 0]) == 6
    assert hypervolume([[1, 3], [2, 2], [3, 1]], [1, 1]) == 1  # of [2, 2] alone; the others lie on the border
    assert hypervolume([[2.0]], [0.5]) == 1.5
    # Two boxes of 2 x 1 x 1 across each other: 2 + 2 less the cube that they share.
    assert hypervolume([[2, 1, 1], [1, 2, 1]], [0, 0, 0]) == 3
    # Three that each reach out in one direction: the cube and one more of it each way.
    assert hypervolume([[2, 1, 1], [1, 2, 1], [1, 1, 2]], [0, 0, 0]) == 4
    assert hypervolume([[3, -1], [0, 5]], [0, 0]) == 0 and hypervolume(np.empty((0, 3)), [0, 0, 0]) == 0


@pytest.mark.parametrize("objectives, darts", [(2, 400_000), (3, 400_000), (4, 400_000)])
def test_volumes_against_darts(objectives: int, darts: int) -> None:
    """The share of darts on the unit cube that some point has at least as much of as, within five standard errors."""
    generator = np.random.default_rng(objectives)
    points = generator.random((9, objectives))
    thrown = generator.random((darts, objectives))
    share = np.any([(thrown <= point).all(axis=1) for point in points], axis=0).mean()
    assert abs(hypervolume(points, [0] * objectives) - share) < 5 * (share * (1 - share) / darts) ** 0.5


@pytest.mark.parametrize("objectives", [2, 3, 4])
def test_what_changes_no_volume_and_what_only_adds(objectives: int) -> None:
    generator = np.random.default_rng(10 + objectives)
    points, corner = generator.normal(size=(8, objectives)), np.full(objectives, -1.5)
    volume = hypervolume(points, corner)
    assert volume == pytest.approx(hypervolume(points[generator.permutation(8)], corner))
    axes = generator.permutation(objectives)
    assert volume == pytest.approx(hypervolume(points[:, axes], corner[axes]))
    assert volume == pytest.approx(hypervolume(points[non_dominated(points)], corner))
    assert volume == pytest.approx(hypervolume(points + 7, corner + 7))
    assert 3.0**objectives * volume == pytest.approx(hypervolume(3 * points, 3 * corner))
    assert hypervolume(np.vstack([points, points[:2]]), corner) == pytest.approx(volume)
    for point in generator.normal(size=(20, objectives)):
        more = hypervolume(np.vstack([points, point]), corner)
        assert more >= volume - 1e-12
        lifted = point + generator.random(objectives)
        assert hypervolume(np.vstack([points, lifted]), corner) >= more - 1e-12


def front(values: object, direction: tuple[int, ...] = (1, 1), point: tuple[float, ...] = (0, 0)) -> Front:
    names = ["a", "b", "c", "d"]
    given = np.array(values, float)
    return Front(
        names[: len(given)], ["r", "s"], np.array(direction, float), given, np.array(point, float), 0, 200
    )


def test_order_by_hand() -> None:
    assert monotone(np.array([[1, 3], [2, 2], [2, 1]], float)) and monotone(np.array([[3, 1], [2, 2]], float))
    assert not monotone(np.array([[1, 3], [2, 4], [3, 1]], float))
    assert not monotone(np.array([[1, 1], [2, 2]], float))  # both rise: no trade-off


def test_rows_of_models_and_groups_by_hand() -> None:
    """Four prompts on which nothing varies but for the last model: two groups of two, less of the second reward is better."""
    flat = [[[1, -3]] * 4, [[3, -1]] * 4, [[2, -2]] * 4]
    wavy = [[1, -1], [3, -1], [1, -1], [3, -1]]
    found = front([*flat, wavy], direction=(1, -1))
    rows = {
        (r.model, r.metric): r
        for r in [
            *model_rows(found, {"all": range(4)}),
            *group_rows(found, {"ends": [0, 1], "rest": [2, 3]}),
        ]
    }
    assert rows["a", "reward/s"].value == -3 and rows["a", "reward/r"].value == 1
    assert [rows[name, "non_dominated"].value for name in "abcd"] == [1, 1, 1, 0]
    assert rows["ends", "hypervolume"].value == 5 and rows["rest", "hypervolume"].value == 4
    ratio = rows["ends", "hypervolume_ratio@rest"]
    assert ratio.value == 1.25 and ratio.low is not None and ratio.low < 1.25
    inverse = rows["rest", "hypervolume_ratio@ends"]
    assert inverse.value == 0.8 and inverse.low == 0.8  # the wavy one can only add where chance lifts it
    assert rows["rest", "non_dominated_in_group"].value == 0.5
    assert rows["ends", "hypervolume"].low is None  # nothing varies there
    share = rows["d", "non_dominated_share"].value
    assert (
        share is not None and 0 < share < 0.15
    )  # as good as b where all four prompts are of the better two: 1/16
    assert ("ends", "monotone") not in rows
    three = {(r.metric): r for r in group_rows(found, {"g": [0, 2, 1]})}
    assert three["monotone"].value == 1 and three["monotone_share"].value == 1


def test_the_worst_mean_in_each_reward_is_the_corner() -> None:
    values = np.array([[[1, 5], [3, 5]], [[0, 7], [0, 9]]], float)
    assert nadir(values, np.array([1, -1])).tolist() == [0, 8]


def test_intervals_of_volumes_cover_what_they_should() -> None:
    """One model and two rewards: the volume is a product of two means, whose error is known."""
    generator = np.random.default_rng(0)
    hits = 0
    for _ in range(60):
        values = generator.normal([2.0, 3.0], 1.0, size=(1, 100, 2))
        found = front(values).volume([0])
        hits += found.low <= 6 <= found.high
        assert found.value == pytest.approx(values[0, :, 0].mean() * values[0, :, 1].mean())
        assert 0.6 < (found.high - found.low) / (2 * 1.96 * (13 / 100) ** 0.5) < 1.4
    assert hits >= 52
