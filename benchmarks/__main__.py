"""`python -m benchmarks [FILE.yaml ...] [key=value ...]`: time every case and print the table."""

from __future__ import annotations

import os
import platform
import sys
import tempfile
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import torch
from rich.console import Console

from benchmarks.measure import Result, measure
from benchmarks.models import write_models
from benchmarks.peers import Peer, peers_for
from benchmarks.settings import BenchSettings
from benchmarks.table import table
from benchmarks.work import CASES, Work, write_rows
from tutelage.files import write_json_atomic
from tutelage.models.precision import choose
from tutelage.settings.base import load
from tutelage.settings.describe import rows


def run(settings: BenchSettings, console: Console) -> list[Result]:
    """Time every case at every size; what stops early is reported and left out of the results."""
    precision = "fp32" if choose(settings.precision).dtype == torch.float32 else "bf16"
    threads = settings.threads or torch.get_num_threads()
    console.print(
        f"{choose(settings.precision).said} {threads} threads, torch {version('torch')}.", style="dim"
    )
    results: list[Result] = []
    peers = {case: peers_for(case, settings) for case in settings.cases}
    for problem in dict.fromkeys(problem for _, problem in peers.values() if problem):
        without = ", ".join(case for case, (_, why) in peers.items() if why == problem)
        console.print(f"{without}: {problem}", style="yellow")
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        for size in settings.sizes:
            for case in settings.cases:
                work = Work(case, size, settings.rounds, precision, settings.threads, folder)
                results += _case(work, peers[case][0], console)
    return results


def _case(work: Work, peers: Sequence[Peer], console: Console) -> list[Result]:
    console.print(f"{work.case} {work.size}: {CASES[work.case].what}")
    if not work.policy.exists():
        write_models(work)
    write_rows(work)
    try:
        return measure(work, peers, Path(work.folder))
    except RuntimeError as error:
        console.print(f"  {error}", style="red", markup=False)
        return []


def to_json(results: Sequence[Result], settings: BenchSettings) -> dict[str, object]:
    """The results with what one must know to compare them with others."""
    machine = {"system": platform.platform(), "processor": platform.processor(), "cores": os.cpu_count()}
    packages = {name: version(name) for name in ("tutelage", "torch", "transformers")}
    return {
        "machine": machine,
        "packages": packages,
        "settings": settings.model_dump(mode="json"),
        "results": [result.to_json() for result in results],
    }


def main(args: Sequence[str]) -> int:
    """Exit code 0 when every case was measured."""
    terminal = Console()
    console = terminal if terminal.is_terminal else Console(width=120)  # a file is as wide as the table needs
    if "--help" in args or "-h" in args:
        for row in rows(BenchSettings):
            console.print(f"{row.name}  [{row.type}; {row.default}]  {row.sentence}", markup=False)
        return 0
    try:
        settings = load(BenchSettings, args)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    results = run(settings, console)
    console.print(table(results))
    if settings.out:
        write_json_atomic(Path(settings.out), to_json(results, settings))
    measured = {(result.case, result.size) for result in results}
    return 0 if len(measured) == len(settings.cases) * len(settings.sizes) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
