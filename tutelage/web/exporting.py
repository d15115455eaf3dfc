"""Finished exports, kept for a while so that a browser can fetch the file and its manifest."""

from __future__ import annotations

import secrets
import shutil
import tempfile
import threading
from dataclasses import dataclass
from pathlib import Path

from tutelage.feedback.errors import Refused
from tutelage.feedback.exports.exporting import Exported, ExportSpec, export
from tutelage.feedback.people.access import Member
from tutelage.store.database import Database

KEPT = 20  # exports; the oldest goes first


@dataclass(frozen=True)
class _Kept:
    project_id: int
    exported: Exported


class Exports:
    """Exports of this server, each in a folder of its own that only this account of the machine can read."""

    def __init__(self) -> None:
        self._folder: Path | None = None
        self._kept: dict[str, _Kept] = {}
        self._lock = threading.Lock()

    def write(self, database: Database, who: Member, spec: ExportSpec) -> tuple[str, Exported]:
        """Write an export; returns the name it is fetched by."""
        name = secrets.token_urlsafe(12)
        folder = self._root() / name
        folder.mkdir()
        try:
            done = export(database, who, spec, folder / f"{spec.format}.{spec.file_format}")
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        with self._lock:
            self._kept[name] = _Kept(who.project_id, done)
            for old in list(self._kept)[:-KEPT]:
                del self._kept[old]
                shutil.rmtree(self._root_locked() / old, ignore_errors=True)
        return name, done

    def find(self, who: Member, name: str) -> Exported:
        """An export of the member's project.  Refused: gone."""
        with self._lock:
            found = self._kept.get(name)
        if found is None or found.project_id != who.project_id or not found.exported.file.exists():
            raise Refused("gone", "This export is no longer here: make it again.")
        return found.exported

    def forget(self, project_id: int) -> None:
        """Remove the files of a project that is gone."""
        with self._lock:
            for name in [name for name, kept in self._kept.items() if kept.project_id == project_id]:
                del self._kept[name]
                shutil.rmtree(self._root_locked() / name, ignore_errors=True)

    def close(self) -> None:
        """Remove all files."""
        with self._lock:
            if self._folder is not None:
                shutil.rmtree(self._folder, ignore_errors=True)
                self._folder = None
            self._kept.clear()

    def _root(self) -> Path:
        with self._lock:
            return self._root_locked()

    def _root_locked(self) -> Path:
        if self._folder is None:
            self._folder = Path(tempfile.mkdtemp(prefix="tutelage-exports-"))
        return self._folder
