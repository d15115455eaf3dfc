"""The loop: invariances of the gradient, the schedule, refusal of bad updates, checkpoints, exact resume."""

from __future__ import annotations

import json
from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

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
from tutelage import checkpoint
from tutelage.data.batch import TokenBatch
from tutelage.runs import Run, read_metrics
from tutelage.settings.train import TrainSettings
from tutelage.train.algorithm import Loss, Term, Updates
from tutelage.train.fit import accumulate, fit, heldout_metrics
from tutelage.train.optim import make_optimizer, schedule
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
    plain.load_state_dict(model.state_dict())
    for row in rows:
        ids = torch.from_numpy(row[0].ids).long()[None]
        logits = plain(input_ids=ids).logits[0, :-1].log_softmax(-1)
        chosen = logits.gather(1, ids[0, 1:, None])[:, 0]
        loss = -chosen[torch.from_numpy(row[0].loss_mask)[1:]].sum()
        (loss / sum(int(r[0].loss_mask[1:].sum()) for r in rows)).backward()
    assert_close(gradients(plain), found, 1e-6)  # transformers' RMSNorm and eager softmax compute in float32


def test_token_accuracy_and_loss_are_those_of_plain_transformers_in_any_micro_batches() -> None:
    tokenizer = make_tokenizer()
    model = make_model(tokenizer)
    plain = AutoModelForCausalLM.from_config(deepcopy(model.config), attn_implementation="eager")
    plain.load_state_dict(model.state_dict())
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
    batch = collate_rows(rows, range(40))
    for limit in (10**6, 60):
        found = heldout_metrics(algorithm, batch, settings_for(micro_batch_tokens=limit), CPU)
        assert found["eval_mean_token_accuracy"] == pytest.approx(np.mean(right), abs=1e-9)
        assert found["eval_loss"] == pytest.approx(np.mean(losses), rel=1e-5)
        assert set(found) == {"eval_loss", "eval_mean_token_accuracy"}


def test_schedules() -> None:
    base = {"learning_rate": 1.0, "warmup": 0.1, "min_rate": 0.1}
    linear = [schedule(TrainSettings(schedule="linear", **base), step, 100) for step in range(100)]
    assert linear[:10] == pytest.approx([(i + 1) / 10 for i in range(10)])
    assert linear[10] == 1.0 and linear[-1] == pytest.approx(1 / 90)
    cosine = [schedule(TrainSettings(schedule="cosine", **base), step, 100) for step in range(101)]
    assert cosine[10] == 1.0 and cosine[55] == pytest.approx(0.55) and cosine[100] == pytest.approx(0.1)
    assert schedule(TrainSettings(schedule="constant", warmup=0.0), 0, 100) == 1.0


def test_weight_decay_spares_embeddings_norms_and_biases() -> None:
    model = make_model(make_tokenizer())
    settings = TrainSettings(weight_decay=0.1)
    optimizer = make_optimizer({"policy": model}, settings)
    decayed = {id(p) for group in optimizer.param_groups if group["weight_decay"] for p in group["params"]}
    for name, parameter in model.named_parameters():
        assert (id(parameter) in decayed) == ("proj" in name or name == "lm_head.weight"), name


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
    with pytest.raises(ValueError, match=r"step 1: .*not finite.*rows \[5\]"):
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
        return {"eval_loss": heldout_metrics(algorithm, batch, settings, CPU)["eval_loss"]}

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
    assert set(checkpoint.steps(folder)) == {8, 9} | ({best} if best in range(8) else set())
    loaded = AutoModelForCausalLM.from_pretrained(folder / "step-00000009" / "policy")
    ids = torch.arange(5, 15)[None]
    assert torch.allclose(loaded(ids).logits, model(ids).logits, atol=1e-6)


def test_best_checkpoint_is_exported_when_asked(tmp_path: Path) -> None:
    """Twelve random rows are soon learnt by heart, so the best held-out loss is an early one."""
    model, run = train(tmp_path / "run", 40, load_best=True, learning_rate=2e-2, eval_every=1)
    evaluations = {line["step"]: line["eval_loss"] for line in read_metrics(run.folder) if line["step"] > 0}
    best = min(evaluations, key=lambda step: evaluations[step])
    assert best < 40
    saved = AutoModelForCausalLM.from_pretrained(run.folder / "checkpoints" / f"step-{best:08d}" / "policy")
    assert all(torch.equal(a, b) for a, b in zip(saved.parameters(), model.parameters(), strict=True))


def test_loss_falls(tmp_path: Path) -> None:
    _, run = train(tmp_path / "run", 40)
    losses = [line["loss"] for line in read_metrics(run.folder) if "loss" in line]
    assert losses[0] == pytest.approx(5.6, abs=0.3)  # ln 270 or so: an untrained model knows nothing
    assert losses[-1] < 2.5
