"""RAFT: what is chosen, that the guard keeps it from collapsing, and that it runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from tests.oracle import BETA, TabularPolicy, divergence
from tests.train.making import CPU, make_tokenizer
from tests.train.test_oracle import (
    PRACTICE,
    PROMPTS,
    WORLD,
    EndsAreFree,
    TableJudge,
    distance,
    policy_table,
)
from tests.train.test_reinforce import command_settings
from tutelage.launch import launch
from tutelage.resume import read_metrics
from tutelage.rollout.experience import Rollouts
from tutelage.rollout.select import best_of_each
from tutelage.runs import Run
from tutelage.settings.base import load
from tutelage.settings.rl import RaftSettings, ReinforceSettings
from tutelage.train.fit import fit
from tutelage.train.raft import Raft


def test_the_best_of_each_prompt_and_of_the_batch() -> None:
    worth = [1.0, 5.0, 5.0, 0.0, 2.0, 9.0]
    assert best_of_each(worth, [0, 0, 0, 1, 1, 1], range(6), 1) == [1, 5]  # of equals the first
    assert best_of_each(worth, [0, 0, 0, 1, 1, 1], range(6), 2) == [1, 2, 4, 5]
    assert best_of_each(worth, [0, 0, 0, 1, 1, 1], [0, 2, 3, 4], 1) == [2, 4]
    assert best_of_each(worth, [0] * 6, range(6), 2) == [1, 5]


def run_raft(folder: Path, steps: int, **changes: Any) -> tuple[Any, list[dict[str, Any]]]:
    given = {**PRACTICE, "samples": 8, "batch_size": 32, "max_new_tokens": 3, **changes}
    settings = RaftSettings(**given)
    run = Run.open(folder, "raft", settings, Console(quiet=True))
    policy = policy_table()
    rollouts = Rollouts(
        policy, policy_table(), TableJudge(), EndsAreFree(), PROMPTS, settings, CPU, run.console
    )
    algorithm = Raft(policy, rollouts, settings, run.log)
    fit(algorithm, settings, CPU, run, steps=steps, tokenizer=make_tokenizer())
    run.close()
    return policy, read_metrics(run.folder)


@pytest.mark.slow
def test_it_collapses_without_its_guard_and_reaches_the_optimum_with_it(tmp_path: Path) -> None:
    """The entropy of the best policy is 2.03 nats; without the guard half a nat is left, and falling."""
    free, _ = run_raft(tmp_path / "free", 100, kl_coef=0.0, learning_rate=0.06)
    held, lines = run_raft(tmp_path / "held", 100, kl_coef=BETA, learning_rate=0.06)
    found = []
    for policy in (free, held):
        logprobs = TabularPolicy(policy.host.score.weight.detach().T).sequence_logprobs().detach().double()
        found.append(
            (float(-(logprobs.exp() * logprobs).sum()), float(divergence(logprobs, WORLD.ref_logprobs)))
        )
    assert found[0][0] < 0.8 and found[0][1] > 2.5
    assert distance(held) < 2e-3 and found[1][0] > 1.9
    assert lines[0]["raft/selection_gain"] > 2 * abs(lines[-1]["raft/selection_gain"])


def test_choosing_by_chance_gains_nothing_and_choosing_does(tmp_path: Path) -> None:
    """Mean of the best of 8 against mean of all, in the first step, where both saw the same responses."""
    best = run_raft(tmp_path / "best", 1, kl_coef=0.0)[1][0]
    chance = run_raft(tmp_path / "chance", 1, kl_coef=0.0, select="random")[1][0]
    assert best["objective/scores"] == chance["objective/scores"]
    assert best["raft/selection_gain"] > 0.7 and abs(chance["raft/selection_gain"]) < 0.4


def test_nothing_to_choose_is_refused() -> None:
    with pytest.raises(ValueError, match="keep=8 of samples=8 leaves nothing to choose"):
        load(RaftSettings, ["prompts=-", "keep=8"])


@pytest.mark.slow
def test_it_runs_as_a_command(tmp_path: Path) -> None:
    given = command_settings(tmp_path)
    shared = set(RaftSettings.model_fields) & set(ReinforceSettings.model_fields) - {"out"}
    values = {name: value for name, value in given.model_dump().items() if name in shared}
    launch("raft", RaftSettings(**values, out=tmp_path / "run"), Console(quiet=True))
    lines = read_metrics(tmp_path / "run")
    assert (
        len(lines) == 2 and lines[0]["raft/selection_gain"] >= 0.0 and 0 < lines[0]["raft/unique_share"] <= 1
    )
    assert (tmp_path / "run" / "model" / "model.safetensors").is_file()
