"""`tutelage feedback import`: a file into a project."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing

from rich.console import Console
from rich.table import Table
from rich.text import Text

from tutelage.feedback.imports.importing import BadLine, import_stream
from tutelage.feedback.imports.recognising import SNIFFED, name_of
from tutelage.feedback.projects.projects import local_member
from tutelage.settings.feedback import FeedbackImportSettings as Settings
from tutelage.store.database import Database

SHOWN = 20  # bad rows in the table


def main(settings: Settings, console: Console) -> None:
    """Import the file.  Raises ValueError at the end when rows were bad: the good ones are stored by then."""
    with settings.file.open("rb") as stream, closing(Database(settings.store)) as database:
        who = local_member(database, settings.project, create=True)
        name = str(settings.file)
        if not name.endswith(".gz"):
            name = name_of(stream.read(SNIFFED), name)
            stream.seek(0)
        done = import_stream(database, who, settings.kind, stream, name, settings.columns, settings.encoding)
    if done.needs:
        console.print(done.needs, style="yellow")
    there = f"{done.there} {'was' if done.there == 1 else 'were'} there already"
    console.print(f"{settings.file}: {_lines(done.new)} {'is' if done.new == 1 else 'are'} new, {there}.")
    for name, count in sorted(done.unused.items()):
        console.print(f"The column {name!r} of {_lines(count, 'row')} was not used.", markup=False)
    if done.mended:
        _show("Mended", done.mended, console)
    if done.bad:
        _show("Lines that were not taken", done.bad, console)
        if any("not UTF-8" in entry.why for entry in done.bad):
            console.print("Where it comes from Excel, encoding=windows-1252 may read it.", markup=False)
        many = ("was", "it") if len(done.bad) == 1 else ("were", "them")
        raise ValueError(
            f"{_lines(len(done.bad))} of {settings.file} {many[0]} not taken: mend {many[1]} and repeat the command, "
            "which stores nothing twice."
        )


def _lines(count: int, unit: str = "line") -> str:
    return f"{count} {unit}{'s' * (count != 1)}"


def _show(title: str, entries: Sequence[BadLine], console: Console) -> None:
    table = Table(title=title)
    table.add_column(entries[0].unit, justify="right")
    table.add_column("what" if title == "Mended" else "why", overflow="fold")
    for entry in entries[:SHOWN]:
        table.add_row(str(entry.line), Text(entry.why))
    if len(entries) > SHOWN:
        table.add_row("...", f"and {len(entries) - SHOWN:,} more")
    console.print(table, markup=False)
