"""The family of direct losses: against TRL's own code, against known optima, and what they leave alone."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console
from torch import Tensor

from tests.oracle import BETA, TabularPolicy
from tests.train.making import CPU, make_model, make_tokenizer
from tests.train.test_oracle import WORLD, all_pairs, distance, policy_table
from tutelage.data.batch import Tokens
from tutelage.data.template import PairTokens
from tutelage.models.policy import PolicyModule
from tutelage.runs import Run
from tutelage.settings.base import build, load
from tutelage.settings.preference import DPOSettings, losses_in
from tutelage.settings.presets import PAIRED
from tutelage.train.fit import fit
from tutelage.train.preference import (
    PairScores,
    Preference,
    explain,
    pair_losses,
    pair_metrics,
    pairs_batch,
    trained_part,
)
from tutelage.train.reference import reference_logprobs

# TRL 1.16.0 on these numbers (dpo_trainer.py; experimental/orpo and experimental/cpo), beta 0.3, label_smoothing 0.15, for
# simpo beta 2 and gamma 1.2; in float64.
TOKENS = [[5, 9], [12, 3], [7, 7], [1, 20]]
POLICY = [[-3.293804, -5.826487], [-21.890231, -4.240131], [-13.615411, -12.453635], [-0.689424, -24.428864]]
REF = [[-8.130434, -14.56843], [-2.712507, -0.645335], [-3.044168, -1.226872], [-0.34438, -35.901743]]
TRL: list[tuple[dict[str, Any], list[float]]] = [
    ({"loss": "sigmoid"}, [1.441524, 4.684162, 0.599646, 3.573826]),
    ({"loss": "hinge"}, [2.171594, 5.674878, 0.803344, 4.545377]),
    ({"loss": "ipo", "logprobs": "mean"}, [2.79113, 4.270608, 2.474395, 6.684058]),
    ({"loss": "robust", "label_smoothing": 0.15}, [1.69258, 5.685921, 0.557505, 4.33355]),
    ({"loss": "sigmoid", "logprobs": "mean"}, [0.693748, 0.754927, 0.679199, 0.840415]),
    ({"loss": "orpo"}, [0.705076, 0.982604, 0.796243, 0.347087]),
    ({"loss": "simpo", "beta": 2.0, "gamma": 1.2}, [1.48081, 2.145993, 1.727599, 0.763437]),
]


def scores(policy: Any = POLICY, ref: Any = REF) -> PairScores:
    return PairScores(*(torch.tensor(x, dtype=torch.float64) for x in (policy, ref, TOKENS)))


def settings(**given: Any) -> DPOSettings:
    return build(DPOSettings, {"out": "x", "beta": 0.3, **given})


ONE = torch.ones(4, dtype=torch.float64)


@pytest.mark.parametrize(("given", "expected"), TRL)
def test_a_loss_is_what_trl_computes(given: dict[str, Any], expected: list[float]) -> None:
    chosen = settings(**given)
    [found] = pair_losses(scores(), chosen, ONE).values()
    assert found.tolist() == pytest.approx(expected, abs=2e-6)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"loss": "sigmoid"}, math.log(2)),
        ({"loss": "sigmoid", "label_smoothing": 0.1}, math.log(2)),
        ({"loss": "robust", "label_smoothing": 0.1}, math.log(2)),
        ({"loss": "ipo", "beta": 0.1}, 25.0),
        ({"loss": "ipo", "beta": 0.05}, 100.0),
        ({"loss": "hinge"}, 1.0),
    ],
)
def test_the_constants_where_the_policy_is_the_reference(given: dict[str, Any], expected: float) -> None:
    for loss in pair_losses(scores(REF), settings(**given), ONE).values():
        assert loss.tolist() == pytest.approx([expected] * 4, abs=1e-6)


def test_the_constants_of_losses_without_a_reference() -> None:
    """Equal means: softplus(gamma), ln 2."""
    equal = PairScores(-2.0 * torch.tensor(TOKENS, dtype=torch.float64), None, torch.tensor(TOKENS).double())
    for gamma, expected in ((1.0, 1.313262), (1.4, 1.620417)):
        [loss] = pair_losses(equal, settings(loss="simpo", gamma=gamma), ONE).values()
        assert loss.tolist() == pytest.approx([expected] * 4, abs=1e-6)
    found = pair_losses(equal, settings(preset="orpo"), ONE)
    assert found["orpo"].tolist() == pytest.approx([math.log(2)] * 4, abs=1e-6)
    assert found["sft"].tolist() == pytest.approx([2.0] * 4)
    total = sum(settings(preset="orpo").losses[name] * loss[0].item() for name, loss in found.items())
    assert total == pytest.approx(2.0 + 0.0693147, abs=1e-6)


@pytest.mark.parametrize("given", [given for given, _ in TRL])
def test_turning_a_pair_round_with_its_label_changes_nothing(given: dict[str, Any]) -> None:
    chosen, share = settings(**given), 0.8 * ONE
    turned = scores([p[::-1] for p in POLICY], [r[::-1] for r in REF])
    turned = PairScores(turned.policy, turned.ref, torch.tensor([t[::-1] for t in TOKENS]).double())
    for name, loss in pair_losses(scores(), chosen, share).items():
        torch.testing.assert_close(pair_losses(turned, chosen, 1 - share)[name], loss)


@pytest.mark.parametrize("given", [given for given, _ in TRL])
def test_numbers_far_out_stay_finite(given: dict[str, Any]) -> None:
    policy = torch.tensor([[-1e4, -1e-9], [0.0, -1e4], [-1e4, -1e4], [-1e-9, 0.0]], dtype=torch.float64)
    policy.requires_grad_()
    far = PairScores(policy, torch.zeros(4, 2, dtype=torch.float64), torch.tensor(TOKENS).double())
    total = sum(loss.sum() for loss in pair_losses(far, settings(**given), ONE).values())
    assert isinstance(total, Tensor) and torch.isfinite(total)
    total.backward()
    assert policy.grad is not None and torch.isfinite(policy.grad).all()


def test_metrics_show_a_policy_that_leaves_the_chosen_responses() -> None:
    found = pair_metrics(scores(), settings(), ONE)
    moved = (torch.tensor(POLICY) - torch.tensor(REF)) / torch.tensor(TOKENS)
    assert found["moved/chosen"].tolist() == pytest.approx(moved[:, 0].tolist(), abs=1e-5)
    assert found["displaced"].tolist() == [0, 1, 1, 1]
    assert found["nll_chosen"][0].item() == pytest.approx(3.293804 / 5)
    assert found["rewards/margins"][0].item() == pytest.approx(0.3 * (4.836630 - 8.741943), abs=1e-5)
    without = pair_metrics(PairScores(scores().policy, None, scores().tokens), settings(loss="simpo"), ONE)
    assert not {"moved/chosen", "displaced"} & without.keys()


# ---- known optima ------------------------------------------------------------------------------------------------------


def trained(folder: Path, pairs: list[PairTokens], steps: int = 200, **given: Any) -> PolicyModule:
    """The table of the enumerable world, trained on pairs through the real loop."""
    chosen = settings(
        learning_rate=0.05,
        warmup=0.0,
        batch_size=len(pairs),
        beta=BETA,
        max_grad_norm=0.0,
        tensorboard=False,
        save_every=10_000,
        micro_batch_tokens=100_000,
        **given,
    )
    run = Run.open(folder, "dpo", chosen)
    policy = policy_table()

    def both(row: int) -> tuple[Tokens, Tokens]:
        return pairs[row].chosen, pairs[row].rejected

    ref = reference_logprobs(policy, both, range(len(pairs)), 100_000, CPU, run)
    fit(Preference(policy, pairs, chosen, ref), chosen, CPU, run, steps=steps, tokenizer=make_tokenizer())
    run.close()
    return policy


def log_ratio(policy: PolicyModule) -> np.ndarray:
    """[15]: log policy / reference of every sequence."""
    table: Any = policy.host
    found = TabularPolicy(table.score.weight.detach().T).sequence_logprobs().detach().double()
    return (found - WORLD.ref_logprobs).numpy()


def shares(pairs: list[PairTokens]) -> np.ndarray:
    return np.array([pair.p_chosen for pair in pairs])


@pytest.mark.slow
def test_robust_dpo_finds_from_flipped_labels_what_dpo_finds_from_right_ones(tmp_path: Path) -> None:
    right = all_pairs()
    flipped = [
        PairTokens(pair.chosen, pair.rejected, 0.8 * pair.p_chosen + 0.2 * (1 - pair.p_chosen), 0.0)
        for pair in right
    ]
    robust = trained(tmp_path / "robust", flipped, loss="robust", label_smoothing=0.2)
    assert distance(robust) < 1e-3
    assert distance(trained(tmp_path / "plain", flipped)) > 0.02


@pytest.mark.slow
def test_ipo_solves_its_least_squares(tmp_path: Path) -> None:
    """Over policies that can say anything, the loss is a sum of squares of differences: solved here as such."""
    pairs = all_pairs()
    policy = trained(tmp_path / "ipo", pairs, 400, loss="ipo")
    rows = np.array([(i, j) for i in range(15) for j in range(i + 1, 15)])
    design = np.zeros((len(rows), 15))
    design[np.arange(len(rows)), rows[:, 0]], design[np.arange(len(rows)), rows[:, 1]] = 1, -1
    target = (2 * shares(pairs) - 1) / (2 * BETA)
    solution = np.linalg.lstsq(design, target, rcond=None)[0]
    found = log_ratio(policy)
    assert found - found.mean() == pytest.approx(solution - solution.mean(), abs=0.02)
    assert distance(policy) > 0.2  # another optimum than DPO's, by design


@pytest.mark.slow
def test_conservative_dpo_solves_its_logistic_regression(tmp_path: Path) -> None:
    """That of scikit-learn, on every outcome weighted by its smoothed share."""
    from sklearn.linear_model import LogisticRegression

    pairs = all_pairs()
    policy = trained(tmp_path / "cdpo", pairs, 300, label_smoothing=0.1)
    rows = np.array([(i, j) for i in range(15) for j in range(i + 1, 15)])
    design = np.zeros((len(rows), 15))
    design[np.arange(len(rows)), rows[:, 0]], design[np.arange(len(rows)), rows[:, 1]] = 1, -1
    smooth = 0.9 * shares(pairs) + 0.1 * (1 - shares(pairs))
    model = LogisticRegression(C=1e8, fit_intercept=False, tol=1e-10, max_iter=10_000)
    model.fit(
        np.concatenate([design, design]),
        [1] * len(rows) + [0] * len(rows),
        np.concatenate([smooth, 1 - smooth]),
    )
    solution = model.coef_[0] / BETA
    found = log_ratio(policy)
    assert found - found.mean() == pytest.approx(solution - solution.mean(), abs=0.03)


# ---- what is trained of a pair -----------------------------------------------------------------------------------------


def pair(chosen: list[int], rejected: list[int]) -> PairTokens:
    """Responses behind a prompt of two tokens."""
    sides = []
    for ids in (chosen, rejected):
        whole = np.array([7, 8, *ids], dtype=np.int32)
        sides.append(Tokens(whole, np.arange(len(whole)) >= 2))
    return PairTokens(*sides, 1.0, 0.0)


@pytest.mark.parametrize(
    ("chosen", "rejected", "first"),
    [([5, 6, 9, 3], [5, 6, 4], 4), ([5, 9], [6, 9], 2), ([5, 6], [5, 6, 9], 4)],
)
def test_what_both_begin_with_is_masked(chosen: list[int], rejected: list[int], first: int) -> None:
    masked = trained_part(pair(chosen, rejected), settings(shared_prefix="mask"))
    for side in (masked.chosen, masked.rejected):
        assert side.loss_mask.tolist() == [n >= first for n in range(len(side))]
    whole = pair(chosen, rejected)
    assert trained_part(whole, settings()) is whole


def test_nothing_before_the_first_difference_is_moved() -> None:
    """No logit that predicts a shared token has a gradient; without the mask of ORPO's sft they have."""
    model = make_model(make_tokenizer())
    one = pair([20, 21, 22, 23], [20, 21, 30])

    def moved(shared_prefix: str) -> list[bool]:
        chosen = settings(shared_prefix=shared_prefix, loss={"sigmoid": 1.0, "sft": 1.0})
        batch = pairs_batch([one], [0], chosen)
        kept: list[Tensor] = []
        plain = model.sequence_logprobs

        def watched(batch: Any, temperature: float = 1.0) -> Tensor:
            logprobs = model(batch, temperature).logprobs
            logprobs.retain_grad()
            kept.append(logprobs)
            return torch.stack([part.sum() for part in logprobs.split(batch.lengths)])

        model.sequence_logprobs = watched  # type: ignore[method-assign]
        try:
            found = PairScores.of(model, batch)
            found = PairScores(found.policy, torch.zeros_like(found.policy), found.tokens)
            losses = pair_losses(found, chosen, torch.ones(1))
            torch.stack([loss.sum() for loss in losses.values()]).sum().backward()
        finally:
            model.sequence_logprobs = plain  # type: ignore[method-assign]
        grad = kept[0].grad
        assert grad is not None
        return [bool(number) for number in (grad * batch.loss_mask).abs() > 0]

    assert moved("mask") == [False] * 4 + [True] * 2 + [False] * 4 + [True]
    assert moved("keep") == [False] * 2 + [True] * 4 + [False] * 2 + [True] * 3


