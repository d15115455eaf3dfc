"""The benchmarks: every case does its work with a tiny model, and what they count is right."""

from __future__ import annotations

import json
import math
import sys
from dataclasses import replace
from io import StringIO
from pathlib import Path

import pytest
import torch
from rich.console import Console
from transformers import LlamaConfig, LlamaForCausalLM

from benchmarks import data, prefix, verifiers
from benchmarks.measure import _sum_up
from benchmarks.models import write_models
from benchmarks.ours import run
from benchmarks.peers import peers_for
from benchmarks.settings import BenchSettings
from benchmarks.table import table
from benchmarks.turns import Step, Worker
from benchmarks.work import CASES, SHAPES, WARMUP, Work, flops_per_step, forward, write_rows
from tutelage.models.loading import load_policy, load_tokenizer
from tutelage.resume import read_metrics
from tutelage.settings.base import load


class Stop(Exception):
    """No more turns."""


class OneTurn:
    """Ends the work after its first step."""

    def wait(self) -> None:
        raise Stop


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bench")
    write_models(work("sft", folder))
    return folder


def work(case: str, folder: Path, **changes: object) -> Work:
    made = Work(case, "XS", rounds=2, precision="fp32", threads=0, folder=str(folder))
    return replace(made, **changes)  # type: ignore[arg-type]


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_our_side_does_the_work_of_every_case(case: str, folder: Path) -> None:
    made = work(case, folder)
    write_rows(made)
    with pytest.raises(Stop):
        run(made, OneTurn())
    if case == "generation":
        return
    line = read_metrics(folder / f"run-{case}-XS")[0]
    passes = 4 if case == "ppo" else 1
    if CASES[case].ragged:
        sequences = CASES[case].rows * (2 if CASES[case].paired else 1)
        assert sequences * 16 <= line["num_tokens"] <= sequences * 256
    else:
        assert line["num_tokens"] == passes * made.tokens_per_step()
    assert math.isfinite(line["loss"])


@pytest.mark.parametrize("case", ["sft_ragged", "dpo", "reward_ragged"])
def test_rows_have_the_tokens_that_are_counted(case: str, folder: Path) -> None:
    made = work(case, folder)
    write_rows(made)
    tokenizer = load_tokenizer(made.policy)
    rows = [json.loads(line) for line in made.data.read_text(encoding="utf-8").splitlines()]
    answers = ("chosen", "rejected") if made.kind.paired else ("completion",)
    tokens = [1 + len(tokenizer(row["prompt"] + row[key])["input_ids"]) for row in rows for key in answers]
    assert sum(tokens) * made.rounds == len(rows) // made.kind.rows * made.tokens_per_step() * made.rounds
    timed = made.rounds if made.kind.ragged else WARMUP + made.rounds
    assert len(rows) >= timed * made.kind.rows


