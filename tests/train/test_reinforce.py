"""What makes one method of the REINFORCE family another: the four choices, the presets, and what they refuse."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from io import StringIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any, get_args

import pytest
import torch
from rich.console import Console
from torch import Tensor

from tests.oracle import BETA, SEQUENCES, STATES, TabularPolicy, divergence
from tests.train.making import CPU, make_model, make_tokenizer
from tests.train.test_oracle import PROMPT_IDS, WORLD, Table, TableGenerator, distance, run_reinforce
from tutelage.data.batch import TokenBatch
from tutelage.data.responses import response_batch
from tutelage.judges.calibration import Calibration
from tutelage.judges.judge import Judge
from tutelage.launch import launch
from tutelage.models.forward import Traits
from tutelage.models.loading import load_scalar, save
from tutelage.models.policy import PolicyModule, ScalarModule
from tutelage.ops.kl import k2
from tutelage.ops.masked import segment_sum
from tutelage.records import Prompt, Response, Score
from tutelage.resume import read_metrics
from tutelage.rollout.experience import Rollouts
from tutelage.rollout.local import LocalGenerator
from tutelage.rollout.reading import Reading
from tutelage.runs import Run
from tutelage.settings.base import load, to_yaml
from tutelage.settings.presets import PRESETS
from tutelage.settings.rl import KL, WRONG_KL, Clip, PPOSettings, Reduction, ReinforceSettings
from tutelage.train.critic import Critic, first_tokens
from tutelage.train.fit import accumulate
from tutelage.train.policy_update import Objective, policy_terms
from tutelage.train.reinforce import Reinforce, explain

LENGTHS = (3, 1, 5)
FAST = {"learning_rate": 0.06}  # twice the usual: there in half the steps
MULTIPLIER = 0.7592431347
ADVANTAGES = (1.0, -2.0, 0.5)


def settings_for(**changes: Any) -> ReinforceSettings:
    return ReinforceSettings(**{"prompts": "-", "max_new_tokens": 8, "max_approx_kl": 10.0, **changes})


def a_batch() -> TokenBatch:
    """Three ragged responses of two-token prompts; old log-probabilities -1, the reference's -1.5."""
    rows = [
        Response(Prompt(f"p{n}"), "", (1, 2), tuple(range(3, 3 + n)), (-1.0,) * n, "eos") for n in LENGTHS
    ]
    batch = response_batch(rows, range(len(rows)))
    each = torch.cat([torch.full((n + 2,), a) for n, a in zip(LENGTHS, ADVANTAGES, strict=True)])
    on = batch.loss_mask.float()
    return batch.with_fields(
        old_logprobs=-on,
        ref_logprobs=-1.5 * on,
        advantages=each * on,
        importance=torch.ones_like(on),
        returns=each * on,
    )


def gradient(objective: Objective, moved: float = 0.0, **changes: Any) -> tuple[float, Tensor]:
    """(loss, its gradient by every response token's log-probability), divided as `fit` divides it."""
    batch = a_batch()
    logprobs = (batch.per_token["old_logprobs"] + moved * batch.loss_mask).requires_grad_()
    terms, _ = policy_terms(batch, logprobs, settings_for(**changes), objective, kl_coef=0.1)
    loss = sum(term.sum * term.weight / batch.units()[term.per] for term in terms.values())
    loss.backward()
    assert not logprobs.grad[~batch.loss_mask].any()
    return float(loss.detach()), logprobs.grad[batch.loss_mask]


@pytest.mark.parametrize(
    ("reduction", "weights"),
    [
        ("token-mean", [1 / 9, 1 / 9, 1 / 9]),
        ("sequence-sum", [1 / 3, 1 / 3, 1 / 3]),
        ("sequence-mean", [1 / 9, 1 / 3, 1 / 15]),
        ("constant", [1 / 24, 1 / 24, 1 / 24]),
    ],
)
@pytest.mark.parametrize("clip", get_args(Clip))
def test_what_a_token_weighs(reduction: str, weights: list[float], clip: str) -> None:
    """Where the policy has not moved the clips agree: minus the advantage of the response, times the reduction's weight."""
    _, found = gradient(Objective(clip, reduction))
    expected = [-a * w for n, a, w in zip(LENGTHS, ADVANTAGES, weights, strict=True) for _ in range(n)]
    assert found.tolist() == pytest.approx(expected)


