"""PPO for language models (Schulman et al. 2017; InstructGPT, Ouyang et al. 2022, section 3.5).

    maximise  E[ score(x, y) ] - kl_coef * KL(policy || reference)

Per step: sample responses; score them; per-token reward = -kl_coef * (logprob - ref logprob), plus the score at the last
token; advantages by GAE from the critic; then a few passes of clipped policy and value updates.  Choices where
implementations differ: the KL is k1 inside the reward (the exact objective); the score sits on the last real token; a
response without an end gets a fixed score instead of the reward model's; the critic is a network of its own that starts
from the reward model; advantages are whitened over all response tokens of the step.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from tutelage.data.batch import RolloutBatch, TokenBatch
from tutelage.data.formats import read_prompts
from tutelage.data.order import rows_for_step
from tutelage.judges.judge import Judge
from tutelage.judges.reward_model import RewardModelJudge
from tutelage.models.forward import TokenLogprobs, response_logprobs, state_values
from tutelage.models.loading import load_policy, load_scalar, load_tokenizer, score_normalisation
from tutelage.models.lora import reference
from tutelage.models.passes import token_pass
from tutelage.ops.advantages import gae
from tutelage.ops.kl import k1, k2
from tutelage.ops.losses import clipped_policy, clipped_value
from tutelage.ops.masked import (
    mask_from_lengths,
    masked_sum,
    pad,
    unpad,
    whiten,
)
from tutelage.parallel import World
from tutelage.records import Prompt, Response
from tutelage.rollout.batch import rollout_tokens
from tutelage.rollout.generator import Generator, Sampling
from tutelage.rollout.local import LocalGenerator
from tutelage.runs import Run, result_folder
from tutelage.seeds import rng
from tutelage.settings.train import PPOSettings as Settings
from tutelage.train.fit import Loss, fit
from tutelage.train.stage import export, fitting_prompts, start_policy, steps_for


class KLController(nn.Module):
    """The coefficient of the KL, fixed, or adapted to a target (Ziegler et al. 2019, section 2.2).

    With e = clip(KL / target - 1, -0.2, 0.2): kl_coef <- kl_coef * (1 + e * episodes / horizon), KL in nats per response.
    The coefficient is a buffer, so that it is part of every checkpoint.
    """

    kl_coef: Tensor

    def __init__(self, kl_coef: float, target: float, horizon: float) -> None:
        super().__init__()
        self.register_buffer("kl_coef", torch.tensor(kl_coef, dtype=torch.float64))
        self._target, self._horizon = target, horizon

    def update(self, kl: float, episodes: int) -> None:
        """Adapt to the mean KL of `episodes` responses; does nothing without a target."""
        if self._target:
            error = min(max(kl / self._target - 1.0, -0.2), 0.2)
            self.kl_coef *= 1.0 + error * episodes / self._horizon


@dataclass(frozen=True)
class _Forward:
    """What policy and critic say about the response tokens of a micro-batch; differentiable."""

    batch: TokenBatch
    policy: TokenLogprobs
    values: Tensor


class PPO:
    """The algorithm: rollouts as batches, clipped policy and value losses.

    `ref` is the frozen reference; None when the policy is an adapter, which is its own reference when switched off.
    """

    def __init__(
        self,
        policy: nn.Module,
        critic: nn.Module,
        ref: nn.Module | None,
        judge: Judge,
        generator: Generator,
        prompts: Sequence[Prompt],
        settings: Settings,
        world: World,
        run: Run,
    ) -> None:
        self._controller = KLController(settings.kl_coef, settings.kl_target, settings.kl_horizon)
        self.trained: dict[str, nn.Module] = {
            "policy": policy,
            "critic": critic,
            "kl_controller": self._controller,
        }
        self._policy, self._critic, self._ref = policy, critic, ref
        self._value_mean, self._value_std = score_normalisation(critic)
        self._judge, self._generator, self._prompts = judge, generator, prompts
        self._settings, self._world, self._run = settings, world, run
        self._moved = (0.0, 0.0)
        self._ahead: _Forward | None = None

    def batches(self, step: int) -> Iterator[RolloutBatch]:
        """Rollouts of the current policy, `ppo_epochs` times, in `minibatches` parts; fewer when it has moved too far."""
        settings = self._settings
        self._generator.sync(self._policy, step)
        rollouts = self.collect(step)
        for epoch in range(settings.ppo_epochs):
            order = rng(settings.seed, "minibatches", step, epoch).permutation(len(rollouts))
            for part in np.array_split(order, settings.minibatches):
                self._moved = (0.0, 0.0)
                yield rollouts if settings.minibatches == 1 else rollouts.take(part.tolist())
                if self._moved[0] / max(self._moved[1], 1.0) > settings.max_approx_kl:
                    return

    def collect(self, step: int) -> RolloutBatch:
        """Sample, score, and turn scores into advantages and returns."""
        settings, world = self._settings, self._world
        rows = rows_for_step(len(self._prompts), settings.batch_size, step, settings.seed)
        responses = self._generate([self._prompts[row] for row in rows], step)
        batch = rollout_tokens(responses, [row for row in rows for _ in range(settings.samples)]).to(
            world.device
        )
        self._look_ahead(batch)
        old, values = self._old_logprobs(responses, batch), self._old_values(batch)
        ref = self._ref_logprobs(batch)
        scores = score_with_ends(self._judge, responses, settings.missing_eos_score).to(world.device)
        mask, lengths = batch.loss_mask, [len(response.ids) for response in responses]
        kl_coef = float(self._controller.kl_coef)
        rewards = token_rewards(k1(old - ref)[mask], scores, lengths, kl_coef, settings.whiten_rewards)
        real = mask_from_lengths(lengths).to(world.device)
        advantages, returns = gae(
            rewards, pad(values[mask], lengths), real, gamma=settings.gamma, gae_lambda=settings.gae_lambda
        )
        flat = {"advantages": unpad(whiten(advantages, real), lengths), "returns": unpad(returns, lengths)}
        self._report(responses, scores, k1(old - ref)[mask], values[mask], flat["returns"], kl_coef)
        spread = {name: torch.zeros_like(old).masked_scatter(mask, value) for name, value in flat.items()}
        return RolloutBatch(
            batch.ids, batch.lengths, mask, batch.rows, old_logprobs=old, values=values * mask, **spread
        )

    def loss(self, batch: RolloutBatch) -> Loss:
        """Clipped policy loss + value_coef * clipped value loss - entropy_coef * entropy, summed over response tokens."""
        settings, mask = self._settings, batch.loss_mask
        forward = self._ahead_of(batch) or self._forward(batch)
        self._ahead = None  # from here on the weights change
        new, values = forward.policy, forward.values
        log_ratio = new.logprobs - batch.old_logprobs
        policy_loss, clipped = clipped_policy(
            new.logprobs,
            batch.old_logprobs,
            batch.advantages,
            clip_low=settings.clip_low,
            clip_high=settings.clip_high,
        )
        value_loss = clipped_value(values, batch.values, batch.returns, clip=settings.value_clip)
        per_token = policy_loss + settings.value_coef * value_loss
        if new.entropy is not None:
            per_token = per_token - settings.entropy_coef * new.entropy
        count = mask.sum()
        metrics = {
            "loss/policy_avg": policy_loss,
            "loss/value_avg": value_loss,
            "policy/approxkl_avg": k2(log_ratio),
            "policy/clipfrac_avg": clipped.float(),
            "val/clipfrac_avg": ((values - batch.values).abs() > settings.value_clip).float(),
            "val/ratio": log_ratio.exp(),
        }
        sums = {name: masked_sum(value.detach(), mask) for name, value in metrics.items()}
        self._moved = (
            self._moved[0] + sums["policy/approxkl_avg"].item(),
            self._moved[1] + count.item(),
        )
        return Loss(masked_sum(per_token, mask), count, sums)

    def evaluate(self, prompts: Sequence[Prompt]) -> dict[str, float]:
        """Score, KL, length and missing ends of the current policy on held-out prompts (always the same draws)."""
        self._generator.sync(self._policy, -1)
        responses = self._generate(prompts, -1, samples=1)
        batch = rollout_tokens(responses, range(len(responses))).to(self._world.device)
        limit = self._settings.micro_batch_tokens
        new = token_pass(lambda part: self._logprobs(self._policy, part), batch, limit, self._world)
        ref = self._ref_logprobs(batch)
        scores = score_with_ends(self._judge, responses, self._settings.missing_eos_score)
        return {
            "eval_objective/scores": scores.mean().item(),
            "eval_objective/kl": ((new - ref).sum() / len(responses)).item(),
            "eval_completions/mean_length": float(np.mean([len(r.ids) for r in responses])),
            "eval_completions/clipped_ratio": float(np.mean([r.finish == "length" for r in responses])),
        }

    def _generate(self, prompts: Sequence[Prompt], step: int, samples: int | None = None) -> list[Response]:
        settings = self._settings
        sampling = Sampling(
            max_new_tokens=settings.max_new_tokens,
            temperature=settings.temperature,
            samples=samples or settings.samples,
            seed=settings.seed,
            step=step,
        )
        return self._generator.generate(list(prompts), sampling)

    def _look_ahead(self, batch: TokenBatch) -> None:
        """Make the first forward of the first update now, if that update is about the whole batch.

        Its numbers are those before the update, which `collect` needs; `loss` goes on from it instead of making it again.
        Only one micro-batch: each that waits takes as much memory as an update does at a time.
        """
        self._ahead = None
        if self._settings.minibatches == 1:
            with self._world.autocast():
                self._ahead = self._forward(next(batch.split(self._settings.micro_batch_tokens)))

    def _ahead_of(self, batch: TokenBatch) -> _Forward | None:
        """The forward that was made ahead, if it is about these very tokens."""
        ahead = self._ahead
        if ahead is None or ahead.batch.lengths != batch.lengths:
            return None
        return ahead if torch.equal(ahead.batch.ids, batch.ids) else None

    def _forward(self, batch: TokenBatch) -> _Forward:
        settings = self._settings
        policy = response_logprobs(
            self._policy, batch, temperature=settings.temperature, entropy=settings.entropy_coef > 0
        )
        return _Forward(batch, policy, self._values(batch))

    def _old_logprobs(self, responses: Sequence[Response], batch: TokenBatch) -> Tensor:
        """float32 [N]: the sampler's own log-probabilities in float32; taken again in the training arithmetic in
        bfloat16, where the sampler's rounding differs from the trainer's by more than an update should see."""
        if self._world.dtype == torch.float32:
            sampled = torch.tensor(
                [logprob for r in responses for logprob in r.logprobs], device=batch.device
            )
            return torch.zeros(sum(batch.lengths), device=batch.device).masked_scatter(
                batch.loss_mask, sampled
            )

        def logprobs(part: TokenBatch) -> Tensor:
            ahead = self._ahead_of(part)
            return ahead.policy.logprobs if ahead else self._logprobs(self._policy, part)

        return token_pass(logprobs, batch, self._settings.micro_batch_tokens, self._world)

    def _old_values(self, batch: TokenBatch) -> Tensor:
        """float32 [N]: the critic's values before the update."""

        def values(part: TokenBatch) -> Tensor:
            ahead = self._ahead_of(part)
            return ahead.values if ahead else self._values(part)

        return token_pass(values, batch, self._settings.micro_batch_tokens, self._world)

    def _ref_logprobs(self, batch: TokenBatch) -> Tensor:
        """float32 [N]: the reference's log-probabilities."""
        limit = self._settings.micro_batch_tokens
        with reference(self._policy) if self._ref is None else nullcontext(self._ref) as ref:
            return token_pass(lambda part: self._logprobs(ref, part), batch, limit, self._world)

    def _logprobs(self, model: nn.Module, batch: TokenBatch) -> Tensor:
        return response_logprobs(model, batch, temperature=self._settings.temperature).logprobs

    def _values(self, batch: TokenBatch) -> Tensor:
        """float32 [N]: the critic's values in the units of the judge's scores."""
        return (state_values(self._critic, batch) - self._value_mean) / self._value_std

    def _report(
        self,
        responses: Sequence[Response],
        scores: Tensor,
        log_ratio: Tensor,
        values: Tensor,
        returns: Tensor,
        kl_coef: float,
    ) -> None:
        """Log the rollouts' metrics and let the KL controller see them."""
        kl = log_ratio.sum().item() / len(responses)
        logprobs = [logprob for response in responses for logprob in response.logprobs]
        variance = returns.var(correction=0).clamp(min=1e-8)
        self._run.log(
            {
                "objective/scores": scores.mean().item(),
                "objective/scores_std": scores.std(correction=0).item(),
                "objective/kl": kl,
                "objective/non_score_reward": -kl_coef * kl,
                "objective/rlhf_reward": scores.mean().item() - kl_coef * kl,
                "objective/entropy": -float(np.mean(logprobs)),
                "kl_coef": kl_coef,
                "completions/mean_length": float(np.mean([len(r.ids) for r in responses])),
                "completions/clipped_ratio": float(np.mean([r.finish == "length" for r in responses])),
                "val/explained_variance": 1.0 - ((returns - values).var(correction=0) / variance).item(),
            }
        )
        self._controller.update(kl, len(responses))