def test_special_tokens_are_never_sampled(folder: Path) -> None:
    model = load_policy(work("sft", folder).policy)
    ids = torch.randint(3, SHAPES["XS"].vocabulary, (4, 40), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        probabilities = model.host(ids).logits.softmax(-1)
    assert probabilities[..., :2].max() == 0
    assert probabilities.max() < 0.1


def test_matrix_weights_of_a_shape() -> None:
    for shape in SHAPES.values():
        config = LlamaConfig(
            vocab_size=shape.vocabulary,
            hidden_size=shape.hidden,
            num_hidden_layers=shape.layers,
            num_attention_heads=shape.heads,
            intermediate_size=shape.mlp,
            tie_word_embeddings=True,
        )
        with torch.device("meta"):
            model = LlamaForCausalLM(config)
        matrices = sum(p.numel() for name, p in model.named_parameters() if p.ndim == 2 and "layers" in name)
        assert shape.block == matrices


def test_operations_of_a_forward_pass_are_what_torch_counts() -> None:
    """torch counts every product of a dense causal attention, twice as many as are needed (less the diagonal)."""
    from torch.utils.flop_counter import FlopCounterMode

    shape, rows, length = SHAPES["XS"], 3, 10
    config = LlamaConfig(
        vocab_size=shape.vocabulary,
        hidden_size=shape.hidden,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        intermediate_size=shape.mlp,
        attn_implementation="eager",
    )
    ids = torch.zeros(rows, length, dtype=torch.long)
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        LlamaForCausalLM(config)(ids)
    full = 4 * shape.hidden * shape.layers * rows * length**2
    causal = 4 * shape.hidden * shape.layers * rows * length * (length + 1) / 2
    rotary = length * (shape.hidden // shape.heads)  # positions times frequencies
    counted = counter.get_total_flops() - rotary
    assert forward(shape, [length] * rows, rows * length) - causal + full == pytest.approx(counted, rel=0.01)


def test_operations_of_the_cases(tmp_path: Path) -> None:
    """Hand-made sums at XS: 2 layers, width 32, MLP 64, 256 words: 20480 weights in the layers, 8192 in the head."""

    def tokens(count: int, length: int) -> float:
        return count * length * (2 * 20480 + 4 * 32 * 2 * (length + 1) / 2)

    head = 2 * 8192
    pairs = tokens(16, 256) - tokens(8, 128)  # a pair's prompt is read once
    assert flops_per_step(work("reward", tmp_path)) == 3 * pairs
    assert flops_per_step(work("dpo", tmp_path)) == 3 * (pairs + 16 * 128 * head)
    assert flops_per_step(work("kto_pairs", tmp_path)) == 3.25 * (pairs + 16 * 128 * head)
    assert flops_per_step(work("kto", tmp_path)) == 3.25 * (tokens(16, 256) + 16 * 128 * head)
    assert flops_per_step(work("sft", tmp_path)) == 3 * (tokens(16, 256) + 16 * 255 * head)
    generated = tokens(64, 95) + 64 * 64 * head
    assert flops_per_step(work("generation", tmp_path)) == generated
    policy, scalar = tokens(64, 96) + 64 * 64 * head, tokens(64, 96)
    assert flops_per_step(work("ppo", tmp_path)) == generated + policy + 2 * scalar + 12 * (policy + scalar)
    prompts = tokens(48, 32)  # a prompt is read once for its four responses
    assert flops_per_step(work("rloo", tmp_path)) == generated - prompts + 4 * (policy - prompts)


def test_arithmetic_of_a_prompt_that_is_computed_once() -> None:
    """Of 128 x 320 tokens, 112 x 256 need not be computed: 70 % of what is in proportion to tokens, less of attention."""
    settings = prefix.PrefixSettings()
    for size in ("S", "M"):
        share = prefix.expected("critic", SHAPES[size], settings)
        attention = 256 * 257 / (320 * 321) * 7 / 8
        assert min(0.7, attention) < share < max(0.7, attention)


@pytest.mark.slow
def test_a_shared_prompt_is_timed_both_ways(tmp_path: Path) -> None:
    settings = prefix.PrefixSettings(rounds=1, prompts=2, samples=2, prompt=8, response=4)
    parts = prefix.measure(settings, "XS", "fp32", tmp_path)
    assert [one.part.split(",")[0] for one in parts] == [
        "log-probabilities",
        "generation",
        "policy",
        "critic",
    ]
    assert all(one.shared_s > 0 and one.anew_s > 0 for one in parts)


@pytest.mark.parametrize("kind", ["verify:numeric", "verify:maths", "verify:code"])
def test_half_of_the_answers_that_are_timed_are_right(kind: str) -> None:
    rate = verifiers.verify(kind, 8)
    assert rate.right == 0.5 and rate.per_s > 0


@pytest.mark.slow
def test_rows_are_measured_from_the_file_to_a_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUTELAGE_CACHE", str(tmp_path / "cache"))  # `measure` sets it
    settings = data.DataBenchSettings(tokens=16, heldout=5, batch_size=4)
    write_models(work("sft", tmp_path))
    data.write_rows(tmp_path / "rows.jsonl", 60, settings.tokens)
    tokenizer = load_tokenizer(work("sft", tmp_path).policy)
    rows = [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text().splitlines()]
    assert {len(tokenizer(row["prompt"] + row["completion"])["input_ids"]) for row in rows} == {
        15
    }  # and the end
    assert len({row["prompt"] for row in rows}) == 60
    result = data.measure(settings, 60, tmp_path)
    assert all(value > 0 for value in vars(result).values()) and result.peak_mib >= result.start_mib
    preflight = json.loads((tmp_path / "first" / "preflight.json").read_text())
    assert preflight["kept"] == preflight["rows"] and preflight["lengths"]["min"] == 16
    console = Console(width=80, file=StringIO())
    console.print(data.table([result]))
    assert "60 rows" in console.file.getvalue()  # type: ignore[attr-defined]


def test_a_worker_runs_one_step_per_turn(tmp_path: Path) -> None:
    script = (
        "from benchmarks.turns import Turns\n"
        "turns = Turns()\n"
        "print('not for the channel')\n"
        "while True:\n    turns.wait()\n"
    )
    worker = Worker([sys.executable, "-c", script], {}, tmp_path / "log")
    worker.ready()
    steps = [worker.turn() for _ in range(3)]
    worker.close()
    assert all(0 <= step.seconds < 5 and step.peak_mib > 1 for step in steps)
    assert "not for the channel" in (tmp_path / "log").read_text()


def test_a_worker_that_stops_early_says_why(tmp_path: Path) -> None:
    worker = Worker([sys.executable, "-c", "raise SystemExit('no such model')"], {}, tmp_path / "log")
    with pytest.raises(RuntimeError, match="no such model"):
        worker.ready()
    worker.close()


def test_speedup_is_the_median_over_neighbouring_steps(tmp_path: Path) -> None:
    ours = [
        Step(1.0, 1.0, 10),
        Step(2.0, 1.0, 10),
        Step(10.0, 1.0, 10),
    ]  # the last two were disturbed, and so were theirs
    theirs = [Step(3.0, 2.0, 20), Step(6.0, 2.0, 20), Step(20.0, 3.0, 20)]
    result = _sum_up(work("sft", tmp_path, rounds=3), "TRL", theirs, ours, gflops=1.0)
    assert (result.speedup, result.step_s, result.cpu_s, result.peak_mib) == (3.0, 6.0, 2.0, 20)
    assert result.tokens_per_s == 16 * 256 / 6.0
    assert result.share == pytest.approx(flops_per_step(work("sft", tmp_path, rounds=3)) / 6e9)
    ragged = _sum_up(work("sft_ragged", tmp_path, rounds=3), "TRL", theirs, ours, gflops=1.0)
    assert ragged.speedup == pytest.approx(29 / 13)
    console = Console(width=110, file=StringIO())
    console.print(table([result]))
    assert "3.00 x" in console.file.getvalue()  # type: ignore[attr-defined]


def test_trl_is_left_out_with_a_reason(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("TRL_PYTHON", raising=False)
    peers, problem = peers_for("sft", BenchSettings(trl_python="/nowhere/python"))
    assert peers == [] and "/nowhere/python does not run" in problem
    new = tmp_path / "python"
    new.write_text("#!/bin/sh\necho 1.16.0\n")
    new.chmod(0o755)
    settings = BenchSettings(trl_python=str(new))
    peers, problem = peers_for("ppo", settings)
    assert peers == [] and "no PPO trainer" in problem
    peers, problem = peers_for("dpo", settings)
    assert problem == "" and [peer.label for peer in peers] == [
        "TRL 1.16.0",
        "TRL 1.16.0, reference every step",
    ]


def test_settings_name_what_is_known() -> None:
    assert load(BenchSettings, ["cases=sft,dpo", "sizes=S"]).cases == ["sft", "dpo"]
    with pytest.raises(ValueError, match=r"no case 'raft': choose from generation"):
        load(BenchSettings, ["cases=raft"])


@pytest.mark.slow
def test_ranks_take_turns_and_are_drawn(tmp_path: Path) -> None:
    from benchmarks import ranks

    words = [
        "size=XS",
        "cases=[sft]",
        "prompts=[4]",
        "responses=[12]",
        "rounds=2",
        "turns=1",
        "precision=fp32",
    ]
    assert ranks.main([*words, f"out={tmp_path}/ranks.json"]) == 0
    found = json.loads((tmp_path / "ranks.json").read_text())
    assert [(one["ranks"], one["prompts"], one["response"]) for one in found] == [(1, 4, 12), (2, 4, 12)]
    assert all(one["seconds"] > 0 for one in found)
    assert (tmp_path / "ranks.png").read_bytes().startswith(b"\x89PNG")
