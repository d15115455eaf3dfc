"""PPO's own pieces: token rewards, missing ends, the KL controller, and a real model that learns."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Sequence
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file

from tests.train.making import CPU, make_model, make_tokenizer
from tutelage.data.batch import TokenBatch
from tutelage.data.template import tokenize
from tutelage.judges.calibration import Calibration
from tutelage.judges.ends import Ends
from tutelage.judges.judge import Judge, scores_of
from tutelage.judges.reward_model import RewardModelJudge
from tutelage.launch import launch
from tutelage.models.loading import load_scalar, save
from tutelage.models.lora import add_lora
from tutelage.models.policy import PolicyModule, ScalarModule
from tutelage.models.tiny import tiny_model, train_tokenizer
from tutelage.models.value_head import ValueHead
from tutelage.ops.advantages import gae
from tutelage.ops.rewards import token_rewards
from tutelage.parallel import World
from tutelage.records import Prompt, Response, Score
from tutelage.resume import read_metrics
from tutelage.rollout.experience import Rollouts
from tutelage.rollout.generator import Sampling
from tutelage.rollout.local import LocalGenerator
from tutelage.runs import Run
from tutelage.settings.rl import PPOSettings
from tutelage.train import ppo
from tutelage.train.critic import Critic
from tutelage.train.fit import accumulate, fit
from tutelage.train.kl import KLController
from tutelage.train.ppo import PPO


def test_score_stands_on_the_last_token_of_ragged_responses() -> None:
    """The published example: lambda .95, V = .4, score 1, four tokens -> the score reaches the end undiscounted."""
    rewards = token_rewards(torch.zeros(4 + 2), torch.tensor([0, 0, 0, 1.0, 0, 1.0]), [4, 2])
    assert rewards.tolist() == [[0, 0, 0, 1], [0, 1, 0, 0]]
    mask = torch.tensor([[True] * 4, [True, True, False, False]])
    advantages, _ = gae(rewards, torch.full((2, 4), 0.4), mask, gamma=1.0, gae_lambda=0.95)
    assert advantages[0].tolist() == pytest.approx([0.5144, 0.5415, 0.57, 0.6], abs=1e-4)
    assert advantages[1].tolist() == pytest.approx([0.57, 0.6, 0, 0], abs=1e-4)


def test_token_rewards_charge_the_kl_where_it_arises() -> None:
    log_ratio = torch.tensor([0.5, -0.25, 1.0])
    rewards = token_rewards(0.2 * log_ratio, torch.tensor([0.0, 2.0, -1.0]), [2, 1])
    assert rewards.flatten().tolist() == pytest.approx([-0.1, 0.05 + 2.0, -0.2 - 1.0, 0.0])
    assert rewards.sum().item() == pytest.approx(2.0 - 1.0 - 0.2 * float(log_ratio.sum()))


def test_kl_controller_matches_the_published_step() -> None:
    controller = KLController(settings_for(kl_coef=0.2, kl_target=6.0, kl_horizon=10_000.0))
    controller.update(12.0, episodes=512)
    assert float(controller.kl_coef) == pytest.approx(0.202048)
    controller.update(6.0, episodes=512)
    assert float(controller.kl_coef) == pytest.approx(0.202048)
    controller.update(0.0, episodes=512)
    assert float(controller.kl_coef) < 0.202048
    fixed = KLController(settings_for(kl_coef=0.2, kl_horizon=1.0))
    fixed.update(100.0, episodes=512)
    assert float(fixed.kl_coef) == 0.2


class CountingJudge(Judge):
    """Likes one token in four: the score is the share of the response that they make up."""

    name = "counting"

    def score(self, responses: Sequence[Response]) -> list[Score | None]:
        return [Score(sum(i % 4 == 3 for i in r.ids) / len(r.ids)) for r in responses]


def test_missing_end_replaces_the_score() -> None:
    ended = Response(Prompt("p"), "", (5,), (7, 7, 1), (0.0, 0.0, 0.0), "eos")
    cut = Response(Prompt("p"), "", (5,), (7, 7, 7), (0.0, 0.0, 0.0), "length")
    scores = scores_of(Ends(CountingJudge(), -1.5), [ended, cut])
    assert [score.value for score in scores] == pytest.approx([2 / 3, -1.5])


def settings_for(**changes: object) -> PPOSettings:
    values: dict[str, object] = {
        "prompts": "-",
        "batch_size": 32,
        "max_new_tokens": 8,
        "learning_rate": 1e-2,
        "kl_coef": 0.01,
        "missing_eos_score": 0.0,
        "tensorboard": False,
        "save_every": 1000,
        "max_approx_kl": 10.0,
        "warmup": 0.0,
    }
    return PPOSettings(**{**values, **changes})  # type: ignore[arg-type]


class Unending(LocalGenerator):
    """Counts every response as complete, as in a task of fixed length."""

    def generate(self, prompts: list[Prompt], sampling: Sampling) -> list[Response]:
        return [replace(response, finish="eos") for response in super().generate(prompts, sampling)]


def train(
    tmp_path: Path, steps: int, lora: bool = False, free: bool = False, world: World = CPU, **changes: object
) -> Run:
    tokenizer = make_tokenizer()
    save(make_model(tokenizer), tokenizer, tmp_path / "base")
    policy, ref = make_model(tokenizer), make_model(tokenizer)
    settings = settings_for(**changes)
    run = Run.open(tmp_path / "run", "ppo", settings)
    trained = add_lora(policy, rank=4, alpha=8.0, seed=0) if lora else policy
    prompts = [Prompt("the cat"), Prompt("a dog ran"), Prompt("1 + 2 ="), Prompt("the mat is")]
    judge = CountingJudge()
    generator = (Unending if free else LocalGenerator)(trained, tokenizer)
    rollouts = Rollouts(
        trained, None if lora else ref, judge, generator, prompts, settings, world, run.console
    )
    shared = settings.critic == "shared"
    model = ValueHead(trained) if shared else load_scalar(tmp_path / "base", seed=1)
    algorithm = PPO(trained, Critic(model, Calibration((0.0, 1.0))), rollouts, settings, world, run.log)
    before = {name: p.clone() for name, p in ref.named_parameters()}
    fit(algorithm, settings, world, run, steps=steps, tokenizer=tokenizer)
    assert all(torch.equal(before[name], p) for name, p in ref.named_parameters()), "the reference is frozen"
    run.close()
    return run


@pytest.mark.parametrize("lora", [False, True])
def test_step_0_invariants_on_a_real_model(tmp_path: Path, lora: bool) -> None:
    """The sampler's log-probabilities are the trainer's: before the first update the ratio is 1 and the KL 0."""
    line = read_metrics(train(tmp_path, 1, lora, inner_epochs=1, missing_eos_score=0.3).folder)[0]
    assert line["val/ratio"] == pytest.approx(1.0, abs=1e-4)
    assert line["objective/kl"] == pytest.approx(0.0, abs=1e-4)
    assert line["policy/clipfrac_avg"] == 0.0
    assert line["loss/policy_avg"] == pytest.approx(0.0, abs=1e-5)


def test_passes_end_early_when_the_policy_has_moved(tmp_path: Path) -> None:
    tokens = [
        read_metrics(train(tmp_path / name, 1, inner_epochs=6, max_approx_kl=limit).folder)[0]["num_tokens"]
        for name, limit in (("wide", 10.0), ("tight", 1e-9))
    ]
    assert tokens[1] * 3 == tokens[0]  # one quiet pass, one that moved, then no more


@pytest.mark.parametrize(
    ("dtype", "tokens", "minibatches", "ahead"),
    [
        (torch.bfloat16, 4096, 1, 1),
        (torch.float32, 4096, 1, 1),
        (torch.float32, 150, 1, 0),
        pytest.param(torch.bfloat16, 4096, 2, 0, marks=pytest.mark.slow),
    ],
)
def test_the_first_forward_is_made_once_and_changes_nothing(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    dtype: torch.dtype,
    tokens: int,
    minibatches: int,
    ahead: int,
) -> None:
    """Two steps of two passes, in one micro-batch, in several, and in two updates per pass: the same bits as without."""
    calls: list[int] = []

    plainly = ScalarModule.forward

    def counted(self: ScalarModule, batch: TokenBatch, at: Any) -> torch.Tensor:
        calls.append(len(batch))
        return plainly(self, batch, at)

    monkeypatch.setattr(ScalarModule, "forward", counted)
    found = []
    for name in ("ahead", "plain"):
        if name == "plain":
            monkeypatch.setattr(Rollouts, "_live", lambda self, reading, batch: None)
        calls.clear()
        run = train(
            tmp_path / name,
            2,
            world=World(torch.device("cpu"), dtype),
            inner_epochs=2,
            minibatches=minibatches,
            micro_batch_tokens=tokens,
        )
        lines = [
            {key: value for key, value in line.items() if "time" not in key and "per_second" not in key}
            for line in read_metrics(run.folder)
        ]
        found.append((lines, len(calls)))
    (lines, count), (plain, plain_count) = found
    assert lines == plain and plain[1]["objective/kl"] > 0
    assert plain_count - count == 2 * ahead


@pytest.mark.slow
def test_prompts_without_room_for_a_response_are_left_out_before_the_start(tmp_path: Path) -> None:
    """Some prompts fit into max_prompt_length, but not into the context of policy or critic with a response."""
    tokenizer = make_tokenizer()
    for name, context in (("base", 128), ("reward", 96)):
        model = tiny_model(tokenizer, hidden=32, layers=1, heads=2, context=context, seed=0)
        save(model, tokenizer, tmp_path / name)
    save(load_scalar(tmp_path / "reward"), tokenizer, tmp_path / "reward")
    texts = ["the cat", "a dog ran", "0" * 88, "0" * 89, "the mat is", "9" * 125]
    for name in ("p", "e"):
        (tmp_path / f"{name}.jsonl").write_text(
            "".join(json.dumps({"prompt": text}) + "\n" for text in texts)
        )
    settings = settings_for(
        out=tmp_path / "run",
        model=str(tmp_path / "base"),
        reward=str(tmp_path / "reward"),
        prompts=str(tmp_path / "p.jsonl"),
        eval_prompts=str(tmp_path / "e.jsonl"),
        batch_size=8,
        max_steps=2,
        max_prompt_length=512,
        max_dropped_share=0.4,
    )
    run = Run.open(settings.out, "ppo", settings)
    ppo.main(settings, CPU, run)
    run.close()
    assert len(read_metrics(run.folder)) >= 2
    report = json.loads((run.folder / "preflight.json").read_text())
    assert report["kept"] == 4 and sum(report["dropped"].values()) == 2
    assert "max_new_tokens=8" in next(iter(report["dropped"]))


@pytest.mark.slow
def test_ppo_learns_to_write_what_is_liked(tmp_path: Path) -> None:
    """Ziegler et al.'s smoke test: the reward is the share of certain tokens, and they come to rule."""
    lines = read_metrics(train(tmp_path, 150, kl_coef=0.0, free=True).folder)
    assert lines[0]["objective/scores"] == pytest.approx(0.25, abs=0.1)
    assert lines[-1]["objective/scores"] > 0.8


