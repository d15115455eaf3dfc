"""KTO: the policy learns from single responses that are called good or not (Ethayarajh et al. 2024, arXiv 2402.01306, eq. 8).

    rho  = log pi(y) - log ref(y)                               summed over response tokens
    z    = max(0, mean of rho over prompts with the responses of others)
    loss = good_weight (1 - sigmoid(beta (rho - z)))            for good responses
           bad_weight  (1 - sigmoid(beta (z - rho)))            for the others

z says how far the policy is from the reference anyway; it is a constant of the update, taken before its first micro-batch, so
that no gradient depends on how the batch is cut.  It is a mean over the first rows of the batch, `baseline_share` of them: their
order is drawn, so that these are as good as any.  Every prompt has a response of another that is its own for the whole run, so
that the reference's log-probabilities of both are computed once.  Two responses to one prompt are visited together, and
it is read once.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from tutelage.data.batch import TokenBatch, Tokens
from tutelage.data.order import TOGETHER, Groups, rows_for_step, rows_until
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
    behind each prompt for `z`; `groups`: which are visited together."""

    examples: Sequence[Tokens]
    good: np.ndarray
    other: np.ndarray
    groups: Groups
    max_length: int

    @staticmethod
    def of(examples: Examples[Tokens], max_length: int, seed: int) -> Responses:
        """`other`: the next one in an order that is drawn by seed, so that each is used once."""
        order = rng(seed, "kto").permutation(len(examples))
        other = np.empty(len(examples), dtype=np.int64)
        other[order] = np.roll(order, -1)
        good = examples.table.numbers(GOOD).astype(bool)
        return Responses(examples, good, other, by_prompt(examples), max_length)

    def __len__(self) -> int:
        return len(self.examples)

    def own(self, row: int) -> tuple[Tokens]:
        """The response to its prompt."""
        return (self.examples[row],)

    def another(self, row: int) -> tuple[Tokens]:
        """The response of another to the same prompt."""
        return (_joined(self.examples[row], self.examples[int(self.other[row])], self.max_length),)

    def collated(self, rows: Sequence[int], sequences: Callable[[int], tuple[Tokens]]) -> TokenBatch:
        """A sequence of each row; neighbours of one group are one unit, which is not cut, so that its prompt is read once."""
        starts = np.flatnonzero(np.diff(self.groups.of[list(rows)], prepend=-1))
        batch = TokenBatch.collate([each for row in rows for each in sequences(row)], rows)
        return replace(batch, unit_sizes=tuple(np.diff(starts, append=len(rows)).tolist()))


def _joined(prompt: Tokens, response: Tokens, max_length: int) -> Tokens:
    """The prompt of one with the response of another; the prompt is cut from the left where both are too long."""
    said = response.ids[response.loss_mask]
    asked = prompt.ids[~prompt.loss_mask][-max(1, max_length - len(said)) :]
    ids = np.concatenate([asked, said])
    return Tokens(ids, np.arange(len(ids)) >= len(asked))


def by_prompt(examples: Iterable[Tokens]) -> Groups:
    """Responses to one prompt, as they come, TOGETHER in a group."""
    groups: list[int] = []
    open_groups: dict[bytes, tuple[int, int]] = {}  # by prompt: the last group, and how many it has
    count = 0
    for example in examples:
        key = hashlib.blake2b(example.ids[~example.loss_mask].tobytes(), digest_size=16).digest()
        group, held = open_groups.get(key, (-1, TOGETHER))
        if held == TOGETHER:
            group, held, count = count, 0, count + 1
        open_groups[key] = group, held + 1
        groups.append(group)
    return Groups(np.array(groups, dtype=np.int64))


