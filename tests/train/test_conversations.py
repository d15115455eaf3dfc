"""Prompts with a history, from a raw file of Anthropic's HH to a policy: the same commands as for any other prompt."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from rich.console import Console

from tests.train.making import make_model, make_tokenizer
from tutelage.data.reading.formats import read_prompts
from tutelage.launch import launch
from tutelage.models.loading import save
from tutelage.resume import read_metrics
from tutelage.settings.reward import RewardSettings
from tutelage.settings.rl import ReinforceSettings

QUIET = Console(quiet=True)


def hh(turns: int, number: int) -> dict[str, str]:
    """A row as HH has it: two transcripts that part at the last answer."""
    said = "".join(f"\n\nHuman: the cat {number}?\n\nAssistant: a dog {n}." for n in range(turns - 1))
    said += f"\n\nHuman: the mat {number}?\n\nAssistant:"
    return {"chosen": f"{said} the mat is red.", "rejected": f"{said} a dog ran."}


@pytest.mark.slow
def test_from_the_raw_file_to_a_policy(tmp_path: Path) -> None:
    rows = [hh(1 + n % 3, n) for n in range(12)]
    (tmp_path / "hh.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    prompts = list(read_prompts(str(tmp_path / "hh.jsonl")))
    histories = sorted({len(prompt.content) for prompt in prompts})
    assert histories == [1, 3, 5] and all(prompt.content[-1].role == "user" for prompt in prompts)
    tokenizer = make_tokenizer()
    save(make_model(tokenizer), tokenizer, tmp_path / "base")
    shared = {"max_steps": 2, "tensorboard": False, "model": str(tmp_path / "base")}
    data = str(tmp_path / "hh.jsonl")
    reward = RewardSettings(**shared, data=data, out=tmp_path / "reward", batch_size=4, heldout_share=0.2)  # type: ignore[arg-type]
    launch("reward", reward, QUIET)
    policy = ReinforceSettings(
        **shared,  # type: ignore[arg-type]
        reward=[
            str(tmp_path / "reward"),
            {"judge": "formula:length", "target": 4, "weight": 0.1, "name": "length"},
        ],
        prompts=data,
        out=tmp_path / "policy",
        batch_size=4,
        samples=2,
        max_new_tokens=8,
        missing_eos_score=None,
    )
    launch("reinforce", policy, QUIET)
    lines = read_metrics(tmp_path / "policy")
    assert len(lines) == 2 and lines[0]["val/ratio"] == pytest.approx(1.0, abs=1e-3)
    assert {"objective/scores/reward", "objective/scores/length"} <= set(lines[0])
