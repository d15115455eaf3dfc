"""Finished exports, kept for a while so that a browser can fetch the file and its manifest."""

from __future__ import annotations

import re
import secrets
import shutil
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from tutelage.feedback.errors import Refused
from tutelage.feedback.exports.exporting import Exported, ExportSpec, export
from tutelage.feedback.people.access import Member
from tutelage.store.database import Database

KEPT = 20  # exports; the oldest goes first
ABANDONED = 86_400.0  # seconds after which an export that is not finished never will be
_NAME = re.compile(r"[A-Za-z0-9_-]+")
_MANIFEST = ".manifest.json"


class Found(NamedTuple):
    """The files of an export."""

    file: Path
    manifest: Path


class Exports:
    """Exports of the servers on a store, each in a folder of its own that only this account of the machine can read.

    What there is stands on the disk alone, so that servers which are given the same `folder` find each other's.  Without one
    a temporary folder is made, which goes with the server.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._given, self._folder = folder, folder
        self._lock = threading.Lock()

    def write(self, database: Database, who: Member, spec: ExportSpec) -> tuple[str, Exported]:
        """Write an export; returns the name it is fetched by."""
        name = secrets.token_urlsafe(12)
        folder = self._root() / _folder_of(database, who.project_id, name)
        folder.mkdir(mode=0o700)
        try:
            done = export(database, who, spec, folder / f"{_title(spec)}.{spec.file_format}")
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        self._forget_oldest()
        return name, done

    def find(self, database: Database, who: Member, name: str) -> Found:
        """The files of an export of the member's project.  Refused: gone."""
        root = self._root()
        manifests: list[Path] = []
        if _NAME.fullmatch(name):  # nothing that leads elsewhere
            manifests = list((root / _folder_of(database, who.project_id, name)).glob(f"*{_MANIFEST}"))
        if not manifests:  # the manifest comes last
            raise Refused("gone", "This export is no longer here: make it again.")
        return Found(manifests[0].with_name(manifests[0].name.removesuffix(_MANIFEST)), manifests[0])

    def forget(self, database: Database, project_id: int) -> None:
        """Remove the files of a project that is gone."""
        for folder in self._root().glob(_folder_of(database, project_id, "*")):
            shutil.rmtree(folder, ignore_errors=True)

    def close(self) -> None:
        """Remove all files, unless other servers may have them, too."""
        with self._lock:
            if self._folder is not None and self._given is None:
                shutil.rmtree(self._folder, ignore_errors=True)
                self._folder = None

    def _root(self) -> Path:
        with self._lock:
            if self._folder is None:
                self._folder = Path(tempfile.mkdtemp(prefix="tutelage-exports-"))
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            return self._folder

    def _forget_oldest(self) -> None:
        """Keep the latest; what another server removes meanwhile is gone anyway."""
        made: list[tuple[float, Path]] = []
        for folder in self._root().glob("*.*.*"):
            with suppress(OSError):
                changed = folder.stat().st_mtime
                # One without a manifest is still being written, or whoever wrote it is dead.
                if any(folder.glob(f"*{_MANIFEST}")) or time.time() - changed > ABANDONED:
                    made.append((changed, folder))
        for _, folder in sorted(made)[:-KEPT]:
            shutil.rmtree(folder, ignore_errors=True)


def _folder_of(database: Database, project_id: int, name: str) -> str:
    """What the folder of an export is called: after its store, its project and its name, which nobody can guess."""
    return f"{database.identity[:12]}.{project_id}.{name}"


def _title(spec: ExportSpec) -> str:
    """What a file is called: after its rows, and the part where there are several."""
    return (
        f"{spec.format}-{spec.part}" if spec.format == "refinements" and spec.part != "all" else spec.format
    )
