"""The reward model: scalars on the last token, trained on comparisons (Bradley and Terry 1952; Ouyang et al. 2022, eq. 1).

    loss = - p log sigmoid(d - m) - (1 - p) log sigmoid(-d - m) + center_coef * (r_chosen + r_rejected)^2,
    d = r_chosen - r_rejected, m = margin_coef * margin (Touvron et al. 2023, arXiv 2307.09288, eq. 2)

or, in the place of the first two, the likelihood of a model of ties or of whole rankings (`ops/losses.py`).

After training, the mean and the standard deviation of the scores on a sample of the training responses are stored in
config.json, so that whoever uses the model can normalise its scores; the weights themselves stay as they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from tutelage.data.batch import TokenBatch
from tutelage.data.order import rows_for_step
from tutelage.data.reading.sources import shown
from tutelage.data.table import Examples
from tutelage.data.template import PairTokens
from tutelage.evals import reward_model as reward_model_figures
from tutelage.evals.card import card, page
from tutelage.evals.rows import Row, to_json
from tutelage.feedback.training import habits
from tutelage.feedback.training.source import is_store_source
from tutelage.files import write_jsonl_atomic, write_text_atomic
from tutelage.judges.assist.critique import read_critiques
from tutelage.judges.build import WORLD, build_judge
from tutelage.models.loading import load_tokenizer
from tutelage.models.passes import forward_pass
from tutelage.models.policy import ScalarModule
from tutelage.ops.losses import bradley_terry, plackett_luce
from tutelage.parallel import World
from tutelage.records import Comparison, place_json
from tutelage.runs import Run, result_folder
from tutelage.seeds import rng
from tutelage.settings.reward import RewardSettings as Settings
from tutelage.train import reward_card
from tutelage.train.algorithm import Loss, Sum, Term, Updates
from tutelage.train.anil import learn_steps, start_of
from tutelage.train.compared import (
    Compared,
    Differences,
    rankings,
    refuse_unranked,
    shares_responses,
)
from tutelage.train.critiqued import bare, with_critiques
from tutelage.train.fit import fit
from tutelage.train.members import Member, export_members, make_members, named, note_spread
from tutelage.train.ratings import learn_ratings
from tutelage.train.stage import (
    Pairs,
    agreement,
    collate_pairs,
    context_limit,
    named_groups,
    prepare_pairs,
    steps_for,
)
from tutelage.train.ties import Ties

TERMS = {
    "bradley-terry": "bradley_terry",
    "davidson": "davidson",
    "rao-kupper": "rao_kupper",
    "plackett-luce": "plackett_luce",
}
"""`loss` -> its name among the metrics."""

NORMALISATION_PAIRS = 512
"""So many pairs, drawn by seed, tell the scores' mean to a thirtieth of their standard deviation."""


class RewardModelling:
    """The algorithm: of a prompt's responses the preferred one is scored higher.

    The members of an ensemble are objectives of one update, each with its own batch: none learns anything from another.
    """

    def __init__(self, members: Sequence[Member], compared: Compared, settings: Settings) -> None:
        self._members = {member.name: member for member in members}
        self.trained: dict[str, nn.Module] = {}
        for member in members:
            self.trained[named("reward_model", member)] = member.model
            if member.ties is not None:
                self.trained[named("ties", member)] = member.ties
        self._compared, self._settings = compared, settings

    def batches(self, step: int) -> Updates:
        """One batch of `batch_size` units for each member."""
        yield [
            replace(self._batch(step, member.seed), objective=name) for name, member in self._members.items()
        ]

    def _batch(self, step: int, seed: int) -> TokenBatch:
        return self._compared.batch(rows_for_step(len(self._compared), self._settings.batch_size, step, seed))

    def loss(self, batch: TokenBatch) -> Loss:
        """The mean over units of the mean over their comparisons; all scores of a batch come from one forward pass."""
        settings, fields = self._settings, batch.per_unit
        member = self._members[batch.objective]
        scores = member.model(batch, at="ends")
        found = Differences.of(scores, batch)
        weight = fields["weight"] if settings.weighted else fields["share"]
        if settings.loss == "plackett-luce":
            losses = plackett_luce(*rankings(scores, batch))
        else:
            losses = (weight * self._losses(found.margins, batch, member.ties)).sum(1)
        centring = (weight * (found.chosen + found.rejected).square()).sum(1)
        terms = {
            TERMS[settings.loss]: Term(losses.sum(), "units"),
            "centring": Term(centring.sum(), "units", settings.center_coef),
        }
        margins = found.margins.detach()
        metrics = {
            "accuracy": agreement(margins, fields["p_chosen"]),
            "margin": margins,
            "mean_reward": ((found.chosen + found.rejected) / 2).detach(),
        }
        sums = {name: Sum((fields["share"] * value).sum(), "units") for name, value in metrics.items()}
        if member.ties is not None:
            sums["tie_strength"] = Sum(member.ties.strength.detach() * len(batch), "units")
        return Loss(terms, sums)

    def _losses(self, margins: Tensor, batch: TokenBatch, ties: Ties | None) -> Tensor:
        """[U, E]: of every comparison."""
        settings, p_chosen = self._settings, batch.per_unit["p_chosen"]
        smooth = p_chosen * (1 - settings.label_smoothing) + (1 - p_chosen) * settings.label_smoothing
        if ties is not None:
            return ties.loss(margins, smooth)
        margin = settings.margin_coef * batch.per_unit["margin"]
        return bradley_terry(margins, p_chosen=smooth, margin=margin)


