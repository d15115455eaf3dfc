"""Direct alignment: the policy learns from comparisons without a reward model.

A response's score is what the policy itself says of it: its log-ratio to the reference, or its mean log-probability per token,

    h = [log pi(chosen) - log ref(chosen)] - [log pi(rejected) - log ref(rejected)],    m = log pi(.) / tokens

    sigmoid   - (1 - e) log sigmoid(beta h) - e log sigmoid(-beta h)      DPO (Rafailov et al. 2023, eq. 7), with e conservative
    robust    unbiased for a share e of flipped labels                      (Chowdhury et al. 2024)
    ipo       (h - 1 / (2 beta))^2                                          (Azar et al. 2023, eq. 17)
    hinge     max(0, 1 - beta h)                                            SLiC-HF (Zhao et al. 2023)
    orpo      - log sigmoid(log odds(m_chosen) - log odds(m_rejected))      (Hong et al. 2024, eq. 7)
    simpo     - log sigmoid(beta (m_chosen - m_rejected) - gamma)           (Meng et al. 2024, eq. 6)
    sft       - m_chosen

and sums of them by weight.  Other objectives enter sigmoid and robust as a margin (`objectives`: MODPO).  The reference is the
starting policy: its log-probabilities are computed once, before the first step, and no second model is kept in memory; where no
loss asks for it, not at all.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from torch import Tensor, nn

from tutelage.data.batch import TokenBatch, Tokens, common_start
from tutelage.data.order import rows_for_step, rows_until
from tutelage.data.template import PairTokens
from tutelage.models.loading import load_tokenizer
from tutelage.models.policy import PolicyModule
from tutelage.ops import losses
from tutelage.ops.masked import segment_sum
from tutelage.parallel import World
from tutelage.records import Comparison
from tutelage.runs import Run, result_folder
from tutelage.settings.preference import DPOSettings as Settings
from tutelage.settings.preference import PairLossSettings
from tutelage.train.algorithm import Loss, Sum, Term, Updates
from tutelage.train.fit import fit, heldout_metrics
from tutelage.train.mix import mixed
from tutelage.train.objectives import differences, others
from tutelage.train.reference import RowValues, reference_logprobs
from tutelage.train.stage import agreement, collate_pairs, export, prepare_pairs, setup_for, steps_for

Rows = Sequence[int] | np.ndarray
Known = tuple[RowValues | None, RowValues | None]
"""Of rows: log-probabilities under the reference, and what other objectives say; None where nobody asks."""


@dataclass(frozen=True)
class PairScores:
    """Of P pairs: log-probabilities of the trained tokens under the policy and the reference, nats, and how many those are;
    [P, 2] each, (chosen, rejected).  ref: None where no loss asks for it.  others: [P], what other objectives say of the
    chosen response above the rejected one; None where there are none."""

    policy: Tensor
    ref: Tensor | None
    tokens: Tensor
    others: Tensor | None = None

    @staticmethod
    def of(policy: PolicyModule, batch: TokenBatch, temperature: float = 1.0) -> PairScores:
        """batch: units of two sequences, (chosen, rejected), with `ref_logprobs` per sequence where a loss asks for it, and
        `others` per unit where there are other objectives."""
        tokens = segment_sum(batch.loss_mask.float(), batch.lengths).clamp(min=1)
        ref = batch.per_sequence.get("ref_logprobs")
        found = policy.sequence_logprobs(batch, temperature)
        ref = None if ref is None else ref.view(-1, 2)
        return PairScores(found.view(-1, 2), ref, tokens.view(-1, 2), batch.per_unit.get("others"))

    @property
    def mean(self) -> Tensor:
        """Log-probability per token under the policy."""
        return self.policy / self.tokens

    def log_ratio(self, per_token: bool) -> Tensor:
        """log policy - log reference, of the whole response or per token."""
        assert self.ref is not None, "a loss by ratios has a reference"
        ratio = self.policy - self.ref
        return ratio / self.tokens if per_token else ratio

    def own(self, beta_h: Tensor) -> Tensor:
        """[P]: of beta h, what is left for the criterion that the pairs are labelled by."""
        return beta_h if self.others is None else beta_h - self.others


def pair_losses(scores: PairScores, settings: PairLossSettings, p_chosen: Tensor) -> dict[str, Tensor]:
    """[P] each: the losses that the settings name, not weighted."""
    found: dict[str, Tensor] = {}
    h = own = torch.zeros(())
    if settings.needs_reference:
        chosen, rejected = scores.log_ratio(settings.logprobs == "mean").unbind(1)
        h = chosen - rejected
        own = scores.own(settings.beta * h)
    chosen_mean, rejected_mean = scores.mean.unbind(1)
    scale = 1 / settings.weight_of_pairs
    for name in settings.losses:
        match name:
            case "sigmoid":
                flipped = settings.label_smoothing
                found[name] = losses.dpo(own, beta=scale, label_smoothing=flipped, p_chosen=p_chosen)
            case "robust":
                flipped = settings.label_smoothing
                found[name] = losses.robust_dpo(own, beta=scale, flipped=flipped, p_chosen=p_chosen)
            case "ipo":
                found[name] = losses.ipo(h, beta=settings.beta, p_chosen=p_chosen)
            case "hinge":
                found[name] = losses.hinge(h, beta=settings.beta, p_chosen=p_chosen)
            case "orpo":
                found[name] = losses.odds_ratio(chosen_mean, rejected_mean, p_chosen)
            case "simpo":
                found[name] = losses.simpo(
                    chosen_mean, rejected_mean, beta=settings.beta, gamma=settings.gamma, p_chosen=p_chosen
                )
            case "sft":
                found[name] = -p_chosen * chosen_mean - (1 - p_chosen) * rejected_mean
    return found


def pair_metrics(scores: PairScores, settings: PairLossSettings, p_chosen: Tensor) -> dict[str, Tensor]:
    """[P] each, detached: TRL's metrics, and those that show whether the policy leaves the chosen responses, too."""
    if settings.needs_reference:
        rewards = settings.beta * scores.log_ratio(settings.logprobs == "mean").detach()
    else:
        rewards = settings.beta * scores.mean.detach()
    chosen, rejected = rewards.unbind(1)
    metrics = {
        "rewards/chosen": chosen,
        "rewards/rejected": rejected,
        "rewards/margins": chosen - rejected,
        "rewards/accuracies": agreement(scores.own(chosen - rejected), p_chosen),
        "logps/chosen": scores.policy[:, 0].detach(),
        "logps/rejected": scores.policy[:, 1].detach(),
        "nll_chosen": -scores.mean[:, 0].detach(),
    }
    if scores.others is not None:
        metrics["rewards/others"] = scores.others
    if scores.ref is not None:
        moved = scores.log_ratio(per_token=True).detach()
        metrics |= {
            "moved/chosen": moved[:, 0],
            "moved/rejected": moved[:, 1],
            "displaced": (moved[:, 0] < 0).to(moved.dtype),
        }
    return metrics


