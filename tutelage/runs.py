"""The run folder: settings, metrics, lineage, progress.  No torch here.

settings.yaml   resolved and complete; `tutelage COMMAND settings.yaml` repeats the run
lineage.json    command, inputs by content hash, code version, seed, machine, times, whether it is done
metrics.jsonl   one line per step: {"step": n, "loss": ..., ...}
tensorboard/    the same numbers
checkpoints/    step-00000100/ ...: all that an exact resume needs
model/          the result; plain transformers loads it
"""

from __future__ import annotations

import fcntl
import json
import os
import platform
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

import yaml
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from tutelage import __version__
from tutelage.files import recover, sha256_of, write_json_atomic, write_text_atomic
from tutelage.settings.base import Settings, to_yaml


class Run:
    """One run folder, open for writing by one process."""

    def __init__(self, folder: Path, lineage: dict[str, Any], console: Console, lock: IO[str]) -> None:
        self.folder = folder
        self.console = console
        self.lineage = lineage
        self._lock = lock
        self._pending: dict[str, float] = {}
        self._metrics: IO[str] | None = None
        self._board: Any = None
        self._started = time.monotonic()

    @staticmethod
    def open(folder: Path, command: str, settings: Settings, console: Console | None = None) -> Run:
        """Start a run in `folder`, or take up the same run again where it stopped.

        Raises ValueError when the folder holds something else: another command, other settings, or files that no
        run wrote; nothing in it is touched then.
        """
        folder = Path(folder)
        if folder.exists() and not folder.is_dir():
            raise ValueError(f"{folder} is a file, but a run needs a folder: choose another out=.")
        _refuse_foreign(folder, command, settings)
        folder.mkdir(parents=True, exist_ok=True)
        lock = _lock(folder)
        lineage = _read_lineage(folder)
        if lineage is None:
            lineage = _new_lineage(command, getattr(settings, "seed", None))
            write_text_atomic(folder / "settings.yaml", to_yaml(settings))
            write_json_atomic(folder / "lineage.json", lineage)
        return Run(folder, lineage, console or Console(), lock)

    @property
    def done(self) -> bool:
        """Whether this run has ended well before."""
        return self.lineage.get("state") == "done"

    def input(self, name: str, path: str | Path, sha256: str | None = None) -> None:
        """Record an input by its content hash (a file, a model folder, or as given); hub names have none."""
        entry: dict[str, Any] = {"name": name, "path": str(path)}
        if sha256 is not None or Path(path).exists():
            entry["sha256"] = sha256 or sha256_of(path)
        others = [known for known in self.lineage["inputs"] if known["name"] != name]
        self.lineage["inputs"] = [*others, entry]
        write_json_atomic(self.folder / "lineage.json", self.lineage)

    def note(self, **facts: Any) -> None:
        """Add facts to the lineage (JSON)."""
        self.lineage |= facts
        write_json_atomic(self.folder / "lineage.json", self.lineage)

    def finish(self, **facts: Any) -> None:
        """Mark the run as done; the same command says so from now on instead of repeating the work."""
        self.close()
        seconds = round(time.monotonic() - self._started, 3)
        self.note(state="done", finished_at=_now(), seconds=seconds, **facts)

    # metrics -----------------------------------------------------------------------------------------------------

    def log(self, metrics: Mapping[str, float]) -> None:
        """Collect numbers for the current step; `commit` writes them as one line."""
        self._pending |= {name: float(value) for name, value in metrics.items()}

    def commit(self, step: int) -> dict[str, float]:
        """Write what was collected as the line of `step`, and return it."""
        line, self._pending = self._pending, {}
        if self._metrics is None:
            self._metrics = (self.folder / "metrics.jsonl").open("a", encoding="utf-8")
        self._metrics.write(json.dumps({"step": step, **line}) + "\n")
        self._metrics.flush()
        if self._board is not None:
            for name, value in line.items():
                self._board.add_scalar(name, value, step)
        return line

    def rewind(self, step: int) -> None:
        """Forget metrics after `step`: a resumed run writes those steps again."""
        path = self.folder / "metrics.jsonl"
        if path.exists():
            kept = [line for line in read_metrics(self.folder) if line["step"] <= step]
            write_text_atomic(path, "".join(json.dumps(line) + "\n" for line in kept))

    def open_tensorboard(self, step: int) -> None:
        """Send the same numbers to TensorBoard files in the run folder; steps after `step` are purged."""
        from torch.utils.tensorboard import SummaryWriter

        self._board = SummaryWriter(str(self.folder / "tensorboard"), purge_step=step + 1)

    def close(self) -> None:
        """Flush and close the metric files."""
        if self._metrics is not None:
            os.fsync(self._metrics.fileno())
            self._metrics.close()
            self._metrics = None
        if self._board is not None:
            self._board.close()
            self._board = None

    def release(self) -> None:
        """Let another run of this process have the folder."""
        self._lock.close()

    # for people ---------------------------------------------------------------------------------------------------

    @contextmanager
    def progress(self, total: int, description: str, done: int = 0) -> Iterator[Bar]:
        """A progress bar with count, rate-derived time left and a free text field."""
        columns = (
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[status]}"),
        )
        with Progress(*columns, console=self.console, transient=False) as progress:
            task = progress.add_task(description, total=total, completed=done, status="")
            yield Bar(progress, task)


