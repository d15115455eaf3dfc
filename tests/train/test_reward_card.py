"""What a training run gives its card: texts of what it trained on, the people's votes, and itself as a judge."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console

from tests.store.making import fill, new_vote
from tests.train.making import CPU, make_model, make_tokenizer
from tutelage.data.preflight.responses import comparisons_of, prepare_comparisons
from tutelage.judges.judge import Judge
from tutelage.judges.reward_model import RewardModelJudge
from tutelage.models.loading import load_scalar, save
from tutelage.records import Comparison, Prompt, Response, Score
from tutelage.runs import Run
from tutelage.settings.reward import RewardSettings
from tutelage.store import Store
from tutelage.train.reward_card import InTraining, of_the_policy, on_the_policy, training_of, votes_on
from tutelage.train.stage import Pairs


def test_the_model_scores_as_it_will_when_it_is_loaded_and_leaves_out_what_is_too_long(
    tmp_path: Path,
) -> None:
    tokenizer = make_tokenizer()
    scalar = load_scalar(save(make_model(tokenizer), tokenizer, tmp_path / "reward"))
    with torch.no_grad():
        scalar.head.weight.copy_(torch.linspace(-1, 1, 32)[None])
    texts = ["on the mat.", "a dog ran. " * 9, "", "the cat"]
    asked = [Response.written(Prompt("the cat sat"), text) for text in texts]
    found = InTraining([scalar], tokenizer, 24, 512, CPU).score(asked)
    assert found[1] is None
    kept = [score.value for score in found if score is not None]
    later = RewardModelJudge(scalar, tokenizer, None, CPU, 512).score([asked[i] for i in (0, 2, 3)])
    assert kept == pytest.approx([score.value for score in later if score is not None], abs=1e-6)
    assert len(set(kept)) == 3
    assert InTraining([scalar], tokenizer, 3, 512, CPU).score(asked[:1]) == [None]


def test_texts_are_those_of_the_responses_alone_and_shared_prompts_are_counted() -> None:
    tokenizer = make_tokenizer()
    asked = [Prompt(f"{number} + {number}") for number in range(4)]
    learnt = [Comparison(p, "the cat sat", "a dog", 0.75) for p in asked]
    held = [Comparison(p, "the mat", "is red") for p in (asked[1], asked[3], Prompt("the cat"))]
    train, held_out = (
        prepare_comparisons(tokenizer, rows, max_length=64, keep_records=True) for rows in (learnt, held)
    )
    pairs = Pairs(train.examples, held_out.examples, comparisons_of(held_out))
    found = training_of(train.examples[:], np.array([(2.0, 0.5)]), pairs, tokenizer)
    assert [tuple(text.strip() for text in both) for both in found.texts] == [("the cat sat", "a dog")] * 4
    assert found.p_chosen == [0.75] * 4 and np.asarray(found.margins) == [1.5]
    assert len(set(found.prompts)) == 4 and found.shared == 2


def test_votes_are_counted_for_either_side_without_ties(tmp_path: Path) -> None:
    with Store(tmp_path / "store.sqlite") as store:
        fill(store, prompts=1, samples=2)
        [item] = [pair.item_id for pair in store.pairs("main")]
        said = {"ann": -2, "bob": 0, "cat": -1}
        store.add_votes("main", [new_vote(item, name, preference) for name, preference in said.items()])
        [pair] = store.voted_pairs("main")
    first, second = pair.texts
    there = [Comparison(pair.prompt, first, second), Comparison(pair.prompt, second, first)]
    settings = RewardSettings(data="store:main", store=str(tmp_path / "store.sqlite"))
    found = votes_on([*there, Comparison(pair.prompt, "else", first)], settings)
    assert found is not None and found.tolist() == [[2, 0], [0, 2], [0, 0]]
    only = settings.model_copy(update={"annotators": ["ann"]})
    assert np.array_equal(votes_on(there, only), [[1, 0], [0, 1]])  # type: ignore[arg-type]
    assert votes_on(there, RewardSettings(data="pairs.jsonl")) is None


class Letters(Judge):
    """Counts letters; reads no text of more than ten."""

    name = "letters"

    def score(self, responses: Sequence[Response]) -> list[Score | None]:
        return [Score(len(r.text)) if len(r.text) <= 10 else None for r in responses]


def test_the_policys_own_responses_are_read_from_a_file_and_scored(tmp_path: Path) -> None:
    rows = [("abc", "ab"), ("a", "abcd"), ("abcdef", "a"), ("x" * 11, "a")]
    lines = [json.dumps({"prompt": f"{n}?", "chosen": c, "rejected": r}) for n, (c, r) in enumerate(rows)]
    lines.append(json.dumps({"prompt": "5?", "chosen": "abc", "rejected": None}))
    (tmp_path / "own.jsonl").write_text("\n".join(lines))
    settings = RewardSettings(policy_data=str(tmp_path / "own.jsonl"))
    console = Console(width=300, file=io.StringIO())
    run = Run.open(tmp_path / "run", "reward", settings, console)
    own = of_the_policy(settings, run)
    assert "1 of 5 rows of policy_data are left out" in (said := console.file.getvalue()) and "line 5" in said
    assert [(one.chosen, one.rejected) for one in own] == rows
    assert [entry["name"] for entry in run.lineage["inputs"]] == ["policy_data"]
    [found] = on_the_policy(Letters(), own, run)
    assert (found.metric, found.value, found.n) == ("accuracy_policy", pytest.approx(2 / 3), 3)
    assert on_the_policy(Letters(), [], run) == []


def test_the_policys_own_responses_may_be_in_the_store(tmp_path: Path) -> None:
    with Store(tmp_path / "store.sqlite") as store:
        fill(store, prompts=2, samples=2)
        items = [pair.item_id for pair in store.pairs("main")]
        store.add_votes("main", [new_vote(item, "ann", -2) for item in items])
    settings = RewardSettings(policy_data="store:main", store=str(tmp_path / "store.sqlite"))
    run = Run.open(tmp_path / "run", "reward", settings)
    assert len(of_the_policy(settings, run)) == len(items) == 2
    with pytest.raises(ValueError, match="nothing"):
        of_the_policy(settings.model_copy(update={"policy_data": "store:nothing"}), run)