def command_settings(tmp_path: Path, **changes: object) -> PPOSettings:
    """A whole `ppo` on tiny models in files; the reward model says nothing of its scores' mean and spread."""
    tokenizer = make_tokenizer()
    save(make_model(tokenizer), tokenizer, tmp_path / "base")
    reward = load_scalar(tmp_path / "base", seed=3)
    texts = ["the cat", "a dog ran", "1 + 2 =", "the mat is"]
    states = reward.hidden_states(
        TokenBatch.collate([tokenize(tokenizer, Prompt(text), " sat on") for text in texts])
    )
    with torch.no_grad():  # raw scores well below -1, of a spread that is not 1
        middle = states.mean(0)
        reward.head.weight.copy_(-7 * middle / middle.dot(middle))
    save(reward, tokenizer, tmp_path / "reward")
    (tmp_path / "p.jsonl").write_text("".join(json.dumps({"prompt": text}) + "\n" for text in texts))
    values = {
        "out": tmp_path / "run",
        "model": str(tmp_path / "base"),
        "reward": str(tmp_path / "reward"),
        "prompts": str(tmp_path / "p.jsonl"),
        "batch_size": 8,
        "max_steps": 3,
        "save_every": 2,
        "missing_eos_score": -1.0,
        "precision": "fp32",
        **changes,
    }
    return settings_for(**values)


