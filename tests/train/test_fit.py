"""The loop: invariances of the gradient, the schedule, refusal of bad updates, checkpoints, exact resume."""

from __future__ import annotations

import json
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from tests.models import zoo
from tests.ranks import on_ranks
from tests.train.making import (
    CPU,
    batch_at,
    collate_rows,
    gradients,
    make_model,
    make_rows,
    make_run,
    make_tokenizer,
)
from tutelage.data.batch import TokenBatch, Tokens
from tutelage.models import forward
from tutelage.models.forward import padded_inputs
from tutelage.models.loading import policy_module
from tutelage.models.sharding import whole
from tutelage.parallel import World
from tutelage.resume import checkpoint_steps, read_metrics
from tutelage.runs import Run
from tutelage.settings.rl import PPOSettings
from tutelage.settings.train import TrainSettings
from tutelage.train.algorithm import Loss, Sum, Term, Updates
from tutelage.train.fit import State, accumulate, fit, heldout_metrics
from tutelage.train.optim import make_optimizer, set_rates
from tutelage.train.sft import LanguageModelling


def assert_close(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor], tolerance: float) -> None:
    scale = max(float(value.abs().max()) for value in a.values())
    assert scale > 0 and a.keys() == b.keys()
    for name, value in a.items():
        assert float((value - b[name]).abs().max()) <= tolerance * scale, name


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-10)])
def test_gradient_does_not_depend_on_micro_batches_or_order(dtype: torch.dtype, tolerance: float) -> None:
    tokenizer = make_tokenizer()
    model = make_model(tokenizer).to(dtype)
    rows = make_rows(8)
    algorithm = LanguageModelling(model, batch_at(rows, 8))
    whole = collate_rows(rows, range(8))
    total = accumulate(algorithm, [whole], 10**6, CPU).means()
    expected = gradients(model)
    for units in (1, 2, 4, 8):  # micro-batches of so many sequences
        limit = {1: 1, 2: 30, 4: 60, 8: 10**6}[units]
        part = accumulate(algorithm, [whole], limit, CPU).means()
        assert_close(expected, gradients(model), tolerance)
        assert part == pytest.approx(total, rel=tolerance)
    shuffled = accumulate(algorithm, [whole.take([3, 1, 7, 0, 2, 6, 5, 4])], 10**6, CPU).means()
    assert_close(expected, gradients(model), tolerance)
    assert shuffled == pytest.approx(total, rel=tolerance)
    parts = [whole.take([3, 1, 7]), whole.take([0, 2, 6, 5, 4])]  # one update of two batches
    assert accumulate(algorithm, parts, 10**6, CPU).means() == pytest.approx(total, rel=tolerance)
    assert_close(expected, gradients(model), tolerance)


def test_packed_rows_give_the_gradient_of_rows_alone() -> None:
    """One row of several documents = the sum over the documents, each computed by itself with plain transformers."""
    tokenizer = make_tokenizer()
    model = make_model(tokenizer).double()
    rows = make_rows(5)
    packed = [[sequence for row in rows for sequence in row]]
    accumulate(LanguageModelling(model, batch_at(packed, 1)), [collate_rows(packed, [0])], 10**6, CPU)
    found = gradients(model)
    plain = AutoModelForCausalLM.from_config(model.config, attn_implementation="eager").double()
    plain.load_state_dict(model.host.state_dict())
    for row in rows:
        ids = torch.from_numpy(row[0].ids).long()[None]
        logits = plain(input_ids=ids).logits[0, :-1].log_softmax(-1)
        chosen = logits.gather(1, ids[0, 1:, None])[:, 0]
        loss = -chosen[torch.from_numpy(row[0].loss_mask)[1:]].sum()
        (loss / sum(int(r[0].loss_mask[1:].sum()) for r in rows)).backward()
    assert_close(
        gradients(plain), {n.removeprefix("model."): g for n, g in found.items()}, 1e-6
    )  # transformers' RMSNorm and eager softmax compute in float32


