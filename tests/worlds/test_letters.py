"""Letters: what the gold standard reads in them, and what groups of annotators make of it."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from tests.store.making import response
from tutelage.feedback.training.source import comparisons_from, each_voter
from tutelage.launch import launch
from tutelage.records import Message, Prompt, Response
from tutelage.settings.base import build
from tutelage.settings.feedback import LabelSettings
from tutelage.settings.worlds import WorldSettings
from tutelage.store import ModelInfo, Store
from tutelage.worlds import letters
from tutelage.worlds.gold import GoldStandard
from tutelage.worlds.write import write_world

SUM = {"sum": [3, 4]}


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        # three clauses are average; hey and cheers against nothing formal
        ("hey the answer is seven let us wing it wow just grab the stuff cheers", (1, 0, -1 / 0.7, 1 / 0.78)),
        ("good day the answer is nine noted kind regards", (-1, -2 / 1.4, 1 / 0.7, -1 / 0.78)),
        ("the answer is seven", (1, -2 / 1.4, 0, 0)),
        ("the answer is seven the answer is nine", (-1, -1 / 1.4, 0, 0)),
        ("", (-1, -3 / 1.4, 0, 0)),
    ],
)
def test_a_letter_is_read_as_by_hand(text: str, parts: tuple[float, ...]) -> None:
    found = letters.grade(SUM, text)
    assert list(found) == ["right", "length", "formality", "warmth"]
    assert list(found.values()) == pytest.approx(parts)


def test_letters_are_average_and_spread_by_about_one_in_every_taste() -> None:
    draw = np.random.default_rng(0)
    found = np.array([list(letters.grade(SUM, letters.write(SUM, draw)).values()) for _ in range(1500)])
    assert found.mean(0) == pytest.approx([0, 0, 0, 0], abs=0.1)
    assert found.std(0) == pytest.approx([1, 1, 1, 1], abs=0.1)
    assert np.abs(np.corrcoef(found.T) - np.eye(4)).max() < 0.1


def test_gold_is_the_worth_to_the_group_of_the_prompt() -> None:
    text, taste = "hey the answer is seven cheers", [0.5, -2.0, 1.0]
    worth = 1 + 0.5 * (-2 / 1.4) - 2.0 * (-1 / 0.7)
    of_group = Prompt((Message("user", "?"),), letters.TASK, {**SUM, "taste": taste})
    of_nobody = Prompt((Message("user", "?"),), letters.TASK, SUM)
    own, plain = GoldStandard().score([Response.written(one, text) for one in (of_group, of_nobody)])
    assert own and own.value == pytest.approx(1 / (1 + math.exp(-worth / 4)), abs=1e-6)
    assert plain and plain.value == 1


def test_votes_are_bradley_terrys_of_the_utilities() -> None:
    """Of pairs with about the same difference the share of votes for the better one is the sigmoid of that."""
    group = letters.Group("some", (1.0, 1.0, -1.0))
    margins = []
    for one in letters.comparisons(0, group, 1500, "test"):
        worth = [
            letters.utility(letters.grade(dict(one.prompt.reference or {}), text), group.taste)
            for text in (one.chosen, one.rejected)
        ]
        margins.append(worth[0] - worth[1])
    found = np.array(margins)
    for low, high in ((0.2, 1.0), (1.0, 2.0), (2.0, 4.0)):
        near = found[(np.abs(found) > low) & (np.abs(found) < high)]
        expected = (1 / (1 + np.exp(-np.abs(near)))).mean()
        assert (near > 0).mean() == pytest.approx(expected, abs=3.5 * math.sqrt(0.25 / len(near)))


def test_tastes_follow_from_seed_and_name_and_oppose_each_other_as_often_as_not() -> None:
    assert letters.groups(1, 3, "new") == letters.groups(1, 5, "new")[:3]
    assert letters.group_at(1, "new-01") != letters.group_at(2, "new-01")
    tastes = np.array([one.taste for one in letters.groups(0, 99, "group")])
    assert tastes.mean(0) == pytest.approx([0, 0, 0], abs=0.7)
    assert tastes.std(0) == pytest.approx([2, 2, 2], abs=0.5)


def test_the_files_of_groups_keep_held_out_prompts_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tutelage.worlds.write.LETTERS", (100, 50))
    small = {"document_count": 1, "demonstration_count": 1, "prompt_count": 1, "heldout_count": 1}
    counts = write_world(tmp_path, solution_count=1, groups=(2, 1, 30), **small)
    assert counts["groups.jsonl"] == 60 and counts["new/new-01/labels.jsonl"] == 64

    def rows(name: str) -> list[dict]:
        return [json.loads(line) for line in (tmp_path / name).read_text().splitlines()]

    def asked(name: str) -> set[str]:
        return {row["prompt"][0]["content"] for row in rows(name)}

    seen = asked("groups.jsonl") | asked("new/new-01/labels.jsonl") | asked("demonstrations.jsonl")
    assert not seen & (asked("groups_heldout.jsonl") | asked("new/new-01/query.jsonl"))
    assert not seen & asked("new/new-01/prompts.jsonl")
    text = (tmp_path / "pretrain.jsonl").read_text()
    assert not any(prompt in text for prompt in asked("new/new-01/query.jsonl"))
    assert {row["group"] for row in rows("groups.jsonl")} == {"group-01", "group-02"}
    assert all(row["reference"]["taste"] for row in rows("new/new-01/prompts.jsonl"))


def test_groups_vote_on_letters_in_a_store_by_their_taste_and_each_voter_is_a_group(tmp_path: Path) -> None:
    """Who likes it short and who likes it long disagree on letters that differ in nothing else."""
    names = {
        sign: next(
            g.name
            for g in letters.groups(0, 99, "group")
            if sign * g.taste[0] > 2 and max(map(abs, g.taste[1:])) < 2
        )
        for sign in (1, -1)
    }
    path = tmp_path / "store.sqlite"
    long = "the answer is seven" + " let us wing it hey good day kind regards" * 4
    with Store(path) as store:
        asked = [Prompt((Message("user", f"{number}"),), letters.TASK, SUM) for number in range(40)]
        store.add_prompts("main", asked)
        run = store.add_generation_run(ModelInfo("runs/sft", "ab12"), "local", {})
        texts = ("the answer is seven", long)
        said = [response(one, index, text) for one in asked for index, text in enumerate(texts)]
        store.add_responses("main", run, said)
    settings = {
        "store": str(path),
        "tastes": list(names.values()),
        "votes_per_item": 2,
        "out": tmp_path / "run",
    }
    launch("label", build(LabelSettings, settings), Console(quiet=True))
    assert each_voter("store:main", path) == {name: [name] for name in sorted(names.values())}
    found = comparisons_from("store:main", path, groups="each").rows
    shorter: dict[str, list[bool]] = {name: [] for name in names.values()}
    for one in found:
        shorter[one.group].append(one.chosen == "the answer is seven")
    assert np.mean(shorter[names[1]]) < 0.15 and np.mean(shorter[names[-1]]) > 0.85


def test_tastes_have_no_other_habits_and_are_about_letters() -> None:
    with pytest.raises(ValueError, match="tastes are of simulated annotators who have no other habits"):
        build(LabelSettings, {"tastes": ["group-01"], "length_bias": 1.0})


def test_settings_about_groups_want_groups() -> None:
    with pytest.raises(ValueError, match="new_groups is about groups, of which there are none"):
        build(WorldSettings, {"new_groups": 3})
