"""Every training command on several ranks: the run of one, whichever way the models are cut."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tests.ranks import on_ranks
from tests.train.making import make_model, make_tokenizer
from tutelage.commands import find, settings_class
from tutelage.launch import launch
from tutelage.models.loading import load_scalar, save
from tutelage.resume import read_lineage, read_metrics
from tutelage.rollout.drawing import read_lines
from tutelage.rollout.local import LocalGenerator
from tutelage.settings.base import build

SHARED = {
    "max_steps": 4,
    "micro_batch_tokens": 120,  # several micro-batches, not equally many on every rank
    "precision": "fp32",
    "adam_epsilon": 1e-4,  # Adam blows rounding up where gradients vanish
    "batch_size": 7,
    "tensorboard": False,
    "eval_every": 2,
    "save_every": 2,
    "learning_rate": 1e-3,
}
ROLLOUTS = {"max_new_tokens": 6, "reward": [{"judge": "formula:length", "target": 4}]}
COMMANDS: dict[str, dict[str, Any]] = {
    "pretrain": {"data": "text.jsonl", "model": "base", "max_length": 24},
    "sft": {"data": "demonstrations.jsonl"},
    "sft-lora": {"data": "demonstrations.jsonl", "lora_rank": 2},
    "reward": {"data": "pairs.jsonl"},
    "reward-ensemble": {"data": "pairs.jsonl", "members": 2},
    "reward-groups": {"data": "pairs.jsonl", "groups": "each"},
    "reward-steps": {"data": "pairs.jsonl", "groups": "each", "adapts_by": "inner-steps", "task_pairs": 4},
    "reward-prompts": {"data": "pairs.jsonl", "batch_by": "prompts", "loss": "davidson"},
    "process": {"data": "steps.jsonl"},
    "dpo": {"data": "pairs.jsonl"},
    "dpo-text": {"data": "pairs.jsonl", "mix_data": "text.jsonl", "mix_coef": 0.5, "mix_batch_size": 3, "loss": "ipo"},
    "kto": {"data": "labelled.jsonl"},
    "distill": {"prompts": "prompts.jsonl", "teacher": "base", "learn_from": "logits", "max_new_tokens": 6},
    "ppo": {"prompts": "prompts.jsonl", "reward": "reward", "eval_prompts": "prompts.jsonl", "max_approx_kl": 10},
    "ppo-shared-lora": {
        "prompts": "prompts.jsonl", "reward": "reward", "critic": "shared", "lora_rank": 2, "max_approx_kl": 10,
    },
    "raft": {"prompts": "prompts.jsonl", "samples": 3},
    "online-dpo": {"prompts": "prompts.jsonl"},
    "distill-own": {"prompts": "prompts.jsonl", "teacher": "base", "learn_from": "on-policy", "max_new_tokens": 6},
    "reinforce": {"prompts": "prompts.jsonl", "samples": 3, "batch_size": 3, "ref_refresh": 2, "kl_coef": 0.1},
}  # fmt: skip


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Models and rows; the tokens of the longest and the shortest rows are far apart."""
    folder = tmp_path_factory.mktemp("inputs")
    tokenizer = make_tokenizer()
    save(make_model(tokenizer), tokenizer, folder / "base")
    save(load_scalar(folder / "base"), tokenizer, folder / "reward")
    rows = range(24)
    lines = {
        "text": [{"text": "the cat sat on the mat. " * (1 + i % 4)} for i in rows],
        "demonstrations": [{"prompt": f"{i} +", "response": " the dog" * (1 + i % 5)} for i in rows],
        "pairs": [pair_of(i) for i in rows],
        "steps": [steps_of(i) for i in rows],
        "labelled": [
            {"prompt": f"{i} +", "response": f" {i % 3}." * (1 + i % 4), "label": i % 2 == 0} for i in rows
        ],
        "prompts": [{"prompt": f"the cat {i}" + " sat" * (i % 5)} for i in rows],
    }
    for name, some in lines.items():
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in some))
    return folder


def pair_of(i: int) -> dict[str, Any]:
    return {
        "prompt": f"the cat {i}",
        "chosen": " sat" * (1 + i % 4),
        "rejected": " ran on.",
        "group": "xyz"[i % 3],
    }


def steps_of(i: int) -> dict[str, Any]:
    times = 1 + i % 3
    return {
        "prompt": f"{i} + 1",
        "completions": ["the cat", " sat on"] * times,
        "labels": [True, i % 2 == 0] * times,
    }