@pytest.mark.parametrize(
    ("clip", "moved", "clipped"),
    [
        ("token", 0.1, (False, False, False)),
        ("token", 0.25, (True, False, True)),
        ("sequence", 0.1, (True, False, True)),  # the products are e^.3, e^.1 and e^.5
        ("sequence-mean", 0.1, (False, False, False)),
        ("sequence-mean", 0.25, (True, False, True)),
        ("none", 0.25, (False, False, False)),
        ("token", -0.3, (False, True, False)),
    ],
)
def test_where_the_clips_hold(clip: str, moved: float, clipped: tuple[bool, ...]) -> None:
    """Every token's log-probability has moved by as much; above 1.2 good responses are held, below .8 the bad one."""
    _, found = gradient(Objective(clip, "sequence-sum"), moved)
    held = [bool(part.eq(0).all()) for part in found.split(LENGTHS)]
    assert tuple(held) == clipped


@pytest.mark.parametrize(("kl", "slope"), [("k1", 1.0), ("k2", 0.5), ("k3", 1 - math.exp(-0.5))])
def test_the_kl_in_the_loss(kl: str, slope: float) -> None:
    """Beside the policy's, a gradient of kl_coef times the estimator's slope at log policy - log reference = .5."""
    for reduction in get_args(Reduction):
        _, plain = gradient(Objective("token", reduction))
        _, found = gradient(Objective("token", reduction, kl))
        weight = -plain / torch.cat([torch.full((n,), a) for n, a in zip(LENGTHS, ADVANTAGES, strict=True)])
        assert (found - plain).tolist() == pytest.approx((0.1 * slope * weight).tolist(), abs=1e-7)


def scalar(seed: int = 1) -> ScalarModule:
    """A scalar model whose head is not 0."""
    module = make_model(make_tokenizer(), seed)
    host: Any = module.model
    host.score = torch.nn.Linear(32, 1, bias=False)
    torch.nn.init.constant_(host.score.weight, 0.1)
    return ScalarModule(host, module.traits)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"reduction": "sequence-mean", "clip": "sequence", "kl": "k2-loss"},
        {"advantage": "learned"},
        {"advantage": "learned", "credit": "tokens"},
        {"kl": "exact", "reduction": "constant"},
    ],
    ids=["plain", "sequence", "learned", "learned-tokens", "exact"],
)
def test_no_gradient_depends_on_the_micro_batch_or_the_order(changes: dict[str, Any]) -> None:
    tokenizer = make_tokenizer()
    found = []
    for tokens, order in ((4096, [0, 1, 2]), (8, [0, 1, 2]), (4096, [2, 0, 1])):
        settings = settings_for(micro_batch_tokens=tokens, **changes)
        model = make_model(tokenizer)
        critic = Critic(scalar(), Calibration((0.5, 2.0))) if "advantage" in changes else None
        given = SimpleNamespace(kept={}, ref_outputs=make_model(tokenizer, seed=5).outputs)
        algorithm = Reinforce(model, given, settings, lambda _: None, critic, CPU)  # type: ignore[arg-type]
        accumulate(algorithm, [a_batch().take(order)], tokens, CPU)
        found.append(
            {
                f"{name}/{of}": p.grad.clone()
                for of, module in algorithm.trained.items()
                for name, p in module.named_parameters()
                if p.grad is not None
            }
        )
    assert any(name.startswith("model.score") for name in found[0]) == ("advantage" in changes)
    for other in found[1:]:
        assert found[0].keys() == other.keys()
        for name, one in found[0].items():
            torch.testing.assert_close(one, other[name], rtol=1e-4, atol=1e-6)


def test_a_baseline_of_the_prompt_sees_the_prompt_alone() -> None:
    """It is the value before the first token of a response, whatever the response is."""
    critic, batch = Critic(scalar(), Calibration((0.0, 1.0))), a_batch()
    first = first_tokens(batch.loss_mask)
    assert first.nonzero().squeeze(1).tolist() == [2, 7, 10]
    found, every = critic.first_values(batch), critic.values(batch)
    torch.testing.assert_close(found[first], every[first])
    assert not found[~first].any() and every[batch.loss_mask].ne(0).all()
    other = replace(batch, ids=batch.ids.where(~batch.loss_mask, torch.tensor(9)))
    assert torch.equal(critic.first_values(other), found)


