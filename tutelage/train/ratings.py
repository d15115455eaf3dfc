"""A reward model from ratings: regression, a head for each criterion.

    loss = mean over the criteria that a response is rated by of (score - z)^2

z: the rating in standard deviations of whoever gave it, because people use a scale differently (one gives 4 to 5, another 1 to
3).  What an annotator of fewer than FEW ratings, or of always the same, means by a number is not known: those are put beside
the ratings of everybody.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from tutelage import statistics
from tutelage.data.batch import TokenBatch, Tokens
from tutelage.data.order import rows_for_step
from tutelage.data.preflight.responses import ANNOTATOR, PROMPT, prepare_ratings
from tutelage.data.reading.formats import read_ratings
from tutelage.data.reading.sources import shown
from tutelage.data.table import Examples
from tutelage.evals.rows import OVERALL, Row, row, to_json
from tutelage.feedback.exports.singles import ratings_from
from tutelage.feedback.training.source import is_store_source
from tutelage.models.passes import forward_pass
from tutelage.parallel import World
from tutelage.records import Rating
from tutelage.runs import Run
from tutelage.seeds import rng
from tutelage.settings.reward import RewardSettings as Settings
from tutelage.train.algorithm import Loss, Sum, Term, Updates
from tutelage.train.fit import fit
from tutelage.train.members import Member, export_members, make_members, named, note_spread
from tutelage.train.stage import context_limit, hold_out, read_rows, show_sides, steps_for

FEW = 5
"""Ratings of an annotator by one criterion from which on their own mean and spread count."""

SAMPLE = 1024
"""Responses on which the spread of the scores is measured."""

SIDES = 10_000
"""Pairs of responses to one prompt that are looked at, drawn by seed where there are more."""


@dataclass(frozen=True)
class Rated:
    """Rated responses: `examples`, and what is to be learnt, float32 [n, k], NaN where a criterion was not rated."""

    examples: Examples[Tokens]
    targets: np.ndarray


@dataclass(frozen=True)
class Scale:
    """What ratings are brought to mean 0 and standard deviation 1 by: for each criterion the numbers of everybody, and of
    annotators by themselves."""

    everybody: Sequence[tuple[float, float]]
    own: dict[tuple[int, int], tuple[float, float]]

    def __call__(self, ratings: np.ndarray, annotators: np.ndarray) -> np.ndarray:
        """float32 [n, k]."""
        found = np.empty_like(ratings)
        for c, everybody in enumerate(self.everybody):
            numbers = np.array(
                [self.own.get((c, who), everybody) for who in annotators.astype(np.int64).tolist()]
            )
            found[:, c] = (ratings[:, c] - numbers[:, 0]) / numbers[:, 1]
        return found.astype(np.float32)


def scale_of(ratings: np.ndarray, annotators: np.ndarray, how: str) -> Scale:
    """ratings: [n, k], NaN where not rated.  how: as `standardise`."""
    k = ratings.shape[1]
    if how == "none":
        return Scale([(0.0, 1.0)] * k, {})
    everybody = [_moments(ratings[:, c]) or (0.0, 1.0) for c in range(k)]
    if how == "all":
        return Scale(everybody, {})
    own = {}
    for who in np.unique(annotators):
        for c in range(k):
            mine = ratings[annotators == who, c]
            moments = _moments(mine) if np.isfinite(mine).sum() >= FEW else None
            if moments is not None:
                own[c, int(who)] = moments
    return Scale(everybody, own)


def _moments(values: np.ndarray) -> tuple[float, float] | None:
    """(mean, standard deviation) of what is a number; None where all are alike."""
    values = values[np.isfinite(values)]
    return (float(values.mean()), float(values.std())) if len(values) and values.std() > 0 else None


class RatingRegression:
    """The algorithm: the score of each criterion near its rating."""

    def __init__(self, members: Sequence[Member], rated: Rated, settings: Settings) -> None:
        self._members = {member.name: member for member in members}
        self.trained: dict[str, nn.Module] = {
            named("reward_model", member): member.model for member in members
        }
        self._rated, self._settings = rated, settings

    def batches(self, step: int) -> Updates:
        """One batch of `batch_size` responses for each member."""
        yield [
            replace(self._batch(step, member.seed), objective=name) for name, member in self._members.items()
        ]

    def _batch(self, step: int, seed: int) -> TokenBatch:
        rows = rows_for_step(len(self._rated.examples), self._settings.batch_size, step, seed)
        batch = TokenBatch.collate([self._rated.examples[row] for row in rows], rows)
        return replace(batch, per_sequence={"ratings": torch.from_numpy(self._rated.targets[rows])})

    def loss(self, batch: TokenBatch) -> Loss:
        """The mean over responses of the mean over the criteria they are rated by."""
        targets = batch.per_sequence["ratings"]
        scores = self._members[batch.objective].model(batch, at="ends").view(len(batch.lengths), -1)
        there = torch.isfinite(targets)
        errors = torch.where(there, scores - targets.nan_to_num(), 0.0).square().sum(1) / there.sum(1)
        mean = scores.detach().mean(1)
        return Loss(
            {"squared_error": Term(errors.sum(), "sequences")}, {"mean_reward": Sum(mean.sum(), "sequences")}
        )


def learn_ratings(
    settings: Settings, start: str, tokenizer: PreTrainedTokenizerBase, world: World, run: Run
) -> Path:
    """Train reward models on ratings, as `reward.main` does on comparisons."""
    train, held_out, left_out = _read(settings, run)
    criteria = settings.criteria or dict.fromkeys(criteria_of(train, held_out), 1.0)
    heads = criteria if len(criteria) > 1 else {}
    members = make_members(settings, start, tokenizer, world, heads, "criteria")

    limit = context_limit(settings.max_length, members[0].model)
    prepared, kept_ones = (
        prepare_ratings(
            tokenizer,
            rows,
            max_length=limit,
            criteria=list(criteria),
            cut_responses=settings.cut_responses,
            source=shown(source),
            max_dropped_share=None,
            console=run.console,
        )
        for rows, source in ((train, settings.data), (held_out, settings.eval_data or settings.data))
    )
    show_sides(prepared, kept_ones, run, settings.max_dropped_share, left_out)
    examples = (prepared.examples, kept_ones.examples)
    ratings = [_columns(some, list(criteria)) for some in examples]
    scale = scale_of(*ratings[0], settings.standardise)
    rated, kept = (Rated(some, scale(*own)) for some, own in zip(examples, ratings, strict=True))

    def evaluate() -> dict[str, float]:
        scores = _scored(members, kept.examples, settings, world)
        there = np.isfinite(kept.targets)
        errors = np.where(there, scores - np.nan_to_num(kept.targets), 0) ** 2
        return {"eval_loss": float((errors.sum(1) / there.sum(1)).mean())}

    fit(
        RatingRegression(members, rated, settings),
        settings,
        world,
        run,
        steps=steps_for(settings, len(rated.examples), run),
        tokenizer=tokenizer,
        evaluate=evaluate if len(kept.examples) else None,
        place=rated.examples.table.place,
    )
    sample = rng(settings.seed, "normalisation").permutation(len(rated.examples))[:SAMPLE]
    for member in members:
        batch = TokenBatch.collate([rated.examples[row] for row in sample])
        note_spread(member.model, torch.from_numpy(_scores(member, batch, settings, world)), run)
    if len(kept.examples):
        _report(kept, _scored(members, kept.examples, settings, world), criteria, settings, run)
    return export_members(run, members, tokenizer, settings, world)


def _report(
    kept: Rated, scores: np.ndarray, criteria: Mapping[str, float], settings: Settings, run: Run
) -> None:
    """Write results.json about held-out ratings, and say how well they are ordered."""
    weights = torch.tensor(list(criteria.values()))
    found = figures(kept, scores, list(criteria), weights / weights.abs().sum(), settings.seed)
    run.write_json("results.json", to_json(found))
    for one in (one for one in found if one.metric == "rating_correlation"):
        run.console.print(sentence(one))


def sentence(one: Row) -> str:
    """A sentence about a criterion; where held-out ratings or scores are all alike there is no correlation."""
    on = f"on {one.n:,} response{'s' * (one.n != 1)}"
    if one.value is None:
        return f"Held-out ratings, {one.task}: no rank correlation {on}, of which ratings or scores are all alike."
    between = "" if one.low is None or one.high is None else f" [{one.low:.3f}, {one.high:.3f}]"
    return f"Held-out ratings, {one.task}: rank correlation {one.value:.3f}{between} {on}."


def _read(settings: Settings, run: Run) -> tuple[Iterable[Rating], Iterable[Rating], Mapping[str, int]]:
    """(ratings to train on, held-out ones, what of the store gives none)."""
    if not is_store_source(settings.data):
        return *read_rows(read_ratings, settings, run), {}
    found = ratings_from(settings.data, settings.store)
    run.input("data", settings.data, sha256=found.digest)
    return *hold_out(found.train, read_ratings, settings, run, found.held_out), found.left_out


def criteria_of(*sources: Iterable[Rating]) -> list[str]:
    """The names of all criteria, in the order in which they come.  Raises ValueError where there are none."""
    names = list(dict.fromkeys(name for rows in sources for row in rows for name in row.values))
    if not names:
        raise ValueError("no row has a rating: see docs/data.md for what ratings look like.")
    return names


def figures(
    kept: Rated, scores: np.ndarray, criteria: Sequence[str], weights: Tensor, seed: int
) -> list[Row]:
    """Rows for held-out ratings; scores: [n, k].

    By criterion, which is the row's task: `rating_correlation` (Spearman's, with a bootstrap over prompts) and
    `rating_explained` (1 - squared error / variance of the ratings).  `accuracy`: of pairs of responses to one prompt whose
    ratings, all criteria by weight, differ, the share that the scores order alike.
    """
    table = kept.examples.table
    prompts = table.numbers(PROMPT)
    rows = []
    for c, name in enumerate(criteria):
        there = np.isfinite(kept.targets[:, c])
        rated, said = kept.targets[there, c], scores[there, c]
        if len(rated) < 2 or rated.std() == 0:
            continue
        found = statistics.rank_correlation(rated, said, prompts[there], seed=seed)
        rows.append(row("reward", "rating_correlation", name, found, "correlation"))
        explained = 1 - float(np.mean((rated - said) ** 2) / rated.var())
        rows.append(Row("reward", "rating_explained", name, explained, n=len(rated), unit="share"))
    w = weights.numpy()
    rated, said = np.nan_to_num(kept.targets) @ w, scores @ w
    pairs = [
        pair
        for prompt in np.unique(prompts)
        for pair in combinations(np.flatnonzero(prompts == prompt).tolist(), 2)
        if rated[pair[0]] != rated[pair[1]]
    ]
    if pairs:
        chosen = rng(seed, "pairs").permutation(len(pairs))[:SIDES]
        one, other = np.array(pairs)[chosen].T
        right = statistics.correct(
            (said[one] - said[other]) * np.sign(rated[one] - rated[other]), np.ones(len(one))
        )
        found = statistics.bootstrap_mean(right, prompts[one].tolist(), rate=True)
        rows.append(row("reward", "accuracy", OVERALL, found, "share"))
    return rows


def _columns(examples: Examples[Tokens], criteria: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """(ratings [n, k], annotators [n])."""
    table = examples.table
    return np.stack([table.numbers(name) for name in criteria], 1), table.numbers(ANNOTATOR)


def _scored(
    members: Sequence[Member], examples: Examples[Tokens], settings: Settings, world: World
) -> np.ndarray:
    """float32 [n, k]: the mean over members; the examples need not all be in memory."""
    parts = [
        np.mean(
            [_scores(member, TokenBatch.collate(examples[part]), settings, world) for member in members], 0
        )
        for part in examples.parts()
    ]
    return np.concatenate(parts)


def _scores(member: Member, batch: TokenBatch, settings: Settings, world: World) -> np.ndarray:
    """float32 [B, k]."""
    batch = batch.to(world.device)

    def run(part: TokenBatch) -> Tensor:
        return member.model(part, at="ends")

    found = forward_pass(member.model, run, batch, "sequences", settings.micro_batch_tokens, world)
    return found.view(len(batch.lengths), -1).cpu().numpy()
