"""PPO for language models (Schulman et al. 2017; InstructGPT, Ouyang et al. 2022, section 3.5).

    maximise  E[ score(x, y) ] - kl_coef * KL(policy || reference)

Per step: sample responses and score them (`rollout.experience`); per-token reward = -kl_coef * (logprob - ref logprob),
plus the score at the last token; advantages by GAE from the critic; then a few passes of clipped policy and value
updates.  Choices where implementations differ: the KL is k1 inside the reward (the exact objective); the score sits on
the last real token; a response without an end gets a fixed score instead of the judge's; the critic is a network of its
own that starts from the reward model, with a learning rate of its own; advantages are whitened over all response tokens
of the step; where the sampler's arithmetic differs from the trainer's, importance weights correct for it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from tutelage.data.batch import TokenBatch
from tutelage.data.formats import read_prompts
from tutelage.judges.calibration import Calibrated, Calibration
from tutelage.judges.reward_model import RewardModelJudge
from tutelage.models.loading import context_at, load_policy, load_scalar, load_tokenizer, score_normalisation
from tutelage.models.passes import forward_pass
from tutelage.models.policy import PolicyModule, ScalarModule
from tutelage.ops.advantages import gae
from tutelage.ops.kl import k2
from tutelage.ops.losses import clipped_policy, clipped_value
from tutelage.ops.masked import mask_from_lengths, masked_sum, pad, unpad, whiten
from tutelage.ops.rewards import token_rewards
from tutelage.parallel import World
from tutelage.records import Prompt
from tutelage.rollout.experience import Experience, Rollouts
from tutelage.rollout.local import LocalGenerator
from tutelage.rollout.prompts import answerable
from tutelage.runs import Run, result_folder
from tutelage.seeds import rng
from tutelage.settings.train import PPOSettings as Settings
from tutelage.train.algorithm import Loss, Sum, Term, Updates
from tutelage.train.fit import fit
from tutelage.train.kl import KLController
from tutelage.train.stage import export, show_preflight, start_policy, steps_for

EVALUATED = (
    "objective/scores",
    "objective/kl",
    "objective/rlhf_reward",
    "completions/mean_length",
    "completions/clipped_ratio",
)
Log = Callable[[Mapping[str, float]], None]


@dataclass(frozen=True)
class Critic:
    """The network that foretells rewards: its head's values, in the units of the (normalised) scores."""

    model: ScalarModule
    calibration: Calibration

    def values(self, batch: TokenBatch) -> Tensor:
        """float32 [N]: the value of the state before token t, at t; differentiable."""
        raw = self.model(batch, at="tokens")
        return torch.where(batch.loss_mask, self.calibration(raw), 0.0)


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
        self._controller = KLController(settings.kl_coef, settings.kl_target, settings.kl_horizon)
        self.trained: dict[str, nn.Module] = {
            "policy": policy,
            "critic": critic.model,
            "kl_controller": self._controller,
            "calibration": critic.calibration,
        }
        self._policy, self._critic, self._rollouts = policy, critic, rollouts
        self._settings, self._world, self._log = settings, world, log

    def batches(self, step: int) -> Updates:
        """Rollouts of the current policy, `ppo_epochs` times, in `minibatches` parts; fewer when it has moved too far."""
        settings = self._settings
        batch, first = self._collect(step)
        for epoch in range(settings.ppo_epochs):
            order = rng(settings.seed, "minibatches", step, epoch).permutation(len(batch))
            for part in np.array_split(order, settings.minibatches):
                update = batch if settings.minibatches == 1 else batch.take(part.tolist())
                moved = yield [update.with_fields(**first)]
                first = {}
                if moved["policy/approxkl_avg"] > settings.max_approx_kl:
                    return

    def loss(self, batch: TokenBatch) -> Loss:
        """Clipped policy loss, clipped value loss, entropy bonus: means over response tokens."""
        settings, mask, known = self._settings, batch.loss_mask, batch.per_token
        logprobs, entropy, values = self._now(batch)
        log_ratio = logprobs - known["old_logprobs"]
        policy_loss, clipped = clipped_policy(
            logprobs,
            known["old_logprobs"],
            known["advantages"],
            clip_low=settings.clip_low,
            clip_high=settings.clip_high,
        )
        value_loss = clipped_value(values, known["values"], known["returns"], clip=settings.value_clip)
        terms = {
            "policy": Term(masked_sum(policy_loss * known["importance"], mask), "tokens"),
            "value": Term(masked_sum(value_loss, mask), "tokens"),
        }
        if entropy is not None:
            terms["entropy"] = Term(masked_sum(entropy, mask), "tokens", -settings.entropy_coef)
        metrics = {
            "policy/approxkl_avg": k2(log_ratio),
            "policy/clipfrac_avg": clipped.float(),
            "val/clipfrac_avg": ((values - known["values"]).abs() > settings.value_clip).float(),
            "val/ratio": log_ratio.exp(),
        }
        sums = {name: Sum(masked_sum(value.detach(), mask), "tokens") for name, value in metrics.items()}
        return Loss(terms, sums)

    def evaluate(self, prompts: Sequence[Prompt]) -> dict[str, float]:
        """Score, KL, length and missing ends of the current policy on held-out prompts (always the same draws)."""
        found = self._rollouts.answer(prompts).metrics(self._settings.kl_coef)
        return {f"eval_{name}": found[name] for name in EVALUATED}

    def _collect(self, step: int) -> tuple[TokenBatch, dict[str, Tensor]]:
        """The step's rollouts with advantages and returns; and what the first update may take over, where that is about all
        of them: the forward that was made for them."""
        settings = self._settings
        experience = self._rollouts.collect(step, live=settings.minibatches == 1)
        values, first = self._old_values(experience)
        kl_coef = float(self._controller.kl_coef)
        advantages, returns = self._advantages(experience, values, kl_coef)
        mask = experience.batch.loss_mask
        unexplained = (returns - values)[mask].var(correction=0) / returns[mask].var(correction=0).clamp(
            min=1e-8
        )
        self._log({**experience.metrics(kl_coef), "val/explained_variance": 1.0 - unexplained.item()})
        self._controller.update(experience.kl, len(experience.responses))
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
        log_ratio = experience.log_ratio[mask]
        rewards = token_rewards(log_ratio, experience.scores, lengths, kl_coef, settings.whiten_rewards)
        real = mask_from_lengths(lengths).to(values.device)
        advantages, returns = gae(
            rewards, pad(values[mask], lengths), real, gamma=settings.gamma, gae_lambda=settings.gae_lambda
        )
        flat = (unpad(whiten(advantages, real), lengths), unpad(returns, lengths))
        spread = [torch.zeros_like(values).masked_scatter(mask, value) for value in flat]
        return spread[0], spread[1]

    def _now(self, batch: TokenBatch) -> tuple[Tensor, Tensor | None, Tensor]:
        """(log-probabilities, entropies or None, values) as they are now; from the batch where it brings them along."""
        known, settings = batch.per_token, self._settings
        if "now/values" in known:
            return known["now/logprobs"], known.get("now/entropy"), known["now/values"]
        wanted = settings.entropy_coef > 0
        policy = self._policy(batch, settings.temperature, wanted)
        return policy.logprobs, policy.entropy, self._critic.values(batch)

    def _old_values(self, experience: Experience) -> tuple[Tensor, dict[str, Tensor]]:
        """float32 [N]: the critic's values before the update; and, with the policy's live forward, its own."""
        critic, live, batch = self._critic, experience.live, experience.batch
        if live is None:
            limit = self._settings.micro_batch_tokens
            return forward_pass(critic.model, critic.values, batch, "tokens", limit, self._world), {}
        with self._world.autocast():
            values = critic.values(batch)
        first = {"now/logprobs": live.logprobs, "now/values": values}
        return values.detach(), first if live.entropy is None else {**first, "now/entropy": live.entropy}


