"""The command `doctor`: every check as it comes, one line each, and an error at the end where any fails."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

from rich.console import Console
from rich.text import Text

from tutelage.doctor.asked import Asked, asked
from tutelage.doctor.check import Check, fail
from tutelage.files import write_json_atomic
from tutelage.settings.doctor import DoctorSettings as Settings

COLOURS = {"ok": "green", "warn": "yellow", "fail": "bold red"}


def main(settings: Settings, console: Console) -> None:
    """Raises ValueError, after all checks, where one has failed."""
    found = []
    for check in checks(asked(settings)):
        console.print(line(check), soft_wrap=True)
        found.append(check)
    bad = [check.name for check in found if check.state == "fail"]
    doubtful = sum(check.state == "warn" for check in found)
    if settings.results:
        write_json_atomic(
            Path(settings.results), {"failed": bad, "checks": [check.to_json() for check in found]}
        )
    if bad:
        raise ValueError(f"{len(bad)} of {len(found)} checks failed: {', '.join(bad)}.")
    console.print(f"{len(found)} checks, none failed{f', {doubtful} to look at' if doubtful else ''}.")


def checks(wanted: Asked) -> Iterator[Check]:
    """All that is asked for; a check that breaks is one that failed."""
    for group in wanted.groups:
        module = import_module(f"tutelage.doctor.{group}")
        try:
            yield from module.checks(wanted)
        except Exception as error:  # whatever is wrong here would be wrong in a run, too
            said = " ".join(str(error).split())[:200] or type(error).__name__
            yield fail(group, f"the check itself broke ({type(error).__name__}: {said})", "see there")


def line(check: Check) -> Text:
    """ok    name: what was measured -> what to do"""
    text = Text.assemble(
        (f"{check.state:<5} ", COLOURS[check.state]), (check.name, "bold"), f": {check.said}."
    )
    return text.append(f" -> {check.do}.", style="dim") if check.do else text
