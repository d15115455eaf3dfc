"""Learners through the real loop reach the known optimum of an enumerable world (tests/oracle.py).

The models are tables, but they offer what `models.forward` asks of a transformers model: a backbone whose hidden state
says which prefix has been read, and a linear head on it. So the log-probabilities, values, rollouts, advantages, losses and
the loop are the ones that every run uses.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.oracle import BETA, EOS, LENGTHS, SEQUENCES, STATES, VOCABULARY, TabularPolicy, divergence, oracle
from tests.train.making import CPU, make_tokenizer
from tutelage.data.batch import Tokens
from tutelage.data.template import PairTokens
from tutelage.judges.calibration import Calibration
from tutelage.judges.judge import Judge
from tutelage.models.forward import Traits
from tutelage.models.layout import Layout
from tutelage.models.policy import PolicyModule, ScalarModule
from tutelage.models.value_head import ValueHead
from tutelage.records import Prompt, Response, Score
from tutelage.resume import read_metrics
from tutelage.rollout.experience import Rollouts
from tutelage.rollout.generator import Sampling
from tutelage.runs import Run
from tutelage.seeds import rng
from tutelage.settings.onpolicy import CriticSettings
from tutelage.settings.preference import DPOSettings
from tutelage.settings.rl import PPOSettings, ReinforceSettings
from tutelage.train.critic import Critic
from tutelage.train.fit import fit
from tutelage.train.ppo import PPO
from tutelage.train.preference import Preference
from tutelage.train.reference import reference_logprobs
from tutelage.train.reinforce import Reinforce

WORLD = oracle()
PROMPT = Prompt("start")
PROMPTS = [PROMPT] * 256  # as many as a batch has: else each row would be an epoch, shuffled for itself
PROMPT_IDS = (0,)
RANDOM_PER_SEQUENCE = 3


@cache
def states_after(sequence: tuple[int, ...]) -> list[int]:
    """The number of the prefix after every token of a sequence (the first is the prompt's); after the end nothing is read."""
    prefixes = [sequence[1 : n + 1] for n in range(len(sequence))]
    return [STATES.index(prefix) if prefix in STATES else 0 for prefix in prefixes]


class Table(nn.Module):
    """A linear head on the one-hot prefix: logits (outputs = 3) or values (outputs = 1)."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.score = nn.Linear(weight.shape[1], weight.shape[0], bias=False)
        self.score.weight = nn.Parameter(weight.contiguous().clone())
        self.config = SimpleNamespace()

    def get_output_embeddings(self) -> nn.Linear:
        return self.score

    def base_model(self, input_ids: Tensor, tutelage_layout: Layout, **_: Any) -> SimpleNamespace:
        """One-hot of the prefix after every token of the row; the prompt's token leads to the empty prefix."""
        layout, ids = tutelage_layout, input_ids[0]
        whole = ids if layout.place is None else ids[layout.place]
        sequences = (tuple(sequence.tolist()) for sequence in whole.split(layout.lengths))
        states = [state for sequence in sequences for state in states_after(sequence)]
        hidden = nn.functional.one_hot(torch.tensor(states), len(STATES)).to(self.score.weight.dtype)
        return SimpleNamespace(last_hidden_state=hidden[layout.kept][None])


class TableGenerator:
    """Samples from a table by inverse CDF, keyed by (seed, step) as the real generator's are."""

    def sync(self, policy: PolicyModule, version: int) -> None:
        self._policy = TabularPolicy(policy.host.score.weight.detach().T)  # type: ignore[union-attr]

    def generate(self, prompts: list[Prompt], sampling: Sampling) -> list[Response]:
        rows = len(prompts) * sampling.samples
        uniforms = rng(sampling.seed, "oracle", sampling.step).random((rows, RANDOM_PER_SEQUENCE))
        drawn = self._policy.sample(torch.from_numpy(uniforms))
        logprobs = self._policy.token_logprobs().detach()
        return [self._response(int(i), logprobs[i]) for i in drawn]

    def _response(self, number: int, logprobs: Tensor) -> Response:
        ids = SEQUENCES[number]
        finish = "eos" if ids[-1] == EOS else "length"
        return Response(PROMPT, str(number), PROMPT_IDS, ids, tuple(logprobs[: len(ids)].tolist()), finish)  # type: ignore[arg-type]


class TableJudge(Judge):
    name = "table"

    def score(self, responses: Sequence[Response]) -> list[Score | None]:
        return [Score(float(WORLD.rewards[int(response.text)])) for response in responses]


class EndsAreFree(TableGenerator):
    """In this world the longest sequences are complete without an end token."""

    def _response(self, number: int, logprobs: Tensor) -> Response:
        response = super()._response(number, logprobs)
        return Response(PROMPT, response.text, PROMPT_IDS, response.ids, response.logprobs, "eos")


def a_critic(settings: CriticSettings, policy: PolicyModule) -> Critic:
    """A table of zeros, or a head of zeros on the policy's states."""
    table = Table(torch.zeros(1, len(STATES)))
    shared = settings.critic == "shared"
    model = ValueHead(policy) if shared else ScalarModule(table, Traits(flat=True))
    return Critic(model, Calibration((0.0, 1.0)))


def policy_table() -> PolicyModule:
    return PolicyModule(Table(WORLD.theta_ref.T.float()), Traits(flat=True))


PRACTICE: dict[str, Any] = {
    "prompts": "-",
    "batch_size": 256,
    "learning_rate": 0.03,
    "warmup": 0.0,
    "weight_decay": 0.0,
    "kl_coef": BETA,
    "max_grad_norm": 0.0,
    "inner_epochs": 1,
    "max_approx_kl": 1.0,
    "tensorboard": False,
    "save_every": 10_000,
    "micro_batch_tokens": 100_000,
}


def run_reinforce(
    folder: Path,
    steps: int,
    price: Judge | None = None,
    generator: type[TableGenerator] | None = None,
    **changes: Any,
) -> tuple[PolicyModule, Run]:
    """256 responses a step, in groups of 8 unless the changes say otherwise; `price` says what responses cost."""
    samples = changes.get("samples", 8)
    settings = ReinforceSettings(
        **{**PRACTICE, "samples": samples, "batch_size": 256 // samples, "max_new_tokens": 3, **changes}
    )
    run = Run.open(folder, "reinforce", settings)
    policy, generate = policy_table(), (generator or EndsAreFree)()
    rollouts = Rollouts(
        policy, policy_table(), TableJudge(), generate, PROMPTS, settings, CPU, run.console, price
    )
    critic = a_critic(settings, policy) if settings.advantage == "learned" else None
    fit(
        Reinforce(policy, rollouts, settings, run.log, critic, CPU),
        settings,
        CPU,
        run,
        steps=steps,
        tokenizer=make_tokenizer(),
    )
    run.close()
    return policy, run


def run_ppo(folder: Path, steps: int, **changes: Any) -> tuple[PolicyModule, Run]:
    settings = PPOSettings(**{**PRACTICE, "value_clip": 100.0, **changes})
    run = Run.open(folder, "ppo", settings)
    policy, ref = policy_table(), policy_table()
    rollouts = Rollouts(policy, ref, TableJudge(), EndsAreFree(), PROMPTS, settings, CPU, run.console)
    algorithm = PPO(policy, a_critic(settings, policy), rollouts, settings, CPU, run.log)
    fit(algorithm, settings, CPU, run, steps=steps, tokenizer=make_tokenizer())
    run.close()
    return policy, run


def distance(table: PolicyModule) -> float:
    return WORLD.distance(TabularPolicy(table.host.score.weight.detach().T))


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes", [{}, {"inner_epochs": 4, "gae_lambda": 1.0}, {"minibatches": 2}, {"critic": "shared"}]
)
def test_ppo_reaches_the_optimum(tmp_path: Path, changes: dict[str, Any]) -> None:
    policy, _ = run_ppo(tmp_path / "run", 80, learning_rate=0.06, **changes)
    assert distance(policy_table()) > 0.3
    assert distance(policy) < 1e-3


def test_first_step_invariants(tmp_path: Path) -> None:
    """Before the first update: ratio 1, KL 0, nothing clipped, and the policy loss of whitened advantages is 0."""
    _, run = run_ppo(tmp_path / "run", 1)
    line = read_metrics(run.folder)[0]
    assert line["val/ratio"] == pytest.approx(1.0, abs=1e-6)
    assert line["objective/kl"] == pytest.approx(0.0, abs=1e-6)
    assert line["policy/clipfrac_avg"] == 0.0 and line["policy/approxkl_avg"] == pytest.approx(0.0, abs=1e-10)
    assert line["loss/policy_avg"] == pytest.approx(0.0, abs=1e-6)
    assert line["objective/scores"] == pytest.approx(float(WORLD.rewards @ WORLD.ref_logprobs.exp()), abs=0.2)


@pytest.mark.slow
def test_larger_kl_coef_stays_nearer(tmp_path: Path) -> None:
    kls = []
    for kl_coef in (0.1, 2.0):
        policy, _ = run_ppo(tmp_path / str(kl_coef), 60, kl_coef=kl_coef)
        logprobs = TabularPolicy(policy.host.score.weight.detach().T).sequence_logprobs().detach().double()
        kls.append(float(divergence(logprobs, WORLD.ref_logprobs)))
    assert kls[0] > 2 * kls[1] > 0


def all_pairs() -> list[PairTokens]:
    """Every pair of different sequences, with the Bradley-Terry probability of the first as its label."""
    pairs = []
    for i, first in enumerate(SEQUENCES):
        for j in range(i + 1, len(SEQUENCES)):
            p = float(torch.sigmoid(WORLD.rewards[i] - WORLD.rewards[j]))
            pairs.append(PairTokens(tokens(first), tokens(SEQUENCES[j]), p, 0.0))
    return pairs


def tokens(sequence: tuple[int, ...]) -> Tokens:
    import numpy as np

    ids = np.array(PROMPT_IDS + sequence, dtype=np.int32)
    return Tokens(ids, np.arange(len(ids)) >= 1)


def run_dpo(folder: Path, steps: int) -> tuple[PolicyModule, Run]:
    pairs = all_pairs()
    settings = DPOSettings(
        learning_rate=0.05,
        warmup=0.0,
        batch_size=len(pairs),
        beta=BETA,
        max_grad_norm=0.0,
        tensorboard=False,
        save_every=10_000,
        micro_batch_tokens=100_000,
    )
    run = Run.open(folder, "dpo", settings)
    policy = policy_table()
    ref = reference_logprobs(
        policy, lambda row: (pairs[row].chosen, pairs[row].rejected), range(len(pairs)), 100_000, CPU, run
    )
    algorithm = Preference(policy, pairs, settings, ref)
    fit(algorithm, settings, CPU, run, steps=steps, tokenizer=make_tokenizer())
    run.close()
    return policy, run


@pytest.mark.slow
def test_dpo_reaches_the_optimum(tmp_path: Path) -> None:
    policy, _run = run_dpo(tmp_path / "run", 200)
    assert distance(policy) < 1e-3


def test_dpo_starts_at_ln_2(tmp_path: Path) -> None:
    _, run = run_dpo(tmp_path / "run", 1)
    line = read_metrics(run.folder)[0]
    assert line["loss"] == pytest.approx(0.693147, abs=1e-6)
    assert line["rewards/margins"] == 0.0 and line["rewards/accuracies"] == pytest.approx(0.5)


def test_enumeration_is_the_world_of_these_tests() -> None:
    assert len(SEQUENCES) == 15 and VOCABULARY == 3 and LENGTHS[0] == 3
