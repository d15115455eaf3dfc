"""The table of runs: what it says, and that it needs no torch."""

from __future__ import annotations

import fcntl
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from tests.evals import synthetic
from tutelage.evals import table
from tutelage.evals.folders import find
from tutelage.settings.evals import RunsSettings


def printed(root: Path) -> str:
    console = Console(width=200, record=True, quiet=False, file=open("/dev/null", "w"))  # noqa: SIM115
    table.main(RunsSettings(root=root), console)
    return console.export_text()


def test_the_table_of_a_demo(tmp_path: Path) -> None:
    text = printed(synthetic.demo(tmp_path / "demo"))
    lines = {line.split("│")[1].strip(): line for line in text.splitlines() if line.startswith("│")}
    assert list(lines) == ["world", "pretrain", "sft", "sample", "label", "reward", "ppo", "dpo", "eval"]
    assert "eval_loss" in lines["sft"] and "120" in lines["sft"] and "pretrain, world" in lines["sft"]
    assert "accuracy 0.7" in lines["reward"] and "label" in lines["reward"]
    assert "won ppo 9" in lines["eval"]
    assert all("done" in line and "42 s" in line for line in lines.values())


def test_running_and_stopped_are_told_by_the_lock(tmp_path: Path) -> None:
    folder = synthetic.write_run(tmp_path / "[red]sft", "sft", state="running")
    (folder / ".lock").touch()
    assert find([tmp_path])[0].state == "stopped"
    with (folder / ".lock").open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert find([tmp_path])[0].state == "running"
        assert "[red]sft" in printed(tmp_path)  # a folder's name is no markup
    assert find([tmp_path])[0].state == "stopped"


def test_model_folders_and_checkpoints_are_no_runs(tmp_path: Path) -> None:
    synthetic.write_run(tmp_path / "sft", "sft")
    synthetic.write_run(tmp_path / "sft" / "checkpoints" / "step-1", "sft")
    assert [run.name for run in find([tmp_path])] == ["sft"]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(None, "–"), (3.21, "3.2 s"), (59.4, "59 s"), (185, "3 min 05 s"), (7800, "2 h 10 min")],
)
def test_durations(seconds: float | None, text: str) -> None:
    assert table.duration(seconds) == text


def test_no_torch_is_imported() -> None:
    code = "import sys, tutelage.evals.table; sys.exit('torch' in sys.modules or 'matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
