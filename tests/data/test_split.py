"""Held-out rows share no prompt with training rows (bug table 26)."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.data.kit import WithDropped, ask, chat
from tutelage.data.reading.formats import Dropped, unused_of, walk
from tutelage.data.split import half_of, opening, split_by_prompt
from tutelage.records import Comparison, Conversation, Demonstration, Document, Place, Prompt

PAIRS = [Comparison(ask(f"question {i % 200}"), f"good {i}", f"bad {i}") for i in range(1000)]


def split(rows: list, share: float, seed: int = 0) -> tuple[list, list]:
    train, heldout = split_by_prompt(rows, share, seed)
    return list(train), list(heldout)


def test_no_prompt_on_both_sides() -> None:
    train, heldout = split(PAIRS, 0.2, seed=0)
    assert len(train) + len(heldout) == 1000
    assert not {row.prompt.id for row in train} & {row.prompt.id for row in heldout}
    assert 0.1 < len(heldout) / 1000 < 0.3
    assert train == [row for row in PAIRS if row in train]  # in order


def test_side_depends_on_the_prompt_and_the_seed_alone() -> None:
    _, heldout = split(PAIRS, 0.2, seed=0)
    _, of_half = split(PAIRS[::-2], 0.2, seed=0)
    assert {row.chosen for row in of_half} == {row.chosen for row in heldout} & {
        row.chosen for row in PAIRS[::-2]
    }
    assert {row.chosen for row in split_by_prompt(PAIRS, 0.2, seed=1)[1]} != {row.chosen for row in heldout}


def test_all_kinds_of_rows_of_one_prompt_stand_together() -> None:
    for i in range(40):
        text = f"question {i}"
        rows = [
            Comparison(ask(text), "a", "b"),
            Demonstration(Prompt(chat(text), "task", {"answer": 3}), "c"),
            ask(text.upper() + "\n "),
            Conversation(chat(text, "d", "and then?", "e")),
            ask(text, "d", "another way on"),
        ]
        assert len({opening(row) for row in rows}) == 1
    assert opening(Document("a  B")) == opening(Prompt("A b")) != opening(ask("a b"))


def test_share_and_small_sets() -> None:
    assert split_by_prompt(PAIRS, 0.0)[1] == []
    for seed in range(20):
        train, heldout = split([ask("a"), ask("b")], 0.01, seed)
        assert len(train) == len(heldout) == 1
        train, heldout = split([ask("a"), ask("b")], 0.99, seed)
        assert len(train) == len(heldout) == 1
    assert split([], 0.5) == ([], [])
    assert sum(map(len, split([ask("a")] * 3, 0.5))) == 3
    with pytest.raises(ValueError, match="heldout_share is 1"):
        split_by_prompt(PAIRS, 1.0)


def test_dropped_rows_go_with_those_to_train_on() -> None:
    dropped = [Dropped(Place("a.jsonl", n), "that is odd") for n in (1, 2)]
    train, heldout = split_by_prompt(WithDropped(PAIRS, dropped, {"id": 3}), 0.2)
    assert [row for row in walk(train) if isinstance(row, Dropped)] == dropped
    assert not [row for row in walk(heldout) if isinstance(row, Dropped)]
    assert (unused_of(train), unused_of(heldout)) == ({"id": 3}, {})
    assert len(list(train)) + len(list(heldout)) == len(PAIRS)


def test_a_row_that_counts_three_times_is_held_out_once() -> None:
    rows = [
        replace(pair, place=Place("a.jsonl", n, copy=copy))
        for n, pair in enumerate(PAIRS, 1)
        for copy in range(3)
    ]
    train, heldout = split_by_prompt(rows, 0.2)
    plain_train, plain_heldout = split_by_prompt(PAIRS, 0.2)
    assert list(heldout) == list(plain_heldout) and len(list(train)) == 3 * len(list(plain_train))


def test_halves_share_no_prompt_and_do_not_depend_on_what_is_held_out() -> None:
    train, heldout = split(PAIRS, 0.2, seed=3)
    first, second = (list(half_of(train, which)) for which in (False, True))
    sides = {row.chosen: side for side, rows in enumerate((first, second)) for row in rows}
    assert len(first) + len(second) == len(sides) == len(train) and 0.4 < len(first) / len(train) < 0.6
    assert [[r for r in train if sides[r.chosen] == side] for side in (0, 1)] == [first, second]  # in order
    assert not {row.prompt.id for row in first} & {row.prompt.id for row in second}
    # A prompt is of the same half whatever stands beside it, and what is held out is of both.
    whole = {row.chosen for row in half_of(PAIRS, False)}
    assert {row.chosen for row in first} == whole & sides.keys()
    assert 0.3 < sum(row.chosen in whole for row in heldout) / len(heldout) < 0.7


def test_a_row_that_counts_several_times_does_so_in_either_half() -> None:
    rows = [replace(row, place=Place("f", n, "row", copy=c)) for n, row in enumerate(PAIRS) for c in (0, 1)]
    assert len(list(half_of(rows, False))) + len(list(half_of(rows, True))) == 2000
