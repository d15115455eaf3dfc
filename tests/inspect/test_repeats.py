"""What stands twice, on both sides of the split, and in a held-out file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.inspect.kit import asked, comparisons, demonstrations, facts_of, texts, write
from tutelage.data.reading.formats import read_demonstrations
from tutelage.data.split import split_by_prompt
from tutelage.inspect import overlap
from tutelage.inspect.facts import Facts, Leak
from tutelage.inspect.looking import look
from tutelage.inspect.plain import key, normalised


def numbers(facts: Facts) -> list[tuple[str, int, list[tuple[int, int]]]]:
    return [
        (
            repeats.name.partition(" (")[0],
            repeats.rows,
            [(p.one.number, p.other.number) for p in repeats.pairs],
        )
        for repeats in facts.repeats
    ]


def test_repetitions_are_counted_once_each_in_the_strictest_sense(tmp_path: Path) -> None:
    rows = [
        {"instruction": "Name a colour.", "output": "Red."},
        {"instruction": "Name a colour.", "output": "Red."},  # the same
        {"instruction": "name  a colour!", "output": "red"},  # nearly the same
        {"instruction": "Name a colour.", "output": "Blue."},  # another response
        {"instruction": "Name a Colour", "output": "Green."},  # nearly the prompt, another response
        {"instruction": "Name a number.", "output": "Red."},
        {"instruction": "Name a colour.", "output": "Red."},
    ]
    assert numbers(facts_of(tmp_path, rows)) == [
        ("with the prompt and the responses of an earlier row", 2, [(1, 2), (1, 7)]),
        ("with nearly the prompt and the responses of an earlier row", 1, [(1, 3)]),
        ("with the prompt of an earlier row, but other responses", 1, [(1, 4)]),
        ("with nearly the prompt of an earlier row", 1, [(1, 5)]),
    ]
    assert facts_of(tmp_path, rows).repeats[0].largest == 3


def test_texts_are_repeated_as_texts(tmp_path: Path) -> None:
    rows = [*texts(3), texts(1)[0], {"text": texts(2)[1]["text"].upper()}]
    assert numbers(facts_of(tmp_path, rows)) == [
        ("with the text of an earlier row", 1, [(1, 4)]),
        ("with nearly the text of an earlier row", 1, [(2, 5)]),
    ]


def test_nothing_stands_twice_in_clean_rows(tmp_path: Path) -> None:
    assert facts_of(tmp_path, comparisons(50)).repeats == ()


@pytest.mark.parametrize(
    ("one", "other", "alike"),
    [
        ("What is it?", "what IS  it", True),
        ("“Yes” — no…", '"Yes", no...', True),
        ("2 + 3", "2 - 3", False),
        ("x<3", "x>3", False),
        ("3.5", "35", False),
        ("!?", "?!", False),  # nothing else is there: the text itself counts
        ("ﬁne", "fine", True),  # a ligature
    ],
)
def test_what_counts_as_nearly_the_same(one: str, other: str, alike: bool) -> None:
    assert (normalised(one) == normalised(other)) is alike


def test_keys_tell_apart_where_one_text_ends() -> None:
    assert key("ab", "c") != key("a", "bc") != key("abc")
    assert key("\ud800") == key("\ud800")


# ---- both sides of a split -----------------------------------------------------------------------------------------------


def test_the_split_is_the_one_that_training_makes(tmp_path: Path) -> None:
    path = write(tmp_path, demonstrations(200))
    _, held_out = split_by_prompt(read_demonstrations(path), 0.1, seed=3)
    split = look(path, heldout_share=0.1, split_seed=3).split
    assert split is not None and split.held_out == len(list(held_out)) > 0 and split.rows == 200


def test_nearly_the_same_question_on_both_sides(tmp_path: Path) -> None:
    """White space and case do not part rows, punctuation and a system turn do."""
    rows: list[dict[str, Any]] = demonstrations(200)
    path = write(tmp_path, rows)
    held = list(split_by_prompt(read_demonstrations(path), 0.1)[1])
    first = held[0].place
    assert first is not None
    rows.append({"instruction": rows[first.number - 1]["instruction"].replace("?", " ?!"), "output": "So."})
    rows.append({"instruction": rows[first.number - 1]["instruction"], "output": "So.", "system": "Be kind."})
    split = facts_of(tmp_path, rows, heldout_share=0.1).split
    assert split is not None
    [leak] = split.leaks
    assert leak.name == "nearly the same question"
    assert (leak.held_out, leak.train) in {(1, 2), (2, 1)}  # on which side the new ones stand, chance says
    assert {leak.pairs[0].one.number, leak.pairs[0].other.number} & {201, 202}


def test_the_same_long_answer_on_both_sides(tmp_path: Path) -> None:
    answer = "I am sorry, but I can say nothing about the colour of any of these things."
    rows = demonstrations(60)
    for row in rows[::2]:
        row["output"] = answer
    split = facts_of(tmp_path, rows, heldout_share=0.2).split
    assert split is not None
    assert [leak.name for leak in split.leaks] == ["the same answer (of 60 characters or more)"]
    assert sum((leak.held_out + leak.train) for leak in split.leaks) == 30


def test_nothing_is_looked_for_where_nothing_is_held_out(tmp_path: Path) -> None:
    assert facts_of(tmp_path, demonstrations(5), heldout_share=0.0).split is None


# ---- a held-out file -----------------------------------------------------------------------------------------------------

TALE = (
    "On a bright cold day in the month of April the clocks of the town were all striking at once, and nobody who "
    "lived there knew why they did so."
)


def leaks(facts: Facts) -> dict[str, Leak]:
    assert facts.overlap is not None
    return {leak.name.partition(" (")[0]: leak for leak in facts.overlap.leaks}


def test_overlap_in_every_sense(tmp_path: Path) -> None:
    rows = demonstrations(40)
    rows[5]["output"] = f"Once more. {TALE} That is all."
    benchmark = [
        {"instruction": rows[0]["instruction"], "output": rows[0]["output"]},  # all of it
        {"instruction": rows[1]["instruction"], "output": "Something else."},  # the prompt
        {"instruction": rows[2]["instruction"].upper() + "!!", "output": "Something else."},  # nearly
        {
            "instruction": f"Go on: {TALE.lower().replace(',', '')}",
            "output": "They were broken.",
        },  # long runs
        *(
            {"instruction": f"What is {i} times {i + 1}, said the teacher?", "output": f"{i}"}
            for i in range(20)
        ),
    ]
    against = write(tmp_path, benchmark, "held.jsonl")
    facts = look(write(tmp_path, rows), against=str(against))
    found = leaks(facts)
    assert facts.overlap is not None and facts.overlap.held_out == 24
    places = {name: [(p.one.number, p.other.number) for p in leak.pairs] for name, leak in found.items()}
    assert places == {
        "the same prompt and responses": [(1, 1)],
        "the same prompt": [(1, 1), (2, 2)],
        "nearly the same prompt": [(1, 1), (2, 2), (3, 3)],
        "13 words in a row": [(1, 1), (4, 6)],  # the first has thirteen in all
    }
    _, run = found["13 words in a row"].pairs
    assert run.words == "on a bright cold day in the month of april the clocks of"


def test_runs_of_words_that_many_held_out_rows_share_are_left_out(tmp_path: Path) -> None:
    rows = [{"instruction": f"{TALE} {100 + i}?", "output": "So."} for i in range(3)]
    against = write(
        tmp_path, [{"instruction": f"{TALE} {i} {i}", "output": "x"} for i in range(40)], "h.jsonl"
    )
    assert leaks(look(write(tmp_path, rows), against=str(against))) == {}
    few = write(tmp_path, [{"instruction": f"{TALE} {i} {i}", "output": "x"} for i in range(1)], "few.jsonl")
    assert set(leaks(look(write(tmp_path, rows), against=str(few)))) == {"13 words in a row"}


def test_twelve_words_in_a_row_are_no_overlap(tmp_path: Path) -> None:
    twelve = " ".join(TALE.split()[:12])
    rows = [{"instruction": f"{twelve} one", "output": "a."}]
    for following, found in (("two", set()), ("one", {"13 words in a row"})):
        against = write(tmp_path, [{"instruction": f"Now {twelve} {following}", "output": "b"}], "h.jsonl")
        assert set(leaks(look(write(tmp_path, rows), against=str(against)))) == found


def test_what_is_beyond_the_limit_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(overlap, "MOST_ROWS", 3)
    against = write(tmp_path, demonstrations(5), "h.jsonl")
    facts = look(write(tmp_path, demonstrations(5)), against=str(against))
    assert facts.overlap is not None and (facts.overlap.held_out, facts.overlap.left) == (3, 2)
    assert any("2 were not" in note for note in facts.notes)


def test_a_held_out_file_without_answers_is_compared_by_its_prompts(tmp_path: Path) -> None:
    against = write(tmp_path, [{"prompt": asked(3)}, {"prompt": "Another one?"}], "h.jsonl")
    facts = look(write(tmp_path, demonstrations(5)), against=str(against))
    assert {name: leak.held_out for name, leak in leaks(facts).items()} == {
        "the same prompt": 1,
        "nearly the same prompt": 1,
    }
