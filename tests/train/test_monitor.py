"""What a monitor sees against numbers made by hand, and that a run which it ends is the same however often it is interrupted."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from rich.console import Console
from torch import Tensor

from tests.diagnosis.practising import GOLD, Rewards, Told, exploited, practise
from tests.train.test_reinforce import command_settings
from tutelage.judges.calibration import Calibrated, Calibration
from tutelage.judges.judge import Judge
from tutelage.launch import launch
from tutelage.models.loading import load_scalar, load_tokenizer, save
from tutelage.records import Prompt, Response, Score
from tutelage.resume import checkpoint_steps, read_metrics
from tutelage.settings.rl import PPOSettings, RaftSettings, ReinforceSettings
from tutelage.train.monitor import Monitor


class Judged(NamedTuple):
    """As much of an experience as a monitor looks at: responses whose text is what the monitor's judge will say."""

    responses: list[Response]
    scores: Tensor


def judged(said: Sequence[float], rewards: Sequence[float]) -> Any:
    responses = [Response(Prompt("p"), repr(float(value)), (0,), (1,), (0.0,), "eos") for value in said]
    return Judged(responses, torch.tensor(rewards))


class Reads(Judge):
    """Says what stands in the response."""

    name = "reads"

    def score(self, responses: Sequence[Response]) -> list[Score | None]:
        return [Score(float(response.text)) for response in responses]


def monitor(prompts: int, stop: int = 2, judge: Judge | None = None, **more: Any) -> Monitor:
    given = {"prompts": "-", "eval_prompts": "-", "monitor": "world", "monitor_stop": stop, **more}
    return Monitor(judge or Reads(), prompts, ReinforceSettings(**given))


def test_a_fall_is_counted_from_the_highest_while_the_reward_rises() -> None:
    """Four evaluations of 400 prompts: up, down for sure, down by less than chance, down for sure with a lower reward."""
    draw = np.random.default_rng(0)
    start, noise = draw.normal(0, 1, 400), draw.normal(0, 0.5, (4, 400))
    noise -= noise.mean(axis=1, keepdims=True)
    watching = monitor(400)
    first = watching.see(judged(start, np.zeros(400)))
    assert (first["eval_monitor/fall"], first["eval_monitor/fall_low"], first["eval_monitor/fallen"]) == (
        0,
        0,
        0,
    )
    best = start + 1 + noise[0]
    assert watching.see(judged(best, np.full(400, 2.0)))["eval_monitor/scores"] == pytest.approx(best.mean())
    for fall, reward, count in ((0.3, 2.5, 1), (0.3, 2.5, 2), (0.01, 2.5, 0), (0.3, 1.9, 0), (0.3, 2.1, 1)):
        now = best - fall + noise[1]
        seen = watching.see(judged(now, np.full(400, reward)))
        error = float(noise[1].std(ddof=1)) / 20
        assert seen["eval_monitor/fall"] == pytest.approx(fall)
        assert seen["eval_monitor/fall_low"] == pytest.approx(fall - 1.96 * error, abs=0.15 * error)
        assert seen["eval_monitor/reward_rise"] == pytest.approx(reward - 2.0)
        assert seen["eval_monitor/fallen"] == count and watching.stops() == (count == 2)


def test_prompts_in_any_order_say_the_same_and_none_that_differ_say_nothing() -> None:
    draw = np.random.default_rng(1)
    said, rewards, order = draw.normal(size=(3, 50)), draw.normal(size=(3, 50)), draw.permutation(50)
    rewards[1:] += 5
    plain, mixed, certain = monitor(50), monitor(50), monitor(50)
    for scores, paid in zip(said - np.arange(3)[:, None], rewards, strict=True):
        one, other = (
            plain.see(judged(scores, paid)),
            mixed.see(judged(scores[order], paid[order])),
        )
        assert one["eval_monitor/fallen"] == other["eval_monitor/fallen"]
        assert one["eval_monitor/fall"] == pytest.approx(other["eval_monitor/fall"])
    assert one["eval_monitor/fallen"] == 2
    for value in (1.0, 0.0):  # all prompts fall by the same: that is no interval
        seen = certain.see(judged([value] * 50, [-value] * 50))
    assert seen["eval_monitor/fall"] == 1 and seen["eval_monitor/fallen"] == 0


