"""The demos: every stage's settings exist, and a small one of refining goes from the world to its page."""

from __future__ import annotations

import io
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
import yaml
from rich.console import Console

from tutelage import demo
from tutelage.evals.rows import read
from tutelage.pipeline import main as run
from tutelage.settings.base import build
from tutelage.settings.pipeline import DemoRefineSettings, RunPipelineSettings


def plan(name: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(
        resources.files("tutelage").joinpath(name).read_text(encoding="utf-8")
    )
    return found


@pytest.mark.parametrize("name", ["demo.yaml", "demo_refine.yaml"])
def test_every_stage_is_understood(name: str, tmp_path: Path) -> None:
    console = Console(file=io.StringIO(), width=200)
    run(build(RunPipelineSettings, {**plan(name), "out": str(tmp_path / "demo"), "plan": True}), console)
    said = console.file.getvalue()  # type: ignore[attr-defined]
    assert all(str(stage.get("name", stage["command"])) in said for stage in plan(name)["stages"])


LEAST = {
    "documents": 60, "demonstrations": 40, "heldout_prompts": 10, "max_steps": 2, "max_minutes": 20, "max_prompts": 8,
    "samples": 2, "told": 4, "max_new_tokens": 40, "eval_every": 1000,
}  # fmt: skip


@pytest.mark.slow
def test_a_small_one_of_refining_goes_from_world_to_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = plan("demo_refine.yaml")
    for stage in small["stages"]:
        stage |= {key: value for key, value in LEAST.items() if key in stage}
        stage |= {"layers": 1, "hidden_size": 32, "heads": 2} if stage.get("name") == "drills" else {}
        stage |= {"resamples": 100} if stage["command"] == "eval reasoning" else {}
        stage |= (
            {"threshold": None, "keep_cut": True} if stage["command"] == "select" else {}
        )  # none is right
    small["stages"] = [
        stage | ({"data": "@world/demonstrations.jsonl"} if stage.get("name") == "refined" else {})
        for stage in small["stages"]
    ]  # nothing that such a model writes is sound
    monkeypatch.setattr(demo.yaml, "safe_load", lambda text: small)
    console = Console(file=io.StringIO(), width=160)
    out = demo.refine(DemoRefineSettings(out=tmp_path / "demo"), console)
    said = console.file.getvalue()  # type: ignore[attr-defined]
    assert "Right and sound" in said and "Report: " in said
    rows = read(out / "eval" / "results.json")
    assert {"sft", "chosen", "refined"} <= {row.model for row in rows if row.metric == "reasoning/sound"}
    assert (out / "results.json").exists() and "Error correction" in (out / "report.html").read_text()
