"""The facts against small files that were counted by hand."""

from __future__ import annotations

import gzip
import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from tests.inspect.kit import asked, comparisons, conversations, demonstrations, facts_of, texts, write
from tutelage.commands import answering
from tutelage.inspect.facts import Facts, Use
from tutelage.inspect.languages import language_of
from tutelage.inspect.layouts import NAMED, PUBLISHED, layout_of
from tutelage.inspect.looking import look
from tutelage.inspect.shown import Evenly, evenly
from tutelage.inspect.words import drops, verdicts


def use(facts: Facts, command: str) -> Use:
    return next(use for use in facts.uses if command in " ".join(use.commands).split())


# ---- what it is ----------------------------------------------------------------------------------------------------------


def test_files_and_rows_are_counted(tmp_path: Path) -> None:
    one = write(tmp_path, demonstrations(3), "a.jsonl")
    packed = tmp_path / "b.json.gz"
    packed.write_bytes(gzip.compress(json.dumps(demonstrations(5)).encode()))
    facts = look([str(one), str(packed)])
    assert [(file.kind, file.rows, file.bytes) for file in facts.files] == [
        ("JSON lines", 3, one.stat().st_size),
        ("one JSON value, gzip", 5, packed.stat().st_size),
    ]
    assert (facts.rows, facts.records) == (8, 8)


