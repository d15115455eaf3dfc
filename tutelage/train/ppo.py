"""PPO for language models (Schulman et al. 2017; InstructGPT, Ouyang et al. 2022, section 3.5).

    maximise  E[ score(x, y) ] - kl_coef * KL(policy || reference)

Per step: sample responses and score them (`rollout.experience`); per-token reward = -kl_coef * (logprob - ref logprob),
plus the score at the last token; advantages by GAE from the critic; then a few passes of clipped policy and value
updates.  Choices where implementations differ: the KL is k1 inside the reward (the exact objective); the score sits on
the last real token; a response without an end gets a fixed score instead of the judge's; the critic is a network of its
own that starts from the reward model, with a learning rate of its own (critic=shared: a head on the policy's trunk
instead, read by the policy's own forward); advantages are whitened over all response tokens of the step; where the
sampler's arithmetic differs from the trainer's, importance weights correct for it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from tutelage.data.batch import TokenBatch
from tutelage.models.passes import forward_pass
from tutelage.models.policy import PolicyModule
from tutelage.ops.advantages import gae
from tutelage.ops.losses import clipped_value
from tutelage.ops.masked import mask_from_lengths, masked_sum, pad, unpad, whiten
from tutelage.ops.rewards import token_rewards
from tutelage.parallel import World
from tutelage.rollout.experience import Experience, Rollouts
from tutelage.rollout.reading import NOW, Reading
from tutelage.runs import Run
from tutelage.settings.rl import PPOSettings as Settings
from tutelage.train.algorithm import Loss, Sum, Term, Updates
from tutelage.train.critic import Critic, explained_variance, make_critic, value_weight
from tutelage.train.kl import KLController
from tutelage.train.onpolicy import on_policy
from tutelage.train.policy_update import Objective, charges, passes, policy_terms

Log = Callable[[Mapping[str, float]], None]


class PPO:
    """The algorithm: rollouts as batches, clipped policy and value losses.  `log` takes the metrics of rollouts."""

    def __init__(
        self,
        policy: PolicyModule,
        critic: Critic,
        rollouts: Rollouts,
        settings: Settings,
        world: World,
        log: Log,
    ) -> None:
        self._controller = KLController(settings)
        self.trained: dict[str, nn.Module] = {
            "policy": policy,
            "critic": critic.model,
            "kl_controller": self._controller,
            **rollouts.kept,
        }
        self._critic, self._rollouts = critic, rollouts
        self._reading = Reading(policy, settings.temperature, critic.head)
        self._settings, self._world, self._log = settings, world, log

    def batches(self, step: int) -> Updates:
        """Rollouts of the current policy with advantages and returns, as often as `inner_epochs` says."""
        collected = self._collect(step)
        if collected is not None:
            yield from passes(*collected, self._settings, step, self._log)

    def loss(self, batch: TokenBatch) -> Loss:
        """Clipped policy loss, clipped value loss: means over response tokens."""
        settings, mask, known = self._settings, batch.loss_mask, batch.per_token
        found = self._reading.now(batch)
        terms, metrics = policy_terms(batch, found["logprobs"], settings, Objective(), 0.0)
        values = found["values"] if "values" in found else self._own_values(batch)
        value_loss = clipped_value(values, known["values"], known["returns"], clip=settings.value_clip)
        terms["value"] = Term(masked_sum(value_loss, mask), "tokens", value_weight(settings))
        far = ((values - known["values"]).abs() > settings.value_clip).float()
        metrics["val/clipfrac_avg"] = Sum(masked_sum(far, mask), "tokens")
        return Loss(terms, metrics)

    def _collect(self, step: int) -> tuple[TokenBatch, dict[str, Tensor]] | None:
        """The step's rollouts with advantages and returns; and what the first update may take over, where that is about all
        of them: the forward that was made for them.  None where there is nothing to learn from."""
        settings = self._settings
        everything = self._rollouts.collect(step, settings.minibatches == 1, self._reading)
        kl_coef = float(self._controller.kl_coef)
        self._log(everything.metrics(kl_coef))
        self._controller.update(everything.kl, len(everything.responses))
        experience = everything.without_cut() if settings.truncated == "mask" else everything
        if not experience.responses:
            return None
        values, first = self._old_values(experience)
        advantages, returns = self._advantages(experience, values, kl_coef)
        mask = experience.batch.loss_mask
        self._log({"val/explained_variance": explained_variance(values[mask], returns[mask])})
        batch = experience.batch.with_fields(
            values=values,
            advantages=advantages,
            returns=returns,
            importance=experience.importance(settings.importance_cap),
        )
        return batch, first

    def _advantages(self, experience: Experience, values: Tensor, kl_coef: float) -> tuple[Tensor, Tensor]:
        """Whitened advantages and returns, float32 [N]."""
        settings, mask, lengths = self._settings, experience.batch.loss_mask, experience.lengths
        charged = charges(experience, experience.kl_coefs(kl_coef), settings.entropy_coef)
        rewards = token_rewards(charged, experience.token_scores, lengths, settings.whiten_rewards)
        real = mask_from_lengths(lengths).to(values.device)
        advantages, returns = gae(
            rewards, pad(values[mask], lengths), real, gamma=settings.gamma, gae_lambda=settings.gae_lambda
        )
        flat = (unpad(whiten(advantages, real), lengths), unpad(returns, lengths))
        spread = [torch.zeros_like(values).masked_scatter(mask, value) for value in flat]
        return spread[0], spread[1]

    def _old_values(self, experience: Experience) -> tuple[Tensor, dict[str, Tensor]]:
        """float32 [N]: the critic's values before the update; and, with the policy's live forward, its own."""
        critic, live, batch = self._critic, experience.live, experience.batch
        if critic.head is not None:
            return batch.per_token["old_values"], experience.live_fields
        if live is None:
            limit = self._settings.micro_batch_tokens
            return forward_pass(critic.network, critic.values, batch, "tokens", limit, self._world), {}
        with self._world.autocast():
            values = critic.values(batch)
        return values.detach(), {**experience.live_fields, NOW + "values": values}

    def _own_values(self, batch: TokenBatch) -> Tensor:
        """[N]: the values of a critic that is a network of its own, as they are now."""
        known = batch.per_token.get(NOW + "values")
        return self._critic.values(batch) if known is None else known


def main(settings: Settings, world: World, run: Run) -> Path:
    """Train the policy; the result is in `model/` of the run folder.  Raises ValueError for unusable inputs."""
    start = on_policy(settings, world, run)
    algorithm = PPO(start.policy, make_critic(settings, start), start.rollouts, settings, world, run.log)
    return start.learn(algorithm, settings, world, run)
