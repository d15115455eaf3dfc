"""What is wrong with a row of preferences is said with its file and line, and the other rows are read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tutelage.data.reading.formats import (
    Dropped,
    read_comparisons,
    read_labelled,
    read_ratings,
    read_step_marks,
)

ASKED = {"prompt": "Sky?"}
CHAT = [{"role": "user", "content": "Sky?"}]


def turn(text: str) -> list[dict[str, str]]:
    return [{"role": "assistant", "content": text}]


def ranked(*ranks: Any, responses: Any = ("a", "b")) -> dict[str, Any]:
    return ASKED | {"responses": responses, "ranks": list(ranks)}


def nemo(*completions: dict[str, Any]) -> dict[str, Any]:
    return {"context": CHAT, "completions": list(completions)}


def rated(*completions: dict[str, Any]) -> dict[str, Any]:
    return {"instruction": "Sky?", "completions": list(completions)}


def prm800k(*steps: Any) -> dict[str, Any]:
    return {"question": {"problem": "1 + 1?"}, "label": {"steps": list(steps), "finish_reason": "solution"}}


def step(completions: Any, chosen: Any = 0, human: Any = None) -> dict[str, Any]:
    return {"completions": completions, "chosen_completion": chosen, "human_completion": human}


def conversation(text: str) -> list[dict[str, str]]:
    return [*CHAT, *turn(text)]


TWO = {"conversation_a": conversation("a"), "conversation_b": conversation("b")}
TABLE = {"prompt": '["Sky?"]', "response_a": '["a"]', "response_b": '["b"]'}
SUMMARIES = {"info": {"post": "Sky."}, "summaries": [{"text": "a"}, {"text": "b"}]}
OPENAI = {"input": {"messages": CHAT}, "preferred_output": turn("a")}
TEXT = {"text": "a", "rating": 1}

COMPARISONS: list[tuple[dict[str, Any], str]] = [
    (ranked(1, 3), "ranks have gaps (1, 3)"),
    (ranked(2, 3), "best rank is 2, but ranks begin with 1"),
    (ranked(1, 2.5), "ranks must be whole numbers"),
    (ranked(1, None), "ranks must be whole numbers"),
    (ranked(1), "1 ranks for 2 responses"),
    (ranked(1, 2, responses=["a", None]), "response 2 is null"),
    (ranked(1, responses=["a"]), "no two are ranked"),
    (ranked(1, 2) | {"responses_finish": ["eos", "late"]}, "rejected_finish must be"),
    (nemo({"rank": 0, "completion": turn("a")}, {"rank": 2, "completion": turn("b")}), "gaps (0, 2)"),
    (nemo({"rank": 0, "completion": turn("a")}, {"completion": turn("b")}), "completion that has no rank"),
    (nemo({"rank": 0, "completion": turn("a")}, {"rank": 1}), "completion that has no text"),
    (rated({"response": "a"}, {"response": "b"}), "no two are ranked"),
    (rated({"response": "a", "score": 9}, {"response": "b", "overall_score": 2}), "no two are ranked"),
    (rated({"response": "a", "score": "good"}, {"response": "b", "score": 2}), "score must be a number"),
    (ASKED | {"chosen": "a", "rejected": "b", "margin": "large"}, "margin must be a finite number"),
    (ASKED | {"chosen": "a", "rejected": "b", "margin": True}, "margin must be a finite number"),
    (ASKED | {"chosen": "a", "rejected": "b", "p_chosen": 1.5}, "a probability lies between 0 and 1"),
    (ASKED | {"chosen": "a", "rejected": None}, "rejected is null"),
    (
        {"chosen": conversation("a"), "rejected": [{"role": "user", "content": "Sea?"}, *turn("b")]},
        "differ in more than one turn",
    ),
    (
        {"prompt": "Sea?", "chosen": conversation("a"), "rejected": conversation("b")},
        "answers do not begin with its prompt",
    ),
    (OPENAI | {"non_preferred_output": None}, "non_preferred_output is null"),
    (SUMMARIES | {"choice": 2}, "choice must be 0 or 1, not 2"),
    (SUMMARIES | {"choice": None}, "choice is null"),
    (SUMMARIES | {"choice": 0, "summaries": [{"text": "a"}]}, "summaries are not two"),
    (SUMMARIES | {"choice": 0, "summaries": 2}, "summaries are not two"),
    (SUMMARIES | {"choice": 0, "summaries": [{"text": "a"}, {}]}, "a summary that has no text"),
    (
        ASKED | {"response_0": "a", "response_1": "b", "better_response_id": None},
        "better_response_id is null",
    ),
    (ASKED | {"response_1": "a", "response_2": "b", "preference_strength": 9}, "lies between -3 and 3"),
    (
        {"context": CHAT, "response1": "a", "response2": "b", "overall_preference": -4},
        "lies between -3 and 3",
    ),
    (TWO | {"winner": "model_c"}, "unknown winner 'model_c'"),
    (TABLE | {"winner_model_a": 1, "winner_model_b": 1, "winner_tie": 0}, "more than one winner, or none"),
    (TABLE | {"winner_model_a": 0, "winner_model_b": 0, "winner_tie": 0}, "more than one winner, or none"),
    (
        TABLE | {"response_a": '["a", "c"]', "winner_model_a": 1, "winner_model_b": 0, "winner_tie": 0},
        "2 turns in response_a for 1 questions",
    ),
]
RATINGS: list[tuple[dict[str, Any], str]] = [
    (ASKED | {"response": "a", "helpfulness": "good"}, "helpfulness must be a number"),
    (ASKED | {"response": "a", "rating": True}, "rating must be a number"),
    (rated({"response": "a", "annotations": {"x": {"Rating": "four"}}}), "rating by x must be a number"),
    (rated({"response": None, "overall_score": 3}), "completion that has no text"),
    ({"completions": [{"response": "a", "overall_score": 3}]}, "with no prompt"),
]
LABELLED: list[tuple[dict[str, Any], str]] = [
    (ASKED | {"completion": "a", "label": 2}, "label must be true or false"),
    (ASKED | {"completion": "a", "label": None}, "with no label"),
    (ASKED | {"completion": None, "label": True}, "completion is null"),
    (ASKED | {"chosen": "a", "rejected": "a"}, "identical chosen and rejected"),
]
STEPS: list[tuple[dict[str, Any], str]] = [
    (ASKED | {"completions": ["a"], "labels": [True, False]}, "labels for more steps than it has"),
    (ASKED | {"completions": ["a"], "marks": [2]}, "marks hold 2, but a label is 1, 0 or -1"),
    (ASKED | {"completions": ["a"], "labels": [-1]}, "labels hold -1"),
    (prm800k(step([{"text": "a", "rating": 5}])), "marks hold 5"),
    (prm800k(step([{"rating": 1}])), "step 1 has a completion with no text"),
    (prm800k(step([TEXT]), step([TEXT], 3)), "step 2 has the chosen completion 3 of 1"),
    (prm800k(step([TEXT], -1)), "step 1 has the chosen completion -1 of 1"),
    (prm800k(step([TEXT], "0")), "step 1 has the chosen completion '0' of 1"),
    (prm800k("a"), "label.steps must be a list of objects"),
    (prm800k(step(5)), "step 1 must be a list of objects"),
    (prm800k(step([], None, "a")), "human_completion of step 1 must be an object"),
    ({"input": "Q? Step 1: a ки", "label": "Q? Step 1: a *"}, "label is not its input"),
    ({"input": "Q? Step 1: a ки", "label": "Q? Step 1: a +\nStep 2: b -"}, "label is not its input"),
    ({"input": "Q? Step 1: a ки", "label": [0.5, 0.2]}, "labels for more steps than it has"),
    ({"problem": "1 + 1?", "steps": ["a"], "label": 1}, "label is 1, but it is the number of a step"),
    ({"problem": "1 + 1?", "steps": ["a"], "label": None}, "label is null"),
]
FAULTS = [
    (reader, good, row, reason)
    for reader, good, faults in (
        (read_comparisons, ASKED | {"chosen": "c", "rejected": "d"}, COMPARISONS),
        (read_ratings, ASKED | {"response": "c", "rating": 1}, RATINGS),
        (read_labelled, ASKED | {"completion": "c", "label": True}, LABELLED),
        (read_step_marks, ASKED | {"completions": ["c"], "labels": [True]}, STEPS),
    )
    for row, reason in faults
]


@pytest.mark.parametrize(("reader", "good", "row", "reason"), FAULTS)
def test_a_faulty_row_is_told_with_its_line(
    tmp_path: Path, reader: Any, good: dict[str, Any], row: dict[str, Any], reason: str
) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text("\n".join(map(json.dumps, (good, row, good))))
    first, dropped, last = reader(str(file)).walk()
    assert isinstance(dropped, Dropped) and reason in dropped.reason
    assert str(dropped.place).endswith("rows.jsonl line 2") and not dropped.meant
    assert first == last and not isinstance(first, Dropped)


def test_completions_are_compared_by_one_score(tmp_path: Path) -> None:
    """Scores under two names are on two scales; N/A is no rating, and no fault."""
    file = tmp_path / "rows.jsonl"
    row = rated(
        {"response": "a", "overall_score": 1, "score": 9},
        {"response": "b", "overall_score": 2, "annotations": {"x": {"Rating": "N/A"}, "y": {"Rating": "4"}}},
        {"response": "c", "score": 5},
    )
    file.write_text(json.dumps(row))
    assert [(one.chosen, one.rejected) for one in read_comparisons(str(file))] == [("b", "a")]
    assert [dict(one.values) for one in read_ratings(str(file))] == [{"overall": 1}, {"overall": 2, "y": 4}]
