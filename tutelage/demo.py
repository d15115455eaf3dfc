"""The demo: the pipeline of `demo.yaml` in the embedded world, and a table of what came of it."""

from __future__ import annotations

import json
import resource
import shutil
import time
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console
from rich.table import Table

from tutelage import pipeline
from tutelage.settings.base import build
from tutelage.settings.pipeline import DemoSettings, RunPipelineSettings

COLUMNS = {
    "gold": "gold score (0 to 1)",
    "win_rate": "preferred to SFT (share)",
    "kl": "KL to SFT (nats)",
    "length": "length (tokens)",
    "missing_eos": "no end (share)",
}


def main(settings: DemoSettings, console: Console) -> Path:
    """Run the whole loop; returns the folder, with report.html and results.json in it."""
    started = time.monotonic()
    text = resources.files("tutelage").joinpath("demo.yaml").read_text(encoding="utf-8")
    plan = {**yaml.safe_load(text), "out": str(settings.out), "seed": settings.seed}
    pipeline.main(build(RunPipelineSettings, plan), console)
    for name in ("report.html", "results.json"):
        shutil.copyfile(settings.out / "report" / name, settings.out / name)
    show(json.loads((settings.out / "results.json").read_text(encoding="utf-8")), console)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    console.print(
        f"{time.monotonic() - started:.0f} s, peak memory {peak:.2f} GiB.  Report: {settings.out}/report.html"
    )
    return settings.out


def show(results: list[Mapping[str, Any]], console: Console) -> None:
    """The closing table: one row per model, each number with its 95 % interval."""
    table = Table(title="Held-out prompts, by the world's gold standard (95 % intervals)")
    table.add_column("model")
    for heading in COLUMNS.values():
        table.add_column(heading, justify="right")
    found = {(row["model"], row["metric"]): row for row in results if row["task"] == "all"}
    for model in ("sft", "ppo", "dpo"):
        table.add_row(model, *(_cell(found.get((model, metric))) for metric in COLUMNS))
    console.print(table)
    accuracy, ceiling = (
        next((row for row in results if row["metric"] == name), None) for name in ("accuracy", "ceiling")
    )
    if accuracy and ceiling:
        console.print(
            f"Reward model: {_cell(accuracy)} of the held-out votes foretold; the annotators' noise allows {_cell(ceiling)}."
        )


def _cell(row: Mapping[str, Any] | None) -> str:
    if row is None or row["value"] is None:
        return "-"
    value = f"{row['value']:.2f}"
    return value if row["low"] is None else f"{value} [{row['low']:.2f}, {row['high']:.2f}]"
