"""`tutelage feedback backup`: a verified copy of a store that is in use."""

from __future__ import annotations

from contextlib import closing

from rich.console import Console

from tutelage.feedback.commands.opening import open_existing
from tutelage.feedback.upkeep import backup
from tutelage.settings.feedback import FeedbackBackupSettings as Settings


def main(settings: Settings, console: Console) -> None:
    """Make the copy.  Raises ValueError when it cannot be made, is there already, or does not verify."""
    with closing(open_existing(settings.store)) as database:
        done = backup(database, settings.out)
    console.print(
        f"{done.file} holds {done.answers} answers ({done.bytes:,} bytes, sha256 {done.sha256}).",
        markup=False,
    )