@pytest.mark.slow
def test_an_external_reward_model_is_measured_at_the_start_and_says_so(tmp_path: Path) -> None:
    """Raw scores near -7 would make -1, the score of what never ends, the best there is."""
    settings = command_settings(tmp_path)
    console = Console(record=True, width=200, file=StringIO())
    launch("ppo", settings, console)
    assert "says nothing of its scores' mean and spread: measured on 4 responses" in console.export_text()
    state = load_file(tmp_path / "run" / "checkpoints" / "step-00000003" / "judge.safetensors")
    tokenizer = make_tokenizer()
    policy = make_model(tokenizer)
    prompts = [Prompt(t) for t in ("the cat", "a dog ran", "1 + 2 =", "the mat is")]
    responses = LocalGenerator(policy, tokenizer).generate(prompts, Sampling(8, 1.0, 1, 0, -2))
    judge = RewardModelJudge(load_scalar(tmp_path / "reward"), tokenizer, tokenizer, CPU, 4096)
    raw = [score.value for score in scores_of(judge, responses)]
    assert state["mean"].item() == pytest.approx(float(np.mean(raw)), abs=1e-4)
    assert state["std"].item() == pytest.approx(float(np.std(raw)), abs=1e-4)
    first = read_metrics(tmp_path / "run")[0]
    assert abs(first["objective/scores"]) < 3 and state["mean"].item() < -1.5  # raw, -1 would have been good


