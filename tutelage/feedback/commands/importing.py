"""`tutelage feedback import`: JSONL into a project."""

from __future__ import annotations

from contextlib import closing

from rich.console import Console
from rich.table import Table

from tutelage.feedback.imports import Imported, import_lines, numbered_lines
from tutelage.feedback.projects import local_member
from tutelage.settings.feedback import FeedbackImportSettings as Settings
from tutelage.store.database import Database

SHOWN = 20  # bad lines in the table


def main(settings: Settings, console: Console) -> None:
    """Import the file.  Raises ValueError at the end when lines were bad: the good ones are stored by then."""
    with settings.file.open("rb") as stream, closing(Database(settings.store)) as database:
        who = local_member(database, settings.project, create=True)
        done = import_lines(database, who, settings.kind, numbered_lines(stream))
    console.print(f"{settings.file}: {done.new} lines are new, {done.there} were there already.")
    if done.bad:
        _show(done, console)
        raise ValueError(
            f"{len(done.bad)} lines of {settings.file} were not taken: mend them and repeat the command, "
            "which stores nothing twice."
        )


def _show(done: Imported, console: Console) -> None:
    table = Table(title="Lines that were not taken")
    table.add_column("line", justify="right")
    table.add_column("why", overflow="fold")
    for entry in done.bad[:SHOWN]:
        table.add_row(str(entry.line), entry.why)
    if len(done.bad) > SHOWN:
        numbers = ", ".join(str(entry.line) for entry in done.bad[SHOWN:])
        table.add_row("...", f"and lines {numbers}")
    console.print(table, markup=False)
