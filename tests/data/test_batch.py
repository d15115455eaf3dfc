"""How a batch is cut into micro-batches."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tutelage.data.batch import TokenBatch, Tokens, spans
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


def fields_of(batch: TokenBatch) -> list[tuple[object, ...]]:
    """Everything that belongs to each unit, found the slow way."""
    sizes = batch.unit_sizes or (1,) * len(batch.lengths)
    found, sequence, token = [], 0, 0
    for unit, size in enumerate(sizes):
        lengths = batch.lengths[sequence : sequence + size]
        tokens = slice(token, token + sum(lengths))
        found.append(
            (
                lengths,
                batch.rows[sequence : sequence + size],
                batch.ids[tokens].tolist(),
                batch.loss_mask[tokens].tolist(),
                batch.per_token["t"][tokens].tolist(),
                batch.per_sequence["s"][sequence : sequence + size].tolist(),
                batch.per_unit["u"][unit].tolist(),
            )
        )
        sequence, token = sequence + size, token + sum(lengths)
    return found


@pytest.mark.parametrize("sizes", [(), (1, 3, 2, 1, 2), (9,)])
def test_whatever_stands_beside_the_tokens_is_cut_along_with_them(sizes: tuple[int, ...]) -> None:
    """Units of one, of several and of different numbers of sequences; fields of tokens, sequences and units."""
    random = rng(1, "units", len(sizes))
    lengths = random.integers(1, 9, 9).tolist()
    plain = batch_of(lengths)
    units = len(sizes) or 9
    batch = TokenBatch(
        torch.from_numpy(random.integers(0, 99, sum(lengths))),
        plain.lengths,
        torch.from_numpy(random.random(sum(lengths)) < 0.5),
        tuple(random.integers(0, 99, 9).tolist()),
        sizes,
        {"t": torch.from_numpy(random.random((sum(lengths), 2)))},
        {"s": torch.from_numpy(random.random(9))},
        {"u": torch.from_numpy(random.random(units))},
    )
    whole = fields_of(batch)
    order = random.permutation(units).tolist()
    assert fields_of(batch.take(order)) == [whole[unit] for unit in order]
    assert fields_of(batch.take([0, 0])) == [whole[0], whole[0]]
    assert len(batch.take([])) == 0 and batch.take([]).units() == {"tokens": 0, "sequences": 0, "pairs": 0}
    parts = list(batch.split(10))
    assert sorted(map(str, (unit for part in parts for unit in fields_of(part)))) == sorted(map(str, whole))
    counts = [part.units() for part in parts]
    assert {name: sum(count[name] for count in counts) for name in counts[0]} == batch.units()  # type: ignore[index]
    assert batch.units()["pairs"] == sum(k * (k - 1) // 2 for k in sizes)


def test_padding_counts_where_a_model_pads() -> None:
    """One long text among short ones: laid out as a rectangle it would take twenty times as many tokens as it has."""
    lengths = [200, *[4] * 60]
    groups = batch_of(lengths).groups(256, padded=True)
    assert sorted(unit for group in groups for unit in group) == list(range(61))
    assert all(max(lengths[u] for u in group) * len(group) <= 256 for group in groups)
    pairs = TokenBatch.collate([Tokens(np.zeros(n, np.int32), np.ones(n, bool)) for n in (9, 2, 3, 3, 1, 1)])
    pairs = replace(pairs, unit_sizes=(2, 2, 2))
    assert pairs.groups(18, padded=True) == [[2, 1], [0]]  # two sequences of nine fill eighteen


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 5), min_size=1), st.data())
def test_spans_are_the_ranges_one_after_the_other(sizes: list[int], data: st.DataObject) -> None:
    first = np.concatenate([[0], np.cumsum(sizes)])
    chosen = data.draw(st.lists(st.integers(0, len(sizes) - 1)))
    expected = [n for i in chosen for n in range(first[i], first[i + 1])]
    assert spans(first, np.array(chosen, dtype=np.int64)).tolist() == expected
