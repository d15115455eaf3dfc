"""`python -m benchmarks.ranks [key=value ...]`: what a step costs on more ranks, with more prompts, with longer responses.

Every rank has one thread.  Runs of different ranks take turns, so that a machine whose speed changes changes it for all of them.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import field_validator
from rich.console import Console
from rich.table import Table

from benchmarks.models import write_models
from benchmarks.ours import settings_for
from benchmarks.settings import known
from benchmarks.work import CASES, SHAPES, Case, Work, write_rows
from tutelage.files import write_json_atomic
from tutelage.resume import read_metrics
from tutelage.settings.base import Settings, load, setting


class RanksBenchSettings(Settings):
    """What to measure."""

    cases: list[str] = setting(["sft", "ppo"], f"What to time: {', '.join(CASES)}; generation has no ranks.")
    size: str = setting("M", f"Size of the model: {', '.join(SHAPES)}.")
    ranks: list[int] = setting([1, 2], "Numbers of ranks.")
    prompts: list[int] = setting([], "Rows or prompts per step; empty: those of the case.")
    responses: list[int] = setting([], "Tokens of a response; empty: those of the case.")
    turns: int = setting(3, "How often every run is made.", ge=1)
    rounds: int = setting(5, "Timed steps of a run.", unit="steps", ge=1)
    precision: str = setting("bf16", "Arithmetic: bf16 or fp32.")
    out: str = setting("", "Also write the results to this file, as JSON, and draw them beside it.")

    @field_validator("cases")
    @classmethod
    def _known_cases(cls, value: list[str]) -> list[str]:
        return known("case", value, [case for case in CASES if case != "generation"])


@dataclass(frozen=True)
class Sized(Work):
    """The work of a case with other numbers of prompts a step and of tokens a response."""

    prompts: int = 0
    response: int = 0

    @property
    def kind(self) -> Case:
        return replace(CASES[self.case], rows=self.prompts, response=self.response)

    @property
    def data(self) -> Path:
        return Path(self.folder) / f"{self.case}-{self.size}-{self.prompts}-{self.response}.jsonl"


@dataclass(frozen=True)
class Result:
    """Seconds of the median step."""

    case: str
    prompts: int
    response: int
    ranks: int
    seconds: float


def measure(settings: RanksBenchSettings, console: Console) -> list[Result]:
    """Every case at every number of prompts, every length and every number of ranks."""
    found: list[Result] = []
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        for name in settings.cases:
            case = CASES[name]
            for prompts in settings.prompts or [case.rows]:
                for response in settings.responses or [case.response]:
                    how = (settings.size, settings.rounds, settings.precision, 1, folder)
                    found += _in_turns(Sized(name, *how, prompts, response), settings, console)
    return found


def _in_turns(work: Sized, settings: RanksBenchSettings, console: Console) -> list[Result]:
    if not work.policy.exists():
        write_models(work)
    write_rows(work)
    steps: dict[int, list[float]] = {ranks: [] for ranks in settings.ranks}
    for turn in range(settings.turns):
        for ranks in settings.ranks if turn % 2 == 0 else reversed(settings.ranks):
            steps[ranks] += _run(work, ranks, work.data.with_suffix(f".run-{turn}-{ranks}"))
    found = [
        Result(work.case, work.kind.rows, work.kind.response, ranks, statistics.median(seconds))
        for ranks, seconds in steps.items()
    ]
    for one in found:
        console.print(
            f"{one.case}, {one.prompts} x {one.response}: {one.ranks} ranks, {one.seconds:.3f} s a step"
        )
    return found


def _run(work: Work, ranks: int, out: Path) -> list[float]:
    """Seconds of the timed steps."""
    command, given = settings_for(work)
    given |= {"precision": work.precision, "out": out, "ranks": ranks, "seed": 0}
    words = [f"{key}={_word(value)}" for key, value in given.items()]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "TUTELAGE_CACHE": f"{work.folder}/cache"}
    done = subprocess.run(
        [sys.executable, "-m", "tutelage", command, *words], env=environment, capture_output=True, text=True
    )
    if done.returncode:
        raise ValueError(f"{command} on {ranks} ranks failed: {done.stderr.strip().splitlines()[-1]}")
    return [line["time/step_s"] for line in read_metrics(out) if line["step"] > work.warmup]


def _word(value: Any) -> str:
    """As it stands on a command line."""
    return str(value) if isinstance(value, str | Path) else json.dumps(value)


def table(results: Sequence[Result]) -> Table:
    """Seconds a step, and how many times as fast as one rank."""
    shown = Table("case", "prompts", "tokens", "ranks", "s/step", "times as fast")
    alone = {(r.case, r.prompts, r.response): r.seconds for r in results if r.ranks == 1}
    for r in results:
        first = alone.get((r.case, r.prompts, r.response))
        faster = f"{first / r.seconds:.2f}" if first else "-"
        shown.add_row(r.case, str(r.prompts), str(r.response), str(r.ranks), f"{r.seconds:.3f}", faster)
    return shown


def draw(results: Sequence[Result], path: Path) -> None:
    """Seconds a step against ranks, a line for each case, number of prompts and length of responses."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(6, 4), layout="constrained")
    for key in dict.fromkeys((r.case, r.prompts, r.response) for r in results):
        own = [r for r in results if (r.case, r.prompts, r.response) == key]
        axes.plot(
            [r.ranks for r in own],
            [r.seconds for r in own],
            "o-",
            label=f"{key[0]}, {key[1]} x {key[2]} tokens",
        )
    axes.set(
        xlabel="ranks, one thread each", ylabel="seconds a step", xticks=sorted({r.ranks for r in results})
    )
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False)
    figure.savefig(path, dpi=150)
    pyplot.close(figure)


def main(arguments: Sequence[str]) -> int:
    """Measure, print, and write where asked."""
    console = Console()
    settings = load(RanksBenchSettings, arguments)
    results = measure(settings, console)
    console.print(table(results))
    if settings.out:
        write_json_atomic(Path(settings.out), [vars(result) for result in results])
        draw(results, Path(settings.out).with_suffix(".png"))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