# ---- settings ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("preset", PAIRED)
def test_a_preset_sets_what_it_says_and_what_is_given_goes_before(preset: str) -> None:
    by_name = load(DPOSettings, [f"preset={preset}"])
    assert {name: getattr(by_name, name) for name in PAIRED[preset]} == {
        name: value for name, (value, _) in PAIRED[preset].items()
    }
    console = Console(record=True, width=300)
    explain(by_name, console)
    said = console.export_text()
    assert all(f"preset={preset}: {name}=" in said for name in PAIRED[preset])
    own = load(DPOSettings, [f"preset={preset}", "learning_rate=0.5"])
    assert own.learning_rate == 0.5


def test_losses_are_a_name_or_names_by_weight() -> None:
    assert losses_in(load(DPOSettings, ["loss=ipo"]).loss) == {"ipo": 1.0}
    assert load(DPOSettings, ["loss={sigmoid: 1, sft: 0.5}"]).losses == {"sigmoid": 1.0, "sft": 0.5}
    assert not load(DPOSettings, ["preset=orpo"]).needs_reference


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"loss": "sigmiod"}, "did you mean 'sigmoid'"),
        ({"loss": {"sft": 1.0}}, "a loss that compares is missing"),
        ({"loss": {"sigmoid": -1.0}}, "a weight is above 0"),
        ({"loss": {}}, "a loss that compares is missing"),
        ({"loss": "ipo", "label_smoothing": 0.1}, "label_smoothing=0.1 is for sigmoid and robust"),
        ({"loss": "robust"}, "say which share"),
        ({"gamma": 1.0}, "gamma=1 is the margin of simpo"),
        ({"loss": "simpo", "logprobs": "mean"}, "always takes the mean"),
    ],
)
def test_settings_that_contradict_each_other_are_one_sentence(given: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        settings(**given)