def test_the_exact_kl_has_the_gradient_that_k1_in_the_reward_has_on_average() -> None:
    """By enumeration, in float64, away from the reference; in the loss alone it has that of k2, which is another."""
    generator = torch.Generator().manual_seed(7)
    theta = WORLD.theta_ref + torch.randn(WORLD.theta_ref.shape, generator=generator, dtype=torch.float64)
    policy = PolicyModule(Table(theta.T), Traits(flat=True))
    ref = PolicyModule(Table(WORLD.theta_ref.T), Traits(flat=True))
    sizes = torch.tensor([len(ids) for ids in SEQUENCES])
    batch = response_batch(
        [
            Response(Prompt(str(n)), "", PROMPT_IDS, ids, (0.0,) * len(ids), "eos")
            for n, ids in enumerate(SEQUENCES)
        ]
    )
    reading = Reading(policy, 1.0, against=lambda part: ref.outputs(part))
    found, to = reading(batch), ref(batch).logprobs.detach()
    likely = TabularPolicy(theta).sequence_logprobs().detach().exp()

    def spread(values: Tensor) -> Tensor:
        each = values.repeat_interleave(sizes)
        return torch.zeros(len(batch.ids), dtype=torch.float64).masked_scatter(batch.loss_mask, each)

    def slope(charged: Tensor, estimator: str) -> Tensor:
        """Of what tokens are charged in the reward, and of an estimator in the loss; all as often as they are likely."""
        whole = segment_sum(charged.detach(), batch.lengths)
        weighed = batch.with_fields(
            old_logprobs=found["logprobs"].detach(),
            ref_logprobs=to,
            advantages=spread(-whole),
            importance=spread(likely),
        )
        logprobs = found["logprobs"]
        exact = (
            spread(likely) * (found["kl"] if estimator == "exact" else k2(logprobs - to))
            if estimator
            else None
        )
        objective = Objective("none", "sequence-sum", estimator)
        terms, _ = policy_terms(weighed, logprobs, settings_for(), objective, 1.0, exact)
        total = sum(term.sum * term.weight for term in terms.values())
        [one] = torch.autograd.grad(total, policy.host.score.weight, retain_graph=True)
        return one

    nothing = torch.zeros(len(batch.ids), dtype=torch.float64)
    right = slope(found["logprobs"] - to, "")
    assert right.abs().max() > 0.05
    assert (slope(found["kl"], "exact") - right).abs().max() < 1e-12
    alone = slope(nothing, "exact")
    assert (alone - right).abs().max() > 0.01 and (slope(found["kl"], "") - right).abs().max() > 0.01
    assert (slope(nothing, "k2") - alone).abs().max() < 1e-12


