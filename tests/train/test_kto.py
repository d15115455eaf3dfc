"""KTO: against TRL's numbers, its baseline, its weights, and that it learns."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console
from scipy.optimize import brentq, minimize
from scipy.special import expit, log_softmax

from tests.oracle import BETA, SEQUENCES, TabularPolicy
from tests.train.making import CPU, make_model, make_tokenizer
from tests.train.test_oracle import WORLD, policy_table
from tests.train.test_oracle import tokens as row_of
from tutelage.data.batch import TokenBatch
from tutelage.data.order import Groups
from tutelage.data.preflight.responses import prepare_labelled
from tutelage.data.reading.formats import Dropped, read_labelled
from tutelage.launch import launch
from tutelage.models.loading import load_policy, save
from tutelage.models.policy import PolicyModule
from tutelage.ops.losses import kto
from tutelage.records import Labelled, Prompt
from tutelage.resume import read_metrics
from tutelage.runs import Run
from tutelage.settings.base import build
from tutelage.settings.preference import KTOSettings
from tutelage.train.fit import accumulate, fit
from tutelage.train.kto import KTO, Reference, Responses, Visits, Weights, refuse_one_sided

WORDS = ("cat", "dog", "mat", "red")


def settings(**given: Any) -> KTOSettings:
    return build(KTOSettings, {"out": "x", "data": "x", "tensorboard": False, **given})


def rows(n: int = 8) -> list[Labelled]:
    return [
        Labelled(Prompt(f"{i} +" + " the" * (i % 3)), f" {WORDS[i % 4]}" * (1 + i % 2), i % 2 == 0)
        for i in range(n)
    ]


def responses(some: Sequence[Labelled], seed: int = 0) -> Responses:
    found = prepare_labelled(make_tokenizer(), some, max_length=64, max_dropped_share=None)
    return Responses.of(found.examples, 64, seed)


def learner(tmp_path: Path, some: Responses, model: PolicyModule, weights: Weights, **given: Any) -> KTO:
    chosen = settings(out=tmp_path / "run", **given)
    run = Run.open(chosen.out, "kto", chosen)
    ref = Reference.of(model, some, Visits.all(len(some)), 1000, CPU, run)
    run.release()
    return KTO(model, some, ref, weights, chosen, CPU)


def test_the_loss_is_what_trl_computes() -> None:
    """TRL 1.16 (kto_trainer.py) on these numbers."""
    ratio = torch.tensor([0.7, -1.3, 4.0, -2.5], dtype=torch.float64)
    good = torch.tensor([True, True, False, False])
    found = kto(ratio, good, torch.tensor(0.4, dtype=torch.float64), beta=0.3)
    assert found.tolist() == pytest.approx([0.47751518, 0.62480651, 0.74649443, 0.29525430], abs=1e-6)
    zero = kto(torch.zeros(2), torch.tensor([True, False]), torch.tensor(0.0), beta=0.1)
    assert zero.tolist() == [0.5, 0.5]


def moved(model: PolicyModule) -> PolicyModule:
    """The model a little away from where it was."""
    noise = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=noise))
    return model


@pytest.mark.parametrize(("share", "part"), [(1.0, [0, 3, 5]), (0.5, [0, 3]), (0.1, [0])])
def test_the_baseline_is_the_mean_over_responses_of_others_and_none_is_its_own(
    tmp_path: Path, share: float, part: list[int]
) -> None:
    some, model = responses(rows()), make_model(make_tokenizer())
    assert sorted(some.other.tolist()) == list(range(8)) and (some.other != np.arange(8)).all()
    algorithm = learner(tmp_path, some, model, Weights(1, 1), baseline_share=share)
    ref, model = make_model(make_tokenizer()), moved(model)
    expected = []
    for row in part:
        other = TokenBatch.collate([*some.another(row)])
        expected.append((model.sequence_logprobs(other) - ref.sequence_logprobs(other)).item())
    found = algorithm.batch([0, 3, 5]).per_sequence["baseline"].tolist()
    assert found == pytest.approx([max(0, np.mean(expected))] * 3, abs=1e-4)


def test_the_reference_reads_what_the_steps_ask_for_and_no_more(tmp_path: Path) -> None:
    """Three epochs of 8 rows by 3, of which one is in the part: as with everything read."""
    some, model = responses(rows()), make_model(make_tokenizer())
    every = learner(tmp_path, some, model, Weights(1, 1), batch_size=3, baseline_share=0.25)
    chosen = settings(out=tmp_path / "few", batch_size=3, baseline_share=0.25)
    visits, run = Visits.until(2, some, chosen), Run.open(chosen.out, "kto", chosen)
    assert len(visits.rows) == 6 and len(visits.baseline) == 2
    ref = Reference.of(model, some, Visits.until(8, some, chosen), 1000, CPU, run)
    run.release()
    few = KTO(model, some, ref, Weights(1, 1), chosen, CPU)
    moved(model)
    for step in range(8):
        (one,), (other,) = next(every.batches(step)), next(few.batches(step))
        for name in ("ref_logprobs", "baseline"):
            torch.testing.assert_close(one.per_sequence[name], other.per_sequence[name])


def test_two_responses_to_a_prompt_are_visited_together_and_a_third_by_itself() -> None:
    asked = [Labelled(Prompt(text), f" {word}", True) for text in ("1 +", "2 +") for word in WORDS[:3]]
    some = responses([asked[0], asked[3], *asked[1:3], *asked[4:]])
    assert some.groups.of.tolist() == [0, 1, 0, 2, 1, 3]
    batch = some.collated([2, 0, 3, 1, 4], some.own)
    assert batch.unit_sizes == (2, 1, 2) and batch.rows == (2, 0, 3, 1, 4)


@pytest.mark.parametrize("to_each", [1, 2])
def test_no_gradient_depends_on_how_the_batch_is_cut(tmp_path: Path, to_each: int) -> None:
    """Also where two responses share a prompt, which is read once."""
    asked = [replace(row, prompt=rows()[n // to_each].prompt) for n, row in enumerate(rows())]
    some, model = responses(asked), make_model(make_tokenizer())
    assert len(set(some.groups.of.tolist())) == 8 // to_each
    algorithm = learner(tmp_path, some, model, Weights(2, 1), batch_size=8, baseline_share=0.5)
    moved(model)
    found = []
    for tokens in (1, 15, 10_000):
        totals = accumulate(algorithm, next(algorithm.batches(0)), tokens, CPU)
        found.append((totals.means(), [p.grad.clone() for p in model.parameters() if p.grad is not None]))
        model.zero_grad(set_to_none=True)
    for means, gradients in found[1:]:
        assert means == pytest.approx(found[0][0], rel=1e-4, abs=1e-5)
        for one, other in zip(gradients, found[0][1], strict=True):
            torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-3)


@pytest.mark.parametrize(
    ("good", "bad", "expected"), [(10, 10, (1, 1)), (13, 10, (1, 1)), (20, 10, (1, 1.5)), (5, 10, (2, 1))]
)
def test_weights_bring_both_kinds_into_balance(good: int, bad: int, expected: tuple[float, float]) -> None:
    said = np.array([True] * good + [False] * bad)
    found = Weights.of(settings(), said, Console(quiet=True))
    assert (found.good, found.bad) == pytest.approx(expected)
    assert 1 - 1e-9 <= found.good * good / (found.bad * bad) <= 4 / 3 + 1e-9
    assert Weights.of(settings(good_weight=3, bad_weight=2), said, Console(quiet=True)) == Weights(3, 2)


# ---- known optima ------------------------------------------------------------------------------------------------------

GOOD = np.round(5 * expit(WORLD.rewards.numpy()))
"""[15]: of five people asked about each sequence, how many call it good."""


def best_of_kto(good_weight: float, bad_weight: float) -> tuple[np.ndarray, float]:
    """Log-probabilities [15] of the optimum, and z there: the paper's loss, minimised by scipy over all policies for a given z,
    and the z that its own minimum has.  (With beta <= 1, p^beta / (p^beta + c) is concave in p, so where more weight calls every
    sequence good than bad there is one minimum.)"""
    ref, bad = WORLD.ref_logprobs.numpy(), 5 - GOOD

    def best(z: float) -> np.ndarray:
        def loss(logits: np.ndarray) -> float:
            above = BETA * (log_softmax(logits) - ref - z)
            return float(good_weight * GOOD @ (1 - expit(above)) + bad_weight * bad @ (1 - expit(-above)))

        found: np.ndarray = log_softmax(minimize(loss, ref, method="BFGS", options={"gtol": 1e-8}).x)
        return found

    def gap(z: float) -> float:
        return z - max(0.0, float(np.mean(best(z) - ref)))

    z = 0.0 if gap(0.0) >= 0 else float(brentq(gap, 0.0, 3.0, xtol=1e-8))
    return best(z), z


def trained_table(folder: Path, steps: int, weights: Weights, share: float) -> tuple[np.ndarray, float]:
    """Log-probabilities [15] of the table of the enumerable world after `steps` through the real loop, with all 75 labels in
    every batch; and its baseline at the end."""
    examples = [row_of(sequence) for sequence in SEQUENCES for _ in range(5)]
    good = np.array([n < count for count in GOOD for n in range(5)])
    some = Responses(examples, good, np.roll(np.arange(75), 7), Groups(np.arange(75)), 64)
    chosen = settings(
        out=folder,
        beta=BETA,
        baseline_share=share,
        batch_size=75,
        learning_rate=0.05,
        warmup=0.0,
        max_grad_norm=0.0,
        save_every=10_000,
    )
    policy, run = policy_table(), Run.open(folder, "kto", chosen)
    ref = Reference.of(policy, some, Visits.all(75), 100_000, CPU, run)
    algorithm = KTO(policy, some, ref, weights, chosen, CPU)
    fit(algorithm, chosen, CPU, run, steps=steps, tokenizer=make_tokenizer())
    run.close()
    table: Any = policy.host
    found = TabularPolicy(table.score.weight.detach().T).sequence_logprobs().detach().double().numpy()
    return found, read_metrics(folder)[-1]["kl_baseline"]


@pytest.mark.slow
def test_it_reaches_the_optimum_that_its_loss_has(tmp_path: Path) -> None:
    """Good responses weigh five times as much, so that every sequence is worth some probability and the baseline is not 0; from
    all rows, which gives it without noise."""
    best, z = best_of_kto(5.0, 1.0)
    found, baseline = trained_table(tmp_path / "run", 300, Weights(5.0, 1.0), share=1.0)
    assert z > 0.5 and baseline == pytest.approx(z, abs=1e-3)
    assert np.exp(found) @ (found - best) < 1e-3
    others = (WORLD.ref_logprobs, WORLD.best_logprobs, torch.from_numpy(best_of_kto(2.0, 1.0)[0]))
    assert all(np.exp(found) @ (found - other.numpy()) > 0.01 for other in others)


@pytest.mark.slow
def test_what_more_people_call_bad_is_left(tmp_path: Path) -> None:
    """With equal weights a sequence counts by how many more call it good than bad: the optimum is 0 where that is below 0, and
    there the baseline is 0."""
    best, z = best_of_kto(1.0, 1.0)
    assert z == 0 and (np.exp(best[GOOD < 2.5]) < 1e-8).all()
    found, baseline = trained_table(tmp_path / "run", 400, Weights(1.0, 1.0), share=0.25)
    assert baseline == 0
    assert np.exp(found) == pytest.approx(np.exp(best), abs=0.02)


@pytest.mark.slow
def test_it_learns_what_is_good_from_a_file_and_goes_on_to_the_bit(tmp_path: Path) -> None:
    tokenizer = make_tokenizer()
    save(make_model(tokenizer), tokenizer, tmp_path / "base" / "model")
    with (tmp_path / "rows.jsonl").open("w") as file:
        for i in range(120):
            word = WORDS[i % 4]
            file.write(
                json.dumps({"prompt": f"{i} +", "completion": f" {word}", "label": word in ("cat", "dog")})
                + "\n"
            )

    def train(out: str, steps: int) -> Path:
        given = {
            "model": str(tmp_path / "base"),
            "data": str(tmp_path / "rows.jsonl"),
            "batch_size": 16,
            "learning_rate": 3e-3,
        }
        given |= {
            "schedule": "constant",
            "warmup": 0.0,
            "save_every": 10,
            "precision": "fp32",
            "max_steps": steps,
        }
        launch("kto", settings(out=tmp_path / out, **given), Console(quiet=True))
        return tmp_path / out

    whole = train("whole", 40)
    lines = read_metrics(whole)
    first = next(line for line in lines if "loss" in line)
    assert first["loss"] == pytest.approx(0.5, abs=0.1) and first["rewards/chosen"] == pytest.approx(
        0, abs=1e-6
    )
    assert lines[-1]["eval_rewards/chosen"] > lines[-1]["eval_rewards/rejected"] + 0.1
    train("parted", 20)
    parted = train("parted", 40)
    one, other = (load_policy(run).state_dict() for run in (whole, parted))
    assert all(torch.equal(value, other[name]) for name, value in one.items())


def test_bad_labels_are_named_with_their_rows(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    given: list[dict[str, Any]] = [
        {"prompt": "a", "completion": "b", "label": True},
        {"prompt": "a", "completion": "b", "label": "perhaps"},
        {"prompt": "a", "completion": "b"},
        {"prompt": "a", "chosen": "x", "rejected": "y"},
        {"instruction": "q", "output": "r", "kto_tag": "false"},
        {"prompt": "a", "chosen": "x", "rejected": "y", "p_chosen": 0.5},
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in given))
    found = list(read_labelled(str(path)).walk())
    said = [row.reason if isinstance(row, Dropped) else (row.response, row.good) for row in found]
    assert said[0] == ("b", True) and said[3:6] == [("x", True), ("y", False), ("r", False)]
    assert "label must be true or false" in said[1] and said[2] == "with no label" and "tie" in said[6]


def test_one_kind_alone_and_one_weight_alone_are_refused() -> None:
    with pytest.raises(ValueError, match="all 4 labelled responses are good"):
        refuse_one_sided(responses([Labelled(Prompt(f"{i} +"), " cat", True) for i in range(4)]))
    with pytest.raises(ValueError, match="set both"):
        settings(good_weight=1)
    with pytest.raises(ValueError, match="baseline_share"):
        settings(baseline_share=0)
    with pytest.raises(ValueError, match="batch_size"):
        settings(batch_size=1)
