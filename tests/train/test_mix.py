"""Text mixed into another algorithm's updates: the gradients add up, and each objective has its own counts and log lines."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from rich.console import Console

from tests.train.making import CPU, batch_at, make_model, make_rows, make_tokenizer
from tutelage.launch import launch
from tutelage.models.loading import load_scalar, save
from tutelage.resume import read_metrics
from tutelage.settings.rl import PPOSettings
from tutelage.train.fit import accumulate
from tutelage.train.mix import OBJECTIVE, Mixed
from tutelage.train.sft import LanguageModelling


def gradients(model: torch.nn.Module) -> list[torch.Tensor]:
    found = [p.grad.clone() for p in model.parameters()]
    model.zero_grad(set_to_none=True)
    return found


def test_gradients_add_up_whatever_the_micro_batch() -> None:
    """8 rows of one kind and 3 of another: the mixed gradient is the one plus .7 times the other."""
    model = make_model(make_tokenizer())
    rows, other = batch_at(make_rows(8), 8), batch_at(make_rows(3, seed=1), 3)
    own = LanguageModelling(model, rows)
    mixed = Mixed(own, model, lambda step, n: replace(other(step), objective=OBJECTIVE), 0.7)
    accumulate(own, [rows(0)], 4096, CPU)
    one = gradients(model)
    accumulate(own, [other(0)], 4096, CPU)
    two = gradients(model)
    for tokens in (4096, 30):
        update = mixed.batches(0).send(None)  # type: ignore[arg-type]
        totals = accumulate(mixed, update, tokens, CPU)
        for a, b, both in zip(one, two, gradients(model), strict=True):
            torch.testing.assert_close(both, a + 0.7 * b, rtol=1e-4, atol=1e-6)
        found = totals.means()
        assert found["loss"] == pytest.approx(found["loss/nll_avg"] + 0.7 * found["mix/loss/nll_avg"])


def test_every_update_has_text_of_its_own_and_answers_reach_the_algorithm() -> None:
    model = make_model(make_tokenizer())
    replies = []

    class Twice:
        def __init__(self) -> None:
            self.trained = {"policy": model}

        def batches(self, step):  # type: ignore[no-untyped-def]
            for _ in range(2):
                replies.append((yield [batch_at(make_rows(2), 2)(step)]))

        def loss(self, batch):  # type: ignore[no-untyped-def]
            raise AssertionError

    asked = []
    mixed = Mixed(
        Twice(), model, lambda step, n: asked.append((step, n)) or batch_at(make_rows(1), 1)(0), 1.0
    )
    updates = mixed.batches(5)
    first = updates.send(None)  # type: ignore[arg-type]
    assert len(first) == 2
    updates.send({"loss": 1.0})
    with pytest.raises(StopIteration):
        updates.send({"loss": 2.0})
    assert asked == [(5, 0), (5, 1)] and replies == [{"loss": 1.0}, {"loss": 2.0}]


@pytest.mark.slow
def test_ppo_with_text_logs_both(tmp_path: Path) -> None:
    tokenizer = make_tokenizer()
    save(make_model(tokenizer), tokenizer, tmp_path / "base")
    save(load_scalar(tmp_path / "base"), tokenizer, tmp_path / "reward")
    texts = ["the cat", "a dog ran", "1 + 2 =", "the mat is"]
    (tmp_path / "p.jsonl").write_text("".join(json.dumps({"prompt": text}) + "\n" for text in texts))
    (tmp_path / "t.jsonl").write_text("".join(json.dumps({"text": text * 9}) + "\n" for text in texts))
    settings = PPOSettings(
        model=str(tmp_path / "base"),
        reward=str(tmp_path / "reward"),
        prompts=str(tmp_path / "p.jsonl"),
        mix_data=str(tmp_path / "t.jsonl"),
        mix_batch_size=2,
        mix_length=64,
        out=tmp_path / "run",
        batch_size=4,
        max_new_tokens=6,
        inner_epochs=2,
        max_steps=2,
        learning_rate=1e-2,
        max_approx_kl=10.0,
        tensorboard=False,
    )
    launch("ppo", settings, Console(quiet=True))
    first, second = read_metrics(tmp_path / "run")
    assert {"loss/policy_avg", "loss/value_avg", "mix/loss/nll_avg", "mix/mean_token_accuracy"} <= set(first)
    assert second["mix/loss/nll_avg"] < first["mix/loss/nll_avg"]
    lineage = json.loads((tmp_path / "run" / "lineage.json").read_text())
    assert "mix_data" in [found["name"] for found in lineage["inputs"]]