@pytest.mark.slow
def test_a_critic_that_cannot_read_the_policys_tokens_is_refused(tmp_path: Path) -> None:
    """As many tokens, other ones: the reward model would score the text, but its copy, the critic, reads ids."""
    settings = command_settings(tmp_path)
    words = ["zebras quack queerly; jumbled vixens hop over foggy lakes, by whom pyjamas fly."] * 9
    foreign = train_tokenizer(words, vocab_size=len(make_tokenizer()))
    assert len(foreign) == len(make_tokenizer())
    save(load_scalar(tmp_path / "reward"), foreign, tmp_path / "foreign")
    settings = settings.model_copy(
        update={"reward": str(tmp_path / "foreign"), "critic": str(tmp_path / "foreign")}
    )
    with pytest.raises(ValueError, match=r"foreign .* its tokenizer differs .*, or critic=policy"):
        launch("ppo", settings, Console(quiet=True))
    shutil.rmtree(tmp_path / "run")
    launch(
        "ppo", settings.model_copy(update={"critic": "auto"}), Console(quiet=True)
    )  # reads the text; a head of zeros
    assert read_metrics(tmp_path / "run")[0]["val/explained_variance"] == pytest.approx(0.0, abs=0.05)


@pytest.mark.slow
def test_what_was_measured_at_the_start_holds_after_a_restart(tmp_path: Path) -> None:
    settings = command_settings(tmp_path, max_steps=4, schedule="constant")
    launch("ppo", settings, Console(quiet=True))
    shutil.rmtree(tmp_path / "run" / "checkpoints" / "step-00000004")
    shorter = settings.model_copy(update={"out": tmp_path / "again", "max_steps": 2})
    launch("ppo", shorter, Console(quiet=True))
    console = Console(record=True, width=200, file=StringIO())
    launch("ppo", shorter.model_copy(update={"max_steps": 4}), console)
    assert "measured on" not in console.export_text()
    found = [read_metrics(tmp_path / name)[-1]["objective/scores"] for name in ("run", "again")]
    assert found[0] == found[1]


@pytest.mark.slow
def test_load_best_takes_the_policy_with_the_best_objective_not_the_highest_score(tmp_path: Path) -> None:
    """At a price of the KL that no score pays for, the best policy is an early one."""
    settings = command_settings(
        tmp_path,
        eval_prompts=str(tmp_path / "p.jsonl"),
        eval_every=1,
        max_steps=6,
        kl_coef=5.0,
        learning_rate=3e-2,
        load_best=True,
    )
    launch("ppo", settings, Console(quiet=True))
    lines = [line for line in read_metrics(tmp_path / "run") if line["step"] > 0]
    for line in lines:
        wanted = line["eval_objective/scores"] - 5.0 * line["eval_objective/kl"]
        assert line["eval_objective/rlhf_reward"] == pytest.approx(wanted, abs=1e-4)
    best = max(lines, key=lambda line: line["eval_objective/rlhf_reward"])["step"]
    exported = load_file(tmp_path / "run" / "model" / "model.safetensors")
    kept = load_file(tmp_path / "run" / "checkpoints" / f"step-{best:08d}" / "policy" / "model.safetensors")
    assert best < 6 and all(torch.equal(exported[name], weight) for name, weight in kept.items())