def test_what_is_remembered_goes_through_a_checkpoint() -> None:
    """Also the units of a judge that has none of its own: those of the first evaluation."""
    draw = np.random.default_rng(2)
    said = draw.normal(3, 2, (3, 60)) - 2.0 * np.arange(3)[:, None]
    rewards = draw.normal(0, 1, (3, 60)) + np.arange(3)[:, None]
    whole = monitor(60, judge=Calibrated(Reads(), Calibration()))
    lines = [whole.see(judged(*each)) for each in zip(said, rewards, strict=True)]
    assert lines[0]["eval_monitor/scores"] == pytest.approx(0, abs=1e-9) and lines[2]["eval_monitor/fallen"]
    began, resumed = (monitor(60, judge=Calibrated(Reads(), Calibration())) for _ in range(2))
    for each in zip(said[:2], rewards[:2], strict=True):
        began.see(judged(*each))
    assert set(began.kept) == {"monitor", "monitor_judge"}
    for name, module in resumed.kept.items():
        module.load_state_dict(began.kept[name].state_dict())
    assert resumed.see(judged(said[2], rewards[2])) == lines[2]


def test_a_response_that_was_cut_has_the_score_that_the_reward_gives_it() -> None:
    experience = judged([5.0, 5.0], [0.0, 0.0])
    cut = Response(Prompt("p"), "5.0", (0,), (1,), (0.0,), "length")
    seen = monitor(2, missing_eos_score=-3.0).see(experience._replace(responses=[cut, cut]))
    assert seen["eval_monitor/scores"] == -3


EXPLOITING: dict[str, Any] = {
    "judge": Rewards(exploited),
    "monitor": Rewards(GOLD.__getitem__),
    "eval_every": 4,
    "learning_rate": 0.2,
    "schedule": "constant",
    "kl_coef": 0.0,
    "monitor_stop": 2,
    "keep_checkpoints": 100,
}


def highest(told: Told) -> int:
    """The step of the evaluation, after the start, at which the monitor was highest."""
    found = {
        line["step"]: line["eval_monitor/scores"] for line in told.lines if "eval_monitor/scores" in line
    }
    return max((step for step in found if step), key=lambda step: found[step])


def test_it_ends_a_run_that_exploits_its_reward_and_keeps_the_best(tmp_path: Path) -> None:
    told = practise(tmp_path / "run", "reinforce", 40, **EXPLOITING)
    last = told.lines[-1]
    assert last["eval_monitor/fallen"] == 2 and last["step"] < 40
    assert f"Stopped after step {last['step']} of 40." in told.screen
    assert highest(told) < last["step"] == checkpoint_steps(told.folder / "checkpoints")[-1]
    [found] = [one for one in json.loads((told.folder / "findings.json").read_text())
               if one["name"] == "over-optimised"]  # fmt: skip
    assert found["step"] == last["step"]
    best = practise(tmp_path / "best", "reinforce", highest(told), **EXPLOITING | {"monitor_stop": 0})
    assert torch.equal(told.logits, best.logits)
    assert len(best.lines) == highest(told) + 1 and "over-optimised" not in best.screen


def test_without_being_told_to_stop_it_only_says_so(tmp_path: Path) -> None:
    told = practise(tmp_path / "run", "reinforce", 20, **EXPLOITING | {"monitor_stop": 0, "load_best": True})
    assert len(told.lines) == 21 and "over-optimised" in told.screen and "Stopped" not in told.screen
    best = practise(tmp_path / "best", "reinforce", highest(told), **EXPLOITING | {"monitor_stop": 0})
    assert torch.equal(told.logits, best.logits)  # load_best goes by the monitor