def test_columns_say_what_they_hold_and_whether_anybody_uses_them(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [
        {"instruction": "a?", "input": "", "output": "b", "id": 1, "tags": ["x"]},
        {"instruction": "c?", "input": "more", "output": "d", "id": "two", "ok": True},
        {"instruction": "e?", "output": "f", "id": None},
    ]
    found = {column.name: column for column in facts_of(tmp_path, rows).columns}
    assert {name: (c.rows, c.blank, c.use) for name, c in found.items()} == {
        "instruction": (3, 0, "used"),
        "input": (2, 1, "used"),
        "output": (3, 0, "used"),
        "id": (2, 0, "not used"),
        "tags": (1, 0, "not used"),
        "ok": (1, 0, "not used"),
    }
    assert found["id"].types == {"number": 1, "text": 1}
    assert found["tags"].types == {"list of texts": 1} and found["ok"].types == {"true or false": 1}
    assert found["id"].example == "1"


def test_what_stands_unused_inside_a_column_is_said(tmp_path: Path) -> None:
    messages = [
        {"role": "user", "content": "a", "time": 3},
        {"role": "assistant", "content": "b"},
    ]
    [_, inside] = facts_of(tmp_path, [{"messages": messages}]).columns
    assert (inside.name, inside.rows, inside.use) == ("messages: time", 1, "not used")


LAYOUTS = [
    ({"prompt": "a", "chosen": "b", "rejected": "c"}, "preference (prompt, chosen, rejected)"),
    ({"instruction": "a", "chosen": "b", "rejected": "c"}, "preference (instruction, chosen, rejected)"),
    ({"chosen": "\n\nHuman: a\n\nAssistant: b", "rejected": ""}, "Anthropic HH"),
    ({"chosen": "a b", "rejected": "a c"}, "preference (chosen, rejected; the prompt is what both share)"),
    ({"instruction": "a", "input": "", "output": "b"}, "Alpaca"),
    ({"instruction": "a", "context": "", "response": "b", "category": "x"}, "Dolly"),
    ({"system_prompt": "s", "question": "a", "response": "b"}, "OpenOrca"),
    ({"question": "a", "answer": "b"}, "question and answer (GSM8K)"),
    ({"prompt": "a", "completion": "b"}, "prompt and completion (TRL)"),
    ({"prompt": "a", "response": "b"}, "prompt and response"),
    ({"messages": [{"role": "user", "content": "a"}]}, "messages (OpenAI, TRL)"),
    ({"conversations": [{"from": "human", "value": "a"}]}, "ShareGPT"),
    ({"conversations": [{"role": "user", "content": "a"}]}, "conversations (conversations)"),
    ({"turns": ["a", "b"]}, "MT-Bench"),
    ({"prompt": "a"}, "prompts (prompt)"),
    ({"prompt": {"text": "a", "replies": []}}, "OpenAssistant trees"),
    ({"text": "a"}, "documents (text)"),
    ({"kind": "answer", "item": "x"}, "a raw export of a feedback store"),
    ({"history": "a", "human_ref_A": "b", "human_ref_B": "c", "labels": 1}, "SHP"),
    ({"one": 1, "two": 2}, "no known layout (one, two)"),
]


@pytest.mark.parametrize(("columns", "name"), LAYOUTS, ids=[name for _, name in LAYOUTS])
def test_a_layout_has_its_usual_name(columns: dict[str, Any], name: str) -> None:
    assert layout_of(columns).startswith(name)


def test_names_of_layouts_begin_with_who_published_them() -> None:
    assert all("(" in name for name in (*PUBLISHED, *(name for _, name in NAMED)))


def test_several_layouts_in_one_file_are_all_named(tmp_path: Path) -> None:
    facts = facts_of(tmp_path, [*demonstrations(3), *conversations(2), *demonstrations(1)])
    assert [(layout.rows, layout.first.number) for layout in facts.layouts] == [(4, 1), (2, 4)]


# ---- how commands read it ------------------------------------------------------------------------------------------------


def test_what_each_command_makes_of_comparisons(tmp_path: Path) -> None:
    rows = comparisons(20)
    rows[3]["rejected"] = rows[3]["chosen"]
    rows[4]["p_chosen"] = 7
    rows[5]["p_chosen"] = 0.5
    facts = facts_of(tmp_path, rows)
    assert {u.commands: (u.records, u.faults, u.left_out, u.why_not) for u in facts.uses} == {
        ("pretrain",): (18, 1, 1, ""),
        ("sft",): (18, 1, 1, ""),
        ("reward", "dpo"): (18, 2, 0, ""),
        ("kto",): (34, 2, 1, ""),
        ("reward learn_from=ratings",): (0, 1, 0, use(facts, "learn_from=ratings").why_not),
        answering(): (19, 1, 0, ""),
        ("process",): (0, 0, 0, use(facts, "process").why_not),
        ("mark data=",): (18, 1, 1, ""),
        ("feedback import kind=preference",): (18, 2, 0, ""),
    }
    assert "step marks can be read from the columns" in use(facts, "process").why_not
    places = {drop.reason: [place.number for place in drop.places] for drop in use(facts, "dpo").dropped}
    assert places == {
        "with identical chosen and rejected": [4],
        "whose p_chosen is 7, but a probability lies between 0 and 1": [5],
    }


def test_prompts_are_for_every_command_that_has_them_as_a_setting(tmp_path: Path) -> None:
    """And for no other: `world` has a number of that name, `mark` can do without."""
    commands = use(facts_of(tmp_path, [{"prompt": "a?"}]), "sample").commands
    assert sorted(commands) == [
        *(
            "distill prompts=",
            "eval",
            "eval front",
            "eval overopt",
            "eval reasoning",
            "eval task",
            "mark prompts=",
            "online-dpo",
            "ppo",
            "raft",
            "refine prompts=",
            "reinforce",
            "sample",
            "select",
        )
    ]


@pytest.mark.parametrize(
    ("row", "kind", "records"),
    [
        ({"input": "a? Step 1: b ки", "label": "a? Step 1: b +"}, "prompts", 1),
        ({"prompt": "a?", "rounds": [{"steps": ["1. b.\n", "2. c."]}]}, "refinements", 1),
        ({"prompt": "a?", "completion": "b", "label": False}, "responses", 1),  # a bad response is one, too
        ({"instruction": "a?", "output": ["b", "c"]}, "responses", 2),
        ({"prompt": "a?", "chosen": "b", "rejected": "c"}, "preference", 1),
        ({"prompt": "a?"}, "prompts", 1),
        ({"text": "a"}, "", 0),
        ({"prompt": "a\0?"}, "", 0),  # no database keeps it
    ],
)
def test_how_the_import_would_take_a_row(
    row: dict[str, Any], kind: str, records: int, tmp_path: Path
) -> None:
    found = facts_of(tmp_path, [row]).uses[-1]
    assert found.commands == (f"feedback import kind={kind}" if kind else "feedback import",)
    assert found.records == records and bool(found.why_not) is not bool(records)


def test_why_a_command_cannot_read_it_is_the_sentence_it_would_say(tmp_path: Path) -> None:
    facts = facts_of(tmp_path, demonstrations(100))
    reward = use(facts, "reward")
    assert reward.why_not.startswith(f"{tmp_path}/rows.jsonl line 1: found the columns instruction, output")
    assert "prompt+chosen+rejected" in reward.why_not and reward.records == 0
    assert use(facts, "sft").records == 100 and use(facts, "kind=responses").records == 100


def test_rows_of_other_columns_do_not_hide_what_comes_behind_them(tmp_path: Path) -> None:
    other = {"prompt": "a?", "choosen": "b", "rejected": "c"}
    facts = facts_of(tmp_path, [*comparisons(15), other, *comparisons(5), {"prompt": "b?"}])
    dpo = use(facts, "dpo")
    assert (dpo.records, dpo.why_not) == (
        20,
        "",
    )  # as training does: only a file without any such row stops it
    assert {drop.reason: [place.number for place in drop.places] for drop in dpo.dropped} == {
        "whose columns (prompt, choosen, rejected) hold no comparisons": [16],
        "whose columns (prompt) hold no comparisons": [22],
    }
    [mixed] = use(facts, "kind=preference").dropped
    assert (mixed.rows, [place.number for place in mixed.places]) == (2, [16, 22])


def test_what_is_marked_by_rollouts(tmp_path: Path) -> None:
    steps = {"prompt": "a?", "completions": ["b", "c"], "labels": [True, None]}
    assert use(facts_of(tmp_path, [steps] * 3), "data=").records == 3
    assert use(facts_of(tmp_path, demonstrations(4)), "data=").records == 4
    assert use(facts_of(tmp_path, conversations(4)), "data=").faults == 4


def test_the_pairs_of_a_ranking_are_no_repetition_of_its_prompt(tmp_path: Path) -> None:
    rows = [{"prompt": f"{i}?", "responses": ["a b", "c d", "e f"], "ranks": [1, 2, 3]} for i in range(4)]
    facts = facts_of(tmp_path, rows)
    assert not facts.repeats and facts.layouts[0].name == "ranking (prompt, responses, ranks)"
    assert use(facts, "dpo").records == 12
    other = facts_of(tmp_path, [*rows, {**rows[0], "responses": ["g h", "i j", "k l"]}])
    assert [(found.name, found.rows) for found in other.repeats] == [
        ("with the prompt of an earlier row, but other responses", 1)
    ]


def test_a_file_without_ratings_says_so_where_it_says_that_nothing_is_left(tmp_path: Path) -> None:
    facts = facts_of(tmp_path, demonstrations(4))
    assert use(facts, "kto").why_not == "nothing is left: every row would be dropped, with no label"
    said = {commands: why for commands, _, why in verdicts(facts)}
    assert said["reward, dpo"].startswith("comparisons can be read from the columns")
    assert "labels" not in "".join(drop.reason for drop, _ in drops(facts))


def test_too_many_dropped_rows_are_said_as_training_says_them(tmp_path: Path) -> None:
    rows = [*demonstrations(8), *({"instruction": f"{i}?", "output": ""} for i in range(2))]
    assert (
        "2 of 10 would be dropped, more than max_dropped_share=0.1"
        in use(facts_of(tmp_path, rows), "sft").why_not
    )
    assert use(facts_of(tmp_path, rows, max_dropped_share=0.2), "sft").why_not == ""
    nothing = facts_of(tmp_path, [{"instruction": "a?", "output": ""}])
    assert "nothing is left" in use(nothing, "sft").why_not


def test_cut_responses_are_dropped_where_they_would_be(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = demonstrations(20)
    rows[2]["output_finish"] = "length"
    assert use(facts_of(tmp_path, rows), "sft").faults == 0
    [drop] = use(facts_of(tmp_path, rows, cut_responses="drop"), "sft").dropped
    assert [place.number for place in drop.places] == [3] and "cut_responses=drop" in drop.reason


def test_damaged_lines_are_all_named_and_the_others_looked_at(tmp_path: Path) -> None:
    rows = [
        *map(json.dumps, demonstrations(3)),
        '{"instruction": "a", ',
        *map(json.dumps, demonstrations(2)),
        "{]",
    ]
    facts = facts_of(tmp_path, rows)
    assert (facts.rows, facts.records, facts.damaged_rows) == (7, 5, 2)
    assert [seen.place.number for seen in facts.damaged] == [4, 7]
    trainers = [
        one
        for one in facts.uses
        if "feedback" not in one.commands[0] and one.what not in ("comparisons", "step marks")
    ]
    assert all("line 4: malformed JSON" in one.why_not for one in trainers)
    taken = use(facts, "kind=responses")  # the import lists bad lines, and takes the others
    assert (taken.records, taken.faults, taken.why_not) == (5, 2, "")


def test_parts_that_count_several_times_are_looked_at_once(tmp_path: Path) -> None:
    one, two = write(tmp_path, demonstrations(4), "a.jsonl"), write(tmp_path, texts(3), "b.jsonl")
    facts = look([f"{one}*3", str(two)])
    assert (facts.rows, facts.records) == (7, 7) and not facts.repeats
    assert use(facts, "pretrain").records == 15
    assert facts.notes == ("8 rows of parts that count several times were looked at once.",)


def test_columns_under_other_names(tmp_path: Path) -> None:
    rows = [{"q": asked(i), "good": " yes", "bad": " no, never"} for i in range(3)]
    facts = facts_of(tmp_path, rows, columns={"prompt": "q", "chosen": "good", "rejected": "bad"})
    assert use(facts, "dpo").records == 3
    assert [layout.name for layout in facts.layouts] == [
        "preference (prompt, chosen, rejected), under other names"
    ]


@pytest.mark.parametrize(
    ("source", "sentence"),
    [
        ("none.jsonl", "the file none.jsonl does not exist"),
        ("store:main", "tutelage feedback export project=main"),
        ("", "no data was given"),
    ],
)
def test_what_cannot_be_looked_at_is_one_sentence(source: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence) as error:
        look(source)
    assert "\n" not in str(error.value)


# ---- lengths, rows, languages ------------------------------------------------------------------------------------------


def test_lengths_in_characters(tmp_path: Path) -> None:
    rows = [{"instruction": "x" * n, "output": "y" * (2 * n)} for n in range(1, 102)]
    [lengths] = facts_of(tmp_path, rows).lengths
    prompt, response = lengths.spreads
    assert prompt.numbers == {"min": 1, "p5": 6, "median": 51, "p95": 96, "max": 101}
    assert response.numbers["median"] == 102 and response.numbers["max"] == 202
    assert sum(prompt.counts) == sum(response.counts) == 101
    assert len(prompt.edges) == len(prompt.counts) + 1 and prompt.edges == response.edges


def test_an_empty_response_has_a_bin_of_its_own(tmp_path: Path) -> None:
    [lengths] = facts_of(tmp_path, [{"prompt": "a", "chosen": "", "rejected": "b" * 300}]).lengths
    assert lengths.spreads[1].edges[0] == 0 and lengths.spreads[1].counts[0] == 1
    assert sum(lengths.spreads[1].counts) == 2


@pytest.mark.parametrize("count", [0, 1, 9, 10, 11, 40, 41, 1000, 12345])
def test_ten_rows_are_spread_over_any_number(count: int) -> None:
    some: Evenly[int] = Evenly()
    for i in range(count):
        some.add(i)
    chosen = some.chosen
    assert chosen == sorted(set(chosen)) and len(chosen) == min(count, 10)
    if count > 10:
        gaps = [b - a for a, b in pairwise(chosen)]
        assert chosen[0] == 0 and chosen[-1] >= 0.9 * count and max(gaps) <= 2.1 * min(gaps) + 2
        assert evenly(count)[-1] == count - 1


def test_rows_are_shown_as_turns_with_what_is_trained(tmp_path: Path) -> None:
    messages = [
        {"role": "system", "content": "s"},
        {"role": "user", "content": "u"},
        {"role": "assistant", "content": "context", "weight": 0},
        {"role": "user", "content": "v"},
        {"role": "assistant", "content": "said"},
    ]
    rows = [{"messages": messages}, {"prompt": "p", "chosen": " c", "rejected": " r"}, {"text": "t"}]
    shown = facts_of(tmp_path, rows).shown
    assert [[(run.who, run.text, run.trained) for run in row.runs] for row in shown] == [
        [
            ("system", "s", False),
            ("user", "u", False),
            ("assistant", "context", False),
            ("user", "v", False),
            ("assistant", "said", True),
        ],
        [("prompt", "p", False), ("chosen", " c", True), ("rejected", " r", True)],
        [("text", "t", True)],
    ]


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("I am not sure that this is what he had in mind, to be honest.", "English"),
        ("Was ist der Unterschied zwischen den beiden, und wie kann ich es auf dem Markt sehen?", "German"),
        ("Le chat est sur la table et il ne veut pas en descendre pour les enfants.", "French"),
        ("El perro de la casa no es de los que se van con una persona por la calle.", "Spanish"),
        ("O gato não é de uma pessoa que foi com os outros para a casa dos avós.", "Portuguese"),
        ("Кошка сидит на столе и смотрит в окно.", "Cyrillic"),
        ("猫はテーブルの上に座っています。", "Japanese"),
        ("猫坐在桌子上看着窗外的人们走过。", "Chinese"),
        ("고양이가 탁자 위에 앉아 있습니다.", "Korean"),
        ("42", ""),
        ("x = y + z", ""),
        ("Red kite", ""),
        ("La un en es Paris.", ""),  # as much French as Spanish
    ],
)
def test_a_guess_at_the_language(text: str, language: str) -> None:
    assert language_of(text) == language


def test_published_step_marks_rankings_and_ratings_have_their_names() -> None:
    named: dict[str, dict[str, Any]] = {
        "PRM800K": {"question": {"problem": "1 + 1?"}, "label": {"steps": []}},
        "Math-Shepherd": {"input": "1 + 1? Step 1: 2. ки", "label": "1 + 1? Step 1: 2. +", "task": "GSM8K"},
        "ProcessBench": {"id": "a", "generator": "m", "problem": "1 + 1?", "steps": ["2"], "label": -1},
        "NeMo's": {"context": [], "completions": []},
        "UltraFeedback": {"instruction": "a?", "completions": []},
        "ratings": {"prompt": "a?", "response": "b", "n": 1, "values": {"clear": 1}},
        "HelpSteer": {"prompt": "a?", "response": "b", "helpfulness": 4},
        "step": {"prompt": "a?", "completions": ["b"], "labels": [True]},
    }
    assert {name: layout_of(columns).split()[0] for name, columns in named.items()} == {n: n for n in named}
    assert layout_of({"input": "a?", "output": "b"}) == "input and output"
