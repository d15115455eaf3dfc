"""Reading run folders back: what the report and the table of runs are made from. No torch."""

from __future__ import annotations

import fcntl
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from tutelage.data.reading.sources import parts_of
from tutelage.evals import rows
from tutelage.evals.rows import Row
from tutelage.resume import read_metrics

SKIPPED = {"checkpoints", "model", "tensorboard"}
_ROUND = re.compile(r"round-(\d+)")
DEPTH = 4  # levels below the given folder in which runs are looked for


@dataclass(frozen=True)
class RunFolder:
    """One run folder, read when asked. `name` is its path below the folder that was given."""

    path: Path
    name: str

    @cached_property
    def lineage(self) -> dict[str, Any]:
        """The content of lineage.json. Raises ValueError when it is not a JSON object."""
        return _json_object(self.path / "lineage.json")

    @property
    def command(self) -> str:
        return str(self.lineage.get("command", "?"))

    @cached_property
    def settings(self) -> dict[str, Any]:
        """The content of settings.yaml; empty when there is none."""
        path = self.path / "settings.yaml"
        try:
            found = yaml.safe_load(path.read_text(encoding="utf-8")) if path.exists() else {}
        except yaml.YAMLError as error:
            raise ValueError(
                f"{path} is not valid YAML ({str(error).splitlines()[0]}); restore it or remove the run."
            ) from None
        return found if isinstance(found, dict) else {}

    @cached_property
    def metrics(self) -> list[dict[str, Any]]:
        """The lines of metrics.jsonl, by rising step; empty when there are none."""
        return sorted(read_metrics(self.path), key=lambda line: line["step"])

    @cached_property
    def results(self) -> list[Row]:
        """The rows of results.json; empty when there are none."""
        path = self.path / "results.json"
        return rows.read(path) if path.exists() else []

    @cached_property
    def samples(self) -> list[dict[str, Any]]:
        """The lines of samples.jsonl; empty when there are none. Raises ValueError with the line that is not JSON."""
        path = self.path / "samples.jsonl"
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        found = []
        for number, line in enumerate(lines, 1):
            try:
                found.append(json.loads(line))
            except json.JSONDecodeError as error:
                raise ValueError(
                    f"{path}, line {number}: not valid JSON ({error.msg}); remove that line."
                ) from None
        return found

    @property
    def round(self) -> int | None:
        """Which round of a pipeline it belongs to (OUT/round-N/NAME); None outside of rounds."""
        found = _ROUND.fullmatch(self.path.resolve().parent.name)
        return int(found[1]) if found else None

    @property
    def state(self) -> str:
        """done, running (a process holds the folder), failed (`reason` says why) or stopped."""
        state = self.lineage.get("state")
        if state != "done" and _held(self.path / ".lock"):
            return "running"
        return state if state in ("done", "failed") else "stopped"

    @property
    def reason(self) -> str:
        """Why a failed run failed; empty for others."""
        return str(self.lineage.get("error", "")) if self.state == "failed" else ""

    @property
    def steps(self) -> int:
        """The last step of which metrics were written."""
        return int(self.metrics[-1]["step"]) if self.metrics else 0

    @property
    def seconds(self) -> float | None:
        """Duration: as recorded, else from start to the last written metric; None when neither is known."""
        if self.lineage.get("seconds") is not None:
            return float(self.lineage["seconds"])
        started, written = self.lineage.get("started_at"), self.path / "metrics.jsonl"
        if not started or not written.exists():
            return None
        return max(0.0, written.stat().st_mtime - datetime.fromisoformat(started).timestamp())


def round_name(number: int) -> str:
    """The folder of a pipeline that holds the runs of a round."""
    return f"round-{number}"