def test_a_learned_baseline_leaves_the_expected_gradient_as_it_is() -> None:
    """By enumeration, in float64: any values of what stands before a token; but not of what comes after it."""
    policy = PolicyModule(Table(WORLD.theta_ref.T), Traits(flat=True))
    logprobs = WORLD.ref_logprobs
    responses = [
        Response(Prompt(str(n)), "", PROMPT_IDS, ids, (0.0,) * len(ids), "eos")
        for n, ids in enumerate(SEQUENCES)
    ]
    batch = response_batch(responses)
    lengths = [len(ids) for ids in SEQUENCES]
    states = torch.tensor([STATES.index(ids[:n]) for ids in SEQUENCES for n in range(len(ids))])

    def spread(values: Tensor) -> Tensor:
        return torch.zeros(len(batch.ids), dtype=torch.float64).masked_scatter(batch.loss_mask, values)

    def expected(taken: Tensor) -> Tensor:
        """Every sequence as often as it is likely; `taken` from the rewards of its tokens."""
        each = WORLD.rewards.repeat_interleave(torch.tensor(lengths))
        weighed = batch.with_fields(
            old_logprobs=policy(batch).logprobs.detach(),
            advantages=spread(each - taken),
            importance=spread(logprobs.exp().repeat_interleave(torch.tensor(lengths))),
        )
        terms, _ = policy_terms(
            weighed, policy(batch).logprobs, settings_for(), Objective("none", "sequence-sum"), 0.0
        )
        [slope] = torch.autograd.grad(terms["policy"].sum, policy.host.score.weight)
        return slope

    values = torch.randn(len(STATES), generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    plain = expected(torch.zeros(sum(lengths), dtype=torch.float64))
    of_prompt, of_states = expected(values[0].expand(sum(lengths))), expected(values[states])
    assert plain.abs().max() > 0.05
    assert (of_prompt - plain).abs().max() < 1e-12 and (of_states - plain).abs().max() < 1e-12
    looks_ahead = expected(0.3 * WORLD.rewards.repeat_interleave(torch.tensor(lengths)))
    assert (looks_ahead - plain).abs().max() > 0.01


@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_sets_what_it_says_and_what_is_given_goes_before(preset: str) -> None:
    by_name = ReinforceSettings(prompts="-", preset=preset)  # type: ignore[arg-type]
    assert {name: getattr(by_name, name) for name in PRESETS[preset]} == {
        name: value for name, (value, _) in PRESETS[preset].items()
    }
    own = load(ReinforceSettings, ["prompts=-", f"preset={preset}", "samples=5", "kl_coef=0.3"])
    assert (own.samples, own.kl_coef) == (5, 0.3) and own.advantage == by_name.advantage


def test_what_is_written_down_reads_back_the_same(tmp_path: Path) -> None:
    first = load(ReinforceSettings, ["prompts=-", "preset=grpo", "advantage=group"])
    (tmp_path / "settings.yaml").write_text(to_yaml(first))
    assert load(ReinforceSettings, [str(tmp_path / "settings.yaml")]) == first


def test_it_says_what_a_preset_set_and_what_misses_the_optimum() -> None:
    console = Console(width=200, file=StringIO(), record=True)
    explain(settings_for(preset="grpo", samples=3), console)
    said = console.export_text()
    assert "preset=grpo: kl_coef=0.04: Shao et al. 2024" in said and "samples=8 (here 3)" in said
    assert "kl=k3-loss misses the optimum" in said
    quiet = Console(width=200, file=StringIO(), record=True)
    explain(settings_for(), quiet)
    assert quiet.export_text() == ""


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"samples": 1},
            "advantage=leave-one-out compares a prompt's responses, of which samples=1 gives one",
        ),
        ({"samples": 1, "advantage": "group-std"}, "set samples=2 or more, or advantage=batch or learned"),
        ({"clip": "none", "inner_epochs": 2}, "clip=none is right for one update per step only"),
        ({"clip": "none", "minibatches": 3}, "minibatches=3 make 3: set clip=token"),
        ({"clip": "sequence", "credit": "tokens"}, "clip=sequence has one ratio for a response"),
        ({"kl": "none", "kl_budget": 1.0}, "kl=none holds nothing to the reference"),
        ({"value_coef": 0.5, "advantage": "learned"}, "critic=auto is a network of its own"),
        (
            {"dynamic_sampling": 3, "advantage": "batch"},
            "but something to advantage=batch: set dynamic_sampling=0",
        ),
        ({"preset": "dapo", "samples": 1}, "of which samples=1 gives one"),
        ({"critic": "policy"}, "advantage=leave-one-out has none: set advantage=learned"),
        ({"critic_learning_rate": 0.1, "advantage": "batch"}, "advantage=batch has none"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said.replace("(", r"\(")):
        load(ReinforceSettings, ["prompts=-", *(f"{key}={value}" for key, value in changes.items())])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changes", "low", "high"),
    [
        ({"preset": "reinforce", "samples": 1}, 0.0, 1e-3),
        ({"preset": "rloo", "samples": 8}, 0.0, 1e-3),
        ({"advantage": "learned", "samples": 1}, 0.0, 1e-3),
        ({"advantage": "learned", "samples": 1, "credit": "tokens", "inner_epochs": 2}, 0.0, 1e-3),
        ({"advantage": "learned", "samples": 1, "critic": "shared"}, 0.0, 1e-3),
        ({"preset": "reinforce++", "samples": 1}, 0.0, 1e-3),
        ({"credit": "tokens", "inner_epochs": 4}, 0.0, 1e-3),
        ({"advantage": "group-std", "reduction": "sequence-mean"}, 0.0, 1e-3),
        ({"kl": "exact"}, 0.0, 3e-3),  # at the optimum its noise is not gone, as that of k1-reward is
        ({"kl": "exact", "credit": "tokens", "samples": 1, "advantage": "batch"}, 0.0, 3e-3),
        ({"kl": "exact-loss"}, 0.012, 0.03),  # by the exact gradient: .0204
        ({"kl": "k2-loss"}, 0.012, 0.03),  # whose gradient is the same on average
        ({"advantage": "group", "kl": "k2-loss"}, 0.006, 0.0115),  # predicted: .0090, kl_coef K / (K - 1)
        ({"advantage": "group", "kl": "k3-loss"}, 0.05, 0.085),
        ({"advantage": "group-std", "kl": "k2-loss"}, 0.3, 2.5),  # and growing
        ({"kl": "k3-reward"}, 0.4, 1.2),
        ({"kl": "k1-loss", "reduction": "sequence-sum"}, 0.4, 3.0),
    ],
    ids=lambda value: "-".join(map(str, value.values())) if isinstance(value, dict) else "",
)
def test_where_each_choice_ends(tmp_path: Path, changes: dict[str, Any], low: float, high: float) -> None:
    """In the enumerable world, through the real loop: KL(policy || optimum) after 100 steps."""
    policy, _ = run_reinforce(tmp_path / "run", 100, **{"kl_coef": BETA, **FAST, **changes})
    assert low - 1e-6 <= distance(policy) <= high