def test_token_accuracy_and_loss_are_those_of_plain_transformers_in_any_micro_batches() -> None:
    tokenizer = make_tokenizer()
    model = make_model(tokenizer)
    plain = AutoModelForCausalLM.from_config(deepcopy(model.config), attn_implementation="eager")
    plain.load_state_dict(model.host.state_dict())
    rows = make_rows(40)
    right, losses = [], []
    for number, (row,) in enumerate(rows):
        row.loss_mask[:-2] = False
        ids, mask = torch.from_numpy(row.ids).long(), torch.from_numpy(row.loss_mask)[1:]
        with torch.no_grad():
            logits = plain(input_ids=ids[None]).logits[0, :-1]
        if number % 2:  # an untrained model is hardly ever right: let some rows end in what it says
            row.ids[-1] = ids[-1] = logits[-1].argmax()
        right += (logits.argmax(-1) == ids[1:])[mask].tolist()
        losses += torch.nn.functional.cross_entropy(logits, ids[1:], reduction="none")[mask].tolist()
    assert 0.1 < np.mean(right) < 0.9
    algorithm = LanguageModelling(model, batch_at(rows, 5))
    whole = [collate_rows(rows, range(40))]
    parts = [
        collate_rows(rows, range(15)),
        collate_rows(rows, range(15, 16)),
        collate_rows(rows, range(16, 40)),
    ]
    for batches, limit in ((whole, 10**6), (whole, 60), (parts, 60)):
        found = heldout_metrics(algorithm, batches, settings_for(micro_batch_tokens=limit), CPU)
        assert found["eval_mean_token_accuracy"] == pytest.approx(np.mean(right), abs=1e-9)
        assert found["eval_loss"] == pytest.approx(np.mean(losses), rel=1e-5)
        assert set(found) == {"eval_loss", "eval_mean_token_accuracy"}


def test_schedules() -> None:
    base = {"learning_rate": 1.0, "warmup": 0.1, "min_rate": 0.1}
    linear = [TrainSettings(schedule="linear", **base).rate(step, 100) for step in range(100)]
    assert linear[:10] == pytest.approx([(i + 1) / 10 for i in range(10)])
    assert linear[10] == 1.0 and linear[-1] == pytest.approx(1 / 90)
    cosine = [TrainSettings(schedule="cosine", **base).rate(step, 100) for step in range(101)]
    assert cosine[10] == 1.0 and cosine[55] == pytest.approx(0.55) and cosine[100] == pytest.approx(0.1)
    assert TrainSettings(schedule="constant", warmup=0.0).rate(0, 100) == 1.0


def test_weight_decay_spares_embeddings_norms_and_biases() -> None:
    model = make_model(make_tokenizer())
    settings = TrainSettings(weight_decay=0.1)
    optimizer = make_optimizer({"policy": model}, settings)
    decayed = {id(p) for group in optimizer.param_groups if group["weight_decay"] for p in group["params"]}
    for name, parameter in model.named_parameters():
        assert (id(parameter) in decayed) == ("proj" in name or name == "model.lm_head.weight"), name


class Planted:
    """Language modelling, with a loss that is not finite for one row from a given step on."""

    def __init__(self, inner: LanguageModelling, row: int) -> None:
        self.trained, self._inner, self._row = inner.trained, inner, row

    def batches(self, step: int) -> Updates:
        return self._inner.batches(step)

    def loss(self, batch: TokenBatch) -> Loss:
        term = self._inner.loss(batch).terms["nll"]
        factor = float("nan") if self._row in batch.rows else 1.0
        return Loss({"nll": Term(term.sum * factor, "tokens")})


def settings_for(**changes: object) -> TrainSettings:
    values: dict[str, object] = {
        "learning_rate": 1e-2,
        "save_every": 2,
        "eval_every": 2,
        "tensorboard": False,
        "micro_batch_tokens": 40,
    }
    return TrainSettings(**{**values, **changes})  # type: ignore[arg-type]


def test_non_finite_update_is_refused_and_named(tmp_path: Path) -> None:
    tokenizer = make_tokenizer()
    model = make_model(tokenizer)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    settings = settings_for()
    algorithm = Planted(LanguageModelling(model, batch_at(make_rows(8), 8)), row=5)
    run = make_run(tmp_path / "run", settings)
    with pytest.raises(ValueError, match=r"step 1: .*not finite, caused by row 5;"):
        fit(algorithm, settings, CPU, run, steps=3, tokenizer=tokenizer)
    assert all(torch.equal(before[name], p) for name, p in model.named_parameters())
    [kept] = torch.load(tmp_path / "run" / "nonfinite-step-1.pt", weights_only=True)
    assert set(kept["rows"]) == set(range(8)) and len(kept["ids"]) == sum(kept["lengths"])
    assert not (tmp_path / "run" / "checkpoints").exists()


