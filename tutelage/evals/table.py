"""The command `runs`: a table of the run folders under a root. No torch."""

from __future__ import annotations

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from tutelage.evals.folders import RunFolder, find, parents
from tutelage.settings.evals import RunsSettings as Settings

STATES = {"done": "green", "running": "cyan", "stopped": "yellow"}
# The number that says most about a run of each command: the first of these in its results.json or metrics.jsonl.
MAIN = {
    "reward": ("accuracy", "eval_accuracy", "loss"),
    "ppo": ("eval_objective/scores", "objective/scores"),
    "dpo": ("eval_rewards/accuracies", "rewards/accuracies", "loss"),
}
SHOWN_PARENTS = 2
ANY = ("eval_loss", "loss")


def duration(seconds: float | None) -> str:
    """Seconds as people say it: 8 s, 3 min 05 s, 2 h 10 min; a dash when unknown."""
    if seconds is None:
        return "–"
    whole = round(seconds)
    if whole < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02} min"


def main_number(run: RunFolder) -> str:
    """The main number of a run, named: "loss 1.234", "won ppo 83 %"; empty when it has none yet."""
    best = [r for r in run.results if r.metric == "win_rate" and r.task == "all" and r.value is not None]
    if best:
        return "won " + ", ".join(f"{r.model} {100 * (r.value or 0):.0f} %" for r in best)
    for name in MAIN.get(run.command, ANY):
        for r in run.results:
            if r.metric == name and r.task == "all" and r.value is not None:
                return f"{name} {r.value:.3f}"
        values = [line[name] for line in run.metrics if isinstance(line.get(name), int | float)]
        if values:
            return f"{name} {values[-1]:.3f}"
    return ""


def table(runs: list[RunFolder], title: str) -> Table:
    """The runs as a rich table, oldest first."""
    out = Table(title=title, title_justify="left", header_style="bold")
    for column in ("run", "command", "started", "state", "steps", "main number", "time", "from"):
        out.add_column(column, justify="right" if column in ("steps", "time") else "left", overflow="fold")
    for run in runs:
        state = run.state
        origin = list(dict.fromkeys(parent.name for parent, _ in parents(run, runs)))
        more = f" +{len(origin) - SHOWN_PARENTS}" if len(origin) > SHOWN_PARENTS else ""
        cells = [
            run.name,
            run.command,
            str(run.lineage.get("started_at", ""))[:16].replace("T", " "),
            f"[{STATES[state]}]{state}[/]",
            str(run.steps or ""),
            main_number(run),
            duration(run.seconds),
            ", ".join(origin[:SHOWN_PARENTS]) + more,
        ]
        out.add_row(*(cell if i == 3 else escape(cell) for i, cell in enumerate(cells)))
    return out


def main(settings: Settings, console: Console) -> None:
    """Print the table of the runs under `root`. Raises ValueError when there are none."""
    console.print(table(find([settings.root]), f"Runs in {settings.root}"))