def run(name: str, inputs: Path, out: Path, **more: Any) -> list[list[int]]:
    """Run a command on this rank; what it drew, in order."""
    given = {"model": "base"} | COMMANDS[name]
    for key in ("model", "teacher", "data", "mix_data", "prompts", "eval_prompts", "reward"):
        if key in given and isinstance(given[key], str):
            given[key] = str(inputs / given[key])
    drawn: list[list[int]] = []
    generate = LocalGenerator.generate

    def seen(self: LocalGenerator, *arguments: Any) -> Any:
        found = generate(self, *arguments)
        drawn.extend(list(one.ids) for one in found)
        return found

    command = find(name if name == "online-dpo" else name.partition("-")[0])
    shared = {
        **SHARED,
        **(ROLLOUTS if name.startswith(("ppo", "reinforce", "raft", "online")) else {}),
        **given,
        "out": str(out),
        **more,
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(LocalGenerator, "generate", seen)
        patch.setenv(
            "TUTELAGE_CACHE", f"{out}-cache"
        )  # what another run has left says nothing about this one
        launch(command.name, build(settings_class(command), shared))
    return drawn


def compare(one: Path, other: Path) -> None:
    """Two runs made the same steps and ended with the same model."""
    lines, expected = read_metrics(one), read_metrics(other)
    assert [line["step"] for line in lines] == [line["step"] for line in expected]
    for line, known in zip(lines, expected, strict=True):
        for key, value in known.items():
            if key.startswith(("time/", "tokens_per")):
                continue
            bound = 3e-6 if key == "grad_norm" else 1e-6
            if key.startswith("val/"):  # a ratio of variances, of which one is next to nothing
                bound = 1e-4
            assert line[key] == pytest.approx(value, abs=bound, rel=bound), (key, line["step"])
    for path in sorted(other.glob("**/model/model.safetensors")):
        weights, known = load_file(one / path.relative_to(other)), load_file(path)
        assert weights.keys() == known.keys()
        for key, value in known.items():
            assert torch.allclose(weights[key], value, atol=5e-6), key


FAST = ("sft",)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in FAST else pytest.mark.slow) for name in COMMANDS]
)
def test_two_ranks_make_the_run_of_one(tmp_path: Path, inputs: Path, name: str) -> None:
    alone = run(name, inputs, tmp_path / "1")
    found = on_ranks(2, tmp_path / "ranks", lambda _: run(name, inputs, tmp_path / "2"))
    assert all(drawn == alone for drawn in found)
    compare(tmp_path / "2", tmp_path / "1")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("size", "name"),
    [(3, "sft"), (3, "reward"), (3, "kto"), (3, "ppo"), (4, "pretrain"), (4, "dpo"), (4, "reinforce")],
)
def test_more_ranks_make_the_run_of_one(tmp_path: Path, inputs: Path, size: int, name: str) -> None:
    """Three, that do not divide the rows evenly, and four, of which some have none at times."""
    alone = run(name, inputs, tmp_path / "1")
    found = on_ranks(size, tmp_path / "ranks", lambda _: run(name, inputs, tmp_path / "more"))
    assert all(drawn == alone for drawn in found)
    compare(tmp_path / "more", tmp_path / "1")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["sft", "ppo"])
def test_a_run_goes_on_with_other_ranks(tmp_path: Path, inputs: Path, name: str) -> None:
    """Two steps alone, two on two ranks, two on four, two alone: as eight alone."""
    constant = {"schedule": "constant", "warmup": 0.0}
    run(name, inputs, tmp_path / "alone", max_steps=8, **constant)
    for number, size in enumerate((1, 2, 4, 1)):
        steps = 2 * (number + 1)
        on_ranks(
            size,
            tmp_path / f"ranks{number}",
            lambda _: run(name, inputs, tmp_path / "moved", max_steps=steps, **constant),  # noqa: B023
        )
    compare(tmp_path / "moved", tmp_path / "alone")


@pytest.mark.parametrize("name", ["sample", pytest.param("select", marks=pytest.mark.slow)])
def test_ranks_share_the_drawing(tmp_path: Path, inputs: Path, name: str) -> None:
    """One prompt more than the ranks can share evenly, best of two; the store has what one process gives it."""
    given = {
        "model": str(inputs / "base"),
        "prompts": str(inputs / "prompts.jsonl"),
        "reward": str(inputs / "reward"),
    }
    more = {"best_of": 2} if name == "sample" else {"keep_cut": True}
    command = find(name)

    def draw(out: Path) -> None:
        own = {"out": str(out), "precision": "fp32", "samples": 3, "max_prompts": 7, "max_new_tokens": 6}
        store = {"store": f"{out}.sqlite"} if name == "sample" else {}
        launch(name, build(settings_class(command), {**given, **more, **own, **store}))

    draw(tmp_path / "1")
    on_ranks(2, tmp_path / "ranks", lambda _: draw(tmp_path / "2"))
    one, two = (read_lines(tmp_path / run / "samples.jsonl") for run in "12")
    assert len(one) == 21
    for row, other in zip(one, two, strict=True):
        scores = row.pop("score"), other.pop("score")
        assert scores[0] == pytest.approx(scores[1], abs=1e-5)
        row.pop("parts", None), other.pop("parts", None)
        logprob = row.pop("logprob", 0.0), other.pop("logprob", 0.0)
        assert logprob[0] == pytest.approx(logprob[1], abs=1e-5)
        assert row == other
    notes = [read_lineage(tmp_path / run) or {} for run in "12"]
    assert notes[0].get("tokens_generated") == notes[1].get("tokens_generated")
