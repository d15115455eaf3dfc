"""Packing: every token predicted once, rows never too long and nearly full, the same after a restart."""

from __future__ import annotations

from collections import Counter
from itertools import chain

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tutelage.data.packing import Packing, Segment
from tutelage.seeds import rng


def rows(packing: Packing, epoch: int) -> list[list[Segment]]:
    return [packing.row(epoch, row) for row in range(len(packing))]


def one_by_one(lengths: list[int], max_length: int, seed: int, epoch: int) -> list[list[Segment]]:
    """Best fit as it is told in a textbook: the pieces one after the other, rows as lists."""
    pieces = [
        Segment(number, start, min(start + max_length, length))
        for number, length in enumerate(lengths)
        for start in range(0, max(length - 1, 1), max_length - 1)
    ]
    sizes = np.array([piece.stop - piece.start for piece in pieces])
    layout: list[list[int]] = []
    room: list[int] = []
    filled: list[int] = []  # when each row got its last piece
    for i in sorted(range(len(pieces)), key=lambda i: (-sizes[i], i)):
        fitting = [row for row in range(len(layout)) if room[row] >= sizes[i]]
        if not fitting:
            layout.append([])
            room.append(max_length)
            filled.append(0)
            fitting = [len(layout) - 1]
        row = min(fitting, key=lambda row: (room[row], -filled[row]))
        layout[row].append(i)
        room[row] -= sizes[i]
        filled[row] = sum(map(len, layout))
    shuffled = rng(seed, "packing", epoch).permutation(len(pieces))
    drawn = {
        size: [piece for piece in shuffled.tolist() if sizes[piece] == size] for size in set(sizes.tolist())
    }
    placed = [drawn[size].pop(0) for size in sizes.tolist()]
    return [[pieces[placed[slot]] for slot in row] for row in layout]


lengths_of_documents = st.lists(st.integers(1, 50), min_size=1, max_size=40)


@given(lengths_of_documents, st.integers(2, 20), st.integers(0, 3))
def test_every_token_but_the_first_is_predicted_once(lengths: list[int], max_length: int, epoch: int) -> None:
    packing = Packing(lengths, max_length, seed=1)
    predicted: Counter[tuple[int, int]] = Counter()
    for row in rows(packing, epoch):
        assert 0 < sum(s.stop - s.start for s in row) <= max_length
        for segment in row:
            assert segment.stop <= lengths[segment.document]
            predicted.update((segment.document, t) for t in range(segment.start + 1, segment.stop))
    assert predicted == Counter((d, t) for d, length in enumerate(lengths) for t in range(1, length))


@given(lengths_of_documents, st.integers(2, 60), st.integers(0, 3))
def test_rows_are_those_of_best_fit_one_piece_at_a_time(
    lengths: list[int], max_length: int, epoch: int
) -> None:
    assert rows(Packing(lengths, max_length, seed=4), epoch) == one_by_one(lengths, max_length, 4, epoch)


@pytest.mark.parametrize("highest", [40, 600])
def test_rows_are_those_of_best_fit_for_many_documents(highest: int) -> None:
    lengths = rng(highest, "lengths").integers(1, highest, 600).tolist()
    packing = Packing(np.array(lengths, dtype=np.int32), 256, seed=1)
    assert rows(packing, 2) == one_by_one(lengths, 256, 1, 2)
    assert sorted(chain.from_iterable(packing.parts())) == sorted(
        segment for row in rows(packing, 2) for segment in row
    )


@given(lengths_of_documents)
def test_what_fits_is_not_cut(lengths: list[int]) -> None:
    segments = [segment for row in rows(Packing(lengths, 50), 0) for segment in row]
    assert sorted(segments) == [(d, 0, length) for d, length in enumerate(lengths)]


def test_rows_are_nearly_full() -> None:
    lengths = rng(0, "lengths").integers(5, 300, 2000).tolist()
    packing = Packing(lengths, 512)
    sizes = [sum(s.stop - s.start for s in row) for row in rows(packing, 0)]
    assert packing.waste == pytest.approx(1 - sum(lengths) / (512 * len(sizes))) and packing.waste < 0.01
    assert len(sizes) == -(-sum(lengths) // 512)  # the fewest that there can be


def test_best_fit_by_hand() -> None:
    found = rows(Packing([6, 4, 5, 5, 3], 10), 0)
    assert sorted(sorted(s.stop for s in row) for row in found) == [[3], [4, 6], [5, 5]]


def test_steps_walk_epochs_of_documents() -> None:
    lengths = rng(0, "lengths").integers(5, 30, 100).tolist()
    packing = Packing(lengths, 64, seed=2)
    rows_per_step = 5
    steps = [packing.for_step(step, rows_per_step) for step in range(2 * len(packing))]
    segments = [segment for step in steps for segment in step]
    for epoch in range(4):  # a row holds whole documents here, so that each epoch has each document once
        documents = [s.document for s in segments[epoch * 100 : epoch * 100 + 100]]
        assert Counter(documents) == Counter(range(100))
    again = Packing(lengths, 64, seed=2)
    for step in (17, 3, 9):  # in any order, as after a restart
        assert again.for_step(step, rows_per_step) == steps[step]
    assert rows(packing, 0) != rows(packing, 1)
    assert Packing(lengths, 64, seed=3).for_step(0, rows_per_step) != steps[0]


def test_steps_are_about_equally_large() -> None:
    lengths = rng(0, "lengths").integers(5, 300, 2000).tolist()
    packing = Packing(lengths, 512)
    sizes = [sum(s.stop - s.start for s in packing.for_step(step, 8)) for step in range(40)]
    assert np.std(sizes) / np.mean(sizes) < 0.03


def test_no_room() -> None:
    with pytest.raises(ValueError, match="max_length is 1, but a row needs room for at least 2 tokens"):
        Packing([3], 1)
    assert len(Packing([], 8)) == 0 and Packing([], 8).waste == 0.0