class Dies(Rewards):
    """A monitor that is struck by something at one of its evaluations."""

    left = math.inf

    def score(self, responses: Sequence[Response]) -> list[Score | None]:
        self.left -= 1
        if self.left < 0:
            raise KeyboardInterrupt
        return super().score(responses)


@pytest.mark.parametrize(
    "command",
    ["reinforce", pytest.param("ppo", marks=pytest.mark.slow), pytest.param("raft", marks=pytest.mark.slow)],
)
def test_an_interrupted_run_is_the_same(tmp_path: Path, command: Any) -> None:
    given = EXPLOITING | {"save_every": 3, "keep_checkpoints": 1}
    if command == "raft":
        given |= {"samples": 8, "deduplicate": False, "learning_rate": 0.1}
    whole = practise(tmp_path / "whole", command, 32, **given)
    dying = Dies(GOLD.__getitem__)
    for evaluations in (0, 2, 1):
        dying.left = evaluations
        with pytest.raises(KeyboardInterrupt):
            practise(tmp_path / "again", command, 32, **given | {"monitor": dying})
    again = practise(tmp_path / "again", command, 32, **given)
    timed = ("time/step_s", "tokens_per_second")
    plain = [
        [{k: v for k, v in line.items() if k not in timed} for line in told.lines] for told in (whole, again)
    ]
    assert plain[0] == plain[1] and torch.equal(whole.logits, again.logits)
    over = practise(tmp_path / "again", command, 32, **given)  # it is over, not at step 32
    assert len(over.lines) == len(whole.lines) and torch.equal(over.logits, whole.logits)


@pytest.mark.parametrize("cls", [PPOSettings, ReinforceSettings, RaftSettings])
@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"monitor": "runs/b"}, "monitor watches on eval_prompts"),
        ({"monitor_stop": 2}, "monitor_stop=2 stops nothing without a monitor"),
        (
            {"monitor": "runs/a", "reward": "runs/a", "eval_prompts": "e.jsonl"},
            "monitor is the reward itself",
        ),
        (
            {"monitor": ["runs/b", "runs/b "], "eval_prompts": "e.jsonl", "monitor_stop": -1},
            "greater than or equal to 0",
        ),
    ],
)
def test_settings_that_watch_nothing_are_refused(cls: Any, given: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        cls(prompts="p.jsonl", **given)


@pytest.mark.slow
def test_as_a_command_it_reads_another_reward_model(tmp_path: Path) -> None:
    plain = command_settings(tmp_path)
    tokenizer = load_tokenizer(tmp_path / "base")
    save(load_scalar(tmp_path / "base", seed=4), tokenizer, tmp_path / "second")
    prompts = str(tmp_path / "p.jsonl")
    given = {
        "monitor": str(tmp_path / "second"),
        "monitor_stop": 3,
        "eval_prompts": prompts,
        "eval_every": 1,
        "missing_eos_score": None,
    }
    launch("reinforce", plain.model_copy(update=given), Console(quiet=True))
    inputs = json.loads((tmp_path / "run" / "lineage.json").read_text())["inputs"]
    assert [one["path"] for one in inputs if one["name"] == "monitor"] == [str(tmp_path / "second")]
    lines = read_metrics(tmp_path / "run")
    assert [line["step"] for line in lines] == [0, 1, 2]
    assert all("eval_monitor/scores" in line for line in lines)
    assert lines[0]["eval_monitor/scores"] != lines[0]["eval_objective/scores"]
    assert (tmp_path / "run" / "checkpoints" / "step-00000002" / "monitor.safetensors").exists()
    with pytest.raises(
        ValueError, match=r"eval_every is 1 there and 2 here; the monitor compares evaluations"
    ):
        again = plain.model_copy(update=given | {"eval_every": 2})
        launch("reinforce", again, Console(quiet=True))
