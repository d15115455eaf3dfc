"""`tutelage feedback export`: answers as a file that trainers read, with a manifest."""

from __future__ import annotations

from contextlib import closing

from rich.console import Console

from tutelage.feedback.exports.exporting import export
from tutelage.feedback.exports.material import why_none
from tutelage.feedback.exports.spec import ExportSpec, FileFormat
from tutelage.feedback.projects.projects import local_member
from tutelage.settings.feedback import FeedbackExportSettings as Settings
from tutelage.store.database import Database

ENDINGS: dict[str, FileFormat] = {".jsonl": "jsonl", ".parquet": "parquet", ".csv": "csv"}


def main(settings: Settings, console: Console) -> None:
    """Write the file.  Raises ValueError for no such store or project, and where there is nothing to write."""
    chosen = settings.model_dump(include=set(ExportSpec.model_fields))
    spec = ExportSpec(**chosen | {"file_format": _file_format(settings)})
    with closing(Database(settings.store, migrate=False)) as database:
        who = local_member(database, settings.project)
        done = export(database, who, spec, settings.out)
        why = "" if done.rows else why_none(database, who, spec)
    for reason, number in sorted(done.left_out.items()):
        console.print(f"left out: {number} ({reason})", style="yellow", markup=False)
    if not done.rows:
        raise ValueError(f"{done.file} holds no rows: {why}")
    console.print(
        f"{done.rows:,} row{'s' * (done.rows != 1)} in {done.file}, described in {done.manifest}.",
        markup=False,
    )
    for one in done.beside:
        console.print(f"{one.rows:,} row{'s' * (one.rows != 1)} in {one.file}.", markup=False)


def _file_format(settings: Settings) -> FileFormat:
    """The kind of file, which the ending of its name may not contradict."""
    ending = settings.out.suffix.lower()
    by_ending = ENDINGS.get(ending)
    if settings.file_format == "auto":
        return by_ending or "jsonl"
    if by_ending not in (None, settings.file_format):
        raise ValueError(
            f"out={settings.out} ends in {ending}, but file_format={settings.file_format}: change one of the two."
        )
    return settings.file_format
