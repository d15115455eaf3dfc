"""Linear heads of a reward model, and what is fitted to few comparisons in front of its body.

The score of a response is head . features, so that of a pair only the difference of its features [D] matters, and the body runs
once: everything behind it is logistic regression (`statistics/few_labels.py`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from rich.console import Console
from torch import nn
from transformers import PreTrainedTokenizerBase

from tutelage.data.preflight.report import check
from tutelage.data.preflight.responses import comparisons_of, prepare_comparisons
from tutelage.models.loading import heads_are_of, load_scalar, load_tokenizer
from tutelage.models.passes import forward_pass
from tutelage.models.policy import EncoderModule, ScalarModule
from tutelage.parallel import World
from tutelage.records import Comparison
from tutelage.runs import result_folder
from tutelage.settings.adapt import HeadSettings, Prior
from tutelage.statistics import Floats
from tutelage.statistics.few_labels import (
    Gaussian,
    best_mixture,
    by_steps,
    gaussian_of,
    most_probable,
)
from tutelage.train.stage import collate_pairs, context_limit


@dataclass(frozen=True)
class Labelled:
    """Comparisons in front of a body: `features` [n, 2, D] of the chosen and the rejected, and what was compared."""

    features: Floats
    comparisons: Sequence[Comparison]

    @property
    def differences(self) -> Floats:
        """[n, D]"""
        found: Floats = self.features[:, 0] - self.features[:, 1]
        return found

    @property
    def p(self) -> Floats:
        """[n]: the share of votes for the chosen one."""
        return np.array([one.p_chosen for one in self.comparisons], float)

    @property
    def prompts(self) -> list[str]:
        return [one.prompt.id for one in self.comparisons]

    def take(self, rows: Sequence[int]) -> Labelled:
        return Labelled(self.features[list(rows)], [self.comparisons[row] for row in rows])


@dataclass(frozen=True)
class Body:
    """A reward model with heads of groups, and how rows are read for it.  heads: [g, D]; steps: how many inner steps lead from
    its only head, and at which rate, where it was trained for them."""

    module: ScalarModule
    tokenizer: PreTrainedTokenizerBase
    heads: Floats
    world: World
    max_length: int
    max_tokens: int
    steps: tuple[int, float] | None = None

    @staticmethod
    def at(path: str, world: World, max_length: int, max_tokens: int) -> Body:
        """Raises ValueError for a model that has no heads of groups, or heads of another kind."""
        start = result_folder(path)
        module = load_scalar(start, device=world.device, fresh_head=False).requires_grad_(False)
        limit, steps = context_limit(max_length, module), steps_of(module)
        heads = heads_of(module, path, single=steps is not None)
        return Body(module, load_tokenizer(start), heads, world, limit, max_tokens, steps)

    def fitted(self, labels: Labelled, prior: Prior, settings: HeadSettings) -> Gaussian:
        """The new head and how sure it is; of mixtures and inner steps nothing is said of how sure (covariance 0).

        Raises ValueError for a prior that this model cannot give.
        """
        if (prior == "inner-steps") != (self.steps is not None):
            how = (
                "has heads of groups: take gaussian"
                if self.steps is None
                else "was trained for inner-steps: set that"
            )
            raise ValueError(f"prior={prior} is for another kind of model; this one {how}.")
        x, nothing = labels.differences, np.zeros((self.heads.shape[1],) * 2)
        if self.steps is not None:
            return Gaussian(by_steps(x, labels.p, self.heads[0], *self.steps), nothing)
        if prior == "mixture":
            return Gaussian(best_mixture(x, labels.p, self.heads) @ self.heads, nothing)
        return most_probable(x, labels.p, prior_of(self.heads, prior, settings))

    def read(
        self,
        rows: Iterable[Comparison],
        source: str,
        console: Console,
        max_dropped_share: float,
        cut_responses: Literal["keep", "drop"] = "keep",
    ) -> Labelled:
        """Let the body run over comparisons.  What cannot be used is told and left out; ValueError where that is too much."""
        prepared = prepare_comparisons(
            self.tokenizer,
            rows,
            max_length=self.max_length,
            cut_responses=cut_responses,
            keep_records=True,
            source=source,
            max_dropped_share=None,
            console=console,
        )
        if prepared.report.dropped:
            prepared.report.show(console)
            check([prepared.report], max_dropped_share)
        examples, kept = prepared.examples, comparisons_of(prepared)
        found = [np.zeros((0, 2, self.heads.shape[1]))]
        for part in examples.parts():
            some = examples[part]
            batch = collate_pairs(some, range(len(some))).to(self.world.device)
            run = self.module.features
            states = forward_pass(self.module, run, batch, "sequences", self.max_tokens, self.world)
            found.append(states.double().cpu().numpy().reshape(len(some), 2, -1))
        return Labelled(np.concatenate(found), [kept[row] for row in range(len(kept))])


def steps_of(module: ScalarModule) -> tuple[int, float] | None:
    """(inner steps, their rate) that a model was trained for; None: for none."""
    steps, rate = (getattr(module.config, f"tutelage_inner_{name}", None) for name in ("steps", "rate"))
    return None if steps is None or rate is None else (int(steps), float(rate))


def heads_of(module: ScalarModule, name: str, single: bool = False) -> Floats:
    """[g, D]: a head for each group, or a `single` one.  Raises ValueError for a model without, or with another kind of head."""
    if isinstance(module, EncoderModule):
        raise ValueError(
            f"model={name} is an encoder, whose head is more than one layer, and only the last layer is fitted to a group: train "
            "the groups' heads on a model that reads from left to right."
        )
    if heads_are_of(module) != "groups":
        raise ValueError(
            f"model={name} has a head for each criterion of ratings, not of a group: train one with a head for each group, as "
            "tutelage reward groups=each."
        )
    heads = module.head.weight.detach().double().cpu().numpy()
    if len(heads) < 2 and not single:
        raise ValueError(
            f"model={name} has one head, which says nothing of how groups differ: train one with a head for each, as tutelage "
            "reward groups=each."
        )
    return np.asarray(heads)


def prior_of(heads: Floats, prior: Prior, settings: HeadSettings) -> Gaussian:
    """The Gaussian that a new head is taken to be drawn from (also where it becomes a mixture, to measure how far it is off)."""
    shrinkage = 1.0 if prior == "ridge" else None if settings.shrinkage < 0 else settings.shrinkage
    found = gaussian_of(heads, shrinkage)
    return Gaussian(found.mean, found.covariance / settings.strength)


def set_head(module: ScalarModule, head: Floats) -> None:
    """Put one head [D] in the place of those of groups; a bias, which no pair tells anything of, becomes their mean."""
    host, before = module.host, module.head
    new = nn.Linear(before.in_features, 1, bias=before.bias is not None, dtype=before.weight.dtype)
    with torch.no_grad():
        new.weight.copy_(torch.from_numpy(head)[None])
        if before.bias is not None:
            new.bias.copy_(before.bias.mean()[None])
    host.score = new.to(before.weight.device).requires_grad_(before.weight.requires_grad)
    host.num_labels = host.config.num_labels = 1
    for said in ("tutelage_heads", "tutelage_head_weights"):
        if hasattr(host.config, said):
            delattr(host.config, said)
    forget_steps(module)


def forget_steps(module: ScalarModule) -> None:
    """What is trained or adapted in another way is not made for inner steps any more."""
    for name in ("tutelage_inner_steps", "tutelage_inner_rate"):
        if hasattr(module.config, name):
            delattr(module.config, name)
