"""How a batch is cut into micro-batches."""

from __future__ import annotations

import numpy as np
import pytest

from tutelage.data.batch import TokenBatch, Tokens
from tutelage.seeds import rng


def batch_of(lengths: list[int]) -> TokenBatch:
    return TokenBatch.collate([Tokens(np.zeros(n, np.int32), np.ones(n, bool)) for n in lengths])


@pytest.mark.parametrize("lengths", [[96] * 64, rng(0, "ragged").integers(10, 200, 64).tolist()])
def test_micro_batches_hold_every_unit_once_and_about_as_much_each(lengths: list[int]) -> None:
    groups = batch_of(lengths).groups(4096)
    sizes = [sum(lengths[unit] for unit in group) for group in groups]
    assert sorted(unit for group in groups for unit in group) == list(range(64))
    assert len(groups) == -(-sum(lengths) // 4096) and max(sizes) <= 4096
    assert max(sizes) - min(sizes) <= 2 * max(lengths)


def test_a_unit_beyond_the_limit_stands_alone() -> None:
    assert batch_of([5000, 10, 10]).groups(4096) == [[1, 2], [0]]