def train(
    folder: Path, steps: int, stop: int | None = None, **changes: object
) -> tuple[torch.nn.Module, Run]:
    """Train the tiny model; `stop` breaks off (by an exception) in the middle of that step."""
    tokenizer = make_tokenizer()
    model = make_model(tokenizer)
    rows = make_rows(12)
    settings = settings_for(**changes)

    class Stopping(LanguageModelling):
        def batches(self, step: int) -> Updates:
            if step == stop:
                raise KeyboardInterrupt
            return super().batches(step)

    run = make_run(folder, settings)
    algorithm = Stopping(model, batch_at(rows, 5))
    held_out = make_rows(3, seed=9)

    def evaluate() -> dict[str, float]:
        batch = collate_rows(held_out, range(3))
        return {"eval_loss": heldout_metrics(algorithm, [batch], settings, CPU)["eval_loss"]}

    try:
        fit(algorithm, settings, CPU, run, steps=steps, tokenizer=tokenizer, evaluate=evaluate)
    except KeyboardInterrupt:
        pass
    finally:
        run.close()
        run.release()
    return model, run


def test_resume_is_bit_exact_and_metrics_have_no_gap(tmp_path: Path) -> None:
    whole, run = train(tmp_path / "whole", 9)
    for stop in (1, 5, 8):
        train(tmp_path / f"stop{stop}", 9, stop=stop)
        torch.manual_seed(stop)  # global randomness must not matter
        again, resumed = train(tmp_path / f"stop{stop}", 9)
        for (name, a), (_, b) in zip(whole.named_parameters(), again.named_parameters(), strict=True):
            assert torch.equal(a, b), (stop, name)
        lines, expected = read_metrics(resumed.folder), read_metrics(run.folder)
        assert [line["step"] for line in lines] == list(range(10))
        for line, other in zip(lines, expected, strict=True):
            timeless = {k: v for k, v in line.items() if not k.startswith(("time/", "tokens_per_second"))}
            assert timeless == {k: other[k] for k in timeless}


def test_half_written_checkpoint_and_metrics_are_survived(tmp_path: Path) -> None:
    whole, _ = train(tmp_path / "whole", 6)
    train(tmp_path / "cut", 6, stop=5)
    folder = tmp_path / "cut" / "checkpoints"
    (folder / ".step-00000006.partial").mkdir()
    (folder / ".step-00000006.partial" / "optimizer.pt").write_bytes(b"half")
    with (tmp_path / "cut" / "metrics.jsonl").open("a") as stream:
        stream.write('{"step": 5, "lo')
    again, _ = train(tmp_path / "cut", 6)
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), again.parameters(), strict=True))


def test_checkpoints_load_in_plain_transformers_and_are_pruned(tmp_path: Path) -> None:
    model, run = train(tmp_path / "run", 9, keep_checkpoints=2)
    folder = run.folder / "checkpoints"
    best = json.loads((folder / "step-00000009" / "state.json").read_text())["best_step"]
    assert set(checkpoint_steps(folder)) == {8, 9} | ({best} if best in range(8) else set())
    loaded = AutoModelForCausalLM.from_pretrained(folder / "step-00000009" / "policy")
    ids = torch.arange(5, 15)[None]
    assert torch.allclose(loaded(ids).logits, model.host(ids).logits, atol=1e-6)


@pytest.mark.slow
def test_best_checkpoint_is_exported_when_asked(tmp_path: Path) -> None:
    """Twelve random rows are soon learnt by heart, so the best held-out loss is an early one."""
    model, run = train(tmp_path / "run", 40, load_best=True, learning_rate=2e-2, eval_every=1)
    evaluations = {line["step"]: line["eval_loss"] for line in read_metrics(run.folder) if line["step"] > 0}
    best = min(evaluations, key=lambda step: evaluations[step])
    assert best < 40
    saved = AutoModelForCausalLM.from_pretrained(run.folder / "checkpoints" / f"step-{best:08d}" / "policy")
    assert all(torch.equal(a, b) for a, b in zip(saved.parameters(), model.parameters(), strict=True))


