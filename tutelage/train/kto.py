"""KTO: the policy learns from single responses that are called good or not (Ethayarajh et al. 2024, arXiv 2402.01306, eq. 8).

    rho  = log pi(y) - log ref(y)                               summed over response tokens
    z    = max(0, mean of rho over prompts with the responses of others)
    loss = good_weight (1 - sigmoid(beta (rho - z)))            for good responses
           bad_weight  (1 - sigmoid(beta (z - rho)))            for the others

z says how far the policy is from the reference anyway; it is a constant of the update, taken over its whole batch before the
first micro-batch, so that no gradient depends on how the batch is cut.  Every prompt has a response of another that is its own
for the whole run, so that the reference's log-probabilities of both are computed once.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from torch import nn
from transformers import PreTrainedTokenizerBase

from tutelage.data.batch import TokenBatch, Tokens
from tutelage.data.order import rows_for_step, rows_until
from tutelage.data.preflight.responses import GOOD, prepare_labelled
from tutelage.data.preflight.work import Prepared
from tutelage.data.reading.formats import read_labelled
from tutelage.data.reading.sources import shown
from tutelage.data.table import Examples
from tutelage.feedback.exports.singles import labelled_from
from tutelage.feedback.training.source import is_store_source
from tutelage.models.loading import load_tokenizer
from tutelage.models.passes import forward_pass
from tutelage.models.policy import PolicyModule
from tutelage.ops.losses import kto
from tutelage.parallel import World
from tutelage.runs import Run, result_folder
from tutelage.seeds import rng
from tutelage.settings.preference import KTOSettings as Settings
from tutelage.train.algorithm import Loss, Sum, Term, Updates
from tutelage.train.fit import fit, heldout_metrics
from tutelage.train.mix import mixed
from tutelage.train.reference import RowValues, reference_logprobs
from tutelage.train.stage import (
    context_limit,
    export,
    hold_out,
    read_rows,
    setup_for,
    show_sides,
    steps_for,
    tell,
)

MOST = 4 / 3
"""Good responses may weigh up to so many times what the others do, together (the paper's section 4.2 has 1 to 3/2, TRL 4/3)."""


@dataclass(frozen=True)
class Responses:
    """Labelled responses: `examples` with their prompts; `good` bool [n]; `other` int64 [n], the row whose response is put
    behind each prompt for `z`."""

    examples: Sequence[Tokens]
    good: np.ndarray
    other: np.ndarray
    max_length: int

    @staticmethod
    def of(examples: Examples[Tokens], max_length: int, seed: int) -> Responses:
        """`other`: the next one in an order that is drawn by seed, so that each is used once."""
        order = rng(seed, "kto").permutation(len(examples))
        other = np.empty(len(examples), dtype=np.int64)
        other[order] = np.roll(order, -1)
        return Responses(examples, examples.table.numbers(GOOD).astype(bool), other, max_length)

    def __len__(self) -> int:
        return len(self.examples)

    def both(self, row: int) -> tuple[Tokens, Tokens]:
        """The response to its prompt, and that of another to the same prompt."""
        own = self.examples[row]
        return own, _joined(own, self.examples[int(self.other[row])], self.max_length)


def _joined(prompt: Tokens, response: Tokens, max_length: int) -> Tokens:
    """The prompt of one with the response of another; the prompt is cut from the left where both are too long."""
    said = response.ids[response.loss_mask]
    asked = prompt.ids[~prompt.loss_mask][-max(1, max_length - len(said)) :]
    ids = np.concatenate([asked, said])
    return Tokens(ids, np.arange(len(ids)) >= len(asked))


@dataclass(frozen=True)
class Weights:
    """What good responses weigh, and the others."""

    good: float
    bad: float

    @staticmethod
    def of(settings: Settings, good: np.ndarray, console: Console) -> Weights:
        """As set, or so that good responses together weigh 1 to MOST times what the others do."""
        if settings.good_weight:
            return Weights(settings.good_weight, settings.bad_weight)
        ratio = float(good.sum()) / float((~good).sum())
        found = Weights(max(1.0, 1 / ratio), max(1.0, ratio / MOST))
        if found != Weights(1.0, 1.0):
            console.print(
                f"{int(good.sum()):,} good responses and {int((~good).sum()):,} others: good_weight={found.good:.3g}, "
                f"bad_weight={found.bad:.3g}.",
                highlight=False,
            )
        return found


class KTO:
    """The algorithm: what the policy says of a response above the reference, against how far it is from it anyway."""

    def __init__(
        self,
        policy: PolicyModule,
        responses: Responses,
        ref: RowValues,
        weights: Weights,
        settings: Settings,
        world: World,
    ) -> None:
        self.trained: dict[str, nn.Module] = {"policy": policy}
        self._policy, self._responses, self._ref = policy, responses, ref
        self._weights, self._settings, self._world = weights, settings, world

    def batches(self, step: int) -> Updates:
        """One batch of `batch_size` responses, with the reference's log-probabilities and the baseline."""
        rows = rows_for_step(len(self._responses), self._settings.batch_size, step, self._settings.seed)
        yield [self.batch(rows)]

    def batch(self, rows: Sequence[int]) -> TokenBatch:
        """Per sequence: `ref_logprobs`, `good`; and, the same for all, the `share` of good ones and the `baseline`."""
        sides = [self._responses.both(row) for row in rows]
        ref = self._ref.of(rows).view(-1, 2)
        others = TokenBatch.collate([other for _, other in sides], rows).to(self._world.device)
        limit = self._settings.micro_batch_tokens
        policy = self._policy
        said = forward_pass(policy, policy.sequence_logprobs, others, "sequences", limit, self._world)
        good = torch.from_numpy(self._responses.good[list(rows)])
        baseline = (said.cpu() - ref[:, 1]).mean().clamp(min=0)
        fields = {
            "ref_logprobs": ref[:, 0],
            "good": good,
            "share": good.float().mean().expand(len(rows)),
            "baseline": baseline.expand(len(rows)),
        }
        return replace(TokenBatch.collate([own for own, _ in sides], rows), per_sequence=fields)

    def loss(self, batch: TokenBatch) -> Loss:
        """KTO's loss, a mean over responses, and TRL's metrics: means over the responses of one kind."""
        fields, beta = batch.per_sequence, self._settings.beta
        good = fields["good"]
        logprobs = self._policy.sequence_logprobs(batch)
        log_ratio = logprobs - fields["ref_logprobs"]
        weight = torch.where(good, self._weights.good, self._weights.bad)
        losses = weight * kto(log_ratio, good, fields["baseline"], beta=beta)
        rewards = (beta * log_ratio).detach()
        share = fields["share"]
        metrics = {
            "rewards/chosen": torch.where(good, rewards / share, 0.0),
            "rewards/rejected": torch.where(good, 0.0, rewards / (1 - share)),
            "logps/chosen": torch.where(good, logprobs.detach() / share, 0.0),
            "logps/rejected": torch.where(good, 0.0, logprobs.detach() / (1 - share)),
            "kl_baseline": fields["baseline"],
        }
        sums = {name: Sum(value.sum(), "sequences") for name, value in metrics.items()}
        return Loss({"kto": Term(losses.sum(), "sequences")}, sums)


def main(settings: Settings, world: World, run: Run) -> Path:
    """Train the policy; the result is in `model/` of the run folder.  Raises ValueError for unusable inputs."""
    start = result_folder(settings.model)
    run.input("model", start)
    tokenizer = load_tokenizer(start)
    policy = setup_for(settings, world).policy(start, tokenizer)
    limit = context_limit(settings.max_length, policy)
    prepared = _prepare(settings, tokenizer, limit, run)
    train, held_out = (Responses.of(part.examples, limit, settings.seed) for part in prepared)
    refuse_one_sided(train)
    weights = Weights.of(settings, train.good, run.console)
    steps = steps_for(settings, len(train), run)

    def reference(some: Responses, rows: Sequence[int] | np.ndarray) -> RowValues:
        return reference_logprobs(policy, some.both, rows, settings.micro_batch_tokens, world, run)

    def learner(some: Responses, rows: Sequence[int] | np.ndarray) -> KTO:
        return KTO(policy, some, reference(some, rows), weights, settings, world)

    algorithm = learner(train, rows_until(len(train), settings.batch_size, steps, settings.seed))
    both, place = mixed(algorithm, policy, tokenizer, settings, run, prepared[0].examples.table.place)
    evaluation = None
    if len(held_out) > 1 and 0 < held_out.good.mean() < 1:
        other = learner(held_out, range(len(held_out)))

        def batches() -> Iterator[TokenBatch]:
            for part in prepared[1].examples.parts():
                yield other.batch(range(part.start, part.stop))

        evaluation = lambda: heldout_metrics(other, batches(), settings, world)  # noqa: E731
    fit(
        both,
        settings,
        world,
        run,
        steps=steps,
        tokenizer=tokenizer,
        evaluate=evaluation,
        best="min:eval_loss",
        place=place,
    )
    return export(run, policy, tokenizer, settings)


def refuse_one_sided(responses: Responses) -> None:
    """Raises ValueError where all responses are good, or none is, or there is only one."""
    good = int(responses.good.sum())
    if good in (0, len(responses)):
        raise ValueError(
            f"all {len(responses)} labelled responses are {'good' if good else 'not good'}: kto learns from both kinds; for good "
            "ones alone use sft."
        )


def _prepare(
    settings: Settings, tokenizer: PreTrainedTokenizerBase, limit: int, run: Run
) -> tuple[Prepared[Tokens], Prepared[Tokens]]:
    """Responses to train on, and responses held out; split by prompt."""
    left_out: Mapping[str, int] = {}
    if is_store_source(settings.data):
        told = labelled_from(settings.data, settings.store, settings.aggregation, settings.labels_from)
        run.input("data", settings.data, sha256=told.digest)
        left_out = told.left_out
        tell(told.habits, run)
        both_sides = hold_out(told.train, read_labelled, settings, run, told.held_out)
    else:
        both_sides = read_rows(read_labelled, settings, run)
    train, held_out = (
        prepare_labelled(
            tokenizer,
            rows,
            max_length=limit,
            cut_responses=settings.cut_responses,
            source=shown(source),
            max_dropped_share=None,
            console=run.console,
        )
        for rows, source in zip(both_sides, (settings.data, settings.eval_data or settings.data), strict=True)
    )
    show_sides(train, held_out, run, settings.max_dropped_share, left_out)
    return train, held_out
