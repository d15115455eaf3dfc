"""`tutelage feedback restore`: bring a deleted project back."""

from __future__ import annotations

from contextlib import closing

from rich.console import Console

from tutelage.feedback.commands.opening import open_existing
from tutelage.feedback.projects.deletion import restore_project
from tutelage.feedback.projects.projects import local_member
from tutelage.settings.feedback import FeedbackRestoreSettings as Settings


def main(settings: Settings, console: Console) -> None:
    """Bring a deleted project back.  Raises ValueError when there is no such project."""
    with closing(open_existing(settings.store)) as database:
        restore_project(database, local_member(database, settings.project, deleted=True))
    console.print(f"Project '{settings.project}' is back.", markup=False)
