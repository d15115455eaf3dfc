"""The reward model: a scalar on the last token, trained on comparisons (Bradley and Terry 1952; Ouyang et al. 2022, eq. 1).

    loss = - p log sigmoid(d - m) - (1 - p) log sigmoid(-d - m) + center_coef * (r_chosen + r_rejected)^2,
    d = r_chosen - r_rejected, m = margin_coef * margin (Touvron et al. 2023, arXiv 2307.09288, eq. 2)

After training, the mean and the standard deviation of the scores on a sample of the training responses are stored in
config.json, so that whoever uses the model can normalise its scores; the weights themselves stay as they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import nn
from transformers import PreTrainedTokenizerBase

from tutelage.data.batch import TokenBatch
from tutelage.data.order import rows_for_step
from tutelage.data.table import Examples
from tutelage.data.template import PairTokens
from tutelage.evals import reward_model as reward_model_figures
from tutelage.evals.card import card, page
from tutelage.evals.rows import Row, to_json
from tutelage.feedback.training.source import is_store_source
from tutelage.files import write_jsonl_atomic, write_text_atomic
from tutelage.judges.build import WORLD, build_judge
from tutelage.models.loading import load_tokenizer, set_score_normalisation
from tutelage.models.passes import forward_pass
from tutelage.models.policy import ScalarModule
from tutelage.ops.losses import bradley_terry
from tutelage.parallel import World
from tutelage.records import Comparison, place_json
from tutelage.runs import Run, result_folder
from tutelage.seeds import rng
from tutelage.settings.train import RewardSettings as Settings
from tutelage.train import reward_card
from tutelage.train.algorithm import Loss, Sum, Term, Updates
from tutelage.train.fit import fit
from tutelage.train.stage import (
    Pairs,
    agreement,
    collate_pairs,
    context_limit,
    export,
    prepare_pairs,
    setup_for,
    steps_for,
)

NORMALISATION_PAIRS = 512
"""So many pairs, drawn by seed, tell the scores' mean to a thirtieth of their standard deviation."""


class RewardModelling:
    """The algorithm: pairs of a prompt's responses, the preferred one scored higher."""

    def __init__(self, model: ScalarModule, pairs: Sequence[PairTokens], settings: Settings) -> None:
        self.trained: dict[str, nn.Module] = {"reward_model": model}
        self._model, self._pairs, self._settings = model, pairs, settings

    def batches(self, step: int) -> Updates:
        """One batch of `batch_size` pairs."""
        rows = rows_for_step(len(self._pairs), self._settings.batch_size, step, self._settings.seed)
        yield [collate_pairs([self._pairs[row] for row in rows], rows)]

    def loss(self, batch: TokenBatch) -> Loss:
        """Bradley-Terry loss, a mean over pairs; all scores of a batch come from one forward pass."""
        settings, p_chosen = self._settings, batch.per_unit["p_chosen"]
        chosen, rejected = self._model(batch, at="ends").view(-1, 2).unbind(1)
        smooth = p_chosen * (1 - settings.label_smoothing) + (1 - p_chosen) * settings.label_smoothing
        margin = settings.margin_coef * batch.per_unit["margin"]
        losses = bradley_terry(chosen - rejected, p_chosen=smooth, margin=margin)
        centring = (chosen + rejected).square()
        terms = {
            "bradley_terry": Term(losses.sum(), "pairs"),
            "centring": Term(centring.sum(), "pairs", settings.center_coef),
        }
        margins = (chosen - rejected).detach()
        metrics = {
            "accuracy": agreement(margins, p_chosen),
            "margin": margins,
            "mean_reward": ((chosen + rejected) / 2).detach(),
        }
        return Loss(terms, {name: Sum(value.sum(), "pairs") for name, value in metrics.items()})


def score_pairs(
    model: ScalarModule, pairs: Sequence[PairTokens], settings: Settings, world: World
) -> np.ndarray:
    """float32 [P, 2]: the scores of (chosen, rejected)."""
    batch = collate_pairs(pairs, range(len(pairs))).to(world.device)
    limit = settings.micro_batch_tokens
    scores = forward_pass(model, lambda part: model(part, at="ends"), batch, "sequences", limit, world)
    return scores.view(-1, 2).cpu().numpy()


def score_held_out(
    model: ScalarModule, pairs: Examples[PairTokens], settings: Settings, world: World
) -> np.ndarray:
    """`score_pairs` for all of them, which need not be in memory."""
    return np.concatenate([score_pairs(model, pairs[part], settings, world) for part in pairs.parts()])


