"""MODPO: pairs of one criterion, judges of the others; against the optimum of the mixture, and DPO where nothing is added."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console

from tests.judges.kit import Says
from tests.oracle import BETA, TabularPolicy
from tests.train.making import CPU, make_model, make_tokenizer
from tests.train.test_oracle import WORLD, all_pairs, policy_table
from tutelage.launch import launch
from tutelage.models.loading import save
from tutelage.records import Comparison, Prompt, Score
from tutelage.resume import read_metrics
from tutelage.runs import Run
from tutelage.settings.base import build
from tutelage.settings.preference import DPOSettings
from tutelage.train.fit import fit
from tutelage.train.objectives import differences
from tutelage.train.preference import Preference, reference
from tutelage.train.reference import RowValues


def settings(**given: Any) -> DPOSettings:
    fixed = {"warmup": 0.0, "max_grad_norm": 0.0, "tensorboard": False, "save_every": 10_000}
    return build(DPOSettings, {"out": "x", **fixed, "micro_batch_tokens": 100_000, **given})


@pytest.mark.slow
@pytest.mark.parametrize("weight", [0.25, 0.75])
def test_the_policy_is_the_optimum_of_the_mixture(tmp_path: Path, weight: float) -> None:
    """ref exp((w r + (1 - w) g) / beta), where the pairs are labelled by r alone and g is the other judge's."""
    other = torch.randn(15, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    pairs, apart = all_pairs(), []
    for i in range(15):
        apart += [float((1 - weight) * (other[i] - other[j])) for j in range(i + 1, 15)]
    chosen = settings(
        learning_rate=0.05, batch_size=len(pairs), beta=BETA, other_rewards="x", own_weight=weight
    )
    run = Run.open(tmp_path / "run", "dpo", chosen)
    policy, rows = policy_table(), range(len(pairs))
    others = RowValues(torch.arange(len(pairs)).numpy(), torch.tensor(apart).float().view(-1, 1))
    algorithm = Preference(policy, pairs, chosen, reference(policy, pairs, rows, chosen, CPU, run), others)
    fit(algorithm, chosen, CPU, run, steps=400, tokenizer=make_tokenizer())
    run.close()
    mixed = weight * WORLD.rewards.double() + (1 - weight) * other
    best = torch.softmax(WORLD.ref_logprobs.double() + mixed / BETA, 0)
    table: Any = policy.host
    found = TabularPolicy(table.score.weight.detach().T).sequence_logprobs().detach().double().exp()
    assert float((found - best).abs().sum() / 2) < 2e-3
    plain = torch.softmax(WORLD.ref_logprobs.double() + WORLD.rewards.double() / BETA, 0)
    assert float((best - plain).abs().sum() / 2) > 0.1  # another policy than that of the pairs alone


def pair(chosen: str, rejected: str) -> Comparison:
    return Comparison(Prompt("a"), chosen, rejected)


def test_what_others_say_is_asked_once_and_kept(tmp_path: Path) -> None:
    pairs = [pair("good", "bad"), pair("odd", "odder"), pair("bad", "good")]
    judge = Says({"good": 2.5, "bad": 1.0, "odd": None, "odder": None})
    run = Run.open(tmp_path / "run", "dpo", settings())
    found = differences(judge, pairs, [0, 1, 2], run, "others.npy")
    assert found.of([2, 0, 1]).tolist() == [-1.5, 1.5, 0.0]
    assert (
        differences(judge, pairs, [0, 1, 2], run, "others.npy").of([0]).tolist() == [1.5] and judge.asked == 6
    )
    assert differences(judge, pairs, [0, 2], run, "others.npy").of([2]).tolist() == [
        -1.5
    ]  # other rows: asked anew
    run.close()


def test_a_judge_of_one_side_alone_is_refused(tmp_path: Path) -> None:
    run = Run.open(tmp_path / "run", "dpo", settings())
    with pytest.raises(ValueError, match="a score for one response of the pair and none for the other"):
        differences(Says({"good": Score(1.0), "odd": None}), [pair("good", "odd")], [0], run, "others.npy")
    run.close()


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"own_weight": 0.5}, "own_weight=0.5 weighs the comparisons beside other_rewards"),
        ({"other_rewards": "world", "loss": "ipo"}, "take sigmoid or robust"),
        ({"other_rewards": "world", "preset": "simpo"}, "take sigmoid or robust"),
    ],
)
def test_settings_that_contradict_each_other(given: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        settings(**given)


def test_through_the_command(tmp_path: Path) -> None:
    """A judge that says the same of all changes no bit; one by length moves the policy, and is seen in the metrics."""
    tokenizer = make_tokenizer()
    save(make_model(tokenizer), tokenizer, tmp_path / "start")
    rows = [{"prompt": f"{n} + 2", "chosen": "the cat ran", "rejected": f"a dog {n}"} for n in range(12)]
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))

    def run(name: str, **more: Any) -> list[dict[str, Any]]:
        chosen = settings(
            model=str(tmp_path / "start"), data=str(tmp_path / "pairs.jsonl"), out=str(tmp_path / name), batch_size=4,
            max_steps=4, learning_rate=1e-3, heldout_share=0.3, precision="fp32", **more,
        )  # fmt: skip
        launch("dpo", chosen, Console(quiet=True))
        return read_metrics(tmp_path / name)

    def losses(found: list[dict[str, Any]]) -> list[float]:
        return [line["loss"] for line in found if "loss" in line]

    plain = run("plain")
    same = run("same", other_rewards=[{"judge": "formula:keywords", "keywords": ["zebra"]}])
    assert losses(same) == losses(plain)
    dogs = [{"judge": "formula:keywords", "keywords": ["dog"], "weight": 0.5}]
    moved = run("moved", other_rewards=dogs, own_weight=0.5)
    assert losses(moved) != losses(plain)
    # Only the rejected ones have a dog.
    assert {line["rewards/others"] for line in moved if "rewards/others" in line} == {-0.5}
    assert {line["eval_rewards/others"] for line in moved if "eval_rewards/others" in line} == {-0.5}
    # beta h is 0 before the first step: log(1 + exp(-(0 + .5) / .5)).
    assert moved[0]["eval_loss"] == pytest.approx(math.log1p(math.exp(-1)), abs=1e-6)