def best(logits: Tensor) -> Tensor:
    return torch.log_softmax(logits, 0)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changes", "optimum"),
    [
        ({"entropy_coef": 0.3}, lambda ref, r: (BETA * ref + r) / (BETA + 0.3)),
        (
            {"ref_refresh": 100},
            lambda ref, r: ref + 2 * r / BETA,
        ),  # twice the reward, since it was paid for twice
        ({"kl_budget": 0.3}, lambda ref, r: ref + r / MULTIPLIER),
    ],
    ids=["entropy", "refresh", "budget"],
)
def test_other_objectives_reach_their_own_optima(
    tmp_path: Path, changes: dict[str, Any], optimum: Any
) -> None:
    """Known in closed form; the multiplier of a budget of .3 nats is the one whose best policy is so far away."""
    plain = {"clip": "none", "reduction": "sequence-sum", "kl_coef": BETA, **FAST}
    policy, run = run_reinforce(tmp_path / "run", 200, **plain, **changes)
    found = TabularPolicy(policy.host.score.weight.detach().T).sequence_logprobs().detach().double()
    ref = WORLD.ref_logprobs
    assert divergence(found, best(optimum(ref, WORLD.rewards))) < 0.015
    assert divergence(found, best(ref + WORLD.rewards / BETA)) > 0.03
    if "kl_budget" in changes:
        assert float(divergence(best(ref + WORLD.rewards / MULTIPLIER), ref)) == pytest.approx(0.3, abs=1e-6)
        assert float(divergence(found, ref)) == pytest.approx(0.3, rel=0.02)
        assert abs(read_metrics(run.folder)[-1]["objective/kl_coef"] - MULTIPLIER) < 0.1


class Long(Judge):
    """Three tokens cost 1."""

    name = "long"

    def score(self, responses: Sequence[Response]) -> list[Score | None]:
        return [Score(float(len(response.ids) == 3)) for response in responses]


@pytest.mark.slow
def test_a_cost_is_held_at_its_limit_by_the_best_policy_that_does(tmp_path: Path) -> None:
    """The optimum of the score alone has more responses of three tokens; its price is known by bisection."""
    long = torch.tensor([float(len(sequence) == 3) for sequence in SEQUENCES], dtype=torch.float64)

    def optimum(price: float) -> Tensor:
        return best(WORLD.ref_logprobs + (WORLD.rewards - price * long) / BETA)

    limit, low, high = 0.3, 0.0, 10.0
    assert float((optimum(0.0).exp() * long).sum()) > limit + 0.1
    for _ in range(60):
        price = (low + high) / 2
        low, high = (price, high) if float((optimum(price).exp() * long).sum()) > limit else (low, price)
    policy, run = run_reinforce(
        tmp_path / "run", 300, Long(), cost="world", cost_limit=limit, cost_rate=0.1, kl_coef=BETA
    )
    found = TabularPolicy(policy.host.score.weight.detach().T).sequence_logprobs().detach().double()
    assert float((found.exp() * long).sum()) == pytest.approx(limit, abs=0.02)
    assert divergence(found, optimum(price)) < 0.01
    assert read_metrics(run.folder)[-1]["objective/cost_coef"] == pytest.approx(price, rel=0.15)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"cost_limit": 0.5}, "cost_limit=0.5 limits nothing without a cost"),
        ({"kl_target": 1.0, "kl_budget": 2.0}, "kl_target=1 and kl_budget=2 both move kl_coef"),
        ({"kl_budget": 2.0, "kl_coef": 0.0}, "kl_budget moves kl_coef, which cannot start at 0"),
        ({"ref_refresh": 5, "lora_rank": 2}, "ref_refresh=5 needs a reference of its own"),
    ],
)
def test_controls_that_contradict_each_other_are_refused(changes: dict[str, Any], said: str) -> None:
    for settings in (ReinforceSettings, PPOSettings):
        with pytest.raises(ValueError, match=said):
            load(settings, ["prompts=-", *(f"{key}={value}" for key, value in changes.items())])


