"""What is told of annotators' habits where their labels are trained on: whose they are, by pseudonym, and what became of them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.databases import fresh_sqlite
from tests.store.making import response
from tests.train.making import make_model, make_tokenizer
from tutelage.cli import run_command
from tutelage.commands import find
from tutelage.feedback.exports.singles import labelled_from
from tutelage.feedback.training.source import comparisons_digest, comparisons_from
from tutelage.models.loading import save
from tutelage.records import Prompt, Vote
from tutelage.statistics import sigmoid
from tutelage.store import ModelInfo, NewVote, Store

LIKING = {"ann": (1.0, 0.0), "bob": (0.0, 1.0), "cat": (0.0, -1.0), "dan": (0.0, 0.0)}
"""What each likes in the first place and, above the others, in length; beside what all like in it."""
SHARED = 1.0


@pytest.fixture
def path(tmp_path: Path) -> Iterator[Path]:
    """120 pairs, 480 votes; length is no part of what a response is worth."""
    place = fresh_sqlite(tmp_path / "store.sqlite")
    draw = np.random.default_rng(0)
    with Store(place) as store:
        asked = [Prompt(f"question {number}") for number in range(120)]
        store.add_prompts("main", asked)
        run = store.add_generation_run(ModelInfo("runs/sft", "ab12"), "local", {"seed": 0})
        texts = [response(p, n, f"{n} " + "x" * int(draw.integers(1, 60))) for p in asked for n in (0, 1)]
        store.add_responses("main", run, texts)
        store.build_pairs("main", 1, overlap=4)
        for name in LIKING:
            store.add_annotator(name, "simulated", {})
        votes = []
        for pair in store.pairs("main"):
            better = draw.normal(scale=1.5)
            for name, (first, length) in LIKING.items():
                shown = int(draw.integers(2))
                longer = (len(pair.texts[0]) - len(pair.texts[1])) / 25
                logit = better + first * (1 - 2 * shown) + (length + SHARED) * longer
                said = -1 if draw.random() < sigmoid(logit) else 1
                votes.append(NewVote(pair.item_id, Vote(name, said, shown), f"{name}/{pair.item_id}"))
        store.add_votes("main", votes)
    yield place


def test_habits_come_with_the_rows_under_pseudonyms(path: Path) -> None:
    assert comparisons_from("store:main", path, "crowd-bt").habits == ()
    [own] = comparisons_from("store:main", path, "habit-bt").habits
    told = own.to_json()
    assert [row["annotator"] for row in told["annotators"]] == [f"annotator-{n}" for n in (1, 2, 3, 4)]
    assert [row["votes"] for row in told["annotators"]] == [120] * 4
    first, length = (np.array([row[key] for row in told["annotators"]]) for key in ("position", "length"))
    assert first.argmax() == 0 and first[0] > 3 * told["annotators"][0]["position_error"]
    assert length.argmax() == 1 and length.argmin() == 2
    assert told["shared_length"] > 2 * told["shared_length_error"] and told["shared_length_in_labels"]
    assert not any(f'"{name}"' in json.dumps(told) for name in LIKING)
    assert "left in the labels; aggregation=habit-bt-length" in own.said


def test_labels_of_single_responses_come_with_them_too(path: Path) -> None:
    found = labelled_from("store:main", path, "habit-bt", "pairs").habits
    assert [one.to_json() for one in found] == [
        one.to_json() for one in comparisons_from("store:main", path, "habit-bt").habits
    ]
    assert len(found) == 1 and labelled_from("store:main", path, "crowd-bt", "pairs").habits == ()


def test_all_liking_for_length_can_be_taken_out(path: Path) -> None:
    def longer_wins(aggregation: str) -> float:
        rows = comparisons_from("store:main", path, aggregation).rows  # type: ignore[arg-type]
        signs = [np.sign(len(row.chosen) - len(row.rejected)) * (2 * row.p_chosen - 1) for row in rows]
        return float(np.mean(signs))

    assert longer_wins("crowd-bt") > 0.2 > abs(longer_wins("habit-bt-length")) + 0.1
    assert longer_wins("habit-bt") > 0.1
    digests = {comparisons_digest("store:main", path, how) for how in ("habit-bt", "habit-bt-length")}  # type: ignore[arg-type]
    assert len(digests) == 2


def test_groups_and_several_projects_are_told_each_for_itself(path: Path) -> None:
    groups = {"one": ["ann", "bob"], "two": ["cat", "dan"]}
    found = comparisons_from("store:main", path, "habit-bt", groups=groups).habits
    assert [(one.group, len(one.names)) for one in found] == [("one", 2), ("two", 2)]
    found = comparisons_from(["store:main"], path, "habit-bt").habits
    assert [one.project for one in found] == ["main"]


@pytest.mark.slow
def test_reward_tells_them_on_the_screen_in_a_file_and_in_the_card(
    path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tokenizer = make_tokenizer()
    model = save(make_model(tokenizer), tokenizer, tmp_path / "base" / "model")
    args = [f"store={path}", f"model={model}", f"out={tmp_path / 'run'}", "aggregation=habit-bt-length"]
    small = ["max_length=96", "batch_size=4", "max_steps=1", "device=cpu", "kernels=off", "heldout_share=0.1"]
    assert run_command(find("reward"), [*args, *small, "max_dropped_share=1"]) == 0
    [told] = json.loads((tmp_path / "run" / "habits.json").read_text())
    card, screen = (tmp_path / "run" / "card.md").read_text(), capsys.readouterr().out
    for row in told["annotators"]:
        line = f"{row['position']:+.2f} ± {row['position_error']:.2f}"
        assert line in card and row["annotator"] in card and row["annotator"] in screen
    assert "## Habits of annotators in main" in card and "taken out of the labels" in card
