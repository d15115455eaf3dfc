"""The run folder: settings, metrics, lineage, progress.  No torch here.

settings.yaml   resolved and complete; `tutelage COMMAND settings.yaml` repeats the run
lineage.json    command, inputs by content hash, code version, seed, machine, times, settings changed on the way, state
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
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

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
from tutelage.data.reading.sources import Source, content_hash, shown
from tutelage.files import recover, write_json_atomic, write_text_atomic
from tutelage.resume import Standing, read_lineage, read_metrics, standing
from tutelage.settings.base import Settings, to_yaml


class Run:
    """One run folder, open for writing by one process; the other ranks of a run look on (`leads` is False there)."""

    def __init__(self, folder: Path, lineage: dict[str, Any], console: Console, lock: IO[str] | None) -> None:
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

        What changes no result may have changed (`Settings.refuses`); it is recorded.  A folder in which nothing was done
        is taken over.  Raises ValueError when the folder holds something else: another command, other settings, or
        files that no run wrote; nothing in it is touched then.
        """
        folder = Path(folder)
        if folder.exists() and not folder.is_dir():
            raise ValueError(f"{folder} is a file, but a run needs a folder: choose another out=.")
        _ours(standing(folder, command, settings))
        folder.mkdir(parents=True, exist_ok=True)
        lock = _lock(folder)
        try:
            found = _ours(standing(folder, command, settings))  # again: nobody else changes it from here on
            run = Run(folder, read_lineage(folder) or {}, console or Console(), lock)
            if found.state == "free":
                run._begin(command, settings)
            elif found.state == "begun":
                run._go_on(found, settings)
        except BaseException:
            lock.close()
            raise
        return run

    @staticmethod
    def follow(folder: Path) -> Run:
        """The run that another rank has opened: everything is read, nothing is written, nothing is said."""
        return Run(Path(folder), read_lineage(Path(folder)) or {}, Console(quiet=True), None)

    @property
    def leads(self) -> bool:
        """Whether this process writes."""
        return self._lock is not None

    @property
    def done(self) -> bool:
        """Whether this run has ended well before."""
        return self.lineage.get("state") == "done"

    def input(self, name: str, path: Source, sha256: str | None = None) -> None:
        """Record an input by the hash of its content (a file, a model folder, all files of a pattern or mix, or as given).

        Hub names have none.  Raises ValueError when the run was begun with another content under this name: going on
        would mix two.
        """
        if not self.leads:  # one rank reads them for all
            return
        named = str(path) if isinstance(path, str | Path) else list(map(str, path))
        entry: dict[str, Any] = {"name": name, "path": named}
        digest = sha256 or content_hash(path)
        if digest is not None:
            entry["sha256"] = digest
        self._refuse_changed(entry)
        others = [known for known in self.lineage["inputs"] if known["name"] != name]
        self.note(inputs=[*others, entry])

    def _refuse_changed(self, entry: Mapping[str, Any]) -> None:
        """Raise when this run was begun with another content of the input `entry`."""
        name, path, digest = entry["name"], entry["path"], entry.get("sha256")
        for known in self.lineage["inputs"]:
            if known["name"] == name and known.get("sha256", digest) != digest:
                what = "has changed" if digest else "is gone"
                raise ValueError(
                    f"{shown(path)} ({name}) {what} since the run in {self.folder} began: put it back as it was, or start anew "
                    "with another out=."
                )

    def begin(self) -> None:
        """Say that from here on work is done, where the folder itself does not show it (votes go into the store)."""
        if "begun_at" not in self.lineage:
            self.note(begun_at=_now())

    def note(self, **facts: Any) -> None:
        """Add facts to the lineage (JSON)."""
        self.lineage |= facts
        self.write_json("lineage.json", self.lineage)

    def write_json(self, name: str, value: Any) -> None:
        """Write a JSON file of the run folder, where this process leads."""
        if self.leads:
            write_json_atomic(self.folder / name, value)

    def finish(self, **facts: Any) -> None:
        """Mark the run as done; the same command says so from now on instead of repeating the work."""
        self.close()
        self.note(state="done", **self._until_now(), **facts)

    def fail(self, error: Exception) -> None:
        """Mark the run as failed, and why; the same command goes on with it, or starts anew where nothing was done."""
        with suppress(OSError):  # a full disk, most likely: then the reason is on the screen
            sentence = next(iter(str(error).strip().splitlines()), type(error).__name__)
            self.note(state="failed", error=sentence, **self._until_now())

    def _until_now(self) -> dict[str, Any]:
        """When the work ended, and how long it took, with what was done of it before."""
        seconds = self.lineage.get("seconds", 0) + round(time.monotonic() - self._started, 3)
        return {"finished_at": _now(), "seconds": seconds}

    def _begin(self, command: str, settings: Settings) -> None:
        """Start anew in a folder that holds no work; what earlier attempts read stays on record."""
        attempt = {key: self.lineage[key] for key in ("started_at", "inputs", "error") if key in self.lineage}
        earlier = [*self.lineage.get("earlier", []), *([attempt] if attempt.get("inputs") else [])]
        for entry in self.folder.iterdir():
            if entry.name not in ("lineage.json", ".lock"):
                shutil.rmtree(entry) if entry.is_dir() and not entry.is_symlink() else entry.unlink()
        self.lineage = {"earlier": earlier} if earlier else {}
        self.note(**_new_lineage(command, getattr(settings, "seed", None)))
        write_text_atomic(self.folder / "settings.yaml", to_yaml(settings))

    def _go_on(self, found: Standing, settings: Settings) -> None:
        """Take up this run; settings that have changed are recorded, and those in force from now on written down."""
        if self.done:  # what is finished stays finished, unless it can really go on
            for entry in self.lineage["inputs"]:
                if (digest := content_hash(entry["path"])) is not None:
                    self._refuse_changed({**entry, "sha256": digest})
        self.lineage.pop("error", None)
        if not found.changed:
            self.note(state="running")
            return
        for key, (there, here) in found.changed.items():
            self.console.print(f"{self.folder} goes on with {key}={here} (before: {there}).", markup=False)
        change = {
            "step": found.made.steps,
            "settings": {key: list(two) for key, two in found.changed.items()},
        }
        changes = self.lineage.get("changes", [])
        if (
            not changes or not change.items() <= changes[-1].items()
        ):  # else killed before the next file was written
            changes = [*changes, {"at": _now(), **change}]
        self.note(state="running", changes=changes)
        write_text_atomic(self.folder / "settings.yaml", to_yaml(settings))

    # metrics -----------------------------------------------------------------------------------------------------

    def log(self, metrics: Mapping[str, float]) -> None:
        """Collect numbers for the current step; `commit` writes them as one line."""
        self._pending |= {name: float(value) for name, value in metrics.items()}

    def commit(self, step: int) -> dict[str, float]:
        """Write what was collected as the line of `step`, and return it."""
        line, self._pending = self._pending, {}
        if not self.leads:
            return line
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
        if self.leads and path.exists():
            kept = [line for line in read_metrics(self.folder) if line["step"] <= step]
            write_text_atomic(path, "".join(json.dumps(line) + "\n" for line in kept))

    def open_tensorboard(self, step: int) -> None:
        """Send the same numbers to TensorBoard files in the run folder; steps after `step` are purged."""
        if not self.leads:
            return
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
        if self._lock is not None:
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


MEMBERS = "members"
"""The folder of a run with the further models of an ensemble, each in a folder of its own as a run would have it: 2, 3, ..."""


def members_of(path: str | Path) -> list[str]:
    """The models of the ensemble in a run folder; the path alone where it is none."""
    further = sorted(Path(path).glob(f"{MEMBERS}/*/model"), key=lambda model: int(model.parent.name))
    return [str(path), *(str(model.parent) for model in further)]


def result_folder(path: str | Path) -> str:
    """The model that a path means: a run folder means its result, anything else is taken as it is."""
    model = recover(Path(path) / "model")
    return str(model) if model.is_dir() else str(path)


def _ours(found: Standing) -> Standing:
    """`found`, unless it is another's: ValueError then."""
    if found.state == "foreign":
        raise ValueError(found.reason)
    return found


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
