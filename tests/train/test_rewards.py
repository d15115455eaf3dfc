"""Any reward in training: mixes and their parts, scores at places, what is learnt from which batches."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from rich.console import Console

from tests.train.making import CPU
from tests.train.test_oracle import PROMPTS, EndsAreFree, policy_table
from tests.train.test_reinforce import command_settings
from tutelage.judges.judge import Judge
from tutelage.launch import launch
from tutelage.records import Response, Score
from tutelage.resume import read_metrics
from tutelage.rollout.experience import Rollouts
from tutelage.settings.base import Made
from tutelage.settings.rl import PPOSettings, ReinforceSettings


class Steps(Judge):
    """Pays 1 at the first token and 2 at the last but one, where there is one."""

    name = "steps"

    def __init__(self) -> None:
        self.learnt: list[int] = []

    def score(self, responses: Sequence[Response]) -> list[Score | None]:
        return [Score(3.0, {"half": 0.5}, ((0, 1.0), (max(len(r.ids) - 2, 0), 2.0))) for r in responses]

    def learn(self, scores: Sequence[Score | None]) -> None:
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