def score_pairs(
    members: Sequence[Member], pairs: Sequence[PairTokens], settings: Settings, world: World
) -> np.ndarray:
    """float32 [M, P, 2, k]: by member, the scores of (chosen, rejected) by every head."""
    batch = collate_pairs(pairs, range(len(pairs))).to(world.device)

    def scored(model: ScalarModule) -> np.ndarray:
        def run(part: TokenBatch) -> Tensor:
            return model(part, at="ends")

        found = forward_pass(model, run, batch, "sequences", settings.micro_batch_tokens, world)
        return found.view(len(pairs), 2, -1).cpu().numpy()

    return np.stack([scored(member.model) for member in members])


def score_held_out(
    members: Sequence[Member], pairs: Examples[PairTokens], settings: Settings, world: World
) -> np.ndarray:
    """`score_pairs` for all of them, which need not be in memory."""
    return np.concatenate([score_pairs(members, pairs[part], settings, world) for part in pairs.parts()], 1)


def by_own_head(scores: np.ndarray, group: np.ndarray) -> np.ndarray:
    """[M, P, 2, k] -> [M, P, 2]: of every pair what the head of its group [P] says."""
    index = group.astype(np.int64)[None, :, None, None]
    return np.take_along_axis(scores, np.broadcast_to(index, (*scores.shape[:3], 1)), 3)[..., 0]


def normalise(
    member: Member, pairs: Sequence[PairTokens], settings: Settings, world: World, run: Run
) -> None:
    """`note_spread` on a fixed sample of the training responses."""
    sample = rng(settings.seed, "normalisation").permutation(len(pairs))[:NORMALISATION_PAIRS]
    found = score_pairs([member], [pairs[row] for row in sample], settings, world)
    note_spread(member.model, torch.from_numpy(found), run)


def compared_for(settings: Settings, pairs: Pairs, run: Run) -> Compared:
    """The training pairs in units, as `batch_by` says."""
    by = settings.batch_by
    if by == "auto":
        whole = settings.loss == "plackett-luce" or shares_responses(pairs.train)
        by = "prompts" if whole else "pairs"
    found = Compared(pairs.train, by)
    if by == "prompts":
        run.console.print(
            f"{len(pairs.train):,} pairs of {len(found):,} prompts: all pairs of a prompt are learnt from together, and "
            "batch_size counts prompts."
        )
    if settings.loss == "plackett-luce":
        refuse_unranked(found)
    return found


def main(settings: Settings, world: World, run: Run) -> Path:
    """Train the reward model; the result is in `model/` of the run folder.  Raises ValueError for unusable inputs."""
    start = result_folder(settings.model)
    run.input("model", start)
    if settings.previous:
        run.input("previous", result_folder(settings.previous))
    tokenizer = load_tokenizer(start)
    if settings.learn_from == "ratings":
        return learn_ratings(settings, start, tokenizer, world, run)
    settings = settings.model_copy(update={"groups": named_groups(settings)})
    if settings.adapts_by == "inner-steps":
        model = start_of(settings, start, tokenizer, world)
        return learn_steps(
            settings, model, tokenizer, prepare_pairs(settings, tokenizer, model, run), world, run
        )
    members = make_members(settings, start, tokenizer, world, dict.fromkeys(settings.groups, 1.0))
    for member in members:
        read_critiques(member.model, bool(settings.assistant))
    between = partial(with_critiques, settings, world, run) if settings.assistant else None
    pairs = prepare_pairs(settings, tokenizer, members[0].model, run, between=between)
    own = reward_card.of_the_policy(settings, run)
    compared = compared_for(settings, pairs, run)
    if (
        not is_store_source(settings.data)
        and not settings.margin_coef
        and pairs.train.table.numbers("margin").any()
    ):
        run.console.print("The data have margins, which margin_coef=0 leaves unused.")
    if (
        not settings.weighted
        and not is_store_source(settings.data)
        and np.ptp(pairs.train.table.numbers("weight"))
    ):
        run.console.print("The data have weights, which weighted=false leaves unused.")

    def evaluate() -> dict[str, float]:
        found = score_held_out(members, pairs.held_out, settings, world)
        scores = torch.from_numpy(by_own_head(found, pairs.held_out.table.numbers("group")).mean(0))
        p_chosen = torch.from_numpy(pairs.held_out.table.numbers("p_chosen").astype(np.float32))
        margins = scores[:, 0] - scores[:, 1]
        return {
            "eval_loss": bradley_terry(margins, p_chosen=p_chosen).mean().item(),
            "eval_accuracy": agreement(margins, p_chosen).mean().item(),
            "eval_margin": margins.mean().item(),
        }

    fit(
        RewardModelling(members, compared, settings),
        settings,
        world,
        run,
        steps=steps_for(settings, len(compared), run),
        tokenizer=tokenizer,
        evaluate=evaluate if pairs.held_out else None,
        best="max:eval_accuracy",
        place=pairs.train.table.place,
    )
    for member in members:
        normalise(member, pairs.train, settings, world, run)
    if pairs.held_out:
        report_held_out(members, tokenizer, pairs, own, run, settings, world)
    elif settings.previous or own:
        run.console.print(
            "No pairs are held out: there is no card, and nothing that previous or policy_data stand beside."
        )
    return export_members(run, members, tokenizer, settings, world)