class Bar:
    """A running progress bar."""

    def __init__(self, progress: Progress, task: Any) -> None:
        self._progress, self._task = progress, task

    def advance(self, amount: float = 1, status: str | None = None) -> None:
        """Move on by `amount`; `status` replaces the text at the end of the line."""
        fields: dict[str, Any] = {} if status is None else {"status": status}
        self._progress.update(self._task, advance=amount, **fields)


def read_metrics(folder: Path) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl; a last line cut short by a crash is left out."""
    path = folder / "metrics.jsonl"
    lines = path.read_text(encoding="utf-8").split("\n") if path.exists() else []
    read = []
    for number, line in enumerate(lines):
        try:
            read.append(json.loads(line))
        except json.JSONDecodeError as error:
            if line and number < len(lines) - 2:
                raise ValueError(f"{path}, line {number + 1}: not valid JSON ({error}).") from error
    return read


def result_folder(path: str | Path) -> str:
    """The model that a path means: a run folder means its result, anything else is taken as it is."""
    model = recover(Path(path) / "model")
    return str(model) if model.is_dir() else str(path)


def changed_settings(folder: Path, settings: Settings) -> dict[str, tuple[Any, Any]]:
    """Settings whose value in the run `folder` is not the one in `settings`: {name: (there, here)}.

    A setting that a run of an older version does not have counts as its default.
    """
    there = type(settings).model_construct().model_dump(mode="json")
    there |= yaml.safe_load((folder / "settings.yaml").read_text(encoding="utf-8"))
    here = yaml.safe_load(to_yaml(settings))
    return {key: (there.get(key), value) for key, value in here.items() if there.get(key) != value}


def _refuse_foreign(folder: Path, command: str, settings: Settings) -> None:
    """Raise when `folder` holds anything but a run of this command with these settings."""
    if not folder.exists() or not any(entry.name != ".lock" for entry in folder.iterdir()):
        return
    lineage = _read_lineage(folder)
    if lineage is None:
        raise ValueError(f"{folder} is not empty and holds no run: choose another out= or empty it.")
    if lineage["command"] != command:
        raise ValueError(
            f"{folder} holds a run of '{lineage['command']}', not of '{command}': choose another out= or remove it."
        )
    for key, (there, here) in changed_settings(folder, settings).items():
        raise ValueError(
            f"{folder} holds a different run ({key} is {there!r} there and {here!r} here): "
            "choose another out= or remove that folder."
        )


def _read_lineage(folder: Path) -> dict[str, Any] | None:
    path = folder / "lineage.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


def _lock(folder: Path) -> IO[str]:
    """Hold the folder for this process; the system lets go when the process ends, however it ends."""
    lock = (folder / ".lock").open("w", encoding="utf-8")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        raise ValueError(
            f"another process is writing to {folder}: wait for it, or choose another out=."
        ) from error
    return lock


def _new_lineage(command: str, seed: int | None) -> dict[str, Any]:
    return {
        "command": command,
        "state": "running",
        "seed": seed,
        "code": {"version": __version__, "commit": _git_commit()},
        "machine": {
            "system": platform.platform(),
            "processor": platform.processor(),
            "cores": os.cpu_count(),
        },
        "started_at": _now(),
        "inputs": [],
    }


def _git_commit() -> str | None:
    """The commit of the code, when it runs from a git checkout."""
    here = Path(__file__).resolve().parent
    if not (here.parent / ".git").exists():
        return None
    try:
        result = subprocess.run(
            ["git", "-C", str(here), "describe", "--always", "--dirty"],
            capture_output=True,
            text=True,
            timeout=5,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return result.stdout.strip() or None


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
