"""Direct preference optimisation (Rafailov et al. 2023, eq. 7), with label smoothing (conservative DPO).

    h = [log pi(chosen) - log ref(chosen)] - [log pi(rejected) - log ref(rejected)]      summed over response tokens
    loss = - (1 - e) log sigmoid(beta h) - e log sigmoid(-beta h)

The reference is the starting policy: its log-probabilities are computed once, before the first step, and no second model
is kept in memory.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from tutelage.data.batch import PairBatch, TokenBatch
from tutelage.data.order import rows_for_step
from tutelage.data.template import PairTokens
from tutelage.models.forward import response_logprobs
from tutelage.models.loading import load_tokenizer
from tutelage.models.passes import sequence_pass
from tutelage.ops.losses import dpo
from tutelage.ops.masked import segment_sum
from tutelage.parallel import World
from tutelage.runs import Run, result_folder
from tutelage.settings.train import DPOSettings as Settings
from tutelage.train.fit import Loss, fit, heldout_metrics
from tutelage.train.reward import right
from tutelage.train.stage import collate_pairs, export, prepare_pairs, start_policy, steps_for


class DPO:
    """The algorithm: the policy's own log-ratio to the reference is the score of a response."""

    def __init__(
        self, policy: nn.Module, pairs: Sequence[PairTokens], ref_logprobs: Tensor, settings: Settings
    ) -> None:
        self.trained: dict[str, nn.Module] = {"policy": policy}
        self._policy, self._pairs, self._ref_logprobs, self._settings = policy, pairs, ref_logprobs, settings

    def batches(self, step: int) -> Iterator[PairBatch]:
        """One batch of `batch_size` pairs with the reference's log-probabilities."""
        rows = rows_for_step(len(self._pairs), self._settings.batch_size, step, self._settings.seed)
        batch = collate_pairs([self._pairs[row] for row in rows], rows)
        yield replace(batch, ref_logprobs=self._ref_logprobs[rows])

    def loss(self, batch: PairBatch) -> Loss:
        """DPO loss, summed over pairs, and TRL's metrics."""
        assert batch.ref_logprobs is not None, "batches of DPO carry the reference's log-probabilities"
        logprobs = sequence_logprobs(self._policy, batch).view(-1, 2)
        rewards = self._settings.beta * (logprobs - batch.ref_logprobs)
        h = (rewards[:, 0] - rewards[:, 1]) / self._settings.beta
        losses = dpo(
            h,
            beta=self._settings.beta,
            label_smoothing=self._settings.label_smoothing,
            p_chosen=batch.p_chosen,
        )
        chosen, rejected = rewards.detach().unbind(1)
        metrics = {
            "rewards/chosen": chosen.sum(),
            "rewards/rejected": rejected.sum(),
            "rewards/margins": (chosen - rejected).sum(),
            "rewards/accuracies": right(chosen - rejected, batch.p_chosen).sum(),
            "logps/chosen": logprobs[:, 0].detach().sum(),
            "logps/rejected": logprobs[:, 1].detach().sum(),
        }
        return Loss(losses.sum(), torch.tensor(len(batch)), metrics)


def sequence_logprobs(model: nn.Module, batch: TokenBatch) -> Tensor:
    """float32 [B]: log-probability of each response (nats), its end included."""
    return segment_sum(response_logprobs(model, batch).logprobs, batch.lengths)


def reference_logprobs(
    model: nn.Module, pairs: Sequence[PairTokens], settings: Settings, world: World
) -> Tensor:
    """float32 [P, 2] on the CPU: log-probabilities of (chosen, rejected) under the starting policy."""
    batch = collate_pairs(pairs, range(len(pairs))).to(world.device)
    return (
        sequence_pass(lambda part: sequence_logprobs(model, part), batch, settings.micro_batch_tokens, world)
        .view(-1, 2)
        .cpu()
    )


def main(settings: Settings, world: World, run: Run) -> Path:
    """Train the policy; the result is in `model/` of the run folder.  Raises ValueError for unusable inputs."""
    start = result_folder(settings.model)
    run.input("model", start)
    tokenizer = load_tokenizer(start)
    policy = start_policy(start, tokenizer, settings, world)
    pairs = prepare_pairs(settings, tokenizer, policy, run)
    algorithm = DPO(policy, pairs.train, reference_logprobs(policy, pairs.train, settings, world), settings)
    evaluation = None
    if pairs.held_out:
        ref = reference_logprobs(policy, pairs.held_out, settings, world)
        batch = collate_pairs(pairs.held_out, range(len(pairs.held_out)))
        batch = replace(batch, ref_logprobs=ref).to(world.device)
        evaluation = lambda: heldout_metrics(algorithm, batch, settings, world)  # noqa: E731
    fit(
        algorithm,
        settings,
        world,
        run,
        steps=steps_for(settings, len(pairs.train)),
        tokenizer=tokenizer,
        evaluate=evaluation,
        best=("eval_rewards/accuracies", True),
    )
    return export(run, policy, tokenizer)
