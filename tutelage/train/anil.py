"""A head from which a few gradient steps lead to any group's: ANIL (Raghu et al. 2020, arXiv 1909.09157; Finn et al. 2017,
arXiv 1703.03400, with the inner loop on the head alone).

A task is a group, `task_pairs` of its pairs, some as support and the others as query.  From the shared head w_0

    w_{i+1} = w_i - rate * gradient of the support's mean Bradley-Terry loss,     i < inner_steps
    loss    = mean over tasks of the query's mean Bradley-Terry loss at the last w

and the gradient goes through the inner steps, exactly: into w_0, the body (whose features do not change in them) and the rate.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from tutelage.data.batch import TokenBatch
from tutelage.data.table import Examples
from tutelage.data.template import PairTokens
from tutelage.evals.rows import OVERALL, Row, to_json
from tutelage.models.loading import heads_at, set_pooling
from tutelage.models.passes import forward_pass
from tutelage.models.policy import ScalarModule
from tutelage.models.sharding import whole_weight
from tutelage.ops.losses import bradley_terry
from tutelage.parallel import World
from tutelage.runs import Run
from tutelage.seeds import rng
from tutelage.settings.reward import RewardSettings as Settings
from tutelage.statistics import Floats, correct
from tutelage.statistics.few_labels import by_steps
from tutelage.train.algorithm import Loss, Sum, Term, Updates
from tutelage.train.fit import fit
from tutelage.train.heads import heads_of, set_head
from tutelage.train.members import note_spread
from tutelage.train.stage import Pairs, agreement, collate_pairs, export, setup_for, steps_for

NORMALISED = 512
"""Pairs on which the spread of the scores is measured."""


class InnerRate(nn.Module):
    """The rate of the inner steps, which is learnt, too, in logarithms."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.log = nn.Parameter(torch.tensor(rate).log())

    @property
    def rate(self) -> Tensor:
        return self.log.exp()


def inner(start: Tensor, differences: Tensor, p: Tensor, support: Tensor, rate: Tensor, steps: int) -> Tensor:
    """[U, D]: the heads of U tasks after so many steps from `start` [D]; differentiable in all of it.

    differences: [U, E, D] of pairs; p: [U, E] share of votes for the first; support: [U, E], 1 where a pair is of the support.
    """
    share = support / support.sum(1, keepdim=True)
    head = start.expand(len(differences), -1)
    for _ in range(steps):
        margins = (differences * head[:, None]).sum(-1)
        head = head + rate * (((p - margins.sigmoid()) * share)[..., None] * differences).sum(1)
    return head


