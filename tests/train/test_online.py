"""Online DPO: the known optimum, which pairs it takes, and that it goes on to the bit."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from tests.train.making import CPU, make_tokenizer
from tests.train.test_oracle import PRACTICE, PROMPTS, EndsAreFree, TableJudge, distance, policy_table
from tutelage.models.policy import PolicyModule
from tutelage.resume import read_metrics
from tutelage.rollout.experience import Rollouts
from tutelage.runs import Run
from tutelage.settings.base import build
from tutelage.settings.rl import OnlineDPOSettings
from tutelage.train.fit import fit
from tutelage.train.online import OnlineDPO, best_and_worst


def run_online(folder: Path, steps: int, **changes: Any) -> tuple[PolicyModule, Run]:
    """256 responses a step in the enumerable world, in pairs."""
    given = {**PRACTICE, "samples": 2, "batch_size": 128, "max_new_tokens": 3, "beta": 0.5, **changes}
    for name in ("kl_coef", "inner_epochs"):
        given.pop(name, None)
    settings = build(OnlineDPOSettings, given)
    run = Run.open(folder, "online-dpo", settings)
    policy = policy_table()
    rollouts = Rollouts(
        policy, policy_table(), TableJudge(), EndsAreFree(), PROMPTS, settings, CPU, run.console
    )
    fit(
        OnlineDPO(policy, rollouts, settings, run.log),
        settings,
        CPU,
        run,
        steps=steps,
        tokenizer=make_tokenizer(),
    )
    run.close()
    return policy, run


@pytest.mark.slow
def test_it_reaches_the_optimum(tmp_path: Path) -> None:
    """With labels as people give them, sigmoid of the difference in reward, and the reference fixed."""
    policy, _ = run_online(tmp_path / "run", 250, soft_labels=True, learning_rate=0.05, schedule="linear")
    assert distance(policy) < 1e-3


def test_it_starts_at_ln_2_and_takes_pairs_that_differ(tmp_path: Path) -> None:
    _, run = run_online(tmp_path / "run", 1)
    line = read_metrics(run.folder)[0]
    assert line["loss"] == pytest.approx(0.693147, abs=1e-6)
    assert 0.5 < line["online/pairs_share"] <= 1 and line["objective/kl"] == pytest.approx(0, abs=1e-6)


def experience(scores: list[float], group: list[int], cut: tuple[int, ...] = ()) -> Any:
    responses = [SimpleNamespace(finish="length" if n in cut else "eos") for n in range(len(scores))]
    return SimpleNamespace(paid=torch.tensor(scores), group=torch.tensor(group), responses=responses)


def test_the_best_and_the_worst_of_each_prompt_are_a_pair() -> None:
    settings = build(OnlineDPOSettings, {"prompts": "-", "samples": 3})
    found = experience([1.0, 3.0, 2.0, 5.0, 5.0, 5.0, 0.0, -1.0, 0.0], [0, 0, 0, 1, 1, 1, 2, 2, 2])
    assert best_and_worst(found, settings) == [(1, 0), (6, 7)]
    masked = settings.model_copy(update={"truncated": "mask"})
    found = experience([1.0, 3.0, 2.0], [0, 0, 0], cut=(1,))
    assert best_and_worst(found, masked) == [(2, 0)] and best_and_worst(found, settings) == [(1, 0)]


def test_it_goes_on_to_the_bit(tmp_path: Path) -> None:
    given = {"save_every": 1, "schedule": "constant"}
    whole, _ = run_online(tmp_path / "whole", 4, **given)
    run_online(tmp_path / "parted", 2, **given)
    parted, _ = run_online(tmp_path / "parted", 4, **given)
    for one, other in zip(whole.parameters(), parted.parameters(), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("loss", ["ipo", "hinge", "orpo", "simpo"])
def test_any_loss_of_the_family_may_be_learnt_by(tmp_path: Path, loss: str) -> None:
    policy, run = run_online(tmp_path / "run", 3, loss=loss)
    lines = read_metrics(run.folder)
    assert lines[-1]["rewards/margins"] > lines[0]["rewards/margins"]
    assert distance(policy) != distance(policy_table())


def test_what_means_nothing_here_is_refused() -> None:
    for name, value in (("kl_target", 3.0), ("clip_low", 0.1), ("entropy_coef", 0.1)):
        with pytest.raises(ValueError, match=f"{name}=.*held by beta"):
            build(OnlineDPOSettings, {"prompts": "-", name: value})
    with pytest.raises(ValueError, match="samples"):
        build(OnlineDPOSettings, {"prompts": "-", "samples": 1})
