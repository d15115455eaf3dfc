"""Every format, plain and conversational, and what is said of rows that fit none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.data.kit import ask, chat, write_jsonl
from tutelage.data.reading.formats import (
    Dropped,
    read_comparisons,
    read_demonstrations,
    read_documents,
    read_prompts,
)
from tutelage.records import Comparison, Conversation, Demonstration, Document, Message, Place, Prompt

USER = {"role": "user", "content": "How many?"}
ANSWER = {"role": "assistant", "content": "Three"}
WORSE = {"role": "assistant", "content": "Nine"}
QUESTION = ask("How many?")


def read(reader: Any, tmp_path: Path, *rows: Any) -> Any:
    return list(reader(write_jsonl(tmp_path / "rows.jsonl", rows)).walk())


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"text": "The cat sat."}, Document("The cat sat.")),
        ({"messages": [USER, ANSWER]}, Conversation(chat("How many?", "Three"))),
        ({"prompt": "How many? ", "completion": "Three"}, Document("How many? Three")),
        ({"prompt": [USER], "completion": [ANSWER]}, Document("How many?\nThree")),
        ({"prompt": "a", "completion": "b", "completion_finish": "length"}, Document("ab", "length")),
        (
            {"prompt": "a", "chosen": " b", "rejected": " c", "chosen_finish": "length"},
            Document("a b", "length"),
        ),
        ({"question": "How many?", "answer": "#### 3"}, Document("How many?\n#### 3")),
    ],
)
def test_documents(tmp_path: Path, row: dict, expected: Any) -> None:
    assert read(read_documents, tmp_path, row) == [expected]


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"prompt": "How many? ", "completion": "Three"}, Demonstration(Prompt("How many? "), "Three")),
        ({"prompt": [USER], "completion": [ANSWER]}, Demonstration(QUESTION, "Three")),
        ({"prompt": "How many?", "completion": [ANSWER]}, Demonstration(QUESTION, "Three")),
        ({"prompt": [USER], "completion": "Three"}, Demonstration(QUESTION, "Three")),
        # text that happens to be JSON stays text
        ({"prompt": [USER], "completion": '["a", "b"]'}, Demonstration(QUESTION, '["a", "b"]')),
        ({"prompt": '{"a": 1}', "completion": '{"b": 2}'}, Demonstration(Prompt('{"a": 1}'), '{"b": 2}')),
        ({"instruction": "How many?", "input": "", "output": "Three"}, Demonstration(QUESTION, "Three")),
        ({"instruction": "Count", "input": "a b", "output": "2"}, Demonstration(ask("Count\n\na b"), "2")),
        ({"instruction": "Count", "output": "2"}, Demonstration(ask("Count"), "2")),
        (
            {"question": "How many?", "answer": "48/2 = 24\n#### 24"},
            Demonstration(
                Prompt(chat("How many?"), "", {"answer": "48/2 = 24\n#### 24"}), "48/2 = 24\n#### 24"
            ),
        ),
        ({"messages": [USER, ANSWER]}, Conversation(chat("How many?", "Three"))),
        (
            {"conversations": [{"from": "human", "value": "How many?"}, {"from": "gpt", "value": "Three"}]},
            Conversation(chat("How many?", "Three")),
        ),
        ({"prompt": [USER], "chosen": [ANSWER], "rejected": [WORSE]}, Demonstration(QUESTION, "Three")),
        (
            {"prompt": [USER], "completion": [ANSWER], "completion_finish": "length"},
            Demonstration(QUESTION, "Three", "length"),
        ),
        (
            {"prompt": [USER], "completion": "Three", "completion_finish": None},
            Demonstration(QUESTION, "Three", "eos"),
        ),
        (
            {"prompt": [USER], "chosen": "Three", "rejected": "Nine", "chosen_finish": "length"},
            Demonstration(QUESTION, "Three", "length"),
        ),
    ],
)
def test_demonstrations(tmp_path: Path, row: dict, expected: Any) -> None:
    assert read(read_demonstrations, tmp_path, row) == [expected]


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"prompt": "How many?"}, Prompt("How many?")),
        (
            {"prompt": [USER], "task": "maths", "reference": {"n": 3}},
            Prompt(chat("How many?"), "maths", {"n": 3}),
        ),
        ({"prompt": [USER], "completion": [ANSWER], "task": "maths"}, Prompt(chat("How many?"), "maths")),
        ({"messages": [USER, ANSWER, USER, ANSWER]}, ask("How many?", "Three", "How many?")),
        ({"chosen": [USER, ANSWER], "rejected": [USER, WORSE]}, QUESTION),
        ({"prompt": "How many?", "reference": None, "score": 1}, Prompt("How many?")),
        ({"prompt": "How many?", "reference": '{"n": [3]}'}, Prompt("How many?", "", {"n": [3]})),
    ],
)
def test_prompts(tmp_path: Path, row: dict, expected: Prompt) -> None:
    assert read(read_prompts, tmp_path, row) == [expected]


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"prompt": "Q: ", "chosen": "good", "rejected": "bad"}, Comparison(Prompt("Q: "), "good", "bad")),
        (
            {"prompt": [USER], "chosen": '{"n": 3}', "rejected": "[9]"},
            Comparison(QUESTION, '{"n": 3}', "[9]"),
        ),
        ({"prompt": [USER], "chosen": [ANSWER], "rejected": [WORSE]}, Comparison(QUESTION, "Three", "Nine")),
        ({"prompt": [USER], "chosen": "Three", "rejected": "Nine"}, Comparison(QUESTION, "Three", "Nine")),
        (
            {"prompt": "How many?", "chosen": [ANSWER], "rejected": [WORSE]},
            Comparison(QUESTION, "Three", "Nine"),
        ),
        # UltraFeedback: the prompt as text, and again in chosen and rejected
        (
            {"prompt": "How many?", "chosen": [USER, ANSWER], "rejected": [USER, WORSE]},
            Comparison(QUESTION, "Three", "Nine"),
        ),
        (
            {"chosen": [USER, ANSWER], "rejected": [USER, WORSE], "margin": 2, "p_chosen": 0.75},
            Comparison(QUESTION, "Three", "Nine", 0.75, 2.0),
        ),
        # implicit prompts in plain text part at a word, never inside one
        ({"chosen": "It is good", "rejected": "It is great"}, Comparison(Prompt("It is"), " good", " great")),
        ({"chosen": "It is good", "rejected": "It is bad"}, Comparison(Prompt("It is"), " good", " bad")),
        ({"chosen": "It is go", "rejected": "It is good"}, Comparison(Prompt("It is"), " go", " good")),
        ({"chosen": "It is so", "rejected": "It is"}, Comparison(Prompt("It is"), " so", "")),
        (
            {"prompt": "a", "chosen": "b", "rejected": "c", "rejected_finish": "length"},
            Comparison(Prompt("a"), "b", "c", rejected_finish="length"),
        ),
    ],
)
def test_comparisons(tmp_path: Path, row: dict, expected: Comparison) -> None:
    assert read(read_comparisons, tmp_path, row) == [expected]


HH = "\n\nHuman: Can I?\n\nAssistant: Maybe.\n\nIt depends.\n\nHuman: On what?\n\nAssistant:"


def test_hh(tmp_path: Path) -> None:
    rows = read(read_comparisons, tmp_path, {"chosen": HH + " On you.", "rejected": HH + " On the weather."})
    prompt = ask("Can I?", "Maybe.\n\nIt depends.", "On what?")
    assert rows == [Comparison(prompt, "On you.", "On the weather.")]


def test_hh_identical_is_kept_for_preflight_to_count(tmp_path: Path) -> None:
    [row] = read(read_comparisons, tmp_path, {"chosen": HH + " Yes.", "rejected": HH + " Yes."})
    assert row.chosen == row.rejected == "Yes." and row.prompt.content[-1] == Message("user", "On what?")


def test_rows_that_no_comparison_can_hold_are_named(tmp_path: Path) -> None:
    good = {"chosen": HH + " On you.", "rejected": HH + " On the weather."}
    earlier = {"chosen": HH + " a", "rejected": HH.replace("Maybe", "Never") + " b"}
    longer = {"chosen": HH + " a", "rejected": HH + " b\n\nHuman: So?\n\nAssistant: c"}
    unrelated = {"chosen": "Yes, surely", "rejected": "No, never"}
    path = write_jsonl(tmp_path / "rows.jsonl", [earlier, good, longer, unrelated])
    rows = read_comparisons(path)
    assert len(list(rows)) == len(list(rows)) == 1  # however often they are read
    assert [row for row in rows.walk() if isinstance(row, Dropped)] == [
        Dropped(Place(str(path), 1), "whose chosen and rejected differ in more than one turn"),
        Dropped(Place(str(path), 3), "whose chosen and rejected differ in more than one turn"),
        Dropped(
            Place(str(path), 4), "whose chosen and rejected have no shared start that could be the prompt"
        ),
    ]


def test_chosen_stays_chosen(tmp_path: Path) -> None:
    """Bug table 25: responses of different lengths, columns in either order."""
    for row in ({"rejected": "p bad one", "chosen": "p good"}, {"chosen": "p good", "rejected": "p bad one"}):
        assert read(read_comparisons, tmp_path, row) == [Comparison(Prompt("p"), " good", " bad one")]


# ---- what is wrong, where, and what is known -----------------------------------------------------------------------------

PAIR = {"prompt": "a", "chosen": "b", "rejected": "c"}
GOOD = {
    read_comparisons: PAIR,
    read_demonstrations: {"prompt": "a", "completion": "b"},
    read_prompts: {"prompt": "a"},
    read_documents: {"text": "a"},
}


@pytest.mark.parametrize(
    ("reader", "row", "parts"),
    [
        (
            read_comparisons,
            {"foo": 1, "bar": 2},
            ["columns foo, bar", "prompt+chosen+rejected"],
        ),
        (
            read_comparisons,
            {"question": "a", "answer": "b"},
            [
                "columns question, answer, which hold demonstrations; comparisons can be read from",
                "chosen",
            ],
        ),
        (
            read_demonstrations,
            {"text": "a"},
            ["columns text, which hold plain text", "prompt+completion", "messages"],
        ),
        (read_prompts, {"text": "a"}, ["prompts can be read from the columns", "prompt"]),
        (read_documents, {"prompt": "a"}, ["columns prompt, which hold prompts", "pretraining text", "text"]),
    ],
)
def test_columns_that_no_format_has(tmp_path: Path, reader: Any, row: dict, parts: list[str]) -> None:
    for rows in ([row], [row] * 300):
        with pytest.raises(ValueError) as caught:
            read(reader, tmp_path, *rows)
        message = str(caught.value)
        assert [part for part in parts if part not in message] == [], message
        assert "\n" not in message and len(message) < 500 and "rows.jsonl line 1: " in message
    *_, dropped = read(reader, tmp_path, GOOD[reader], row)
    assert dropped.place.number == 2 and dropped.reason.startswith(f"whose columns ({next(iter(row))}")


def test_one_answer_that_is_null_stops_nothing(tmp_path: Path) -> None:
    """The row then looks like a prompt; the others are what they were."""
    rows = [{"instruction": "a", "output": None if n == 0 else "b"} for n in range(5)]
    first, *others = read(read_demonstrations, tmp_path, *rows)
    assert first == Dropped(first.place, "whose output is null") and len(others) == 4


@pytest.mark.parametrize(
    ("reader", "row", "reason"),
    [
        (read_documents, {"text": 3}, "text must be text, not int 3"),
        (read_prompts, {"prompt": 3}, "prompt must be text or a list of messages, not int"),
        (read_prompts, {"prompt": []}, "prompt must be a list of messages, not list"),
        (read_prompts, {"prompt": [{"role": "user"}]}, "a turn that has neither words nor a call"),
        (read_prompts, {"prompt": [3]}, "prompt[0] must be a message with role and content, not int 3"),
        (
            read_prompts,
            {"prompt": [{"role": "user", "content": None}]},
            "a turn that has neither words nor a call",
        ),
        (read_prompts, {"prompt": [{"role": "owl", "content": "Hu"}]}, "unknown role 'owl'"),
        (read_prompts, {"prompt": [USER, ANSWER]}, "prompt ends with an assistant's turn"),
        (read_prompts, {"prompt": " \n"}, "with an empty prompt"),
        (read_prompts, {"prompt": "a", "task": 1}, "task must be text, not int 1"),
        (
            read_demonstrations,
            {"prompt": "a", "completion": 1.5},
            "completion must be a list of messages, not float",
        ),
        (read_demonstrations, {"messages": "a"}, "messages must be a list of messages, not str 'a'"),
        (read_comparisons, {"chosen": "a", "rejected": [ANSWER]}, "no shared start"),
        (read_comparisons, {**PAIR, "margin": "x"}, "margin must be a finite number, not str 'x'"),
        (
            read_comparisons,
            {**PAIR, "chosen_finish": "cut"},
            '"eos" (it ended) or "length" (it was cut), not str',
        ),
        (read_comparisons, {**PAIR, "p_chosen": 1.2}, "p_chosen is 1.2"),
        (read_comparisons, {**PAIR, "p_chosen": True}, "p_chosen must be a finite number, not bool"),
    ],
)
def test_rows_of_a_wrong_shape_are_dropped_with_their_place(
    tmp_path: Path, reader: Any, row: dict, reason: str
) -> None:
    good, dropped = read(reader, tmp_path, GOOD[reader], row)
    assert not isinstance(good, Dropped) and isinstance(dropped, Dropped) and not dropped.meant
    assert str(dropped.place) == f"{tmp_path / 'rows.jsonl'} line 2" and reason in dropped.reason


def test_any_columns_become_the_reference(tmp_path: Path) -> None:
    """What TRL hands a reward function beside the completions: columns of any name."""
    row = {"question": "2 + 2?", "ground_truth": "4", "meta": {"level": 3}, "reference": "old"}
    path = write_jsonl(tmp_path / "rows.jsonl", [row, {"question": "Why?"}])
    ours = {"prompt": "question", "reference.ground_truth": "ground_truth", "reference.level": "meta.level"}
    first, second = read_prompts(path, ours)
    assert first.reference == {"ground_truth": "4", "level": 3} and second.reference is None
    for wrong in ({"reference.": "a"}, {"reference": "a", "reference.b": "c"}):
        with pytest.raises(ValueError, match="reference is one column, or made of several"):
            read_prompts(path, wrong)
