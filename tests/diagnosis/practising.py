"""Short real runs in the enumerable world (tests/train/test_oracle.py), with whatever is to go wrong put in."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any, Literal

import torch
from rich.console import Console
from torch import Tensor

from tests.oracle import EOS, STATES
from tests.train.making import CPU, make_tokenizer
from tests.train.test_oracle import PRACTICE, PROMPTS, WORLD, EndsAreFree, Table, TableGenerator
from tutelage.judges.calibration import Calibration
from tutelage.judges.judge import Judge
from tutelage.models.forward import Traits
from tutelage.models.policy import PolicyModule, ScalarModule
from tutelage.records import Response, Score
from tutelage.resume import read_metrics
from tutelage.rollout.experience import Rollouts
from tutelage.runs import Run
from tutelage.settings.rl import PPOSettings, RaftSettings, ReinforceSettings
from tutelage.train.critic import Critic
from tutelage.train.fit import fit
from tutelage.train.ppo import PPO
from tutelage.train.raft import Raft
from tutelage.train.reinforce import Reinforce

Command = Literal["ppo", "reinforce", "raft"]
SETTINGS = {"ppo": PPOSettings, "reinforce": ReinforceSettings, "raft": RaftSettings}
TOKENIZER = make_tokenizer()


class Rewards(Judge):
    """A reward for every sequence of the world, by a rule on its tokens."""

    name = "rule"

    def __init__(self, rule: Callable[[tuple[int, ...]], float]) -> None:
        self._rule = rule

    def score(self, responses: Sequence[Response]) -> list[Score | None]:
        return [Score(float(self._rule(response.ids))) for response in responses]


class WorldRewards(Judge):
    """The reward of every sequence from a table."""

    name = "table"

    def __init__(self, rewards: Tensor) -> None:
        self._rewards = rewards

    def score(self, responses: Sequence[Response]) -> list[Score | None]:
        return [Score(float(self._rewards[int(response.text)])) for response in responses]


class Cut(TableGenerator):
    """A response of three tokens without an end token is one that was cut."""


def ends_at_once() -> Tensor:
    """[7, 3] logits of a policy whose responses mostly are an end token."""
    logits = torch.zeros(len(STATES), 3)
    logits[:, EOS] = 2.5
    return logits


@dataclass(frozen=True)
class Told:
    """A run: its folder, its lines, its settings by name, and what it said on the screen."""

    folder: Path
    lines: list[dict[str, Any]]
    settings: dict[str, Any]
    screen: str


def practise(
    folder: Path,
    command: Command,
    steps: int,
    judge: Judge,
    *,
    generator: TableGenerator | None = None,
    logits: Tensor | None = None,
    policy: PolicyModule | None = None,
    values: Tensor | None = None,
    **changes: Any,
) -> Told:
    """Run `command` for `steps` steps.  logits: of policy and reference at the start.  values: [7], of the critic, at first."""
    samples = changes.get("samples", 1 if command == "ppo" else 8)
    given = {**PRACTICE, "batch_size": 64 // samples, "samples": samples, "max_new_tokens": 3, **changes}
    if command == "ppo":
        given = {"value_clip": 100.0, **given}
    settings = SETTINGS[command](**given)
    console = Console(file=StringIO(), width=1000)
    run = Run.open(folder, command, settings, console)
    start = WORLD.theta_ref if logits is None else logits
    policy = policy or table(start)
    rollouts = Rollouts(
        policy, table(start), judge, generator or EndsAreFree(), PROMPTS, settings, CPU, run.console
    )
    algorithm: Any
    if isinstance(settings, PPOSettings):
        critic = ScalarModule(
            Table(torch.zeros(1, len(STATES)) if values is None else values[None]), Traits(flat=True)
        )
        algorithm = PPO(policy, Critic(critic, Calibration((0.0, 1.0))), rollouts, settings, CPU, run.log)
    elif isinstance(settings, RaftSettings):
        algorithm = Raft(policy, rollouts, settings, run.log)
    else:
        algorithm = Reinforce(policy, rollouts, settings, run.log)
    fit(algorithm, settings, CPU, run, steps=steps, tokenizer=TOKENIZER)
    run.close()
    screen = console.file.getvalue()  # type: ignore[attr-defined]
    return Told(folder, read_metrics(folder), settings.model_dump(), screen)


def table(logits: Tensor) -> PolicyModule:
    return PolicyModule(Table(logits.T.float()), Traits(flat=True))
