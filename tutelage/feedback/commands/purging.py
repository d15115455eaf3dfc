"""`tutelage feedback purge`: delete a project for good."""

from __future__ import annotations

from contextlib import closing

from rich.console import Console

from tutelage.feedback.commands.opening import open_existing
from tutelage.feedback.projects.deletion import purge_project
from tutelage.feedback.projects.projects import local_member
from tutelage.settings.feedback import FeedbackPurgeSettings as Settings


def main(settings: Settings, console: Console) -> None:
    """Delete it.  Raises ValueError when there is no such project, it was not deleted before, or `confirm` is not its name."""
    with closing(open_existing(settings.store)) as database:
        member = local_member(database, settings.project, deleted=True)
        done = purge_project(database, member, settings.confirm)
    console.print(
        f"Project '{settings.project}' is gone: {done.items} items, {done.responses} responses, {done.answers} answers.",
        markup=False,
    )
