"""Held-out rows share no prompt with training rows (bug table 26)."""

from __future__ import annotations

import pytest

from tests.data.kit import Skipping, ask, chat
from tutelage.data.reading.formats import skipped_of
from tutelage.data.split import opening, split_by_prompt
from tutelage.records import Comparison, Conversation, Demonstration, Document, Prompt

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


def test_skipped_rows_stay_counted() -> None:
    train, heldout = split_by_prompt(Skipping(PAIRS, {"odd": 3}), 0.2)
    assert (skipped_of(train), skipped_of(heldout)) == ({"odd": 3}, {})