def test_in_bf16_the_reference_computes_what_the_policy_does(tmp_path: Path) -> None:
    """Before the first update the KL is 0 to the bit; what the sampler's rounding makes different is logged."""
    line = read_metrics(train(tmp_path, 1, world=World(torch.device("cpu"), torch.bfloat16)).folder)[0]
    assert line["objective/kl"] == 0.0
    gap = {name: line[f"sampling/sampling_logp_difference/{name}"] for name in ("mean", "max", "share")}
    assert 0 < gap["mean"] < gap["max"] and 0 <= gap["share"] < 1


def rolled_out(tmp_path: Path, critic: str, lora: bool, **changes: object) -> tuple[PPO, TokenBatch]:
    """An algorithm that has answered two prompts, and what its first update learns from."""
    tokenizer = make_tokenizer()
    policy = make_model(tokenizer)
    save(policy, tokenizer, tmp_path / "base")
    policy = add_lora(policy, rank=4, alpha=8.0, seed=0) if lora else policy
    settings = settings_for(critic=critic, missing_eos_score=None, **changes)
    run = Run.open(tmp_path / critic, "ppo", settings)
    prompts = [Prompt("the cat"), Prompt("a dog ran")]
    rollouts = Rollouts(
        policy,
        None if lora else make_model(tokenizer),
        CountingJudge(),
        LocalGenerator(policy, tokenizer),
        prompts,
        settings,
        CPU,
        run.console,
    )
    if critic == "shared":
        model: Any = ValueHead(policy)
    else:
        model = load_scalar(tmp_path / "base", seed=1)
        torch.nn.init.zeros_(model.head.weight)  # which says 0, as a head of the policy's own does
    algorithm = PPO(policy, Critic(model, Calibration((0.0, 1.0))), rollouts, settings, CPU, run.log)
    [batch] = next(algorithm.batches(0))
    return algorithm, batch


def slopes(algorithm: PPO, batch: TokenBatch) -> dict[str, torch.Tensor]:
    accumulate(algorithm, [batch], 4096, CPU)
    found = {
        f"{of}/{name}": p.grad.clone()
        for of, module in algorithm.trained.items()
        for name, p in module.named_parameters()
        if p.grad is not None
    }
    for module in algorithm.trained.values():
        module.zero_grad(set_to_none=True)
    return found


@pytest.mark.parametrize("lora", [False, True])
def test_a_head_on_the_policy_leaves_its_gradient_as_it_is_where_it_weighs_nothing(
    tmp_path: Path, lora: bool
) -> None:
    """A head of zeros sends nothing into the trunk; one that says something sends as much as `value_coef` says."""
    alone, batch = rolled_out(tmp_path, "policy", lora, minibatches=2)
    expected = {name: value for name, value in slopes(alone, batch).items() if name.startswith("policy/")}
    for coef, head in ((0.1, 0.0), (1e-9, 0.3), (0.1, 0.3)):
        shared, same = rolled_out(tmp_path / f"{coef}-{head}", "shared", lora, minibatches=2, value_coef=coef)
        assert torch.equal(batch.ids, same.ids)
        torch.nn.init.constant_(shared.trained["critic"].linear.weight, head)  # type: ignore[union-attr, arg-type]
        found = slopes(shared, same)
        assert found["critic/linear.weight"].abs().max() > 0
        trunk = {name: value for name, value in found.items() if name.startswith("policy/")}
        assert trunk.keys() == expected.keys()
        most = max((trunk[name] - expected[name]).abs().max() for name in trunk)
        assert (most < 1e-6) == (coef * head < 1e-6), (coef, head, most)