def main(settings: Settings, world: World, run: Run) -> Path:
    """Train the policy; the result is in `model/` of the run folder.  Raises ValueError for unusable inputs."""
    policy_path, reward_path = result_folder(settings.model), result_folder(settings.reward_model)
    for name, path in {
        "model": policy_path,
        "reward_model": reward_path,
        "prompts": settings.prompts,
    }.items():
        run.input(name, path)
    tokenizer, reward_tokenizer = load_tokenizer(policy_path), load_tokenizer(reward_path)
    if reward_tokenizer.get_vocab() != tokenizer.get_vocab():
        raise ValueError(
            f"the critic starts from the reward model {reward_path} and must read the policy's tokens, but its vocabulary "
            f"differs from that of {policy_path}: train the reward model from the same base."
        )
    contexts = [context for path in (policy_path, reward_path) if (context := context_at(path))]
    fitting = partial(
        answerable,
        tokenizer=tokenizer,
        context=min(contexts, default=None),
        max_new_tokens=settings.max_new_tokens,
        max_prompt_length=settings.max_prompt_length,
        max_dropped_share=settings.max_dropped_share,
        console=run.console,
    )
    prompts = show_preflight(fitting(read_prompts(settings.prompts), source=settings.prompts), run).examples
    policy = start_policy(policy_path, tokenizer, settings, world)
    ref = None if settings.lora_rank else load_policy(policy_path, device=world.device)
    reward_model = load_scalar(reward_path, dtype=world.dtype, device=world.device)
    limit = settings.micro_batch_tokens
    judge = RewardModelJudge(reward_model, reward_tokenizer, tokenizer, world, limit, name=reward_path)
    calibration = Calibration(score_normalisation(reward_model))
    generator = LocalGenerator(policy, tokenizer, dtype=world.dtype)
    calibrated = Calibrated(judge, calibration)
    rollouts = Rollouts(policy, ref, calibrated, generator, prompts, settings, world, run.console)
    critic = Critic(load_scalar(reward_path, device=world.device), calibration)
    algorithm = PPO(policy, critic, rollouts, settings, world, run.log)
    evaluation = None
    if settings.eval_prompts:
        run.input("eval_prompts", settings.eval_prompts)
        found = read_prompts(settings.eval_prompts)[: settings.max_eval_prompts]
        held_out = fitting(found, source=settings.eval_prompts)
        held_out.report.show(run.console)
        evaluation = lambda: algorithm.evaluate(held_out.examples)  # noqa: E731
    fit(
        algorithm,
        settings,
        world,
        run,
        steps=steps_for(settings, len(prompts), run),
        tokenizer=tokenizer,
        evaluate=evaluation,
        best="max:eval_objective/rlhf_reward",
    )
    return export(run, policy, tokenizer)
