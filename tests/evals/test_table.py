"""The table of runs: what it says, and that it needs no torch."""

from __future__ import annotations

import fcntl
import io
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from tests.evals import synthetic
from tutelage.evals import rows, table
from tutelage.evals.findings import number
from tutelage.evals.folders import find
from tutelage.evals.shown import columns_table, models_table
from tutelage.settings.evals import RunsSettings


def printed(root: Path, width: int = 200) -> str:
    console = Console(width=width, record=True, file=io.StringIO())
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


def test_the_table_reads_well_at_80_columns(tmp_path: Path) -> None:
    """Every cell stands on a line of its own, or on the lines that are meant: nothing is broken into ribbons."""
    root = synthetic.demo(tmp_path / "demo")
    synthetic.write_run(
        root / "long-runs" / "sft-2026-11", "sft", state="failed", error="there is no model 'x': " * 9
    )
    text = printed(root, 80)
    assert max(map(len, text.splitlines())) <= 80
    for whole in (
        "sft-2026-11",
        "from pretrain, world",
        "from sft, reward +1",
        "accuracy 0.7",
        "eval_loss 1.4",
        "42 s",
    ):
        assert whole in text
    for whole in ("03-02 09:14", "won ppo 9", "objective/scores", "rewards/accuracies", "failed"):
        assert whole in text
    lines = text.splitlines()
    inside = lines[4 : next(i for i, line in enumerate(lines) if "failed: " in line)]
    assert all(len(line.split()) != 1 for line in inside), "no line holds a scrap of a cell"
    assert "long-runs/sft-2026-11 failed: there is no model 'x':" in text
    assert len(lines) <= 2 * 11 + 8


MODELS = ("sft", "ppo", "dpo")


@pytest.mark.parametrize("names", [MODELS, ("sft", "my-org/a-model-with-a-long-name", "dpo", "ppo", "base")])
@pytest.mark.parametrize("width", [80, 100])
def test_models_with_intervals_are_not_broken(tmp_path: Path, names: tuple[str, ...], width: int) -> None:
    found = rows.read(synthetic.evaluation(tmp_path / "eval") / "results.json")
    given = [
        replace(row, model=name)
        for i, name in enumerate(names)
        for row in found
        if row.model == MODELS[i % 3]
    ]
    console = Console(width=width, record=True, file=io.StringIO())
    console.print(models_table(given, names, ("gold", "win_rate", "kl", "length"), "Held-out prompts", width))
    text = console.export_text()
    assert max(map(len, text.splitlines())) <= width
    for row in given:
        if row.task == "all" and row.metric in ("gold", "win_rate", "kl", "length"):
            shown = number(row)
            for cell in (shown.text, shown.interval):
                assert re.search(rf"(?<!\S){re.escape(cell)}(?!\S)", text), cell
    if len(names) == 3:
        assert text.count("Gold score") == 1, "three models stand beside each other"


def test_a_number_without_interval_stands_above_a_dash() -> None:
    found = [
        rows.Row("sft", "kl", "all", -1e-17, n=9, unit="nats"),
        rows.Row("sft", "missing_eos", "all", 0.0, 0.0, 0.0127, 300, "share"),
        rows.Row("sft", "gold", "all", 0.5, 0.5, 0.5 + 1e-16, 9, "score"),  # as older versions wrote it
    ]
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(models_table(found, ["sft"], ("gold", "kl", "missing_eos"), "t", 80))
    cells = [" ".join(line.split()[-2:]) for line in console.export_text().splitlines()[2:]]
    assert cells == ["score 0.50", "–", "0.000 nats", "–", "0 %", "[0, 1.3]"]


def test_projects_of_a_store_are_not_broken() -> None:
    columns = {f"project-{i}": [f"{10**i:,}"] * 3 for i in range(7)}
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(columns_table("Feedback", "project", ["items", "gold items", "annotators"], columns, 80))
    text = console.export_text()
    assert max(map(len, text.splitlines())) <= 80
    assert all(text.count(f" {10**i:,}") >= 3 and f"project-{i}" in text for i in range(7))
