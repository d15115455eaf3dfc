"""`tutelage feedback export`: answers as a file that trainers read, with a manifest."""

from __future__ import annotations

from contextlib import closing

from rich.console import Console

from tutelage.feedback.commands.opening import open_existing
from tutelage.feedback.exports import ExportSpec, export
from tutelage.feedback.projects import local_member
from tutelage.settings.stages import FeedbackExportSettings as Settings


def main(settings: Settings, console: Console) -> None:
    """Write the file.  Raises ValueError for no such store or project, and where there is nothing to write."""
    spec = ExportSpec(**settings.model_dump(include=set(ExportSpec.model_fields)))
    with closing(open_existing(settings.store)) as database:
        who = local_member(database, settings.project)
        done = export(database, who, spec, settings.out)
    for reason, number in sorted(done.left_out.items()):
        console.print(f"left out: {number} ({reason})", style="yellow", markup=False)
    if not done.rows:
        raise ValueError(
            f"nothing in project '{settings.project}' fits format={spec.format}: {done.file} is empty; "
            "look at `tutelage feedback status`, or choose another format."
        )
    console.print(f"{done.rows} rows in {done.file}, described in {done.manifest}.", markup=False)
