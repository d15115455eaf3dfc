"""The command `study`: a grid over any settings; what cells share runs once; one report at the end.

    axes:
      method: [ppo, dpo]
      seed: [0, 1, 2]
    stages:
      - {command: sft, ...}
      - {command: ppo, name: policy, where: {method: ppo}, model: "@sft", seed: "$seed", ...}
      - {command: dpo, name: policy, where: {method: dpo}, model: "@sft", seed: "$seed", ...}
      - {command: eval, models: ["sft=@sft", "policy=@policy"], ...}
    compare: {method: [ppo, dpo]}

`grid.py` has the axes, `plan.py` which stages there are, `doing.py` one of them, `going.py` all; `cells.py`, `summary.py` and
`differences.py` the numbers; `report.py` and `page.py` what is written.
"""

from __future__ import annotations

from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from tutelage.settings.pipeline import StudySettings as Settings
from tutelage.study import report
from tutelage.study.doing import why_run
from tutelage.study.going import Outcome, go
from tutelage.study.plan import Study, plan


def main(settings: Settings, console: Console) -> Path:
    """Run what is left of the study and write its report; returns its folder.

    Raises ValueError before anything runs where a stage cannot be, and at the end where stages have failed: all that does not
    depend on them is done then, and the same command goes on.
    """
    study = plan(settings)
    if settings.plan:
        show_plan(study, console)
        return settings.out
    outcome = go(study, settings, console)
    report.write(study, settings, console)
    if outcome.failed:
        _show_failed(outcome, console)
        raise ValueError(_sentence(outcome, len(study.instances)))
    return settings.out


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


def _show_failed(outcome: Outcome, console: Console) -> None:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for heading in ("stage", "what became of it"):
        table.add_column(heading, overflow="fold")
    for name, reason in outcome.failed.items():
        table.add_row(name, Text(reason, "red"))
    for name, needed in outcome.waiting.items():
        table.add_row(name, Text(f"not run: it needs {needed}"))
    console.print(table)


def _sentence(outcome: Outcome, count: int) -> str:
    name, reason = next(iter(outcome.failed.items()))
    left = f", and {len(outcome.waiting)} wait for them" if outcome.waiting else ""
    return (
        f"{len(outcome.failed)} of {count} stages failed{left} (the first is {name}: {reason.rstrip('.')}): mend it, "
        "and the same command goes on."
    )