def test_scores_are_held_within_their_bound(tmp_path: Path) -> None:
    _, run = run_reinforce(tmp_path / "run", 1, score_clip=0.5)
    free = read_metrics(run_reinforce(tmp_path / "free", 1)[1].folder)[0]
    line = read_metrics(run.folder)[0]
    assert (
        line["objective/scores_std"] < free["objective/scores_std"] and abs(line["objective/scores"]) <= 0.5
    )


@pytest.mark.parametrize("truncated", ["mask", "score"])
def test_what_was_cut_is_as_if_it_had_never_been_drawn(tmp_path: Path, truncated: str) -> None:
    """In this world sequences of three tokens without an end are cut: masked, their score changes nothing but the log."""
    found, scores = [], []
    for score in (-1.0, 5.0):
        policy, run = run_reinforce(
            tmp_path / str(score),
            3,
            generator=TableGenerator,
            missing_eos_score=score,
            truncated=truncated,
            advantage="group-std",
            samples=4,
        )
        found.append(policy.host.score.weight.detach())
        scores.append(read_metrics(run.folder)[0]["objective/scores"])
    assert scores[1] > scores[0] + 1
    assert torch.equal(*found) == (truncated == "mask")


class NeverEnds(TableGenerator):
    """Cuts every response."""

    def _response(self, number: int, logprobs: Tensor) -> Response:
        return replace(super()._response(number, logprobs), finish="length")


def test_a_step_in_which_everything_was_cut_changes_nothing(tmp_path: Path) -> None:
    policy, run = run_reinforce(tmp_path / "run", 2, generator=NeverEnds, truncated="mask")
    assert torch.equal(policy.host.score.weight.detach(), WORLD.theta_ref.T.float())
    lines = read_metrics(run.folder)
    assert [line["completions/clipped_ratio"] for line in lines] == [1.0, 1.0]
    assert all(line["loss"] == 0.0 and "val/ratio" not in line for line in lines)


@pytest.mark.slow
def test_with_cut_responses_masked_the_others_reach_their_own_optimum(tmp_path: Path) -> None:
    """Among the sequences that end, the policy becomes ref exp(reward / beta); how many end is left as it may be."""
    policy, _ = run_reinforce(
        tmp_path / "run", 100, generator=TableGenerator, truncated="mask", missing_eos_score=-9.0, **FAST
    )
    found = TabularPolicy(policy.host.score.weight.detach().T).sequence_logprobs().detach().double()
    ended = torch.tensor([sequence[-1] == 2 for sequence in SEQUENCES])
    assert 0 < ended.sum() < len(SEQUENCES)
    optimum = best((WORLD.ref_logprobs + WORLD.rewards / BETA)[ended])
    assert divergence(best(WORLD.ref_logprobs[ended]), optimum) > 0.1
    assert divergence(best(found[ended]), optimum) < 1e-3


class HardOnes(Judge):
    """Tells responses to hard prompts apart, and nothing else."""

    name = "hard ones"

    def score(self, responses: Sequence[Response]) -> list[Score | None]:
        return [Score(float(sum(r.ids)) if "hard" in r.prompt.text() else 1.0) for r in responses]


