"""`tutelage feedback delete`, `undelete` and `purge`: a project hidden, brought back, gone for good."""

from __future__ import annotations

from contextlib import closing

from rich.console import Console

from tutelage.feedback.projects.deletion import delete_project, purge_project, restore_project
from tutelage.feedback.projects.projects import local_member
from tutelage.settings.feedback import FeedbackDeleteSettings, FeedbackPurgeSettings, FeedbackUndeleteSettings
from tutelage.store.database import Database


def delete(settings: FeedbackDeleteSettings, console: Console) -> None:
    """Hide a project from everybody, with everything in it kept.  Raises ValueError when there is no such project."""
    with closing(Database(settings.store, create=False)) as database:
        delete_project(database, local_member(database, settings.project))
    console.print(
        f"Project '{settings.project}' is hidden; `tutelage feedback undelete` brings it back.", markup=False
    )


def undelete(settings: FeedbackUndeleteSettings, console: Console) -> None:
    """Bring a deleted project back.  Raises ValueError when there is no such project."""
    with closing(Database(settings.store, create=False)) as database:
        restore_project(database, local_member(database, settings.project, deleted=True))
    console.print(f"Project '{settings.project}' is back.", markup=False)


def purge(settings: FeedbackPurgeSettings, console: Console) -> None:
    """Delete it.  Raises ValueError when there is no such project, it was not deleted before, or `confirm` is not its name."""
    with closing(Database(settings.store, create=False)) as database:
        member = local_member(database, settings.project, deleted=True)
        done = purge_project(database, member, settings.confirm)
    console.print(
        f"Project '{settings.project}' is gone: {done.items} items, {done.responses} responses, {done.answers} answers.",
        markup=False,
    )
