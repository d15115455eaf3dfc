"""The command `runs`: a table of the run folders under a root. No torch."""

from __future__ import annotations

from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from tutelage.evals.folders import RunFolder, find, parents
from tutelage.settings.evals import RunsSettings as Settings

STATES = {"done": "green", "running": "cyan", "stopped": "yellow", "failed": "red"}
WIDE = 110  # columns of a terminal below which a run takes two lines
# The number that says most about a run of each command: the first of these in its results.json or metrics.jsonl.
MAIN = {
    "reward": ("accuracy", "eval_accuracy", "loss"),
    "ppo": ("eval_objective/scores", "objective/scores"),
    "reinforce": ("eval_objective/scores", "objective/scores"),
    "raft": ("eval_objective/scores", "objective/scores"),
    "select": ("selection_gain",),
    "mark": ("mean_label",),
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


def table(runs: list[RunFolder], title: str, width: int) -> Table:
    """The runs as a rich table for a terminal of `width` columns, oldest first."""
    cells = [_cells(run, runs) for run in runs]
    out = Table(title=title, title_justify="left", header_style="bold")
    if width >= WIDE:
        for name in ("run", "command", "started", "state", "steps", "main number", "time", "from"):
            out.add_column(name, justify="right" if name in ("steps", "time") else "left", overflow="fold")
        for run, c in zip(runs, cells, strict=True):
            out.add_row(
                c["run"],
                c["command"],
                c["started"],
                _state(run),
                c["steps"],
                c["number"],
                c["time"],
                c["from"],
            )
        return out
    out.box, out.pad_edge, out.padding = None, False, (0, 2, 0, 0)
    longest = max(len(word) for c in cells for word in ["main number", *c["number"].split()])
    for name in ("run", "state", "steps", "main number", "started,\ntime"):
        out.add_column(
            name,
            justify="right" if name == "steps" else "left",
            overflow="fold",
            no_wrap=name in ("state", "started,\ntime"),
            min_width=longest if name == "main number" else None,
        )
    for run, c in zip(runs, cells, strict=True):
        origin = f"\n[dim]from {c['from']}[/]" if c["from"] else ""
        command = "" if run.path.name == run.command else f"\n[dim]{c['command']}[/]"
        out.add_row(
            c["run"] + origin,
            _state(run) + command,
            c["steps"],
            c["number"].replace(", ", ",\n"),
            f"{c['started'][5:]}\n{c['time']}",
        )
    return out


def _cells(run: RunFolder, runs: list[RunFolder]) -> dict[str, str]:
    """What is said of a run, safe from being read as markup."""
    origin = list(dict.fromkeys(parent.name for parent, _ in parents(run, runs)))
    more = f" +{len(origin) - SHOWN_PARENTS}" if len(origin) > SHOWN_PARENTS else ""
    found = {
        "run": run.name,
        "command": run.command,
        "started": str(run.lineage.get("started_at", ""))[:16].replace("T", " "),
        "steps": str(run.steps or ""),
        "number": main_number(run),
        "time": duration(run.seconds),
        "from": ", ".join(origin[:SHOWN_PARENTS]) + more,
    }
    return {name: escape(text) for name, text in found.items()}


def _state(run: RunFolder) -> str:
    return f"[{STATES[run.state]}]{run.state}[/]"


def main(settings: Settings, console: Console) -> None:
    """Print the table of the runs under `root`, and why those failed that did. Raises ValueError when there are none."""
    runs = find([settings.root])
    console.print(table(runs, f"Runs in {settings.root}", console.width))
    for run in runs:
        if run.reason:
            console.print(Text.assemble((f"{run.name} failed: ", "red"), run.reason))