def test_prompts_that_teach_nothing_are_replaced(tmp_path: Path) -> None:
    """Of four prompts one in four is hard; all that is trained on is hard, and what it took is counted."""
    tokenizer, texts = make_tokenizer(), ["hard", "easy", "simple", "plain"]
    prompts = [Prompt(f"{texts[number % 4]} {number}") for number in range(40)]
    policy, seen = make_model(tokenizer), []
    settings = settings_for(batch_size=4, samples=2, dynamic_sampling=9, missing_eos_score=None, kl="none")
    run = Run.open(tmp_path / "run", "reinforce", settings, Console(quiet=True))
    rollouts = Rollouts(
        policy,
        make_model(tokenizer),
        HardOnes(),
        LocalGenerator(policy, tokenizer),
        prompts,
        settings,
        CPU,
        run.console,
    )
    for _ in range(2):
        [batch] = next(Reinforce(policy, rollouts, settings, run.log).batches(0))
        seen.append(batch)
    line = run.commit(1)
    assert torch.equal(seen[0].ids, seen[1].ids) and seen[0].rows == seen[1].rows
    assert len(set(seen[0].rows)) == 4 and all(row % 4 == 0 for row in seen[0].rows)
    assert line["dynamic_sampling/draws"] >= 2 and line["completions/tokens"] > 4 * 2 * 8
    assert line["frac_reward_zero_std"] > 0.5


def command_settings(tmp_path: Path, **changes: Any) -> ReinforceSettings:
    tokenizer = make_tokenizer()
    save(make_model(tokenizer), tokenizer, tmp_path / "base")
    save(load_scalar(tmp_path / "base", seed=3), tokenizer, tmp_path / "reward")
    texts = ["the cat", "a dog ran", "1 + 2 =", "the mat is"]
    (tmp_path / "p.jsonl").write_text("".join(json.dumps({"prompt": text}) + "\n" for text in texts))
    values = {
        "model": str(tmp_path / "base"),
        "reward": str(tmp_path / "reward"),
        "prompts": str(tmp_path / "p.jsonl"),
        "out": tmp_path / "run",
        "batch_size": 4,
        "samples": 2,
        "max_new_tokens": 6,
        "max_steps": 2,
        "tensorboard": False,
        "precision": "fp32",
    }
    return ReinforceSettings(**{**values, **changes})


@pytest.mark.slow
def test_it_runs_as_a_command_and_logs_what_it_does(tmp_path: Path) -> None:
    """Before the first update the ratio is 1 and the KL 0; all presets run, and export a model."""
    launch("reinforce", command_settings(tmp_path), Console(quiet=True))
    first, second = read_metrics(tmp_path / "run")
    assert first["val/ratio"] == pytest.approx(1.0, abs=1e-4) and first["objective/kl"] == pytest.approx(
        0, abs=1e-4
    )
    assert 0.0 <= first["frac_reward_zero_std"] <= 1.0 and second["step"] == 2
    assert (tmp_path / "run" / "model" / "model.safetensors").is_file()


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes", [{"credit": "tokens"}, {"critic": "policy", "lora_rank": 2}, {"critic": "shared"}]
)
def test_a_learned_baseline_runs_as_a_command(tmp_path: Path, changes: dict[str, Any]) -> None:
    """The critic has a learning rate of its own, is in the checkpoints, and says what it foresaw."""
    settings = command_settings(
        tmp_path, advantage="learned", samples=1, critic_learning_rate=1e-2, max_steps=3, **changes
    )
    launch("reinforce", settings, Console(quiet=True))
    lines = read_metrics(tmp_path / "run")
    assert len(lines) == 3 and all("val/explained_variance" in line for line in lines)
    assert lines[0]["loss/value_avg"] > 0 and "loss/policy_avg" in lines[0]
    assert list(
        (tmp_path / "run" / "checkpoints").rglob(
            "critic*" if changes == {"critic": "shared"} else "critic/*.safetensors"
        )
    )
    assert not list((tmp_path / "run" / "model").glob("*score*"))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("preset", "lora"), [*((name, 0) for name in PRESETS), ("grpo", 2), ("exact", 0), ("exact", 2)]
)
def test_every_preset_runs(tmp_path: Path, preset: str, lora: int) -> None:
    given = {"kl": preset, "inner_epochs": 2} if preset == "exact" else {"preset": preset}
    settings = command_settings(tmp_path, lora_rank=lora, **given)
    launch("reinforce", settings, Console(quiet=True))
    assert len(read_metrics(tmp_path / "run")) == 2


def test_every_placement_that_misses_is_explained() -> None:
    assert {kl for kl in get_args(KL) if kl not in ("none", "k1-reward", "exact")} == set(WRONG_KL)
