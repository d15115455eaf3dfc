"""`tutelage feedback delete`: hide a project from everybody, with everything in it kept."""

from __future__ import annotations

from contextlib import closing

from rich.console import Console

from tutelage.feedback.commands.opening import open_existing
from tutelage.feedback.projects.deletion import delete_project
from tutelage.feedback.projects.projects import local_member
from tutelage.settings.feedback import FeedbackDeleteSettings as Settings


def main(settings: Settings, console: Console) -> None:
    """Hide a project from everybody, with everything in it kept.  Raises ValueError when there is no such project."""
    with closing(open_existing(settings.store)) as database:
        delete_project(database, local_member(database, settings.project))
    console.print(
        f"Project '{settings.project}' is hidden; `tutelage feedback restore` brings it back.", markup=False
    )
