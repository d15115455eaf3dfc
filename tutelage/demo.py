"""The demos: the pipelines of `demo.yaml` and `demo_refine.yaml` in the embedded world, and tables of what came of them."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import resources
from pathlib import Path

import yaml
from rich.console import Console

from tutelage import pipeline
from tutelage.commands import find, settings_class
from tutelage.evals.findings import number, one
from tutelage.evals.folders import find as find_runs
from tutelage.evals.page import reasoning
from tutelage.evals.rows import Row, read
from tutelage.evals.shown import models_table
from tutelage.models.cpu.compiler import kernels_here
from tutelage.settings.base import build
from tutelage.settings.groups import DeviceSettings
from tutelage.settings.pipeline import DemoRefineSettings, DemoSettings, RunPipelineSettings

MEASURES = ("gold", "win_rate", "kl", "length", "missing_eos")


def main(settings: DemoSettings, console: Console) -> Path:
    """Run the whole loop; returns the folder, with report.html and results.json in it."""
    with _told(settings, console):
        _run("demo.yaml", settings, console)
        show(settings.out / "results.json", console)
    return settings.out


def refine(settings: DemoRefineSettings, console: Console) -> Path:
    """Refine solutions step by step and learn from it, beside choosing by answers for as many minutes; returns the folder, with
    report.html and results.json in it."""
    with _told(settings, console):
        _run("demo_refine.yaml", settings, console)
        rows = read(settings.out / "eval" / "results.json")
        for table in reasoning.tables(rows, ("sft", "chosen", "refined"), console.width):
            console.print(table)
    return settings.out


def _run(name: str, settings: DemoSettings | DemoRefineSettings, console: Console) -> None:
    """The pipeline of a file of ours."""
    text = resources.files("tutelage").joinpath(name).read_text(encoding="utf-8")
    plan = {**yaml.safe_load(text), **settings.model_dump(mode="json")}
    if _in_float32():
        for stage in plan["stages"]:
            if issubclass(settings_class(find(stage["command"])), DeviceSettings):
                stage["precision"] = "fp32"
    pipeline.main(build(RunPipelineSettings, plan), console)
    for made in ("report.html", "results.json"):
        shutil.copyfile(settings.out / "report" / made, settings.out / made)


@contextmanager
def _told(settings: DemoSettings | DemoRefineSettings, console: Console) -> Iterator[None]:
    """Say at the end what it took, and where the report is."""
    started = time.monotonic()
    yield
    peak = max(run.lineage.get("peak_memory_mib", 0) for run in find_runs([settings.out])) / 2**10
    console.print(
        f"{time.monotonic() - started:.0f} s, peak memory {peak:.2f} GiB.  Report: {settings.out}/report.html"
    )


def _in_float32() -> bool:
    """Where kernels are compiled that is fast enough on every processor, and every processor comes to the same models, nearly."""
    import torch

    return not torch.cuda.is_available() and kernels_here().library is not None


def show(results: Path, console: Console) -> None:
    """The closing table: what the three models are worth, each number with its 95 % interval."""
    rows = read(results)
    title = "Held-out prompts, by the gold standard, compared with SFT (95 % intervals)"
    console.print(models_table(rows, ("sft", "ppo", "dpo"), MEASURES, title, console.width))
    accuracy, ceiling = one(rows, "reward", "accuracy"), one(rows, "reward", "ceiling")
    if accuracy and ceiling:
        console.print(
            f"Reward model: {_written(accuracy)} of the held-out votes foretold; the annotators' noise allows "
            f"{_written(ceiling)}.",
            markup=False,
        )


def _written(row: Row) -> str:
    found = number(row)
    return f"{found.text} {found.interval}".strip()