def test_a_head_on_the_policy_takes_no_forward_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three steps of two passes: what the policy alone takes, and the values come to foresee something."""
    calls: list[int] = []
    plainly = PolicyModule.forward

    def counted(self: PolicyModule, *args: Any, **named: Any) -> Any:
        calls.append(len(args[0]))
        return plainly(self, *args, **named)

    monkeypatch.setattr(PolicyModule, "forward", counted)
    monkeypatch.setattr(ScalarModule, "forward", None)
    run = train(tmp_path, 3, free=True, critic="shared", inner_epochs=2)
    lines = read_metrics(run.folder)
    assert len(calls) == 3 * (1 + 2)  # the reference's, and two passes of which the first was made before
    assert (
        lines[0]["val/explained_variance"] == pytest.approx(0.0, abs=1e-6) and lines[1]["objective/kl"] != 0
    )
    assert lines[0]["loss"] == pytest.approx(lines[0]["loss/policy_avg"] + 0.1 * lines[0]["loss/value_avg"])


@pytest.mark.slow
def test_a_head_on_the_policy_learns_and_stays_out_of_what_is_exported(tmp_path: Path) -> None:
    """Its values foresee the scores; checkpoints hold it, and `model/` is the policy's start with other weights."""
    run = train(tmp_path, 40, free=True, critic="shared", learning_rate=2e-3, batch_size=64)
    lines = read_metrics(run.folder)
    assert lines[-1]["loss/value_avg"] < lines[0]["loss/value_avg"] / 3
    assert lines[-1]["objective/scores"] > lines[0]["objective/scores"] + 0.3
    settings = command_settings(tmp_path / "command", critic="shared", lora_rank=2)
    launch("ppo", settings, Console(quiet=True))
    folder = tmp_path / "command" / "run"
    head = load_file(folder / "checkpoints" / "step-00000003" / "critic.safetensors")
    assert head["linear.weight"].abs().max() > 0 and not (folder / "checkpoints" / "critic").exists()
    start, end = (
        load_file(path / "model.safetensors") for path in (tmp_path / "command" / "base", folder / "model")
    )
    assert start.keys() == end.keys()


class Elsewhere(LocalGenerator):
    """A sampler whose probabilities are half of what the trainer computes."""

    def generate(self, prompts: list[Prompt], sampling: Sampling) -> list[Response]:
        found = super().generate(prompts, sampling)
        return [replace(r, logprobs=tuple(value - math.log(2) for value in r.logprobs)) for r in found]


@pytest.mark.parametrize(("cap", "weight"), [(4.0, 2.0), (1.5, 1.5), (0.0, 1.0)])
def test_a_sampler_that_differs_is_corrected_for(tmp_path: Path, cap: float, weight: float) -> None:
    """The weights are policy over sampler, 2, capped; the loss of every token is multiplied by its weight."""
    tokenizer = make_tokenizer()
    policy, settings = make_model(tokenizer), settings_for(importance_cap=cap)
    run = Run.open(tmp_path / "run", "ppo", settings)
    save(policy, tokenizer, tmp_path / "base")
    critic = Critic(load_scalar(tmp_path / "base", seed=1), Calibration((0.0, 1.0)))
    generator = Elsewhere(policy, tokenizer)
    ref = make_model(tokenizer)
    rollouts = Rollouts(
        policy, ref, CountingJudge(), generator, [Prompt("the cat")], settings, CPU, run.console
    )
    algorithm = PPO(policy, critic, rollouts, settings, CPU, run.log)
    [batch] = next(algorithm.batches(0))
    weights = batch.per_token["importance"][batch.loss_mask]
    assert weights.tolist() == pytest.approx([weight] * len(weights), abs=1e-4)
    line = run.commit(0)
    assert line["sampling/sampling_logp_difference/mean"] == pytest.approx(math.log(2), abs=1e-4)
    assert line["sampling/sampling_logp_difference/share"] == 1.0
    plain = {**batch.per_token, "importance": torch.ones_like(batch.per_token["importance"])}
    found, expected = (
        torch.autograd.grad(
            algorithm.loss(b).terms["policy"].sum, policy.host.lm_head.weight, retain_graph=True
        )[0]
        for b in (batch, replace(batch, per_token=plain))
    )
    assert torch.allclose(found, weight * expected, rtol=1e-3, atol=1e-6) and found.abs().max() > 0
