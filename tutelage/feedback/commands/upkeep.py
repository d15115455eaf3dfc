"""`tutelage feedback backup`, `restore-backup`, `doctor` and `admin`: keeping a store, and getting back into it."""

from __future__ import annotations

from contextlib import closing

from rich.console import Console

from tutelage.feedback import backups
from tutelage.feedback.people.invitations import HOURS, recovery_link
from tutelage.feedback.upkeep import examine, recount_all
from tutelage.settings.feedback import (
    FeedbackAdminSettings,
    FeedbackBackupSettings,
    FeedbackDoctorSettings,
    FeedbackRestoreBackupSettings,
)
from tutelage.store.database import Database


def backup(settings: FeedbackBackupSettings, console: Console) -> None:
    """Make the copy.  Raises ValueError when it cannot be made, is there already, or does not verify."""
    done = backups.backup(settings.store, settings.out)
    console.print(
        f"{done.file} holds {done.answers} answers ({done.bytes:,} bytes, sha256 {done.sha256}).",
        markup=False,
    )


def restore_backup(settings: FeedbackRestoreBackupSettings, console: Console) -> None:
    """Put a backup in the store's place.  Raises ValueError when it is not sound, or the store is in use."""
    done = backups.restore_backup(settings.store, settings.backup)
    said = [f"{settings.store} is now what {settings.backup} is: {done.answers} answers."]
    if not done.hash_checked:
        said.append("There was no .sha256 beside the backup: only what it holds was checked.")
    if done.kept:
        said.append(f"What was there before is kept as {done.kept}.")
    console.print("\n".join(said), markup=False, soft_wrap=True)


def doctor(settings: FeedbackDoctorSettings, console: Console) -> None:
    """Print what was checked.  Raises ValueError when something does not fit."""
    with closing(Database(settings.store, create=False, migrate=settings.repair)) as database:
        if settings.repair:
            console.print(f"recounted: {recount_all(database)} items had a wrong count.")
        findings = examine(database)
    for finding in findings:
        console.print(f"{'ok   ' if not finding.wrong else 'WRONG'}  {finding.check}", markup=False, end="")
        console.print(f": {finding.wrong} ({finding.example})" if finding.wrong else "", markup=False)
    wrong = [finding for finding in findings if finding.wrong]
    if wrong:
        raise ValueError(
            f"{len(wrong)} of {len(findings)} checks of {settings.store} failed: make a backup, then restore an "
            "earlier one (restore-backup) or (for counts) use repair=true."
        )
    console.print(f"{len(findings)} checks, nothing wrong.")


def admin(settings: FeedbackAdminSettings, console: Console) -> None:
    """Print a link that lets an administrator in, once.  Raises ValueError when there is no such user."""
    with closing(Database(settings.store, create=False)) as database:
        secret = recovery_link(database, settings.name)
    if settings.name:
        said = f"'{settings.name}' is an administrator. Whoever opens this link within {HOURS:.0f} hours sets their new password:"
    else:
        said = f"Whoever opens this link within {HOURS:.0f} hours becomes an administrator, once:"
    console.print(said, markup=False, soft_wrap=True)
    console.print(f"{settings.url.rstrip('/')}/join/{secret}", markup=False, soft_wrap=True)
