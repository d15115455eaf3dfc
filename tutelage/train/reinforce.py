"""REINFORCE for language models: RLOO, GRPO, Dr. GRPO, REINFORCE++ and DAPO are settings of it.

    maximise  E[ score(x, y) ] - kl_coef * KL(policy || reference)

Four choices make a method (docs/commands/reinforce.md): what is taken from a response's reward (`advantage`), what holds where
the policy has moved since sampling (`clip`), how the losses of tokens become one (`reduction`), and where the KL stands (`kl`).
Only advantage=learned has a critic beside the policy: Williams' baseline network (1992, section 4), which foretells the reward of
a response from its prompt (credit=response), or what comes from a token on from what stands before it (credit=tokens).  It learns
by regression, and what it foretells does not depend on what it is taken from, so the gradient stays unbiased.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from rich.console import Console
from torch import Tensor, nn

from tutelage.data.batch import TokenBatch, Unit
from tutelage.models.passes import forward_pass
from tutelage.models.policy import PolicyModule
from tutelage.ops.advantages import baseline, gae
from tutelage.ops.masked import mask_from_lengths, masked_sum, pad, unpad, whiten
from tutelage.ops.rewards import token_rewards
from tutelage.parallel import World
from tutelage.rollout.experience import Experience, Rollouts
from tutelage.rollout.reading import Reading
from tutelage.runs import Run
from tutelage.settings.rl import WRONG_KL
from tutelage.settings.rl import ReinforceSettings as Settings
from tutelage.train.algorithm import Loss, Term, Updates
from tutelage.train.critic import Critic, explained_variance, first_tokens, make_critic, value_weight
from tutelage.train.kl import KLController
from tutelage.train.onpolicy import on_policy
from tutelage.train.policy_update import Objective, charges, passes, policy_terms, spread

Log = Callable[[Mapping[str, float]], None]


class Reinforce:
    """The algorithm: rollouts as batches, the policy's loss.  `log` takes the metrics of rollouts."""

    def __init__(
        self,
        policy: PolicyModule,
        rollouts: Rollouts,
        settings: Settings,
        log: Log,
        critic: Critic | None = None,
        world: World | None = None,
    ) -> None:
        assert (critic is not None) == (settings.advantage == "learned")
        self._controller = KLController(settings)
        self.trained: dict[str, nn.Module] = {"policy": policy}
        if critic is not None:
            self.trained["critic"] = critic.model
        self.trained |= {"kl_controller": self._controller, **rollouts.kept}
        self._rollouts, self._settings, self._log = rollouts, settings, log
        self._critic, self._world = critic, world
        self._kl, _, place = settings.kl.partition("-")
        self._in_reward, self._in_loss = place == "reward", place == "loss"
        if (
            settings.kl == "exact"
        ):  # the gradient of each position's KL, and what its token does to that of those after it
            self._in_reward = self._in_loss = True
        against = rollouts.ref_outputs if self._kl == "exact" else None
        self._reading = Reading(policy, settings.temperature, critic.head if critic else None, against)
        self._objective = Objective(settings.clip, settings.reduction, self._kl if self._in_loss else "")

    def batches(self, step: int) -> Updates:
        """Responses of the current policy with their advantages, as often as `inner_epochs` says."""
        settings = self._settings
        experience = self._rollouts.collect(
            step, settings.minibatches == 1, self._reading, settings.dynamic_sampling
        )
        kl_coef = float(self._controller.kl_coef) if self._in_reward or self._in_loss else 0.0
        kept = experience.without_cut() if settings.truncated == "mask" else experience
        self._log({"frac_reward_zero_std": kept.equal_groups, **experience.metrics(kl_coef)})
        self._controller.update(experience.kl, len(experience.responses))
        if kept.responses:
            yield from self._passes(kept, kl_coef, step)

    def _passes(self, experience: Experience, kl_coef: float, step: int) -> Updates:
        """Updates with the responses that are trained on."""
        settings = self._settings
        batch = experience.batch.with_fields(
            **self._learnt_from(experience, kl_coef),
            importance=experience.importance(settings.importance_cap),
        )
        if self._in_loss and settings.task_kl:
            batch = batch.with_fields(kl_coefs=spread(experience.kl_coefs(kl_coef).float(), batch))
        yield from passes(batch, experience.live_fields, settings, step, self._log)

    def loss(self, batch: TokenBatch) -> Loss:
        """The policy's loss (see `policy_update`), and the critic's where there is one: half its squared error."""
        found, kl_coef = self._reading.now(batch), float(self._controller.kl_coef)
        terms, metrics = policy_terms(
            batch, found["logprobs"], self._settings, self._objective, kl_coef, found.get("kl")
        )
        if self._critic is not None:
            values = found["values"] if "values" in found else self._foretold(self._critic, batch)
            wrong = masked_sum(
                (values - batch.per_token["returns"]).square() / 2, self._read(batch.loss_mask)
            )
            terms["value"] = Term(wrong, self._per, value_weight(self._settings))
        return Loss(terms, metrics)

    @property
    def _per(self) -> Unit:
        """What the critic foretells something for."""
        return "sequences" if self._settings.credit == "response" else "tokens"

    def _read(self, mask: Tensor) -> Tensor:
        """bool [N]: where the critic foretells something."""
        return first_tokens(mask) if self._per == "sequences" else mask

    def _foretold(self, critic: Critic, batch: TokenBatch) -> Tensor:
        """float32 [N]: what a critic that is a network of its own foretells there, 0 elsewhere."""
        return critic.first_values(batch) if self._per == "sequences" else critic.values(batch)

    def _learnt_from(self, experience: Experience, kl_coef: float) -> dict[str, Tensor]:
        """What the losses want to know of every token, float32 [N], 0 outside of responses: `advantages`; with a critic also
        `returns`, which it should have foretold."""
        settings, mask, lengths = self._settings, experience.batch.loss_mask, experience.lengths
        real = mask_from_lengths(lengths).to(mask.device)
        estimator = self._kl if self._in_reward else "k1"
        coefs = experience.kl_coefs(kl_coef) if self._in_reward else 0.0
        charged = charges(experience, coefs, settings.entropy_coef, estimator)
        rewards = token_rewards(charged, experience.token_scores, lengths)
        whole = rewards.double().sum(1)
        paid = (
            whole[:, None].expand_as(rewards) if settings.credit == "response" else self._to_go(rewards, real)
        )

        def laid_out(values: Tensor) -> Tensor:
            flat = unpad(values.float(), lengths)
            return torch.zeros_like(mask, dtype=torch.float32).masked_scatter(mask, flat)

        if self._critic is None:
            base, size = baseline(whole, experience.group, settings.advantage)
            advantages = (paid - base[:, None]) / size[:, None]
            found = {}
        else:
            found = {"returns": laid_out(paid)}
            advantages = paid - self._values(self._critic, experience, found["returns"])
        advantages = torch.where(real, advantages, 0.0).float()
        if settings.whiten_advantages:
            advantages = whiten(advantages, real)
        return {**found, "advantages": laid_out(advantages)}

    def _values(self, critic: Critic, experience: Experience, returns: Tensor) -> Tensor:
        """[B, T] or [B, 1]: what the critic foretells before the update."""
        assert self._world is not None
        batch, limit = experience.batch, self._settings.micro_batch_tokens
        if critic.head is not None:
            values = batch.per_token["old_values"]
        else:
            values = forward_pass(
                critic.network, lambda part: self._foretold(critic, part), batch, "tokens", limit, self._world
            )
        read = self._read(batch.loss_mask)
        self._log({"val/explained_variance": explained_variance(values[read], returns[read])})
        return values[read][:, None] if self._per == "sequences" else pad(values[read], experience.lengths)

    def _to_go(self, rewards: Tensor, real: Tensor) -> Tensor:
        """[B, T]: what comes from each token on."""
        nothing = torch.zeros_like(rewards)
        return gae(rewards, nothing, real, gamma=self._settings.gamma, gae_lambda=1.0)[0].double()


def explain(settings: Settings, console: Console) -> None:
    """Say what the preset has set and where that comes from, and what is known to be wrong."""
    for line in settings.told:
        console.print(line, markup=False, highlight=False)
    if why := WRONG_KL.get(settings.kl):
        console.print(f"kl={settings.kl} misses the optimum: {why}.", style="yellow", markup=False)


def main(settings: Settings, world: World, run: Run) -> Path:
    """Train the policy; the result is in `model/` of the run folder.  Raises ValueError for unusable inputs."""
    explain(settings, run.console)
    start = on_policy(settings, world, run)
    critic = make_critic(settings, start) if settings.advantage == "learned" else None
    algorithm = Reinforce(start.policy, start.rollouts, settings, run.log, critic, world)
    return start.learn(algorithm, settings, world, run)