class Preference:
    """The algorithm: what the policy says of the chosen response above what it says of the rejected one."""

    def __init__(
        self,
        policy: PolicyModule,
        pairs: Sequence[PairTokens],
        settings: Settings,
        ref: RowValues | None = None,
        others: RowValues | None = None,
    ) -> None:
        self.trained: dict[str, nn.Module] = {"policy": policy}
        self._policy, self._pairs, self._settings = policy, pairs, settings
        self._known = (ref, others)

    def batches(self, step: int) -> Updates:
        """One batch of `batch_size` pairs, with the reference's log-probabilities."""
        rows = rows_for_step(len(self._pairs), self._settings.batch_size, step, self._settings.seed)
        yield [pairs_batch([self._pairs[row] for row in rows], rows, self._settings, *self._known)]

    def loss(self, batch: TokenBatch) -> Loss:
        """The losses by weight, each a mean over pairs."""
        settings, p_chosen = self._settings, batch.per_unit["p_chosen"]
        return pair_loss(PairScores.of(self._policy, batch), settings, p_chosen)


def pair_loss(scores: PairScores, settings: PairLossSettings, p_chosen: Tensor) -> Loss:
    """The losses by weight, and the metrics, as sums over pairs."""
    found = pair_losses(scores, settings, p_chosen)
    terms = {name: Term(value.sum(), "pairs", settings.losses[name]) for name, value in found.items()}
    metrics = pair_metrics(scores, settings, p_chosen)
    return Loss(terms, {name: Sum(value.sum(), "pairs") for name, value in metrics.items()})