class Anil:
    """The algorithm."""

    def __init__(
        self, model: ScalarModule, pairs: Examples[PairTokens], settings: Settings, rate: InnerRate
    ) -> None:
        self.trained: dict[str, nn.Module] = {"reward_model": model, "inner": rate}
        self._model, self._rate, self._pairs, self._settings = model, rate, pairs, settings
        group = pairs.table.numbers("group")
        self._rows = [np.flatnonzero(group == number) for number in np.unique(group)]

    def batches(self, step: int) -> Updates:
        """`batch_size` pairs, in tasks of `task_pairs`; a unit is a task."""
        settings, tasks, supports = self._settings, list[int](), list[int]()
        size = settings.task_pairs
        for number in range(max(1, settings.batch_size // size)):
            draw = rng(settings.seed, "task", step, number)
            rows = self._rows[int(draw.integers(len(self._rows)))]
            tasks += draw.choice(rows, size, replace=len(rows) < size).tolist()
            supports.append(int(draw.integers(size // 4, size - size // 4 + 1)))
        yield [task_batch([self._pairs[row] for row in tasks], tasks, supports)]

    def loss(self, batch: TokenBatch) -> Loss:
        """The mean over tasks of their query's loss."""
        p, support = batch.per_unit["p_chosen"], batch.per_unit["support"]
        features = self._model.features(batch)
        differences = (features[::2] - features[1::2]).view(*p.shape, -1)
        steps, rate = self._settings.inner_steps, self._rate.rate
        start = self._model.head.weight[0].float()
        head = inner(start, differences, p, support, rate, steps)
        margins = (differences * head[:, None]).sum(-1)
        query = (1 - support) / (1 - support).sum(1, keepdim=True)
        losses = (bradley_terry(margins, p_chosen=p) * query).sum(1)
        found = (agreement(margins, p) * query).sum(1)
        metrics = {
            "accuracy": Sum(found.sum(), "units"),
            "inner_rate": Sum(rate.detach() * len(losses), "units"),
        }
        return Loss({"bradley_terry": Term(losses.sum(), "units")}, metrics)


def task_batch(pairs: Sequence[PairTokens], rows: Sequence[int], supports: Sequence[int]) -> TokenBatch:
    """Tasks of equally many pairs as units.  Per unit: `p_chosen` float32 [U, E]; `support` float32 [U, E], 1 for the first so
    many of each (`supports`)."""
    batch, tasks = collate_pairs(pairs, rows), len(supports)
    each = len(pairs) // tasks
    support = (torch.arange(each) < torch.tensor(supports)[:, None]).float()
    fields = {"p_chosen": batch.per_unit["p_chosen"].view(tasks, each), "support": support}
    return replace(batch, unit_sizes=(2 * each,) * tasks, per_unit=fields)


def start_of(
    settings: Settings, start: str, tokenizer: PreTrainedTokenizerBase, world: World
) -> ScalarModule:
    """The model to train: where `start` has heads of groups, their mean is the shared head."""
    heads = heads_at(start) or 1
    prepare = (
        (lambda model: set_head(model, heads_of(model, start).mean(0))) if heads > 1 else lambda model: None
    )
    model = setup_for(settings, world).scalar(start, tokenizer, heads, prepare)
    set_pooling(model, settings.pooling)
    return model


def learn_steps(
    settings: Settings,
    model: ScalarModule,
    tokenizer: PreTrainedTokenizerBase,
    pairs: Pairs,
    world: World,
    run: Run,
) -> Path:
    """Train, measure and export, as `reward.main` does.  The config of the model says how many inner steps, at which rate."""
    rate = InnerRate(settings.inner_rate).to(world.device)

    def measured() -> tuple[float, int]:
        return _adapted(model, pairs.held_out, rate.rate.item(), settings, world)

    fit(
        Anil(model, pairs.train, settings, rate),
        settings,
        world,
        run,
        steps=steps_for(settings, len(pairs.train), run),
        tokenizer=tokenizer,
        evaluate=(lambda: {"eval_accuracy": measured()[0]}) if pairs.held_out else None,
        best="max:eval_accuracy",
        place=pairs.train.table.place,
    )
    model.config.tutelage_inner_steps = settings.inner_steps
    model.config.tutelage_inner_rate = rate.rate.item()
    sample = rng(settings.seed, "normalisation").permutation(len(pairs.train))[:NORMALISED]
    head = whole_weight(model, model.head).double().cpu().numpy()[0]
    seen = features_of(model, [pairs.train[row] for row in sample], settings, world)
    note_spread(model, torch.from_numpy(seen @ head)[..., None], run)
    if pairs.held_out:
        value, n = measured()
        run.write_json(
            "results.json", to_json([Row("reward", "accuracy_adapted", OVERALL, value, n=n, unit="share")])
        )
        run.console.print(
            f"Held-out accuracy after inner steps on half of each group's pairs: {value:.3f} on {n} pairs."
        )
    return export(run, model, tokenizer, settings, world)


def features_of(model: ScalarModule, pairs: Sequence[PairTokens], settings: Settings, world: World) -> Floats:
    """[n, 2, D]: of the chosen and the rejected."""
    batch = collate_pairs(pairs, range(len(pairs))).to(world.device)
    found = forward_pass(model, model.features, batch, "sequences", settings.micro_batch_tokens, world)
    return np.asarray(found.double().cpu().numpy().reshape(len(pairs), 2, -1))


def _adapted(
    model: ScalarModule, held_out: Examples[PairTokens], rate: float, settings: Settings, world: World
) -> tuple[float, int]:
    """(accuracy, pairs): every group's head is adapted to the first half of its held-out pairs and measured on the others."""
    pairs = [held_out[row] for row in range(len(held_out))]
    features = features_of(model, pairs, settings, world)
    differences, p = features[:, 0] - features[:, 1], np.array([pair.p_chosen for pair in pairs])
    group = np.array([pair.group for pair in pairs])
    start = whole_weight(model, model.head).double().cpu().numpy()[0]
    right: list[float] = []
    for number in np.unique(group):
        rows = np.flatnonzero(group == number)
        few, rest = np.split(rows, [len(rows) // 2])
        head = by_steps(differences[few], p[few], start, settings.inner_steps, rate)
        right += correct(differences[rest] @ head, p[rest]).tolist()
    return float(np.mean(right)), len(right)
