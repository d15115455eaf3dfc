"""`python -m benchmarks.scale [key=value ...]`: how long a store's work takes as prompts and answers grow a hundredfold.

A store of its own per size (see `scale_fill`); every measurement is a process of its own, so that peaks of memory are its own.
Linux only: memory is RssAnon in /proc, beyond what the process had before the work.
"""

from __future__ import annotations

import json
import secrets
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table
from sqlalchemy import create_engine, make_url, text

from benchmarks.memory import Peak, anonymous_mib
from benchmarks.scale_fill import PROJECT, fill
from tutelage.feedback.asking.payloads import PairAnswer, Submission, Task
from tutelage.feedback.exports.exporting import ExportSpec, export
from tutelage.feedback.insights import totals
from tutelage.feedback.insights.figures import insight
from tutelage.feedback.people.access import Member
from tutelage.feedback.people.users import find_user
from tutelage.feedback.projects import projects
from tutelage.feedback.training.source import comparisons_from
from tutelage.feedback.work import answers, queue
from tutelage.settings.base import Settings, load, setting
from tutelage.store.database import Database, resolve
from tutelage.store.schema_feedback import Account

CLAIMERS = 20  # annotators who ask in turns
Figures = dict[str, float]


class ScaleBenchSettings(Settings):
    """What to measure."""

    answers: list[int] = setting([10_000, 100_000], "Answers in the store, size after size.", unit="answers")
    store: str = setting(
        "", "URL of a PostgreSQL database `postgres`, beside which others are made; empty: SQLite files."
    )
    parts: list[str] = setting(
        ["claim", "home", "totals", "settle", "insights", "export", "raw", "train"],
        "What to measure.",
    )
    claims: int = setting(200, "Items that are claimed, and answered.", ge=1)
    folder: str = setting("", "Folder for SQLite files and exports, kept; empty: a temporary one.")


# what is measured, each in a process of its own -----------------------------------------------------------------------


def claim(place: str, settings: ScaleBenchSettings) -> Figures:
    """The next item and its answer, by several annotators in turns."""
    database = Database(place)
    people = [_member(database, f"annotator-{n}") for n in range(CLAIMERS)]
    found: dict[str, list[Figures]] = {"claim": [], "answer": []}
    for n in range(settings.claims + CLAIMERS):
        who = people[n % CLAIMERS]
        tasks: list[Task | None] = []
        found["claim"].append(_timed("one", lambda: tasks.append(queue.next_task(database, who))))  # noqa: B023
        (task,) = tasks
        assert task is not None
        said = Submission(client_key=secrets.token_hex(8), answer=PairAnswer(preference=n % 7 - 3))
        found["answer"].append(
            _timed("one", lambda: answers.submit(database, who, task.assignment_id, said))  # noqa: B023
        )
    figures: Figures = {}
    for name, times in found.items():
        wall = (
            np.array([one["one_s"] for one in times[CLAIMERS:]]) * 1000
        )  # the first round compiles statements
        cpu = np.array([one["one_cpu_s"] for one in times[CLAIMERS:]]) * 1000
        figures |= {f"{name}_ms": float(np.median(wall)), f"{name}_p99_ms": float(np.percentile(wall, 99))}
        figures[f"{name}_cpu_ms"] = float(np.median(cpu))
    return figures


def home(place: str, settings: ScaleBenchSettings) -> Figures:
    """An annotator's home."""
    database = Database(place)
    who = _member(database, "annotator-0")
    queue.progress(database, who)
    return _timed("home", lambda: queue.progress(database, who))


def counts(place: str, settings: ScaleBenchSettings) -> Figures:
    """The totals at the top of the insights page."""
    database = Database(place)
    who = _member(database, "owner")
    return _timed("totals", lambda: totals.totals(database, who))


def settle(place: str, settings: ScaleBenchSettings) -> Figures:
    """The next conflict that an owner settles, and how many there are."""
    database = Database(place)
    who = _member(database, "owner")
    first = answers.next_conflict(database, who)
    assert first is not None
    return _timed("settle", lambda: answers.next_conflict(database, who, first.task.item_id))


def insights(place: str, settings: ScaleBenchSettings) -> Figures:
    """The insights page, first and again."""
    database = Database(place)
    who = _member(database, "owner")
    found = _with_memory("insights", lambda: insight(database, who))
    return found | _timed("again", lambda: insight(database, who))


def exported(format: str) -> Callable[[str, ScaleBenchSettings], Figures]:
    """An export as JSON lines."""

    def measure(place: str, settings: ScaleBenchSettings) -> Figures:
        database = Database(place)
        who = _member(database, "owner")
        spec = ExportSpec(format=format)
        with tempfile.TemporaryDirectory(dir=settings.folder or None) as folder:
            rows = 0

            def work() -> None:
                nonlocal rows
                rows = export(database, who, spec, Path(folder) / "rows.jsonl").rows

            found = _with_memory(format, work)
        return {f"{format}_rows_per_s": rows / found[f"{format}_s"], **found}

    return measure


