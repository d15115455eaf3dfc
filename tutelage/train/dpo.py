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

import numpy as np
from torch import nn

from tutelage.data.batch import TokenBatch, Tokens
from tutelage.data.order import rows_for_step, rows_until
from tutelage.data.template import PairTokens
from tutelage.models.loading import load_tokenizer
from tutelage.models.policy import PolicyModule
from tutelage.ops.losses import dpo
from tutelage.parallel import World
from tutelage.runs import Run, result_folder
from tutelage.settings.train import DPOSettings as Settings
from tutelage.train.algorithm import Loss, Sum, Term, Updates
from tutelage.train.fit import fit, heldout_metrics
from tutelage.train.mix import mixed
from tutelage.train.reference import RowValues, reference_logprobs
from tutelage.train.stage import agreement, collate_pairs, export, prepare_pairs, setup_for, steps_for


class DPO:
    """The algorithm: the policy's own log-ratio to the reference is the score of a response."""

    def __init__(
        self, policy: PolicyModule, pairs: Sequence[PairTokens], ref: RowValues, settings: Settings
    ) -> None:
        self.trained: dict[str, nn.Module] = {"policy": policy}
        self._policy, self._pairs, self._ref, self._settings = policy, pairs, ref, settings

    def batches(self, step: int) -> Updates:
        """One batch of `batch_size` pairs with the reference's log-probabilities."""
        rows = rows_for_step(len(self._pairs), self._settings.batch_size, step, self._settings.seed)
        yield [with_reference(collate_pairs([self._pairs[row] for row in rows], rows), rows, self._ref)]

    def loss(self, batch: TokenBatch) -> Loss:
        """DPO loss, a mean over pairs, and TRL's metrics."""
        settings, p_chosen = self._settings, batch.per_unit["p_chosen"]
        logprobs = self._policy.sequence_logprobs(batch)
        log_ratio = (logprobs - batch.per_sequence["ref_logprobs"]).view(-1, 2)
        losses = dpo(
            log_ratio[:, 0] - log_ratio[:, 1],
            beta=settings.beta,
            label_smoothing=settings.label_smoothing,
            p_chosen=p_chosen,
        )
        chosen, rejected = (settings.beta * log_ratio).detach().unbind(1)
        metrics = {
            "rewards/chosen": chosen,
            "rewards/rejected": rejected,
            "rewards/margins": chosen - rejected,
            "rewards/accuracies": agreement(chosen - rejected, p_chosen),
            "logps/chosen": logprobs[::2].detach(),
            "logps/rejected": logprobs[1::2].detach(),
        }
        sums = {name: Sum(value.sum(), "pairs") for name, value in metrics.items()}
        return Loss({"dpo": Term(losses.sum(), "pairs")}, sums)


def with_reference(batch: TokenBatch, rows: Sequence[int], ref: RowValues) -> TokenBatch:
    """The pairs of these rows with the reference's log-probabilities, `ref_logprobs` per sequence."""
    return replace(batch, per_sequence={"ref_logprobs": ref.of(rows)})


def main(settings: Settings, world: World, run: Run) -> Path:
    """Train the policy; the result is in `model/` of the run folder.  Raises ValueError for unusable inputs."""
    start = result_folder(settings.model)
    run.input("model", start)
    tokenizer = load_tokenizer(start)
    policy = setup_for(settings, world).policy(start, tokenizer)
    pairs = prepare_pairs(settings, tokenizer, policy, run)
    steps = steps_for(settings, len(pairs.train), run)

    def reference(some: Sequence[PairTokens], rows: Sequence[int] | np.ndarray) -> RowValues:
        def both(row: int) -> tuple[Tokens, Tokens]:
            return some[row].chosen, some[row].rejected

        return reference_logprobs(policy, both, rows, settings.micro_batch_tokens, world, run)

    visited = rows_until(len(pairs.train), settings.batch_size, steps, settings.seed)
    algorithm = DPO(policy, pairs.train, reference(pairs.train, visited), settings)
    both, place = mixed(algorithm, policy, tokenizer, settings, run, pairs.train.table.place)
    evaluation = None
    if held_out := pairs.held_out:
        ref = reference(held_out, range(len(held_out)))

        def batches() -> Iterator[TokenBatch]:
            for part in held_out.parts():
                rows = range(part.start, part.stop)
                yield with_reference(collate_pairs(held_out[part], rows), rows, ref)

        evaluation = lambda: heldout_metrics(algorithm, batches(), settings, world)  # noqa: E731
    fit(
        both,
        settings,
        world,
        run,
        steps=steps,
        tokenizer=tokenizer,
        evaluate=evaluation,
        best="max:eval_rewards/accuracies",
        place=place,
    )
    return export(run, policy, tokenizer, settings)
