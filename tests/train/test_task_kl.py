"""The KL's weight by task: the run without KL where a task has none, the run with kl_coef where there is only one task, the known
optimum, and what is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console

from tests.oracle import BETA
from tests.train.making import CPU
from tests.train.test_oracle import (
    EndsAreFree,
    TableJudge,
    distance,
    policy_table,
    run_ppo,
    run_reinforce,
)
from tests.train.test_reinforce import command_settings
from tests.train.test_tasks import COMMANDS
from tutelage.files import sha256_of
from tutelage.launch import launch
from tutelage.records import Prompt
from tutelage.resume import read_metrics
from tutelage.rollout.experience import Experience, Rollouts
from tutelage.settings.rl import OnlineDPOSettings, PPOSettings, RaftSettings, ReinforceSettings
from tutelage.train.raft import Raft
from tutelage.train.reinforce import Reinforce

TWO = {"batch_size": 2, "samples": 4, "max_new_tokens": 3, "micro_batch_tokens": 100_000}
ONE_TASK = {"kl_coef": 0.0, "task_kl": {"": BETA}}
"""The prompts of the oracle's world are of no task, which is one too."""


def experience_of(settings: Any, tasks: tuple[str, ...] = ("tale", "facts")) -> Experience:
    """Four responses to a prompt of each task, of a policy that has left its reference."""
    policy = policy_table()
    with torch.no_grad():
        weight = policy.host.score.weight  # type: ignore[union-attr]
        weight.add_(torch.randn(weight.shape, generator=torch.Generator().manual_seed(0)))  # type: ignore[operator,arg-type]
    prompts = [Prompt(f"p{number}", task) for number, task in enumerate(tasks)]
    rollouts = Rollouts(
        policy, policy_table(), TableJudge(), EndsAreFree(), prompts, settings, CPU, Console(file=StringIO())
    )
    found = rollouts.collect(0)
    named = [
        replace(response, prompt=prompts[group])
        for response, group in zip(found.responses, found.group.tolist(), strict=True)
    ]
    return replace(found, responses=named)


def advantages(**changes: Any) -> dict[str, torch.Tensor]:
    """Task -> advantage of each of its responses' first tokens."""
    settings = ReinforceSettings(prompts="-", **TWO, **changes)
    found = experience_of(settings)
    policy = policy_table()
    rollouts = Rollouts(
        policy, policy_table(), TableJudge(), EndsAreFree(), [], settings, CPU, Console(file=StringIO())
    )
    learner = Reinforce(policy, rollouts, settings, lambda line: None)
    each = learner._learnt_from(found, settings.kl_coef)["advantages"]
    first = torch.tensor([0, *found.batch.lengths[:-1]]).cumsum(0) + 1  # behind the prompt's token
    tasks = [response.prompt.task for response in found.responses]
    return {task: each[first[torch.tensor([other == task for other in tasks])]] for task in ("tale", "facts")}


def test_each_task_has_the_advantages_of_the_run_with_its_weight_alone() -> None:
    """To the bit: without a weight as without a KL, with one as with that for all."""
    none, all_of_it, tales = (
        advantages(kl_coef=0.0),
        advantages(kl_coef=0.3),
        advantages(kl_coef=0.0, task_kl={"tale": 0.3}),
    )
    assert tales["facts"].equal(none["facts"]) and tales["tale"].equal(all_of_it["tale"])
    assert not none["tale"].equal(all_of_it["tale"])
    freed = advantages(kl_coef=0.3, task_kl={"tale": 0.0})
    assert freed["tale"].equal(none["tale"]) and freed["facts"].equal(all_of_it["facts"])


def test_what_is_logged_and_what_chooses_by_hand() -> None:
    settings = ReinforceSettings(prompts="-", **TWO, kl_coef=0.5, task_kl={"tale": 0.1})
    found = experience_of(settings)
    told = found.metrics(0.5)
    by_task = {task: told[f"task/kl/{task}"] for task in ("tale", "facts")}
    assert abs(by_task["tale"]) > 0.01 and abs(by_task["facts"]) > 0.01
    expected = (0.1 * by_task["tale"] + 0.5 * by_task["facts"]) / 2
    assert told["objective/non_score_reward"] == pytest.approx(-expected, rel=1e-5)
    assert told["objective/rlhf_reward"] == pytest.approx(told["objective/scores"] - expected, rel=1e-5)
    assert told["objective/kl_coef"] == 0.5


