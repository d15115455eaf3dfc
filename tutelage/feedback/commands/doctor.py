"""`tutelage feedback doctor`: whether everything in a store fits together."""

from __future__ import annotations

from contextlib import closing

from rich.console import Console

from tutelage.feedback.commands.opening import open_existing
from tutelage.feedback.upkeep import examine, recount_all
from tutelage.settings.feedback import FeedbackDoctorSettings as Settings


def main(settings: Settings, console: Console) -> None:
    """Print what was checked.  Raises ValueError when something does not fit."""
    with closing(open_existing(settings.store)) as database:
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
            "earlier one or (for counts) use repair=true."
        )
    console.print(f"{len(findings)} checks, nothing wrong.")
