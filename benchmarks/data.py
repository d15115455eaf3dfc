"""`python -m benchmarks.data [key=value ...]`: what rows cost from the file to a training step, against their number.

For each number of rows a process of its own runs `tutelage sft` on a JSONL file for a few steps with a tiny model, runs it
again (now the rows are tokenised already), and then times the parts alone.  What should not grow with the number of rows is
the time per row and the memory; what of a file stands in the page cache is no memory that the process needs, so resident
anonymous memory is reported (RssAnon in /proc, so Linux only).
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.memory import Peak, anonymous_mib
from benchmarks.models import write_models
from benchmarks.work import SPECIAL, Work
from tutelage.data.batch import TokenBatch, Tokens
from tutelage.data.order import rows_for_step
from tutelage.data.packing import Packing
from tutelage.data.preflight.texts import prepare_demonstrations
from tutelage.data.reading.formats import read_demonstrations
from tutelage.data.split import split_by_prompt
from tutelage.files import write_json_atomic
from tutelage.launch import launch
from tutelage.models.loading import load_tokenizer
from tutelage.settings.base import Settings, load, setting
from tutelage.settings.train import SFTSettings

STEPS = 3  # of training
BATCHES = 50  # made alone
SHORT = 8  # tokens of a sequence where all rows go into one batch


class DataBenchSettings(Settings):
    """What to measure."""

    rows: list[int] = setting([1_000, 10_000, 100_000], "Numbers of rows, ascending: rows=[1000,10000].")
    tokens: int = setting(700, "Tokens of each row.", unit="tokens", ge=8, le=4096)
    heldout: int = setting(200, "Rows held out and evaluated, about.", unit="rows", ge=1)
    batch_size: int = setting(32, "Rows of a step.", unit="rows", ge=1)
    folder: str = setting("", "Where to work; empty takes a temporary folder. Some 6 KB a row are needed.")
    out: str = setting("", "Also write the results to this file, as JSON; empty only prints them.")


@dataclass(frozen=True)
class Result:
    """Seconds where nothing else is said.

    first_s, again_s: the whole command, with the rows to be tokenised and with the table there.  tokenising_s: what of it
    is tokenising.  start_mib, peak_mib: anonymous memory before the first run and its peak.  file_mib, table_mib: on the
    disk.  step_ms: making a batch (median).  pass_s: all rows read, laid out and cut into micro-batches, as for an
    evaluation.  cut_s: one batch of as many short rows cut into micro-batches.  packing_s: packing for pretraining, and
    its first step.
    """

    rows: int
    first_s: float
    tokenising_s: float
    again_s: float
    start_mib: float
    peak_mib: float
    file_mib: float
    table_mib: float
    step_ms: float
    pass_s: float
    cut_s: float
    packing_s: float


def write_rows(path: Path, rows: int, tokens: int) -> None:
    """Demonstrations of so many tokens (a word is one, the end another), with prompts that are all different."""
    draw, first = random.Random(0), len(SPECIAL)
    texts = [" ".join(f"w{draw.randrange(first, 256)}" for _ in range(tokens)) for _ in range(100)]
    with path.open("w", encoding="utf-8") as file:
        for row in range(rows):
            number = " ".join(f"w{first + row // 100**k % 100}" for k in range(4))
            words = texts[row % len(texts)].split(" ", tokens - 5)
            file.write(json.dumps({"prompt": number, "completion": " " + " ".join(words[:-1])}) + "\n")


def measure(settings: DataBenchSettings, rows: int, folder: Path) -> Result:
    """All figures for one number of rows, in this process."""
    work = Work("sft", "XS", 1, "fp32", 0, str(folder))
    data = folder / "rows.jsonl"
    os.environ["TUTELAGE_CACHE"] = str(folder / "cache")
    given: dict[str, Any] = {
        "data": str(data),
        "model": str(work.policy),
        "max_steps": STEPS,
        "max_length": settings.tokens,
        "batch_size": settings.batch_size,
        "heldout_share": min(settings.heldout / rows, 0.5),
        "tensorboard": False,
    }
    quiet = Console(file=open(os.devnull, "w"))  # noqa: SIM115
    train = lambda out: launch("sft", SFTSettings(**given, out=folder / out), quiet)  # noqa: E731
    start = anonymous_mib()
    with Peak() as peak:
        first = seconds(lambda: train("first"))
    preflight = json.loads((folder / "first" / "preflight.json").read_text(encoding="utf-8"))
    again = seconds(lambda: train("again"))
    side, _ = split_by_prompt(read_demonstrations(data), given["heldout_share"])
    found = prepare_demonstrations(load_tokenizer(work.policy), side, max_length=settings.tokens)
    examples, size = found.examples, settings.batch_size

    def step(number: int) -> TokenBatch:
        return TokenBatch.collate([examples[row] for row in rows_for_step(len(examples), size, number, 0)])

    def whole_pass() -> None:
        for part in examples.parts():
            exhaust(TokenBatch.collate(examples[part]).split(4096))

    lengths = examples.table.lengths
    step(0)
    steps = [seconds(lambda number=number: step(number)) for number in range(1, BATCHES)]  # type: ignore[misc]
    return Result(
        rows=rows,
        first_s=first,
        tokenising_s=preflight["seconds"],
        again_s=again,
        start_mib=start,
        peak_mib=peak.mib,
        file_mib=data.stat().st_size / 2**20,
        table_mib=sum(file.stat().st_size for file in (folder / "cache").rglob("*") if file.is_file())
        / 2**20,
        step_ms=1000 * median(steps),
        pass_s=seconds(whole_pass),
        cut_s=cut(rows),
        packing_s=seconds(lambda: Packing(lengths, 1024).for_step(0, 2)),
    )


def cut(rows: int) -> float:
    """Seconds to cut one batch of so many short sequences into micro-batches."""
    tokens = Tokens(np.arange(SHORT, dtype=np.int32), np.ones(SHORT, dtype=bool))
    batch = TokenBatch.collate([tokens] * rows)
    return seconds(lambda: exhaust(batch.split(4096)))


def exhaust(batches: Iterator[TokenBatch]) -> None:
    for _ in batches:
        pass


def seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def in_own_process(settings: DataBenchSettings, rows: int) -> Result:
    """`measure` in a fresh process and a fresh folder, so that nothing is left from other numbers of rows.

    Raises RuntimeError with the end of what it said when it fails.
    """
    with tempfile.TemporaryDirectory(prefix="bench-data-", dir=settings.folder or None) as folder:
        write_models(Work("sft", "XS", 1, "fp32", 0, folder))
        write_rows(Path(folder) / "rows.jsonl", rows, settings.tokens)
        task = json.dumps([settings.model_dump(mode="json"), rows, folder])
        command = [sys.executable, "-m", "benchmarks.data", "--measure", task]
        done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(done.stderr.strip()[-2000:])
    return Result(**json.loads(done.stdout.splitlines()[-1]))


def table(results: Sequence[Result]) -> Table:
    """Figures side by side, one column for each number of rows."""
    shown = Table(title="From the file to a training step, against the number of rows")
    shown.add_column("")
    for result in results:
        shown.add_column(f"{result.rows:,} rows", justify="right")
    lines: dict[str, Callable[[Result], str]] = {
        "file on disk (MiB)": lambda r: f"{r.file_mib:,.0f}",
        "table on disk (MiB)": lambda r: f"{r.table_mib:,.0f}",
        "command, first time (s)": lambda r: f"{r.first_s:.1f}",
        "  tokenised (rows/s)": lambda r: f"{r.rows / r.tokenising_s:,.0f}",
        "command, table there (s)": lambda r: f"{r.again_s:.1f}",
        "memory at the start (MiB)": lambda r: f"{r.start_mib:,.0f}",
        "memory, peak (MiB)": lambda r: f"{r.peak_mib:,.0f}",
        "making a batch (ms)": lambda r: f"{r.step_ms:.2f}",
        "pass over rows (us/row)": lambda r: f"{1e6 * r.pass_s / r.rows:.1f}",
        "cutting a batch (us/row)": lambda r: f"{1e6 * r.cut_s / r.rows:.1f}",
        "packing (us/row)": lambda r: f"{1e6 * r.packing_s / r.rows:.2f}",
    }
    for name, value in lines.items():
        shown.add_row(name, *map(value, results))
    return shown


def main(arguments: Sequence[str]) -> int:
    """Measure and print the table.  Returns the exit code."""
    console = Console()
    if arguments[:1] == ["--measure"]:
        given, rows, folder = json.loads(arguments[1])
        print(json.dumps(asdict(measure(DataBenchSettings(**given), rows, Path(folder)))))
        return 0
    results: list[Result] = []
    try:
        settings = load(DataBenchSettings, arguments)
        for rows in settings.rows:
            results.append(in_own_process(settings, rows))
            console.print(f"{rows:,} rows: {results[-1].first_s:.0f} s, {results[-1].peak_mib:,.0f} MiB.")
            if settings.out:
                write_json_atomic(Path(settings.out), [asdict(result) for result in results])
    except (ValueError, RuntimeError) as error:
        console.print(f"error: {error}", style="red", markup=False)
        return 1
    console.print(table(results))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