def token_rewards(
    log_ratio: Tensor, scores: Tensor, lengths: Sequence[int], kl_coef: float, whiten_rewards: bool = False
) -> Tensor:
    """float32 [B, T], right-padded: -kl_coef * log_ratio at every response token, plus the score at the last one.

    log_ratio: float32 [M], log policy - log reference of the response tokens, flat.  scores: float32 [B].
    `whiten_rewards` scales them to unit variance and leaves the mean where it is.
    """
    rewards = pad(-kl_coef * log_ratio, lengths)
    rewards[
        torch.arange(len(lengths), device=rewards.device), torch.tensor(lengths, device=rewards.device) - 1
    ] += scores
    if whiten_rewards:
        rewards = whiten(rewards, mask_from_lengths(lengths).to(rewards.device), shift_mean=False)
    return rewards


def score_with_ends(judge: Judge, responses: Sequence[Response], missing_eos_score: float) -> Tensor:
    """float32 [B]: the judge's scores; a response that never ended gets `missing_eos_score` instead."""
    scores = judge.score(responses)
    return torch.tensor(
        [
            missing_eos_score if r.finish == "length" else s.value
            for r, s in zip(responses, scores, strict=True)
        ]
    )


def main(settings: Settings, world: World, run: Run) -> Path:
    """Train the policy; the result is in `model/` of the run folder.  Raises ValueError for unusable inputs."""
    policy_path, reward_path = result_folder(settings.model), result_folder(settings.reward_model)
    for name, path in {
        "model": policy_path,
        "reward_model": reward_path,
        "prompts": settings.prompts,
    }.items():
        run.input(name, path)
    tokenizer = load_tokenizer(policy_path)
    policy = start_policy(policy_path, tokenizer, settings, world)
    ref = None if settings.lora_rank else load_policy(policy_path, dtype=world.dtype, device=world.device)
    critic = load_scalar(reward_path, device=world.device)
    reward_model = load_scalar(reward_path, dtype=world.dtype, device=world.device)
    limit = settings.micro_batch_tokens
    judge = RewardModelJudge(reward_model, load_tokenizer(reward_path), tokenizer, world, limit)
    if load_tokenizer(reward_path).get_vocab() != tokenizer.get_vocab():
        raise ValueError(
            f"the critic starts from the reward model {reward_path} and must read the policy's tokens, but its vocabulary "
            f"differs from that of {policy_path}: train the reward model from the same base."
        )
    generator = LocalGenerator(policy, tokenizer, dtype=world.dtype)
    prompts = fitting_prompts(read_prompts(settings.prompts), tokenizer, settings, run, settings.prompts)
    algorithm = PPO(policy, critic, ref, judge, generator, prompts, settings, world, run)
    evaluation = None
    if settings.eval_prompts:
        run.input("eval_prompts", settings.eval_prompts)
        found = read_prompts(settings.eval_prompts)[: settings.max_eval_prompts]
        held_out = fitting_prompts(found, tokenizer, settings, run, settings.eval_prompts)
        evaluation = lambda: algorithm.evaluate(held_out)  # noqa: E731
    steps = steps_for(settings, len(prompts))
    fit(
        algorithm,
        settings,
        world,
        run,
        steps=steps,
        tokenizer=tokenizer,
        evaluate=evaluation,
        best=("eval_objective/scores", True),
    )
    return export(run, policy, tokenizer)