@dataclass(frozen=True)
class Reference:
    """What the reference says of responses to their prompts (`own`), and of those of others, of the rows that a baseline is
    taken from (`another`)."""

    own: RowValues
    another: RowValues

    @staticmethod
    def of(
        policy: PolicyModule, some: Responses, visits: Visits, max_tokens: int, world: World, run: Run
    ) -> Reference:
        """`policy` is the reference itself: see `reference_logprobs`."""
        own, another = (
            reference_logprobs(policy, sequences, rows, max_tokens, world, run)
            for sequences, rows in ((some.own, visits.rows), (some.another, visits.baseline))
        )
        return Reference(own, another)


@dataclass(frozen=True)
class Visits:
    """Which rows a run visits, and which of them with the response of another; int64, ascending."""

    rows: np.ndarray
    baseline: np.ndarray

    @staticmethod
    def until(steps: int, some: Responses, settings: Settings) -> Visits:
        """In the first `steps` steps of a run."""
        n, size, seed = len(some), settings.batch_size, settings.seed
        batches = (rows_for_step(n, size, step, seed, some.groups) for step in range(steps))
        found = {row for batch in batches for row in baseline_rows(batch, settings.baseline_share)}
        return Visits(rows_until(n, size, steps, seed, some.groups), np.array(sorted(found), dtype=np.int64))

    @staticmethod
    def all(n: int) -> Visits:
        """All of `n` rows, with both."""
        return Visits(np.arange(n), np.arange(n))


def baseline_rows(batch: Sequence[int], share: float) -> Sequence[int]:
    """The rows of a batch that its baseline is taken from: so large a share of them, from the first on, and one at least."""
    return batch[: max(1, math.ceil(share * len(batch)))]


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
        ref: Reference,
        weights: Weights,
        settings: Settings,
        world: World,
    ) -> None:
        self.trained: dict[str, nn.Module] = {"policy": policy}
        self._policy, self._responses, self._ref = policy, responses, ref
        self._weights, self._settings, self._world = weights, settings, world

    def batches(self, step: int) -> Updates:
        """One batch of `batch_size` responses, with the reference's log-probabilities and the baseline."""
        some, settings = self._responses, self._settings
        rows = rows_for_step(len(some), settings.batch_size, step, settings.seed, some.groups)
        yield [self.batch(rows)]

    def batch(self, rows: Sequence[int], share: float | None = None) -> TokenBatch:
        """Per sequence: `ref_logprobs`, `good`; and, the same for all, the `share` of good ones and the `baseline`, from `share`
        of the rows (None: as set)."""
        good = torch.from_numpy(self._responses.good[list(rows)])
        some = baseline_rows(rows, self._settings.baseline_share if share is None else share)
        fields = {
            "ref_logprobs": self._ref.own.of(rows),
            "good": good,
            "share": good.float().mean().expand(len(rows)),
            "baseline": self._baseline(some).expand(len(rows)),
        }
        return replace(self._responses.collated(rows, self._responses.own), per_sequence=fields)

    def _baseline(self, rows: Sequence[int]) -> Tensor:
        """A scalar, on the CPU: the mean over the given rows, 0 at least."""
        policy, limit = self._policy, self._settings.micro_batch_tokens
        batch = self._responses.collated(rows, self._responses.another).to(self._world.device)
        said = forward_pass(policy, policy.sequence_logprobs, batch, "sequences", limit, self._world)
        return (said.cpu() - self._ref.another.of(rows)).mean().clamp(min=0)

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

    def learner(some: Responses, visits: Visits) -> KTO:
        ref = Reference.of(policy, some, visits, settings.micro_batch_tokens, world, run)
        return KTO(policy, some, ref, weights, settings, world)

    algorithm = learner(train, Visits.until(steps, train, settings))
    both, place = mixed(algorithm, policy, tokenizer, settings, run, prepared[0].examples.table.place)
    evaluation = None
    if len(held_out) > 1 and 0 < held_out.good.mean() < 1:
        other = learner(held_out, Visits.all(len(held_out)))

        def batches() -> Iterator[TokenBatch]:
            for part in prepared[1].examples.parts():
                yield other.batch(range(part.start, part.stop), share=1.0)

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
    return export(run, policy, tokenizer, settings, world)


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
