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

from tests.oracle import EOS, SEQUENCES, STATES
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
from tutelage.train.monitor import BEST, Monitor
from tutelage.train.onpolicy import evaluated
from tutelage.train.ppo import PPO
from tutelage.train.raft import Raft
from tutelage.train.reinforce import Reinforce

Command = Literal["ppo", "reinforce", "raft"]
EVALUATED = PROMPTS[:64]
GOLD = dict(zip(SEQUENCES, WORLD.rewards.tolist(), strict=True))
LOOPHOLE = (1, 1, 0)  # a bad response whose beginning is that of the best ones
SETTINGS = {"ppo": PPOSettings, "reinforce": ReinforceSettings, "raft": RaftSettings}
TOKENIZER = make_tokenizer()


class Rewards(Judge):
    """A reward for every sequence of the world, by a rule on its tokens."""

    name = "rule"

    def __init__(self, rule: Callable[[tuple[int, ...]], float]) -> None:
        self._rule = rule

    def score(self, responses: Sequence[Response]) -> list[Score | None]:
        return [Score(float(self._rule(response.ids))) for response in responses]


def exploited(ids: tuple[int, ...]) -> float:
    """A reward that is right but for one response, for which it pays most: what is gold rises at first, then falls."""
    return GOLD[ids] + 2.0 * (ids == LOOPHOLE)


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
    """A run: the policy's [3, 7] logits at its end, its folder, its lines, its settings by name, and what it said on the
    screen."""

    logits: Tensor
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
    monitor: Judge | None = None,
    **changes: Any,
) -> Told:
    """Run `command` for `steps` steps.  logits: of policy and reference at the start.  values: [7], of the critic, at first.
    monitor: who watches, on 64 responses at every evaluation."""
    samples = changes.get("samples", 1 if command == "ppo" else 8)
    given = {**PRACTICE, "batch_size": 64 // samples, "samples": samples, "max_new_tokens": 3, **changes}
    if command == "ppo":
        given = {"value_clip": 100.0, **given}
    if monitor is not None:
        given |= {"monitor": "world", "eval_prompts": "-"}
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
    watched: dict[str, Any] = {}
    if monitor is not None:
        watching = Monitor(monitor, len(EVALUATED), settings)
        algorithm.trained |= watching.kept
        watched = {
            "evaluate": lambda: evaluated(rollouts, EVALUATED, settings.kl_coef, watching),
            "best": BEST,
            "stop": watching.stops if settings.monitor_stop else None,
        }
    try:
        fit(algorithm, settings, CPU, run, steps=steps, tokenizer=TOKENIZER, **watched)
    finally:
        run.close()
        run.release()
    screen = console.file.getvalue()  # type: ignore[attr-defined]
    logits = policy.host.score.weight.detach()  # type: ignore[union-attr]
    return Told(logits, folder, read_metrics(folder), settings.model_dump(), screen)


def table(logits: Tensor) -> PolicyModule:
    return PolicyModule(Table(logits.T.float()), Traits(flat=True))
