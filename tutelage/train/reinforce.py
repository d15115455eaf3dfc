"""REINFORCE for language models, without a critic: RLOO, GRPO, Dr. GRPO, REINFORCE++ and DAPO are settings of it.

    maximise  E[ score(x, y) ] - kl_coef * KL(policy || reference)

Four choices make a method (docs/commands/reinforce.md): what is taken from a response's reward (`advantage`), what holds where
the policy has moved since sampling (`clip`), how the losses of tokens become one (`reduction`), and where the KL stands (`kl`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from rich.console import Console
from torch import Tensor, nn

from tutelage.data.batch import TokenBatch
from tutelage.models.policy import PolicyModule
from tutelage.ops.advantages import baseline, gae
from tutelage.ops.masked import mask_from_lengths, unpad, whiten
from tutelage.ops.rewards import token_rewards
from tutelage.parallel import World
from tutelage.rollout.experience import Experience, Rollouts
from tutelage.runs import Run
from tutelage.settings.presets import PRESETS
from tutelage.settings.rl import WRONG_KL
from tutelage.settings.rl import ReinforceSettings as Settings
from tutelage.train.algorithm import Loss, Updates
from tutelage.train.kl import KLController
from tutelage.train.onpolicy import on_policy
from tutelage.train.policy_update import Objective, charges, passes, policy_now, policy_terms

Log = Callable[[Mapping[str, float]], None]


class Reinforce:
    """The algorithm: rollouts as batches, the policy's loss.  `log` takes the metrics of rollouts."""

    def __init__(self, policy: PolicyModule, rollouts: Rollouts, settings: Settings, log: Log) -> None:
        self._controller = KLController(settings)
        self.trained: dict[str, nn.Module] = {
            "policy": policy,
            "kl_controller": self._controller,
            **rollouts.kept,
        }
        self._policy, self._rollouts, self._settings, self._log = policy, rollouts, settings, log
        self._kl, _, self._kl_place = settings.kl.partition("-")
        in_loss = self._kl if self._kl_place == "loss" else ""
        self._objective = Objective(settings.clip, settings.reduction, in_loss)

    def batches(self, step: int) -> Updates:
        """Responses of the current policy with their advantages, as often as `inner_epochs` says."""
        settings = self._settings
        experience = self._rollouts.collect(step, live=settings.minibatches == 1)
        kl_coef = float(self._controller.kl_coef) if self._kl_place else 0.0
        self._log({**experience.metrics(kl_coef), "frac_reward_zero_std": experience.equal_groups})
        batch = experience.batch.with_fields(
            advantages=self._advantages(experience, kl_coef if self._kl_place == "reward" else 0.0),
            importance=experience.importance(settings.importance_cap),
        )
        self._controller.update(experience.kl, len(experience.responses))
        yield from passes(batch, experience.live_fields, settings, step, self._log)

    def loss(self, batch: TokenBatch) -> Loss:
        """The policy's loss; see `policy_update`."""
        logprobs, kl_coef = policy_now(self._policy, batch, self._settings), float(self._controller.kl_coef)
        return Loss(*policy_terms(batch, logprobs, self._settings, self._objective, kl_coef))

    def _advantages(self, experience: Experience, kl_coef: float) -> Tensor:
        """float32 [N], 0 outside of responses."""
        settings, mask, lengths = self._settings, experience.batch.loss_mask, experience.lengths
        real = mask_from_lengths(lengths).to(mask.device)
        estimator = self._kl if self._kl_place else "k1"
        charged = charges(experience, kl_coef, settings.entropy_coef, estimator)
        rewards = token_rewards(charged, experience.token_scores, lengths)
        whole = rewards.double().sum(1)
        base, spread = baseline(whole, experience.group, settings.advantage)
        paid = (
            whole[:, None].expand_as(rewards) if settings.credit == "response" else self._to_go(rewards, real)
        )
        advantages = torch.where(real, (paid - base[:, None]) / spread[:, None], 0.0).float()
        if settings.whiten_advantages:
            advantages = whiten(advantages, real)
        return torch.zeros_like(mask, dtype=torch.float32).masked_scatter(mask, unpad(advantages, lengths))

    def _to_go(self, rewards: Tensor, real: Tensor) -> Tensor:
        """[B, T]: what comes from each token on."""
        nothing = torch.zeros_like(rewards)
        return gae(rewards, nothing, real, gamma=self._settings.gamma, gae_lambda=1.0)[0].double()


def explain(settings: Settings, console: Console) -> None:
    """Say what the preset has set and where that comes from, and what is known to be wrong."""
    for name, (value, source) in PRESETS.get(settings.preset, {}).items():
        now = getattr(settings, name)
        own = "" if now == value else f" (here {now})"
        console.print(
            f"preset={settings.preset}: {name}={value}{own}: {source}", markup=False, highlight=False
        )
    if why := WRONG_KL.get(settings.kl):
        console.print(f"kl={settings.kl} misses the optimum: {why}.", style="yellow", markup=False)


def main(settings: Settings, world: World, run: Run) -> Path:
    """Train the policy; the result is in `model/` of the run folder.  Raises ValueError for unusable inputs."""
    explain(settings, run.console)
    start = on_policy(settings, world, run)
    algorithm = Reinforce(start.policy, start.rollouts, settings, run.log)
    return start.learn(algorithm, settings, world, run)
