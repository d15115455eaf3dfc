"""Every detector: a file that has the mistake, counted by hand, and clean ones in which nothing is found."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.inspect.kit import (
    CLEAN,
    answered,
    asked,
    comparisons,
    conversations,
    demonstrations,
    found,
    texts,
)

Rows = list[dict[str, Any]]


def changed(rows: Rows, change: Callable[[dict[str, Any]], None], which: range) -> Rows:
    for i in which:
        change(rows[i])
    return rows


def put(**columns: Any) -> Callable[[dict[str, Any]], None]:
    return lambda row: row.update(columns)


def say(*turns: tuple[str, str]) -> Callable[[dict[str, Any]], None]:
    return put(messages=[{"role": role, "content": text} for role, text in turns])


LONG = "The answer is a sentence that is long enough to be no coincidence, whoever says it"
BROKEN_OFF = "x" * 20 + " and so it goes on for quite a while, until the export cut it off at ex"

CASES: list[tuple[str, Rows, int, int, str]] = [
    # (name, rows, rows in which it stands, of how many, the first line in which it does)
    (
        "answer in the prompt",
        changed(demonstrations(), put(instruction=f"Q: Why? A: {LONG.upper()}!", output=LONG), range(3, 7)),
        4,
        40,
        "4",
    ),
    (
        "response begins with the prompt",
        changed(demonstrations(), lambda row: row.update(output=f"{row['instruction']} Red."), range(2)),
        2,
        40,
        "1",
    ),
    (
        "glued",
        changed(comparisons(), lambda row: row.update(chosen=row["chosen"].strip()), range(5, 9)),
        4,
        40,
        "6",
    ),
    (
        "identical sides",
        changed(comparisons(), lambda row: row.update(rejected=row["chosen"].upper()), range(1, 2)),
        1,
        40,
        "2",
    ),
    ("empty side", changed(comparisons(), put(rejected="  "), range(3, 5)), 2, 40, "4"),
    ("empty response", changed(demonstrations(), put(output=""), range(9, 10)), 1, 40, "10"),
    (
        "template marks",
        [
            *changed(demonstrations(), put(output="It is red.<|im_end|>"), range(1)),
            {"instruction": "[INST] Name a colour. [/INST]", "output": "Red it is."},
        ],
        2,
        41,
        "1",
    ),
    (
        "template marks",
        changed(demonstrations(), put(instruction="### Instruction:\nName one.\n### Response:"), range(6, 7)),
        1,
        40,
        "7",
    ),
    (
        "template marks",
        changed(conversations(), say(("user", "Hello"), ("assistant", "Hi.\n\nHuman: Who?")), range(1)),
        1,
        40,
        "1",
    ),
    ("HTML entities", changed(texts(), put(text="Salt &amp; pepper are here."), range(2, 4)), 2, 40, "3"),
    ("broken characters", changed(texts(), put(text="The cafÃ© is â€œopenâ€\x9d."), range(7, 8)), 1, 40, "8"),
    (
        "broken characters",
        changed(demonstrations(), put(output="It is r\ufffdd, I think."), range(1)),
        1,
        40,
        "1",
    ),
    (
        "answer as a user's",
        changed(
            conversations(),
            say(("user", "a"), ("assistant", "b"), ("user", "c"), ("user", "d")),
            range(4, 6),
        ),
        2,
        40,
        "5",
    ),
    (
        "ends unanswered",
        changed(conversations(), say(("user", "a"), ("assistant", "b"), ("user", "c")), range(3)),
        3,
        40,
        "1",
    ),
    ("tie", changed(comparisons(), put(p_chosen=0.5), range(30)), 30, 40, "1"),
    (
        "answer in another language",
        changed(
            demonstrations(),
            put(output="Das ist nicht die Farbe, die ich auf dem Markt mit den anderen sah."),
            range(8, 12),
        ),
        4,
        40,
        "9",
    ),
    ("all prompts alike", changed(demonstrations(), put(instruction="Answer."), range(30)), 30, 40, "1"),
    (
        "all responses alike",
        changed(demonstrations(), put(output="I am sorry, I cannot say that."), range(10)),
        10,
        40,
        "1",
    ),
    ("all responses alike", changed(demonstrations(), put(output="no"), range(38)), 38, 40, "1"),
    (
        "same start of prompts",
        changed(
            demonstrations(),
            lambda row: row.update(instruction="Read. " * 50 + row["instruction"]),
            range(25),
        ),
        25,
        40,
        "1",
    ),
    (
        "same start of responses",
        changed(
            demonstrations(),
            lambda row: row.update(output=f"As a very large model of language, I say: {row['output']}"),
            range(12),
        ),
        12,
        40,
        "1",
    ),
    (
        "very short responses",
        [{"instruction": asked(i), "output": ("yes", "no", "may")[i % 3]} for i in range(40)],
        40,
        40,
        "1",
    ),
    (
        "chosen always longer",
        changed(comparisons(), lambda row: row.update(chosen=row["chosen"] + " " + LONG), range(38)),
        38,
        40,
        "1",
    ),
    (
        "chosen always shorter",
        changed(comparisons(), lambda row: row.update(rejected=row["rejected"] + " " + LONG), range(40)),
        40,
        40,
        "1",
    ),
    (
        "always the same letter",
        [
            {"instruction": f"{asked(i)}\nA) red\nB) blue\nC) grey", "output": "B" if i < 30 else "A) red"}
            for i in range(40)
        ],
        30,
        40,
        "1",
    ),
    (
        "responses cut at one length",
        changed(
            demonstrations(),
            lambda row: row.update(output=(row["output"] + BROKEN_OFF)[:70] + "pt"),
            range(5),
        ),
        5,
        40,
        "1",
    ),
    (
        "one system turn",
        changed(demonstrations(), put(system="You are kind."), range(39)),
        39,
        40,
        "1",
    ),
    ("few system turns", changed(demonstrations(), put(system="You are kind."), range(5, 7)), 2, 40, "6"),
    (
        "several languages",
        changed(
            texts(),
            put(text="Der Mann und die Frau sind nicht auf dem Markt, und das ist ein Haus."),
            range(4),
        ),
        4,
        0,  # how many languages are known is not counted by hand
        "1",
    ),
    (
        "labels all true",
        [{"prompt": asked(i), "completion": " " + answered(i), "label": True} for i in range(40)],
        40,
        40,
        "1",
    ),
    (
        "contradicting pairs",
        [
            *comparisons(),
            {
                **comparisons()[1],
                "chosen": comparisons()[1]["rejected"],
                "rejected": comparisons()[1]["chosen"],
            },
        ],
        1,
        41,
        "41",
    ),
]


@pytest.mark.parametrize(("name", "rows", "count", "of", "first"), CASES, ids=[case[0] for case in CASES])
def test_a_mistake_is_found_and_counted(
    name: str, rows: Rows, count: int, of: int, first: str, tmp_path: Path
) -> None:
    mistake = found(tmp_path, rows)[name]
    assert mistake.rows == count and (not of or mistake.of == of)
    assert str(mistake.examples[0].place.number) == first
    assert f"{count:,}" in mistake.sentence and mistake.sentence.endswith(".") and mistake.advice


@pytest.mark.parametrize("kind", CLEAN)
def test_nothing_is_found_where_nothing_is(kind: str, tmp_path: Path) -> None:
    assert found(tmp_path, CLEAN[kind](200)) == {}


def test_every_detector_has_a_case() -> None:
    from tutelage.inspect.mistakes.many import many
    from tutelage.inspect.mistakes.single import single

    named = {rule.name for rule in single()} | {"contradicting pairs", "responses cut at one length"}
    named |= {getattr(detector, "_name", "") for detector in many()} - {"", "response", "prompt"}
    assert named <= {case[0] for case in CASES}


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "### Human: Name one.\n### Assistant:", "completion": " Red."},  # a template of one's own
        {"instruction": "Why is A&B written so? Is 3 < 4?", "output": "It is a name, see <b>A&amp;B</b>."},
        {"instruction": "São Paulo, naïve, Ã la carte", "output": "É isso, não é?"},
        {"instruction": "You say: Human: and Assistant: in the text.", "output": "I know both words."},
        {"prompt": "色は何ですか。", "completion": "赤です。"},  # no white space in this script
        {"instruction": "Is it positive or negative?", "output": "negative"},  # short, and in the prompt
        {"instruction": "Repeat: red", "output": "Repeat: red"},
    ],
    ids=lambda row: str(next(iter(row.values())))[:20],
)
def test_what_is_no_mistake_is_not_called_one(row: dict[str, Any], tmp_path: Path) -> None:
    names = {name for name, mistake in found(tmp_path, [row]).items() if mistake.level == "mistake"}
    assert names == set()


def test_a_few_rows_among_many_are_not_worth_a_word(tmp_path: Path) -> None:
    """Quoting, answers that repeat the question: with one in a hundred rows that is no sign of a mistake."""
    rows = demonstrations(300)
    rows[7] = {"instruction": f"Shorten this: {LONG}. It is late.", "output": LONG}
    rows[8] = {"instruction": rows[8]["instruction"], "output": rows[8]["instruction"] + " Red."}
    rows[9] = {"instruction": "Fish &amp; chips?", "output": "Yes, fish and chips."}
    assert found(tmp_path, rows) == {}


def test_lengths_that_only_happen_to_be_common_are_no_cut(tmp_path: Path) -> None:
    rows = [{"instruction": asked(i), "output": "word " * 14 + "end" * (i % 5)} for i in range(200)]
    assert "responses cut at one length" not in found(tmp_path, rows)
    ended = [{"instruction": asked(i), "output": f"{i:3d} " + "words and " * 7 + "end."} for i in range(40)]
    assert "responses cut at one length" not in found(tmp_path, ended)


NOT_ENOUGH: list[tuple[str, Rows]] = [
    ("all prompts alike", [{"instruction": "Answer.", "output": answered(i)} for i in range(9)]),
    ("very short responses", changed(demonstrations(), put(output="no"), range(30))),
    ("chosen always longer", changed(comparisons(), lambda row: row.update(chosen=LONG), range(25))),
    ("chosen always longer", changed(comparisons(19), lambda row: row.update(chosen=LONG), range(19))),
    ("labels all true", [{"prompt": asked(i), "completion": " a", "label": i != 3} for i in range(40)]),
    ("one system turn", changed(demonstrations(), put(system="You are kind."), range(30))),
    ("few system turns", demonstrations()),
    (
        "responses cut at one length",  # texts without an end, of all lengths
        [
            {"instruction": asked(i), "output": "x" * (70 + i % 40) + f" and {i:03d} of it"}
            for i in range(400)
        ],
    ),
    (
        "always the same letter",  # as many of each
        [{"instruction": f"{asked(i)} A) red B) blue C) grey", "output": "ABC"[i % 3]} for i in range(60)],
    ),
]


@pytest.mark.parametrize(("name", "rows"), NOT_ENOUGH, ids=[case[0] for case in NOT_ENOUGH])
def test_less_than_that_is_not_said(name: str, rows: Rows, tmp_path: Path) -> None:
    assert name not in found(tmp_path, rows)