def train(place: str, settings: ScaleBenchSettings) -> Figures:
    """What `reward data=store:scale` reads, with its hash."""
    rows = 0

    def work() -> None:
        nonlocal rows
        found = comparisons_from(f"store:{PROJECT}", place)
        assert found.digest
        rows = len(found.train)

    found = _with_memory("train", work)
    return {"train_rows_per_s": rows / found["train_s"], **found}


PARTS: dict[str, Callable[[str, ScaleBenchSettings], Figures]] = {
    "claim": claim,
    "home": home,
    "totals": counts,
    "settle": settle,
    "insights": insights,
    "export": exported("preference"),
    "raw": exported("raw"),
    "train": train,
}


def _member(database: Database, name: str) -> Member:
    with database.read() as connection:
        user = find_user(connection, Account.name == name)
    assert user is not None
    return projects.member(database, user, PROJECT)


def _timed(name: str, work: Callable[[], object]) -> Figures:
    """Seconds, and processor seconds of this process, which a busy machine changes less (an SQLite store works in it)."""
    began, spent = time.perf_counter(), time.process_time()
    work()
    return {f"{name}_s": time.perf_counter() - began, f"{name}_cpu_s": time.process_time() - spent}


def _with_memory(name: str, work: Callable[[], object]) -> Figures:
    before = anonymous_mib()
    with Peak() as peak:
        found = _timed(name, work)
    return found | {f"{name}_mib": peak.mib - before}


# putting it together --------------------------------------------------------------------------------------------------


def place_of(settings: ScaleBenchSettings, answers: int, folder: Path) -> str:
    """Where the store of a size is; a database is made if it is missing."""
    if not settings.store:
        return str(folder / f"scale-{answers}.sqlite")
    url = resolve(settings.store)[2]
    name = f"scale_{answers}"
    engine = create_engine(url.set(drivername="postgresql+psycopg"), isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        there = connection.scalar(text("SELECT 1 FROM pg_database WHERE datname = :name"), {"name": name})
        if there is None:
            connection.execute(text(f"CREATE DATABASE {name}"))
    engine.dispose()
    return make_url(settings.store).set(database=name).render_as_string(hide_password=False)


def apart(part: str, place: str, settings: ScaleBenchSettings) -> Figures:
    """The figures of a part, measured in a process of its own."""
    words = [sys.executable, "-m", "benchmarks.scale", "--part", part, place, settings.model_dump_json()]
    done = subprocess.run(words, stdout=subprocess.PIPE, check=True, text=True)
    found: Figures = json.loads(done.stdout.splitlines()[-1])
    return found


def main(arguments: Sequence[str]) -> int:
    """Fill, measure, print.  Returns the exit code."""
    if arguments[:1] == ["--part"]:
        _, part, place, said = arguments
        print(json.dumps(PARTS[part](place, ScaleBenchSettings.model_validate_json(said))))
        return 0
    console = Console(width=120)
    try:
        settings = load(ScaleBenchSettings, arguments)
        unknown = [part for part in settings.parts if part not in PARTS]
        if unknown:
            raise ValueError(f"parts={unknown[0]}: there is no such part: choose of {', '.join(PARTS)}.")
        with tempfile.TemporaryDirectory(prefix="bench-scale-") as temporary:
            folder = Path(settings.folder or temporary)
            found = {size: _measured(settings, size, folder, console) for size in settings.answers}
    except ValueError as error:
        console.print(f"error: {error}", style="red", markup=False)
        return 1
    console.print(_table(found))
    return 0


def _measured(settings: ScaleBenchSettings, answers: int, folder: Path, console: Console) -> Figures:
    place = place_of(settings, answers, folder)
    found: Figures = {}
    if settings.store or not Path(place).exists():
        database = Database(place)
        with database.read() as connection:
            empty = connection.scalar(text("SELECT count(*) FROM account")) == 0
        database.close()
        if empty:
            found |= _timed("fill", lambda: fill(place, answers))
    for part in settings.parts:
        found |= apart(part, place, settings)
        console.print(
            f"{answers:,} {part}: " + json.dumps({k: round(v, 2) for k, v in found.items()}), highlight=False
        )
    return found


def _table(found: dict[int, Figures]) -> Table:
    table = Table("figure", *(f"{size:,}" for size in found), title="answers in the store")
    for name in dict.fromkeys(name for figures in found.values() for name in figures):
        cells = (f"{figures[name]:,.4g}" if name in figures else "" for figures in found.values())
        table.add_row(name, *cells)
    return table


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
