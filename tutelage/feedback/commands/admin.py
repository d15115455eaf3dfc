"""`tutelage feedback admin`: the way back in, for whoever works on the store's own machine."""

from __future__ import annotations

from contextlib import closing

from rich.console import Console

from tutelage.feedback.people.invitations import HOURS, recovery_link
from tutelage.settings.feedback import FeedbackAdminSettings as Settings
from tutelage.store.database import Database


def main(settings: Settings, console: Console) -> None:
    """Print a link that lets an administrator in, once.  Raises ValueError when there is no such user."""
    with closing(Database(settings.store, create=False)) as database:
        secret = recovery_link(database, settings.name)
    if settings.name:
        said = f"'{settings.name}' is an administrator. Whoever opens this link within {HOURS:.0f} hours sets their new password:"
    else:
        said = f"Whoever opens this link within {HOURS:.0f} hours becomes an administrator, once:"
    console.print(said, markup=False, soft_wrap=True)
    console.print(f"{settings.url.rstrip('/')}/join/{secret}", markup=False, soft_wrap=True)
