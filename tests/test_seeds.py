"""Random numbers depend on the seed and the keys, and on nothing else."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats

from tutelage.seeds import rng, torch_generator

NUMBERS = [2773540446, 4090395526, 3587877991]
TORCH_NUMBERS = [1321897614, 1108241229, 162414394]


def test_the_numbers_of_this_version_are_those_of_every_version() -> None:
    """A run that is continued with a later version must draw the same: these numbers may never change."""
    assert rng(0, "sampling", 3, 7).integers(0, 2**32, 3).tolist() == NUMBERS
    assert (
        torch.randint(0, 2**31, (3,), generator=torch_generator(0, "sampling", 3, 7)).tolist()
        == TORCH_NUMBERS
    )


@pytest.mark.parametrize(
    "other",
    [(1, "a", 2), (0, "b", 2), (0, "a", 3), (0, "a"), (0, "a", "2"), (0, "a2"), (0, "a", 2, 0), (0, 2, "a")],
)
def test_other_names_other_numbers(other: tuple) -> None:
    assert rng(0, "a", 2).random(4).tolist() != rng(*other).random(4).tolist()
    first, second = (torch.rand(4, generator=torch_generator(*names)) for names in ((0, "a", 2), other))
    assert not torch.equal(first, second)


def test_same_names_same_numbers_whatever_happened_before() -> None:
    first = rng(0, "a", 2).random(4)
    np.random.seed(1)
    torch.manual_seed(1)
    rng(0, "a", 2).random(100)
    assert np.array_equal(rng(np.int64(0), "a", np.int32(2)).random(4), first)
    drawn = [torch.rand(3, generator=torch_generator(5)) for _ in range(2)]
    assert torch.equal(*drawn)


def test_neighbouring_keys_are_independent() -> None:
    """One draw from each of many generators is as uniform as many draws from one; neighbours do not correlate."""
    for draws in (
        np.array([rng(0, "row", n).random() for n in range(2000)]),
        np.array([float(torch.rand((), generator=torch_generator(0, "row", n), dtype=torch.float64)) for n in range(2000)]),
    ):  # fmt: skip
        assert stats.kstest(draws, "uniform").pvalue > 1e-3
        assert abs(np.corrcoef(draws[:-1], draws[1:])[0, 1]) < 0.1


def test_keys_are_text_or_whole_numbers() -> None:
    with pytest.raises(TypeError):
        rng(0, 1.5)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        rng(0, None)  # type: ignore[arg-type]
