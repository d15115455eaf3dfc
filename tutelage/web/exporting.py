"""Finished exports, kept for a while so that a browser can fetch the file and its manifest."""

from __future__ import annotations

import secrets
import shutil
import tempfile
import threading
from pathlib import Path

from tutelage.feedback.errors import Refused
from tutelage.feedback.exports.exporting import Exported, ExportSpec, export
from tutelage.feedback.people.access import Member
from tutelage.store.database import Database

KEPT = 20  # exports; the oldest goes first


class Exports:
    """Exports of this server, each in a folder of its own that only this account of the machine can read."""

    def __init__(self) -> None:
        self._folder: Path | None = None
        self._kept: dict[str, tuple[int, Exported]] = {}  # by name: the project, the files
        self._lock = threading.RLock()

    def write(self, database: Database, who: Member, spec: ExportSpec) -> tuple[str, Exported]:
        """Write an export; returns the name it is fetched by."""
        name = secrets.token_urlsafe(12)
        folder = self._root() / name
        folder.mkdir()
        try:
            done = export(database, who, spec, folder / f"{_title(spec)}.{spec.file_format}")
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        with self._lock:
            self._kept[name] = (who.project_id, done)
            self._remove(list(self._kept)[:-KEPT])
        return name, done

    def find(self, who: Member, name: str) -> Exported:
        """An export of the member's project.  Refused: gone."""
        with self._lock:
            project_id, found = self._kept.get(name, (None, None))
        if found is None or project_id != who.project_id or not found.file.exists():
            raise Refused("gone", "This export is no longer here: make it again.")
        return found

    def forget(self, project_id: int) -> None:
        """Remove the files of a project that is gone."""
        with self._lock:
            self._remove([name for name, (project, _) in self._kept.items() if project == project_id])

    def close(self) -> None:
        """Remove all files."""
        with self._lock:
            if self._folder is not None:
                shutil.rmtree(self._folder, ignore_errors=True)
                self._folder = None
            self._kept.clear()

    def _root(self) -> Path:
        with self._lock:
            if self._folder is None:
                self._folder = Path(tempfile.mkdtemp(prefix="tutelage-exports-"))
            return self._folder

    def _remove(self, names: list[str]) -> None:
        for name in names:
            del self._kept[name]
            shutil.rmtree(self._root() / name, ignore_errors=True)


def _title(spec: ExportSpec) -> str:
    """What a file is called: after its rows, and the part where there are several."""
    return (
        f"{spec.format}-{spec.part}" if spec.format == "refinements" and spec.part != "all" else spec.format
    )