@pytest.mark.slow
def test_loss_falls(tmp_path: Path) -> None:
    _, run = train(tmp_path / "run", 40)
    losses = [line["loss"] for line in read_metrics(run.folder) if "loss" in line]
    assert losses[0] == pytest.approx(5.6, abs=0.3)  # ln 270 or so: an untrained model knows nothing
    assert losses[-1] < 2.5


class Mixed:
    """Two objectives in one update: language modelling of text, per token, and a margin between pairs, per pair."""

    def __init__(self, model: torch.nn.Module, text: TokenBatch, pairs: TokenBatch) -> None:
        self.trained = {"policy": model}
        self._model, self._text, self._pairs = model, text, pairs

    def batches(self, step: int) -> Updates:
        yield [self._text, self._pairs]

    def loss(self, batch: TokenBatch) -> Loss:
        if batch.objective == "text":
            return LanguageModelling(self._model, lambda step: self._text).loss(batch)
        sums = self._model.sequence_logprobs(batch).view(-1, 2)
        return Loss(
            {
                "margin": Term((sums[:, 0] - sums[:, 1]).square().sum(), "pairs", 0.01),
                "length": Term(sums.sum(), "sequences", 0.5),
            },
            {"chosen": Sum(sums[:, 0].detach().sum(), "pairs")},
        )


@pytest.mark.parametrize("limit", [1, 40, 10**6])
def test_each_objective_is_averaged_over_its_own_units(limit: int) -> None:
    """Several terms and objectives, any micro-batches: the gradient of the means, each computed apart."""
    model = make_model(make_tokenizer()).double()
    rows = make_rows(13)
    text = replace(collate_rows(rows, range(5)), objective="text")
    pairs = replace(collate_rows(rows, range(5, 13)), unit_sizes=(2,) * 4)
    sums = model.sequence_logprobs(pairs)
    alone = {
        "text": -model.sequence_logprobs(text).sum() / int(text.loss_mask.sum()),
        "margin": (sums[::2] - sums[1::2]).square().mean(),
        "length": sums.mean(),
    }
    (alone["text"] + 0.01 * alone["margin"] + 0.5 * alone["length"]).backward()
    expected = gradients(model)
    means = accumulate(Mixed(model, text, pairs), [text, pairs], limit, CPU).means()
    assert_close(expected, gradients(model), 1e-7)
    values = {name: value.item() for name, value in alone.items()}
    total = values["text"] + 0.01 * values["margin"] + 0.5 * values["length"]
    assert means["loss"] == pytest.approx(total, rel=1e-6)
    assert means["loss/margin_avg"] == pytest.approx(values["margin"], rel=1e-6)
    assert means["text/loss/nll_avg"] == pytest.approx(values["text"], rel=1e-6)
    assert means["chosen"] == pytest.approx(sums[::2].mean().item(), rel=1e-6)


def test_metrics_of_an_update_come_back_to_the_algorithm(tmp_path: Path) -> None:
    model = make_model(make_tokenizer())
    rows, replies = make_rows(8), []

    class Listening(LanguageModelling):
        def batches(self, step: int) -> Updates:
            for part in ([0, 1, 2], [3, 4]):
                replies.append((yield [collate_rows(rows, part)]))

    settings = settings_for()
    run = make_run(tmp_path / "run", settings)
    fit(Listening(model, batch_at(rows, 5)), settings, CPU, run, steps=1, tokenizer=make_tokenizer())
    (line,) = read_metrics(run.folder)
    counts = [int(collate_rows(rows, part).loss_mask.sum()) for part in ([0, 1, 2], [3, 4])]
    mean = sum(reply["loss"] * count for reply, count in zip(replies, counts, strict=True)) / sum(counts)
    assert len(replies) == 2 and line["loss"] == pytest.approx(mean)


