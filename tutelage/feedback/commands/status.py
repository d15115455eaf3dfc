"""`tutelage feedback status`: how far the work in a store is."""

from __future__ import annotations

from contextlib import closing
from dataclasses import fields

from rich.console import Console
from rich.table import Table

from tutelage.evals.shown import columns_table
from tutelage.feedback.insights.totals import Totals, annotators, totals
from tutelage.feedback.projects.projects import local_member, names
from tutelage.settings.feedback import FeedbackStatusSettings as Settings
from tutelage.store.database import Database


def main(settings: Settings, console: Console) -> None:
    """Print a table of projects, or of one project's annotators as well."""
    with closing(Database(settings.store, migrate=False)) as database:
        wanted = [local_member(database, settings.project).project] if settings.project else names(database)
        if not wanted:
            console.print(f"{database.place} has no projects yet.", markup=False)
            return
        _projects(database, wanted, console)
        if settings.project:
            _annotators(database, settings.project, console)


def _projects(database: Database, wanted: list[str], console: Console) -> None:
    counted = [field.name for field in fields(Totals)]
    columns = {}
    for name in wanted:
        found = totals(database, local_member(database, name))
        columns[name] = [f"{getattr(found, what):,}" for what in counted]
    lines = [what.replace("_", " ") for what in counted]
    console.print(columns_table(f"Feedback in {database.place}", "project", lines, columns, console.width))


def _annotators(database: Database, project: str, console: Console) -> None:
    table = Table(title="Annotators")
    for name in ("annotator", "kind", "answers", "skips", "last answer"):
        table.add_column(name, justify="left" if name in ("annotator", "kind") else "right")
    for row in annotators(database, local_member(database, project)):
        last = "-" if row.last is None else row.last.strftime("%Y-%m-%d %H:%M")
        table.add_row(row.name, row.kind, str(row.answers), str(row.skips), last)
    console.print(table)
