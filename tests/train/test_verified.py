"""Rows as GSM8K has them, from the raw file to a policy: `sft`, what can be solved (`select`), `reinforce` with a verifier and a
format, `eval` by the same mix."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from tests.train.making import make_model, make_tokenizer
from tutelage.evals.rows import read
from tutelage.launch import launch
from tutelage.models.loading import save
from tutelage.resume import read_metrics
from tutelage.settings.evals import EvalSettings
from tutelage.settings.rl import ReinforceSettings
from tutelage.settings.rollout import SelectSettings
from tutelage.settings.train import SFTSettings

QUIET = Console(quiet=True)
COLUMNS = {"prompt": "question", "reference": "answer"}
MIX = [
    {"judge": "verify:numeric", "extract": "hashes", "name": "right"},
    {"judge": "formula:regex", "pattern": r"#### \d$", "weight": 0.2, "name": "format"},
]


@pytest.mark.slow
def test_right_formats_and_right_answers_rise(tmp_path: Path) -> None:
    """A model that has seen the style for a moment; the prompts are practised again and again, so this is learning by heart."""
    rows = [{"question": f"the cat {n} + 1?", "answer": f"{n + 1}\n#### {n + 1}"} for n in range(6)]
    data = tmp_path / "gsm8k.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    tokenizer = make_tokenizer()
    save(make_model(tokenizer), tokenizer, tmp_path / "base")
    sft, policy = tmp_path / "sft", tmp_path / "policy"
    asked: dict[str, Any] = {
        "prompts": str(data),
        "columns": COLUMNS,
        "max_new_tokens": 12,
        "precision": "fp32",
    }
    taught = {"data": str(data), "model": str(tmp_path / "base"), "heldout_share": 0.0, "tensorboard": False}
    launch("sft", SFTSettings(out=sft, **taught, batch_size=6, max_steps=80, learning_rate=5e-3), QUIET)  # type: ignore[arg-type]
    tried = SelectSettings(
        out=tmp_path / "tried", model=str(sft), reward=MIX[:1], samples=16, threshold=1.0, **asked
    )
    launch("select", tried, QUIET)
    solved = [
        json.loads(line) for line in (tmp_path / "tried" / "demonstrations.jsonl").read_text().splitlines()
    ]
    assert solved and all(row["score"] == 1 and row["reference"] for row in solved)
    trained = ReinforceSettings(
        out=policy,
        model=str(sft),
        reward=MIX,
        **asked,
        batch_size=6,
        samples=16,
        learning_rate=3e-3,
        max_steps=30,
        missing_eos_score=0.0,
        kl_coef=0.01,
        tensorboard=False,
    )
    launch("reinforce", trained, QUIET)
    first, last = read_metrics(policy)[0], read_metrics(policy)[-1]
    assert (
        first["objective/scores/right"] < 0.6
        and last["objective/scores/right"] > first["objective/scores/right"] + 0.3
    )
    measured = EvalSettings(
        models=[f"before={sft}", f"after={policy}"], judge=MIX, out=tmp_path / "eval", resamples=200, **asked
    )
    launch("eval", measured, QUIET)
    found = {(row.model, row.metric): row.value or 0.0 for row in read(tmp_path / "eval" / "results.json")}
    for part in ("score/right", "score/format"):
        assert found["after", part] > found["before", part]
    assert found["after", "score"] > found["before", "score"] + 0.3
