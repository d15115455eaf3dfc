"""The algorithm that docs/design.md shows in full runs as it stands there, learns, and is as exact as the others."""

from __future__ import annotations

import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from tests.train.making import CPU, make_model, make_tokenizer
from tests.train.test_oracle import (
    PROMPTS,
    EndsAreFree,
    TableJudge,
    distance,
    policy_table,
)
from tutelage.models.loading import load_scalar, save
from tutelage.resume import read_metrics
from tutelage.rollout.experience import Rollouts
from tutelage.runs import Run
from tutelage.train.fit import fit

DESIGN = Path(__file__).parents[2] / "docs" / "design.md"


def example() -> SimpleNamespace:
    [block] = re.findall(
        r"^```python policy_gradient\n(.*?)^```", DESIGN.read_text(), re.MULTILINE | re.DOTALL
    )
    assert block.count("\n") < 80
    names: dict[str, Any] = {"__name__": "policy_gradient"}
    exec(compile(block, str(DESIGN), "exec", dont_inherit=True), names)
    return SimpleNamespace(**names)


@pytest.mark.slow
def test_it_runs_as_a_command_does_and_again_to_the_same_bits(tmp_path: Path) -> None:
    gradient, tokenizer = example(), make_tokenizer()
    save(make_model(tokenizer), tokenizer, tmp_path / "base")
    save(load_scalar(tmp_path / "base"), tokenizer, tmp_path / "reward")
    rows = [{"prompt": text} for text in ("the cat", "a dog ran", "1 + 2 =")]
    (tmp_path / "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = []
    for name in ("one", "two"):
        settings = gradient.GradientSettings(
            out=tmp_path / name,
            model=str(tmp_path / "base"),
            reward=str(tmp_path / "reward"),
            prompts=str(tmp_path / "prompts.jsonl"),
            eval_prompts=str(tmp_path / "prompts.jsonl"),
            batch_size=4,
            samples=2,
            max_new_tokens=6,
            max_steps=3,
            learning_rate=1e-3,
            tensorboard=False,
        )
        run = Run.open(settings.out, "policy_gradient", settings, Console(quiet=True))
        assert (gradient.main(settings, CPU, run) / "model.safetensors").is_file()
        run.close()
        lines = read_metrics(run.folder)
        assert [line["step"] for line in lines] == [0, 1, 2, 3] and "eval_objective/rlhf_reward" in lines[-1]
        found.append((run.folder / "model" / "model.safetensors").read_bytes())
    assert found[0] == found[1]


@pytest.mark.slow
def test_it_reaches_the_known_optimum(tmp_path: Path) -> None:
    gradient = example()
    settings = gradient.GradientSettings(
        out=tmp_path / "run",
        prompts="-",
        batch_size=256,
        learning_rate=0.03,
        warmup=0.0,
        kl_coef=0.5,
        max_grad_norm=0.0,
        tensorboard=False,
        save_every=10_000,
        micro_batch_tokens=100_000,
    )
    run = Run.open(settings.out, "policy_gradient", settings, Console(quiet=True))
    policy = policy_table()
    rollouts = Rollouts(
        policy, policy_table(), TableJudge(), EndsAreFree(), PROMPTS, settings, CPU, run.console
    )
    algorithm = gradient.PolicyGradient(policy, rollouts, settings, run.log)
    start = distance(policy)
    fit(algorithm, settings, CPU, run, steps=300, tokenizer=make_tokenizer())
    run.close()
    assert start > 0.3
    assert distance(policy) < 1e-2