def test_the_best_of_raft_are_best_less_the_price_of_their_task() -> None:
    """By hand: the best response to each prompt, by score less the weight of its task times its log-ratio."""
    settings = RaftSettings(prompts="-", **TWO, kl_coef=5.0, task_kl={"tale": 0.0})
    found = experience_of(settings)
    rollouts = Rollouts(
        policy_table(),
        policy_table(),
        TableJudge(),
        EndsAreFree(),
        [],
        settings,
        CPU,
        Console(file=StringIO()),
    )
    chosen = Raft(policy_table(), rollouts, settings, lambda line: None)._chosen(found, 5.0, 0)
    scores = found.scores.tolist()
    ratios = [part.sum().item() for part in found.log_ratio.split(found.batch.lengths)]
    best = [
        max(range(start, start + 4), key=lambda n: scores[n] - weight * ratios[n])
        for start, weight in ((0, 0.0), (4, 5.0))
    ]
    assert [scores[n] for n in chosen] == [scores[n] for n in best]
    assert max(range(4, 8), key=lambda n: scores[n]) not in chosen  # the price matters here


@pytest.mark.slow
@pytest.mark.parametrize("kl", ["k1-reward", "exact", "k2-loss"])
def test_one_task_with_a_weight_is_the_run_with_that_weight(tmp_path: Path, kl: str) -> None:
    """To the bit where the KL stands in the reward; where it stands in the loss, but for rounding."""
    one, _ = run_reinforce(tmp_path / "one", 6, kl=kl, **ONE_TASK)
    other, _ = run_reinforce(tmp_path / "other", 6, kl=kl, kl_coef=BETA)
    weights = [model.host.score.weight.detach() for model in (one, other)]  # type: ignore[union-attr]
    assert torch.allclose(*weights, rtol=0, atol=0 if kl == "k1-reward" else 1e-5)
    assert not weights[0].equal(policy_table().host.score.weight)  # type: ignore[union-attr]


@pytest.mark.slow
def test_the_optimum_is_that_of_the_task(tmp_path: Path) -> None:
    """ref exp(score / weight), in the world that is enumerated; with the weight that the others have it is another."""
    policy, _ = run_reinforce(tmp_path / "reinforce", 150, learning_rate=0.06, kl="exact", **ONE_TASK)
    assert distance(policy) < 2e-3
    policy, _ = run_ppo(tmp_path / "ppo", 80, learning_rate=0.06, **ONE_TASK)
    assert distance(policy) < 1e-3
    policy, _ = run_ppo(tmp_path / "free", 80, learning_rate=0.06, kl_coef=0.0)
    assert distance(policy) > 0.1


@pytest.mark.slow
@pytest.mark.parametrize("command", ["reinforce", "ppo", "raft"])
def test_commands_take_it(tmp_path: Path, command: str) -> None:
    """With a weight for all of the tasks it is the run with kl_coef; a task that no prompt is of is refused."""
    given = command_settings(tmp_path).model_dump(
        include={
            "model",
            "reward",
            "prompts",
            "batch_size",
            "samples",
            "max_new_tokens",
            "max_steps",
            "precision",
        }
    )
    rows = [json.loads(line) for line in (tmp_path / "p.jsonl").read_text().splitlines()]
    for number, row in enumerate(rows):
        row["task"] = ("maths", "chat")[number % 2]
    (tmp_path / "p.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = {}
    arms = {
        "all": {"kl_coef": 0.2},
        "each": {"kl_coef": 0.0, "task_kl": {"maths": 0.2, "chat": 0.2}},
        "one": {"kl_coef": 0.0, "task_kl": {"maths": 0.2}},
    }
    for name, changes in arms.items():
        out = tmp_path / name
        values = {**given, "out": out, "tensorboard": False, "missing_eos_score": None, "learning_rate": 1e-3}
        launch(command, COMMANDS[command](**values, **changes), Console(quiet=True))
        found[name] = sha256_of(out / "model")
        line = read_metrics(out)[-1]
        assert {"task/kl/maths", "task/kl/chat"} <= line.keys()
    assert found["all"] == found["each"]
    if command != "raft":  # where so small a weight chooses no other response
        assert found["all"] != found["one"]
    with pytest.raises(ValueError, match=r"task_kl: no prompt of .* is of the task 'tale'.*'chat', 'maths'"):
        launch(
            command,
            COMMANDS[command](**{**given, "out": tmp_path / "no", "task_kl": {"tale": 0.1}}),
            Console(quiet=True),
        )


@pytest.mark.parametrize(
    ("settings", "changes", "words"),
    [
        (ReinforceSettings, {"task_kl": {"tale": -0.1}}, "the weight of the KL of tale is -0.1"),
        (ReinforceSettings, {"task_kl": {"tale": 0.1}, "kl": "none"}, "kl=none holds nothing"),
        (ReinforceSettings, {"task_kl": {"tale": 0.1}, "kl_target": 5.0}, "kl_target=5 moves one weight"),
        (PPOSettings, {"task_kl": {"tale": 0.1}, "kl_budget": 5.0}, "kl_budget=5 moves one weight"),
        (OnlineDPOSettings, {"task_kl": {"tale": 0.1}}, "online-dpo is held by beta alone"),
    ],
)
def test_what_is_refused(settings: Any, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        settings(prompts="-", **changes)
