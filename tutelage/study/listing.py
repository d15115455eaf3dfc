"""What is said of a study's stages before they run, and of those that failed."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table
from rich.text import Text

from tutelage.study.doing import why_run
from tutelage.study.going import Outcome
from tutelage.study.plan import Study


def show_plan(study: Study, console: Console) -> None:
    """List the stages with what would become of each."""
    table = Table(box=None, padding=(0, 2, 0, 0))
    for heading in ("stage", "command", "what would happen"):
        table.add_column(heading, overflow="fold")
    runs: set[str] = set()
    for one in study.instances.values():
        reason = why_run(one, study.instances)
        after = runs & set(one.needs)
        if reason is None:
            told = "skipped unless its inputs change" if after else "unchanged, skipped"
        elif reason:
            told = f"runs again: {reason}"
        else:
            told = "goes on" if (one.stage.folder / "lineage.json").exists() else "runs"
        if reason is not None or after:
            runs.add(one.name)
        table.add_row(one.name, one.stage.command, Text(told))
    console.print(table)
    console.print(f"{len(study.instances)} stages, {len(study.results)} with results.")


def show_failed(outcome: Outcome, console: Console) -> None:
    """List what failed and why, and what could not run without it."""
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for heading in ("stage", "what became of it"):
        table.add_column(heading, overflow="fold")
    for name, reason in outcome.failed.items():
        table.add_row(name, Text(reason, "red"))
    for name, needed in outcome.waiting.items():
        table.add_row(name, Text(f"not run: it needs {needed}"))
    console.print(table)


def sentence(outcome: Outcome, count: int) -> str:
    """What failed of so many stages, and what to do."""
    name, reason = next(iter(outcome.failed.items()))
    left = f", and {len(outcome.waiting)} wait for them" if outcome.waiting else ""
    return (
        f"{len(outcome.failed)} of {count} stages failed{left} (the first is {name}: {reason.rstrip('.')}): mend it, "
        "and the same command goes on."
    )