def test_a_learning_rate_per_trained_model(tmp_path: Path) -> None:
    """The critic's own rate holds for the critic alone, through schedule, checkpoint and resume."""
    settings = PPOSettings(prompts="-", learning_rate=1e-3, critic_learning_rate=5e-3)
    models = {"policy": make_model(make_tokenizer()), "critic": make_model(make_tokenizer(), seed=1)}
    optimizer = make_optimizer(models, settings)
    set_rates(optimizer, 0.5)
    of = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    for name, rate in (("policy", 5e-4), ("critic", 2.5e-3)):
        assert {of[id(p)] for p in models[name].parameters()} == {rate}
    shared = make_optimizer(models, PPOSettings(prompts="-", learning_rate=1e-3))
    assert {group["peak"] for group in shared.param_groups} == {1e-3}


def test_micro_batches_of_a_model_that_pads_are_counted_with_their_padding(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = policy_module(zoo.build("gptj"), "gptj")
    laid_out = []

    def counted(*args: Any) -> Any:
        inputs, real = padded_inputs(*args)
        laid_out.append(real.shape)
        return inputs, real

    monkeypatch.setattr(forward, "padded_inputs", counted)
    rows = [[Tokens(np.full(n, 5, np.int32), np.ones(n, bool))] for n in (40, *[3] * 30)]
    algorithm = LanguageModelling(model, batch_at(rows, 31))
    accumulate(algorithm, [collate_rows(rows, range(31))], 60, CPU)
    assert sum(rows for rows, _ in laid_out) == 31
    assert all(rows * width <= 60 for rows, width in laid_out)


def test_the_best_checkpoint_is_what_best_says(tmp_path: Path) -> None:
    found = {"eval_a": 1.0, "eval_b": 1.0}
    for best, steps in (("max:eval_a", [0, 1, 2]), ("min:eval_b", [0, 1, 2]), ("min:eval_a", [0])):
        state = State()
        for step in range(3):
            state.step = step
            state.see({"eval_a": float(step), "eval_b": -float(step)}, best)
        assert state.best_step == steps[-1], best
    with pytest.raises(
        ValueError, match=r"best=max:eval_c: the evaluation has no eval_c; it has eval_a, eval_b"
    ):
        State().see(found, "max:eval_c")
    with pytest.raises(ValueError, match="best"):
        TrainSettings(best="eval_a")


@pytest.mark.parametrize("batch_size", [pytest.param(5, marks=pytest.mark.slow), 1])
def test_two_ranks_give_the_run_of_one(tmp_path: Path, batch_size: int) -> None:
    """Ragged batches of an odd number of rows, and batches of which one rank has nothing."""
    tokenizer, rows = make_tokenizer(), make_rows(12)
    settings = settings_for(
        weight_decay=0.1, adam_epsilon=1e-4
    )  # Adam blows rounding up where gradients vanish

    def train_on(world: World, folder: Path) -> dict[str, torch.Tensor] | None:
        model = make_model(tokenizer)
        algorithm = LanguageModelling(model, batch_at(rows, batch_size))
        held_out = collate_rows(rows, range(7))
        run = make_run(folder, settings)
        fit(
            algorithm,
            settings,
            world,
            run,
            steps=6,
            tokenizer=tokenizer,
            evaluate=lambda: heldout_metrics(algorithm, [held_out], settings, world),
        )
        run.close()
        plain = whole(model, world)
        return None if plain is None else plain.state_dict()

    alone = train_on(CPU, tmp_path / "alone")
    found, nothing = on_ranks(
        2, tmp_path / "ranks", lambda world: train_on(world, tmp_path / "ranks" / f"run{world.rank}")
    )
    assert nothing is None and alone is not None
    for name, weight in alone.items():
        assert torch.allclose(found[name], weight, atol=2e-6), name
    assert checkpoint_steps(tmp_path / "ranks" / "run0" / "checkpoints") == [6]
    assert not (tmp_path / "ranks" / "run1" / "checkpoints").exists()
    for line, expected in zip(
        read_metrics(tmp_path / "ranks" / "run0"), read_metrics(tmp_path / "alone"), strict=True
    ):
        kept = {k: v for k, v in expected.items() if not k.startswith(("time/", "tokens_per"))}
        assert {k: line[k] for k in kept} == pytest.approx(kept, rel=1e-4, abs=1e-6)
