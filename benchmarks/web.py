"""`python -m benchmarks.web [key=value ...]`: how long annotators wait for the next item and for their answer to be stored.

A server of its own on a store of its own; each annotator is a thread with a connection: next, a pause, submit.  They come
one by one, too: pauses are exponential, so that nobody marches in step.  Times are whole requests over loopback, from the
client's side.  Also how long `tutelage serve` takes from the command to its first answer, and how much processor time the
server spends per answer (a `next` and a `submit`), which a busy machine changes less than the times.
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from tutelage.feedback.asking.payloads import ProjectSettings, Schema
from tutelage.feedback.items import building
from tutelage.feedback.people.invitations import accept_invitation, first_owner_invitation, invite
from tutelage.feedback.people.tokens import create_token
from tutelage.feedback.projects import projects
from tutelage.records import Prompt, Response
from tutelage.seeds import rng
from tutelage.settings.base import Settings, load, setting
from tutelage.store import ModelInfo, Store
from tutelage.store.database import Database
from tutelage.web.client import Client

PASSWORD = "a password for a benchmark"
WORDS = 120  # of a response


class WebBenchSettings(Settings):
    """What to measure."""

    annotators: int = setting(20, "Annotators at work at the same time.", ge=1)
    answers: int = setting(50, "Answers per annotator.", unit="answers", ge=1)
    pause: float = setting(
        0.5, "Mean pause before coming and before an answer; 0 = as fast as it goes.", unit="s", ge=0
    )
    items: int = setting(2000, "Items in the project.", unit="items", ge=1)
    store: str = setting("", "Store to use, such as a database URL; empty makes an SQLite file.")


def prepare(store: str, settings: WebBenchSettings) -> list[str]:
    """A project with items and annotators; returns a token per annotator."""
    database = Database(store)
    secret = first_owner_invitation(database)
    if secret is None:
        raise ValueError(f"store={store} is in use already: give one that does not exist yet.")
    owner = accept_invitation(database, secret, "owner", PASSWORD)
    member = projects.create_project(
        database, owner, "bench", ProjectSettings(overlap=settings.annotators), Schema(acceptable=False)
    )
    prompts = [Prompt(f"Question {n}?") for n in range(settings.items)]
    with Store(store) as opened:
        opened.add_prompts("bench", prompts)
        run = opened.add_generation_run(ModelInfo("bench"), "local", {"seed": 0})
        texts = [f"**Answer {k}** " + f"word{n} " * WORDS for n in range(settings.items) for k in range(2)]
        responses = [
            Response(prompts[i // 2], text, (1,), (2,), (-1.0,), "eos", i % 2) for i, text in enumerate(texts)
        ]
        opened.add_responses("bench", run, responses)
    building.build(database, member, "pair")
    tokens = []
    for n in range(settings.annotators):
        invitation = invite(database, owner, "bench", "annotator")
        user = accept_invitation(database, invitation, f"annotator-{n}", PASSWORD)
        tokens.append(create_token(database, user, "bench", ("label",)))
    database.close()
    return tokens


def start(store: str) -> tuple[subprocess.Popen[str], str, float]:
    """A server: its process, its address, and the seconds from the command to the first answer."""
    began = time.monotonic()
    command = [sys.executable, "-m", "tutelage", "serve", f"store={store}", "port=0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    url = next(word for word in process.stdout.readline().split() if word.startswith("http"))
    with urllib.request.urlopen(f"{url}/healthz") as answer:
        answer.read()
    return process, url, time.monotonic() - began


def annotate(
    url: str, token: str, number: int, settings: WebBenchSettings, times: dict[str, list[float]]
) -> None:
    """One annotator at work."""
    come, *pauses = rng(0, "web benchmark", str(number)).exponential(settings.pause, settings.answers + 1)
    time.sleep(come)
    with Client(url, token) as client:
        for pause in pauses:
            began = time.monotonic()
            task = client.next("bench")
            times["next"].append(time.monotonic() - began)
            assert task is not None
            time.sleep(pause)
            began = time.monotonic()
            client.submit(task, {"type": "pair", "preference": 1})
            times["submit"].append(time.monotonic() - began)


def main(arguments: Sequence[str]) -> int:
    """Measure and print the table.  Returns the exit code."""
    console = Console()
    try:
        settings = load(WebBenchSettings, arguments)
        with tempfile.TemporaryDirectory(prefix="bench-web-") as folder:
            store = settings.store or str(Path(folder) / "store.sqlite")
            tokens = prepare(store, settings)
            process, url, seconds = start(store)
            try:
                before = processor_seconds(process.pid)
                times, wall = _measure(url, tokens, settings)
                spent = processor_seconds(process.pid) - before
            finally:
                process.terminate()
                process.wait()
    except ValueError as error:
        console.print(f"error: {error}", style="red", markup=False)
        return 1
    console.print(_table(times, wall, seconds, spent, settings))
    return 0


def processor_seconds(process: int) -> float:
    """Processor time of a process so far, from /proc."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _measure(
    url: str, tokens: Sequence[str], settings: WebBenchSettings
) -> tuple[dict[str, list[float]], float]:
    times: dict[str, list[float]] = {"next": [], "submit": []}
    threads = [
        threading.Thread(target=annotate, args=(url, token, number, settings, times))
        for number, token in enumerate(tokens)
    ]
    began = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return times, time.monotonic() - began


def _table(
    times: dict[str, list[float]], wall: float, start: float, spent: float, settings: WebBenchSettings
) -> Table:
    table = Table(
        title=f"{settings.annotators} annotators, mean pause {settings.pause:g} s, {os.cpu_count()} cores "
        f"({platform.machine()}); first answer {start:.2f} s after the command",
        caption=f"{len(times['submit'])} answers in {wall:.1f} s, {1000 * spent / len(times['submit']):.1f} ms of "
        "the server's processor time each",
    )
    table.add_column("request")
    for heading in ("n", "p50 ms", "p95 ms", "p99 ms", "max ms"):
        table.add_column(heading, justify="right")
    for name, values in times.items():
        found = np.array(values) * 1000
        marks = [*np.percentile(found, [50, 95, 99]), found.max()]
        table.add_row(name, str(len(found)), *(f"{mark:.1f}" for mark in marks))
    return table


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