def report_held_out(
    members: Sequence[Member],
    tokenizer: PreTrainedTokenizerBase,
    pairs: Pairs,
    own: Sequence[Comparison],
    run: Run,
    settings: Settings,
    world: World,
) -> None:
    """Write the card (results.json and card.md) and heldout_pairs.jsonl; `own` compares the policy's own responses."""
    found = score_held_out(members, pairs.held_out, settings, world)
    by_member = by_own_head(found, pairs.held_out.table.numbers("group"))
    scores = by_member.mean(0)
    models = [member.model for member in members]
    sample = reward_card.sample_of(pairs, settings)
    some = sample[:NORMALISATION_PAIRS]
    groups = np.array([pair.group for pair in some])
    again = by_own_head(score_pairs(members, some, settings, world), groups).mean(0)
    limit = context_limit(settings.max_length, models[0])
    judge = reward_card.InTraining(models, tokenizer, limit, settings.micro_batch_tokens, world)
    figures = card.evaluate(
        "reward",
        pairs.comparisons,
        scores,
        pairs.held_out.table.lengths.reshape(-1, 2),
        judge=judge,
        training=reward_card.training_of(sample, again, pairs, tokenizer),
        votes=reward_card.votes_on(pairs.comparisons, settings),
        seed=settings.seed,
    )
    graded = bare(pairs.comparisons) if settings.assistant else pairs.comparisons
    figures += reward_model_figures.ceiling("reward", graded, build_judge(WORLD))
    figures += reward_model_figures.by_project("reward", pairs.comparisons, scores)
    if len(by_member) > 1:
        figures += reward_model_figures.by_member("reward", pairs.comparisons, by_member)
    if settings.groups:
        by_group = reward_model_figures.by_group(
            "reward", pairs.comparisons, found.mean(0), list(settings.groups)
        )
        figures += by_group
        for sentence in reward_model_figures.opposed(by_group):
            run.console.print(sentence)
    if settings.previous:
        figures += _previous(pairs.comparisons, settings, world)
    figures += reward_card.on_the_policy(judge, own, run)
    run.write_json("results.json", to_json(figures))
    if run.leads:
        lines = (
            comparison.to_json()
            | place_json(comparison)
            | {"chosen_score": float(score[0]), "rejected_score": float(score[1])}
            for comparison, score in zip(pairs.comparisons, scores, strict=True)
        )
        write_jsonl_atomic(run.folder / "heldout_pairs.jsonl", lines)
        prompts = len({comparison.prompt.id for comparison in pairs.comparisons})
        said = page.markdown(figures, "reward", _trained_on(settings), prompts) + habits.markdown(pairs.told)
        write_text_atomic(run.folder / "card.md", said)
    for line in page.summary(figures, "reward"):
        run.console.print(line, markup=False)


def _trained_on(settings: Settings) -> str:
    """The data, and how votes in the store became the labels that are learnt from and measured against."""
    votes = f" (aggregation={settings.aggregation})" if is_store_source(settings.data) else ""
    return f"{shown(settings.data)}{votes}"


def _previous(comparisons: Sequence[Comparison], settings: Settings, world: World) -> list[Row]:
    """What the reward model of the round before makes of the same pairs."""
    judge = build_judge(settings.previous, world, max_tokens=settings.micro_batch_tokens)
    scores = reward_model_figures.scores_by(judge, comparisons)
    assert scores is not None, "a reward model applies to every prompt"
    return reward_model_figures.accuracies("reward", comparisons, scores, "accuracy_previous")