def pairs_batch(
    pairs: Sequence[PairTokens],
    rows: Sequence[int],
    settings: Settings,
    ref: RowValues | None = None,
    others: RowValues | None = None,
) -> TokenBatch:
    """The pairs of these rows as they are learnt from, with what is known of them: `ref_logprobs` per sequence, `others` per
    unit."""
    batch = collate_pairs([trained_part(pair, settings) for pair in pairs], rows)
    if ref is not None:
        batch = replace(batch, per_sequence={"ref_logprobs": ref.of(rows)})
    return batch if others is None else replace(batch, per_unit={**batch.per_unit, "others": others.of(rows)})


def trained_part(pair: PairTokens, settings: Settings) -> PairTokens:
    """The pair with what is trained of it: with shared_prefix=mask from the first token in which its responses differ (Lai et
    al. 2024, arXiv 2406.18629: Step-DPO)."""
    if settings.shared_prefix == "keep":
        return pair
    shared = common_start(pair.chosen.ids, pair.rejected.ids)
    sides = (
        replace(side, loss_mask=side.loss_mask & (np.arange(len(side)) >= shared))
        for side in (pair.chosen, pair.rejected)
    )
    chosen, rejected = sides
    return replace(pair, chosen=chosen, rejected=rejected)


def explain(settings: PairLossSettings, console: Console) -> None:
    """Say what the preset has set and where that comes from."""
    for line in settings.told:
        console.print(line, markup=False, highlight=False)


def main(settings: Settings, world: World, run: Run) -> Path:
    """Train the policy; the result is in `model/` of the run folder.  Raises ValueError for unusable inputs."""
    explain(settings, run.console)
    start = result_folder(settings.model)
    run.input("model", start)
    tokenizer = load_tokenizer(start)
    policy = setup_for(settings, world).policy(start, tokenizer)
    judge = others(settings, tokenizer, world, run)
    pairs = prepare_pairs(settings, tokenizer, policy, run, keep_records=judge is not None)
    steps = steps_for(settings, len(pairs.train), run)

    def known(some: Sequence[PairTokens], rows: Rows, said: Sequence[Comparison], file: str) -> Known:
        ref = reference(policy, some, rows, settings, world, run) if settings.needs_reference else None
        return ref, differences(judge, said, rows, run, file) if judge else None

    visited = rows_until(len(pairs.train), settings.batch_size, steps, settings.seed)
    algorithm = Preference(
        policy, pairs.train, settings, *known(pairs.train, visited, pairs.trained, "others.npy")
    )
    both, place = mixed(algorithm, policy, tokenizer, settings, run, pairs.train.table.place)
    evaluation = None
    if held_out := pairs.held_out:
        there = known(held_out, range(len(held_out)), pairs.comparisons, "others_heldout.npy")

        def batches() -> Iterator[TokenBatch]:
            for part in held_out.parts():
                yield pairs_batch(held_out[part], range(part.start, part.stop), settings, *there)

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
    return export(run, policy, tokenizer, settings, world)


def reference(
    policy: PolicyModule,
    pairs: Sequence[PairTokens],
    rows: Rows,
    settings: Settings,
    world: World,
    run: Run,
) -> RowValues:
    """Log-probabilities of both responses of the rows' pairs, of what is trained of them, under the starting policy."""

    def both(row: int) -> tuple[Tokens, Tokens]:
        pair = trained_part(pairs[row], settings)
        return pair.chosen, pair.rejected

    return reference_logprobs(policy, both, rows, settings.micro_batch_tokens, world, run)
