"""A policy that practises answering learns to answer exactly where it pays, in a world where the chance to be right is known.

Nine kinds of questions, of which the share p = .1, .2, ... .9 has "yes" for an answer; which of a kind these are nobody can
tell.  A table says how likely "yes" and "I do not know" are for each kind: 2^9 policies that do not hesitate, of which the best
is found by trying all of them.  Judge, rollouts, advantages, loss and loop are those of every run.
"""

from __future__ import annotations

import itertools
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.train.making import CPU, make_tokenizer
from tutelage.judges.build import build_judge
from tutelage.models.forward import Traits
from tutelage.models.layout import Layout
from tutelage.models.policy import PolicyModule
from tutelage.records import Prompt, Response
from tutelage.rollout.experience import Rollouts
from tutelage.rollout.generator import Sampling
from tutelage.runs import Run
from tutelage.seeds import rng
from tutelage.settings.rl import ReinforceSettings
from tutelage.train.fit import fit
from tutelage.train.reinforce import Reinforce

CHANCES = tuple(round(0.1 * k, 1) for k in range(1, 10))
SAYS = ("Yes.", "I do not know.")
OF_A_KIND = 10
PROMPTS = [
    Prompt(
        f"{kind} {n}", reference={"answers": ["yes" if n < p * OF_A_KIND else "no"], "options": ["yes", "no"]}
    )
    for kind, p in enumerate(CHANCES)
    for n in range(OF_A_KIND)
]


def kind_of(prompt: Prompt) -> int:
    return int(str(prompt.content).split()[0])


class Kinds(nn.Module):
    """A linear head on the one-hot kind of a question, which is the first token of a row: logits of the two answers."""

    def __init__(self, odds: float) -> None:
        super().__init__()
        self.score = nn.Linear(len(CHANCES), len(SAYS), bias=False)
        answering = torch.tensor([[math.log(odds)], [0.0]])
        self.score.weight = nn.Parameter(answering.repeat(1, len(CHANCES)))
        self.config = SimpleNamespace()

    def get_output_embeddings(self) -> nn.Linear:
        return self.score

    def base_model(self, input_ids: Tensor, tutelage_layout: Layout, **_: Any) -> SimpleNamespace:
        layout, ids = tutelage_layout, input_ids[0]
        whole = ids if layout.place is None else ids[layout.place]
        kinds = torch.cat([row[:1].expand(len(row)) for row in whole.split(layout.lengths)])
        hidden = nn.functional.one_hot(kinds, len(CHANCES)).float()
        return SimpleNamespace(last_hidden_state=hidden[layout.kept][None])

    def answering(self) -> Tensor:
        """[9]: the probability of answering."""
        return torch.softmax(self.score.weight.detach(), 0)[0]


class Draws:
    """Draws one of the two answers to each prompt, by inverse CDF."""

    def sync(self, policy: PolicyModule, version: int) -> None:
        self._host = policy.host

    def generate(self, prompts: list[Prompt], sampling: Sampling) -> list[Response]:
        asked = [prompt for prompt in prompts for _ in range(sampling.samples)]
        answering = self._host.answering()  # type: ignore[operator]
        uniforms = rng(sampling.seed, "kinds", sampling.step).random(len(asked))
        return [self._response(prompt, answering, u) for prompt, u in zip(asked, uniforms, strict=True)]

    def _response(self, prompt: Prompt, answering: Tensor, uniform: float) -> Response:
        kind = kind_of(prompt)
        said = int(uniform >= answering[kind])
        p = answering[kind] if said == 0 else 1 - answering[kind]
        return Response(prompt, SAYS[said], (kind,), (said,), (float(p.log()),), "eos")


def best_policy(cost: float) -> tuple[bool, ...]:
    """Which kinds the best of all 2^9 policies answers, by the score of the judge over all questions."""
    judge = build_judge([{"judge": "verify:honesty", "cost": cost}])
    worth = np.zeros((len(CHANCES), 2))
    for prompt in PROMPTS:
        scores = judge.score([Response.written(prompt, text) for text in SAYS])
        worth[kind_of(prompt)] += [score.value for score in scores if score is not None]
    policies = list(itertools.product((True, False), repeat=len(CHANCES)))
    totals = [sum(worth[k, int(not answers)] for k, answers in enumerate(policy)) for policy in policies]
    return policies[int(np.argmax(totals))]


@pytest.mark.parametrize("cost", [0.5, 1, 2, 0])
def test_the_best_policy_answers_exactly_where_it_pays(cost: float) -> None:
    threshold = cost / (1 + cost)
    for p, answers in zip(CHANCES, best_policy(cost), strict=True):
        assert answers == (p > threshold) or p == pytest.approx(threshold)  # there both are worth the same


def practise(folder: Path, cost: float, odds: float = 1.0, steps: int = 40, **changes: Any) -> Tensor:
    """The probability of answering each kind after practice.  odds: of answering before it, and of the reference."""
    settings = ReinforceSettings(**{
        "prompts": "-", "batch_size": len(PROMPTS), "samples": 4, "max_new_tokens": 1, "learning_rate": 0.3, "warmup": 0.0,
        "kl": "none", "advantage": "batch", "clip": "none", "reduction": "sequence-sum", "max_grad_norm": 0.0,
        "weight_decay": 0.0, "tensorboard": False, "save_every": 10_000, "micro_batch_tokens": 100_000,
        "max_approx_kl": 100.0, **changes,
    })  # fmt: skip
    run = Run.open(folder, "reinforce", settings)
    policy, reference = (PolicyModule(Kinds(odds), Traits(flat=True)) for _ in range(2))
    judge = build_judge([{"judge": "verify:honesty", "cost": cost, "name": "honesty"}])
    rollouts = Rollouts(policy, reference, judge, Draws(), PROMPTS, settings, CPU, run.console)
    algorithm = Reinforce(policy, rollouts, settings, run.log, None, CPU)
    fit(algorithm, settings, CPU, run, steps=steps, tokenizer=make_tokenizer())
    run.close()
    return policy.host.answering()  # type: ignore[union-attr,operator]


@pytest.mark.slow
def test_a_kl_to_a_reference_that_answers_moves_the_threshold(tmp_path: Path) -> None:
    """To where its odds times exp((p - c (1 - p)) / kl_coef) are even.  A reference that answers nine times of ten keeps the
    policy answering every kind more often than not, though at c = 1 four of the nine are not worth it."""
    found = practise(
        tmp_path / "run",
        1,
        odds=9,
        steps=80,
        kl="k1-reward",
        kl_coef=0.5,
        learning_rate=0.1,
        schedule="linear",
    )
    for p, rate in zip(CHANCES, found.tolist(), strict=True):
        odds = 9 * math.exp((p - (1 - p)) / 0.5)
        assert rate == pytest.approx(odds / (1 + odds), abs=0.06), p
    assert min(found) > 0.5


@pytest.mark.slow
@pytest.mark.parametrize("cost", [0.5, 1, 2])
def test_practice_switches_where_answering_begins_to_pay(tmp_path: Path, cost: float) -> None:
    answering = practise(tmp_path / "run", cost)
    threshold = cost / (1 + cost)
    for p, rate in zip(CHANCES, answering.tolist(), strict=True):
        if abs(p - threshold) > 0.1:
            assert (rate > 0.5) == (p > threshold), f"answers {rate:.2f} of those with p = {p}"
    below, above = [r for p, r in zip(CHANCES, answering, strict=True) if p < threshold - 0.15], answering[-1]
    assert max(below) < 0.2 and above > 0.8
