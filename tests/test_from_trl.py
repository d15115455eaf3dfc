"""docs/from-trl.md runs: every command of the page, as it stands, on small models, with the page's own reward functions."""

from __future__ import annotations

import json
import re
import shlex
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from tests.test_docs import examples
from tests.train.making import make_model, make_tokenizer
from tutelage import cli
from tutelage.evals.rows import read
from tutelage.models.loading import load_scalar, save
from tutelage.resume import read_metrics
from tutelage.settings.rl import PPOSettings, ReinforceSettings

PAGE = (Path(__file__).resolve().parent.parent / "docs" / "from-trl.md").read_text(encoding="utf-8")
ASKED = ["the cat", "a dog ran", "1 + 2 =", "the mat is", "a cat", "the dog", "the mat", "2 + 1 ="]


def write(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def said(role: str, text: str) -> list[dict[str, str]]:
    return [{"role": role, "content": text}]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with what the page takes for granted: two models, and data sets as TRL has them."""
    tokenizer = make_tokenizer()
    save(make_model(tokenizer), tokenizer, tmp_path / "models" / "sft")
    save(load_scalar(tmp_path / "models" / "sft"), tokenizer, tmp_path / "models" / "reward")
    chats = [{"prompt": said("user", text)} for text in ASKED]
    write(tmp_path / "prompts.jsonl", chats)
    write(tmp_path / "problems.jsonl", [row | {"answer": "a"} for row in chats])
    sides = {"chosen": said("assistant", "the mat is red."), "rejected": said("assistant", "a dog.")}
    write(tmp_path / "preferences.jsonl", [row | sides for row in chats])
    [functions] = re.findall(r"^```python my_rewards\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    (tmp_path / "my_rewards.py").write_text(functions, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "my_rewards", raising=False)
    return tmp_path


@pytest.mark.slow
def test_every_command_of_the_page_runs(place: Path) -> None:
    lines = examples(PAGE)
    assert [line.split()[1] for line in lines] == ["ppo", "reinforce", "reinforce", "data", "reward", "eval"]
    for line in lines:
        done = CliRunner().invoke(cli.build_app(), shlex.split(line)[1:])
        assert done.exit_code == 0, f"{line}\n{done.output}\n{done.exception}"
    runs = place / "runs"
    assert [len(read_metrics(runs / name)) for name in ("ppo", "grpo", "rloo")] == [2, 2, 2]
    first = read_metrics(runs / "grpo")[0]
    parts = {
        name: first[f"objective/scores/{name}"]
        for name in ("python:my_rewards:right", "python:my_rewards:short")
    }
    assert 0 <= parts["python:my_rewards:right"] <= 1 and parts["python:my_rewards:short"] < 0
    assert first["objective/kl_coef"] == 0.04
    models = {row.model for row in read(runs / "eval" / "results.json")}
    assert models == {"sft", "grpo", "rloo", "sft-best-of-4"}


def test_every_setting_of_the_tables_exists_and_has_the_default_that_stands_there() -> None:
    fields = {**ReinforceSettings.model_fields, **PPOSettings.model_fields}
    rows = re.findall(
        r"^\| .+? \| (.+?) \| .*\|$", PAGE.partition("## Arguments")[2].partition("## What")[0], re.MULTILINE
    )
    found = [match for cell in rows for match in re.findall(r"`(\w+)(?:=[^`]*)?`(?: \(([\d.e-]+)\))?", cell)]
    named = {name for name, _ in found if name in fields}
    assert {
        "kl_coef",
        "inner_epochs",
        "missing_eos_score",
        "clip_high",
        "samples",
        "reduction",
        "advantage",
    } <= named
    for name, default in found:
        if default and name in fields:
            defaults = {
                cls.model_fields[name].default
                for cls in (PPOSettings, ReinforceSettings)
                if name in cls.model_fields
            }
            assert float(default) in defaults, f"{name} is {defaults}, not {default}"
