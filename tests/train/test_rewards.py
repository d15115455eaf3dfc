"""Any reward in training: mixes and their parts, scores at places, what is learnt from which batches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from tests.train.making import CPU
from tests.train.test_oracle import PROMPTS, EndsAreFree, policy_table
from tests.train.test_reinforce import command_settings
from tutelage.judges.judge import Judge, first_of_each
from tutelage.launch import launch
from tutelage.records import Prompt, Response, Score
from tutelage.resume import read_metrics
from tutelage.rollout.experience import Rollouts
from tutelage.rollout.generator import Sampling
from tutelage.settings.base import Made
from tutelage.settings.rl import PPOSettings, ReinforceSettings


class Steps(Judge):
    """Pays 1 at the first token and 2 at the last but one, where there is one."""

    name = "steps"

    def __init__(self) -> None:
        self.learnt: list[int] = []

    def score(self, responses: Sequence[Response]) -> list[Score | None]:
        return [Score(3.0, {"half": 0.5}, ((0, 1.0), (max(len(r.ids) - 2, 0), 2.0))) for r in responses]

    def learn(self, responses: Sequence[Response], scores: Sequence[Score | None]) -> None:
        assert len(responses) == len(scores)
        self.learnt.append(len(scores))


def rollouts(judge: Judge, **changes: float) -> Rollouts:
    settings = ReinforceSettings(prompts="-", batch_size=8, samples=2, **changes)  # type: ignore[arg-type]
    return Rollouts(
        policy_table(), policy_table(), judge, EndsAreFree(), PROMPTS, settings, CPU, Console(quiet=True)
    )


def test_scores_stand_where_the_judge_put_them() -> None:
    """And are added up for the response; a bound holds each of them."""
    found = rollouts(Steps()).collect(0)
    expected = []
    for length in found.lengths:
        places = [0.0] * length
        places[0] += 1.0
        places[max(length - 2, 0)] += 2.0
        expected += places
    assert found.token_scores.tolist() == expected and found.scores.tolist() == [3.0] * 16
    assert found.metrics(0.0)["objective/scores/half"] == 0.5
    bounded = rollouts(Steps(), score_clip=1.5).collect(0)
    assert bounded.scores.tolist() == [2.5] * 16


def test_tasks_are_measured_apart() -> None:
    """Score, KL and length of each; nothing where there is one."""
    found = rollouts(Steps()).collect(0)
    assert not [name for name in found.metrics(0.0) if name.startswith("task/")]
    odd = list(range(1, len(found.responses), 2))
    parted = [
        replace(response, prompt=replace(response.prompt, task="" if number % 2 else "maths"))
        for number, response in enumerate(found.responses)
    ]
    told = replace(found, responses=parted).metrics(0.0)
    lengths = np.array(found.lengths)
    assert told["task/mean_length/none"] == pytest.approx(lengths[odd].mean())
    assert told["task/mean_length/maths"] == pytest.approx(np.delete(lengths, odd).mean())
    assert told["task/scores/none"] == told["task/scores/maths"] == 3.0
    assert told["task/kl/none"] == 0.0


class Asked(EndsAreFree):
    """Remembers what tasks it was asked about."""

    def __init__(self) -> None:
        self.tasks: list[str] = []

    def generate(self, prompts: Sequence[Prompt], sampling: Sampling) -> list[Response]:
        self.tasks += [prompt.task for prompt in prompts]
        return super().generate(prompts, sampling)


def test_tasks_are_drawn_as_asked_and_one_alone_is_refused() -> None:
    some = [replace(prompt, task="a" if number else "b") for number, prompt in enumerate(PROMPTS)]
    settings = ReinforceSettings(prompts="-", batch_size=8, samples=2, task_alpha=0.0)
    asked = Asked()
    Rollouts(
        policy_table(), policy_table(), Steps(), asked, some, settings, CPU, Console(quiet=True)
    ).collect(0)
    assert len(some) > 4 and asked.tasks.count("a") == asked.tasks.count("b") == 4
    with pytest.raises(ValueError, match="all prompts are of one task"):
        rollouts(Steps(), task_alpha=0.5).collect(0)
    with pytest.raises(ValueError, match="dynamic_sampling=2 fills up from all prompts as they are"):
        ReinforceSettings(prompts="-", samples=2, advantage="group", dynamic_sampling=2, task_alpha=0.5)


def test_every_task_is_among_what_is_measured_first() -> None:
    """Files one behind the other: a judge for the second task has something to be measured on.  Else the first rows, as ever."""
    one = [Prompt(f"a{number}", "a") for number in range(9)]
    other = [Prompt(f"b{number}", "b") for number in range(3)]

    def first(prompts: list[Prompt], count: int) -> list[Prompt]:
        return first_of_each(prompts, [prompt.task for prompt in prompts], count)

    assert first([*one, *other], 4) == [*one[:2], *other[:2]]
    assert first([*one, *other], 10) == [*one, other[0]]
    assert first([*one, *other], 100) == [*one, *other] and first(one, 4) == one[:4]
    assert first([one[0], *other, *one[1:]], 2) == [one[0], other[0]]
    many = [Prompt(str(number), str(number)) for number in range(5)]
    assert first(many, 2) == many


def test_a_judge_learns_from_what_is_trained_on_only() -> None:
    judge = Steps()
    made = rollouts(judge)
    made.collect(0)
    made.answer(PROMPTS[:3])
    made.collect(1)
    assert judge.learnt == [16, 16]


@pytest.mark.slow
@pytest.mark.parametrize("command", ["ppo", "reinforce"])
def test_a_mix_trains_and_logs_its_parts(tmp_path: Path, command: str) -> None:
    """A reward model beside a running z-score of it; the critic starts from the reward model."""
    settings = command_settings(
        tmp_path,
        missing_eos_score=None,  # in so few tokens nothing comes to an end
        reward=[
            {"judge": str(tmp_path / "reward"), "name": "model"},
            {"judge": str(tmp_path / "reward"), "name": "again", "normalise": "zscore", "weight": 0.5},
        ],
    )
    if command == "ppo":
        shared = set(PPOSettings.model_fields) - {"out"}
        values = {name: value for name, value in settings.model_dump().items() if name in shared}
        settings = PPOSettings(**values, out=tmp_path / "run")
    launch(command, settings, Console(quiet=True))
    line = read_metrics(tmp_path / "run")[-1]
    assert line["objective/scores/model"] == pytest.approx(line["objective/scores/again"])  # both raw
    assert "objective/scores" in line
    [folder] = (tmp_path / "run" / "checkpoints").iterdir()
    assert (folder / "judge.safetensors").is_file()


@pytest.mark.parametrize(
    ("options", "free"), [({"timeout": 5.0}, True), ({"weight": 0.5}, False), ({"batch_size": 7}, True)]
)
def test_what_changes_no_score_may_change_on_resume(options: dict[str, float], free: bool) -> None:
    judge = {"judge": "http://localhost:1/score"}
    before = ReinforceSettings(prompts="-", reward=[judge])
    after = ReinforceSettings(prompts="-", reward=[{**judge, **options}])
    assert (after.refuses("reward", before.model_dump(mode="json"), Made(10, 100)) is None) == free