def find(places: Sequence[str | Path]) -> list[RunFolder]:
    """All run folders at or below the given places, oldest first.

    Raises ValueError when a place does not exist or none of them holds a run.
    """
    found: dict[Path, RunFolder] = {}
    for place in map(Path, places):
        if not place.is_dir():
            raise ValueError(f"{place} is not a folder; give a run folder or a folder that holds some.")
        for path in _below(place, DEPTH):
            name = str(path.relative_to(place)) if path != place else path.resolve().name
            found.setdefault(path.resolve(), RunFolder(path, name))
    if not found:
        given = ", ".join(map(str, places)) or "no folder"
        raise ValueError(
            f"No run found in {given}; a run folder holds lineage.json, which every tutelage command writes."
        )
    return sorted(_apart(found.values()), key=lambda run: (str(run.lineage.get("started_at", "")), run.name))


def _apart(runs: Iterable[RunFolder]) -> list[RunFolder]:
    """The same runs under names that differ: runs that share one get as much of their path as it takes."""
    named = list(runs)
    for depth in range(2, 32):
        often = Counter(run.name for run in named)
        if max(often.values()) == 1:
            break
        named = [
            replace(run, name="/".join(run.path.resolve().parts[-depth:])) if often[run.name] > 1 else run
            for run in named
        ]
    return named


def parents(run: RunFolder, others: Sequence[RunFolder]) -> list[tuple[RunFolder, dict[str, Any]]]:
    """The runs whose files this run read, each with the lineage entry of that input (name, path, sha256).

    What is read from the feedback store came from the newest run that wrote to the same store before this one:
    `label`, or `sample` where nothing was labelled.
    """
    places = {other.path.resolve(): other for other in others if other is not run}
    found = []
    for entry in run.lineage.get("inputs", []):
        for part in parts_of(entry.get("path") or "."):
            path = Path(part.name).resolve()
            owner = next((places[p] for p in (path, *path.parents) if p in places), None)
            if owner is not None and owner.path.resolve() not in run.path.resolve().parents:
                found.append((owner, entry))
    writer = _store_writer(run, others)
    if writer is not None:
        found.append((writer, _store_entry(run)))
    return found


def _store_entry(run: RunFolder) -> dict[str, Any]:
    """The lineage entry of what a run read from the store."""
    entries = run.lineage.get("inputs", [])
    return next((e for e in entries if _projects(e.get("path"))), {"name": "store"})


def _store_writer(run: RunFolder, others: Sequence[RunFolder]) -> RunFolder | None:
    """The run that wrote what this run reads from the store; None when it reads none or nobody here wrote it."""
    reads = _projects(run.settings.get("data"))
    if not reads and run.command != "label":
        return None
    kinds = ("sample",) if run.command == "label" else ("label", "sample")
    started = str(run.lineage.get("started_at", ""))
    for kind in kinds:
        wrote = [
            other
            for other in others
            if other is not run
            and other.command == kind
            and other.settings.get("store") == run.settings.get("store")
            and str(other.lineage.get("started_at", "")) <= started
        ]
        if wrote:
            return max(wrote, key=lambda other: str(other.lineage.get("started_at", "")))
    return None


def _projects(source: Any) -> bool:
    """Whether rows come from projects in the store."""
    return str(source[0] if isinstance(source, list) and source else source).startswith("store:")


def _below(folder: Path, depth: int) -> Iterator[Path]:
    if (folder / "lineage.json").is_file():
        yield folder
    if depth:
        for child in sorted(folder.iterdir()):
            if child.is_dir() and child.name not in SKIPPED and not child.name.startswith("."):
                yield from _below(child, depth - 1)


def _held(lock: Path) -> bool:
    """Whether a living process holds the lock file (the system lets go when a process ends)."""
    try:
        with lock.open(encoding="utf-8") as handle:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def _json_object(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise ValueError(
            f"{path}, line {error.lineno}: not valid JSON ({error.msg}); restore it or remove the run."
        ) from None
    if not isinstance(found, dict):
        raise ValueError(f"{path} is not a JSON object; restore it or remove the run.")
    return found
