"""How a batch is cut into micro-batches."""

from __future__ import annotations

from dataclasses import replace
from itertools import chain

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tutelage.data.batch import TokenBatch, Tokens, common_starts, spans
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


def step(prompt: int, samples: int, order: list[int] | None = None) -> TokenBatch:
    """Six prompts of so many tokens, each with so many responses of 4 to 40 tokens; units in this order."""
    lengths = rng(1, "responses").integers(4, 41, (6, samples))
    rows = [row for row in range(6) for _ in range(samples)]
    found = [
        Tokens(
            np.r_[np.full(prompt, 1 + row), 10 + np.arange(n) + 100 * k].astype(np.int32),
            np.ones(prompt + n, bool),
        )
        for row in range(6)
        for k, n in enumerate(lengths[row])
    ]
    batch = TokenBatch.collate(found, rows)
    return batch if order is None else batch.take(order)


def computed(batch: TokenBatch) -> int:
    return sum(batch.lengths) - sum(batch.shared_prefixes or ())


@pytest.mark.parametrize("limit", [10**6, 2000, 700])
def test_responses_to_a_prompt_stay_together_and_their_prompt_counts_once(limit: int) -> None:
    """Also where the units were shuffled: what is computed is each prompt once, and at most the limit at a time."""
    order = rng(0, "shuffled").permutation(48).tolist()
    for batch in (step(64, 8), step(64, 8, order)):
        parts = list(batch.split(limit))
        assert sorted(t for part in parts for t in fields_of_ids(part)) == sorted(fields_of_ids(batch))
        once = sum(batch.lengths) - 6 * 7 * 64
        again = sum(computed(part) for part in parts) - once
        assert again <= 64 * (len(parts) - 1) and max(map(computed, parts)) <= limit
        assert len(parts) <= -(-once // limit) + 1
    whole = step(64, 8)
    assert whole.groups(10**6) == [list(range(48))]


def test_attention_of_copies_bounds_a_micro_batch_too() -> None:
    """200 responses of a few tokens: 600 tokens to compute, but attention has 20 times as many."""
    batch = step(300, 40)
    assert max(sum(part.lengths) for part in batch.split(3000)) <= 4 * 3000


def test_where_little_is_shared_length_alone_decides() -> None:
    batch = step(1, 8)
    alone = replace(batch, rows=tuple(range(48)))
    assert batch.groups(300) == alone.groups(300) and len(batch.groups(300)) > 3


def fields_of_ids(batch: TokenBatch) -> list[list[int]]:
    return [part.tolist() for part in batch.ids.split(batch.lengths)]


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
    assert len(batch.take([])) == 0 and not any(batch.take([]).units().values())
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


@settings(max_examples=50, deadline=None)
@given(st.lists(st.lists(st.integers(0, 1), max_size=5), min_size=1), st.data())
def test_common_starts_are_those_of_each_pair(texts: list[list[int]], data: st.DataObject) -> None:
    one, other = (
        data.draw(st.lists(st.integers(0, len(texts) - 1), min_size=4, max_size=4)) for _ in range(2)
    )
    ids = np.array([*chain.from_iterable(texts)], dtype=np.int64)
    first = np.concatenate([[0], np.cumsum([len(text) for text in texts])])
    pairs = [list(zip(texts[a], texts[b], strict=False)) for a, b in zip(one, other, strict=True)]
    expected = [next((n for n, (a, b) in enumerate(pair) if a != b), len(pair)) for pair in pairs]
    assert common_starts(ids, first, np.array(one), np.array(other)) == expected
    assert common_starts(ids, first, np.array(one)[:0], np.array(other)[:0]) == []