def normalise(
    model: ScalarModule, pairs: Sequence[PairTokens], settings: Settings, world: World, run: Run
) -> None:
    """Store mean and standard deviation of the scores of a fixed sample of the training responses in the model's config."""
    sample = rng(settings.seed, "normalisation").permutation(len(pairs))[:NORMALISATION_PAIRS]
    scores = score_pairs(model, [pairs[row] for row in sample], settings, world)
    spread = float(scores.std())
    if spread == 0:
        run.console.print(
            "Warning: the reward model gives every response the same score; it has learnt nothing."
        )
    set_score_normalisation(model, float(scores.mean()), spread or 1.0)


def main(settings: Settings, world: World, run: Run) -> Path:
    """Train the reward model; the result is in `model/` of the run folder.  Raises ValueError for unusable inputs."""
    start = result_folder(settings.model)
    run.input("model", start)
    if settings.previous:
        run.input("previous", result_folder(settings.previous))
    tokenizer = load_tokenizer(start)
    model = setup_for(settings, world).scalar(start, tokenizer)
    pairs = prepare_pairs(settings, tokenizer, model, run)
    if (
        not is_store_source(settings.data)
        and not settings.margin_coef
        and pairs.train.table.numbers("margin").any()
    ):
        run.console.print("The data have margins, which margin_coef=0 leaves unused.")

    def evaluate() -> dict[str, float]:
        scores = torch.from_numpy(score_held_out(model, pairs.held_out, settings, world))
        p_chosen = torch.from_numpy(pairs.held_out.table.numbers("p_chosen").astype(np.float32))
        margins = scores[:, 0] - scores[:, 1]
        return {
            "eval_loss": bradley_terry(margins, p_chosen=p_chosen).mean().item(),
            "eval_accuracy": agreement(margins, p_chosen).mean().item(),
            "eval_margin": margins.mean().item(),
        }

    fit(
        RewardModelling(model, pairs.train, settings),
        settings,
        world,
        run,
        steps=steps_for(settings, len(pairs.train), run),
        tokenizer=tokenizer,
        evaluate=evaluate if pairs.held_out else None,
        best="max:eval_accuracy",
        place=pairs.train.table.place,
    )
    normalise(model, pairs.train, settings, world, run)
    if pairs.held_out:
        report_held_out(model, tokenizer, pairs, run, settings, world)
    elif settings.previous:
        run.console.print("No pairs are held out, so that there is nothing to compare `previous` on.")
    return export(run, model, tokenizer, settings)


def report_held_out(
    model: ScalarModule,
    tokenizer: PreTrainedTokenizerBase,
    pairs: Pairs,
    run: Run,
    settings: Settings,
    world: World,
) -> None:
    """Write the card (results.json and card.md) and heldout_pairs.jsonl."""
    scores = score_held_out(model, pairs.held_out, settings, world)
    sample = reward_card.sample_of(pairs, settings)
    again = score_pairs(model, sample[:NORMALISATION_PAIRS], settings, world)
    limit = context_limit(settings.max_length, model)
    figures = card.evaluate(
        "reward",
        pairs.comparisons,
        scores,
        pairs.held_out.table.lengths.reshape(-1, 2),
        judge=reward_card.InTraining(model, tokenizer, limit, settings.micro_batch_tokens, world),
        training=reward_card.training_of(sample, again, pairs, tokenizer),
        votes=reward_card.votes_on(pairs.comparisons, settings),
        seed=settings.seed,
    )
    figures += reward_model_figures.ceiling("reward", pairs.comparisons, build_judge(WORLD))
    figures += reward_model_figures.by_project("reward", pairs.comparisons, scores)
    if settings.previous:
        figures += _previous(pairs.comparisons, settings, world)
    run.write_json("results.json", to_json(figures))
    if run.leads:
        lines = (
            comparison.to_json()
            | place_json(comparison)
            | {"chosen_score": float(score[0]), "rejected_score": float(score[1])}
            for comparison, score in zip(pairs.comparisons, scores, strict=True)
        )
        write_jsonl_atomic(run.folder / "heldout_pairs.jsonl", lines)
        write_text_atomic(run.folder / "card.md", page.markdown(figures, "reward", settings.data))
    for line in page.summary(figures, "reward"):
        run.console.print(line, markup=False)


def _previous(comparisons: Sequence[Comparison], settings: Settings, world: World) -> list[Row]:
    """What the reward model of the round before makes of the same pairs."""
    judge = build_judge(settings.previous, world, max_tokens=settings.micro_batch_tokens)
    scores = reward_model_figures.scores_by(judge, comparisons)
    assert scores is not None, "a reward model applies to every prompt"
    return reward_model_figures.accuracies("reward", comparisons, scores, "accuracy_previous")
