"""Which metrics of a training run a report draws, and the points it draws them with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tutelage.evals import figures
from tutelage.evals.folders import RunFolder
from tutelage.evals.rows import OVERALL, Row

POINTS = 60  # per curve: more steps are averaged in groups


@dataclass(frozen=True)
class Panel:
    """One figure: (metric, what it is called in the figure) drawn together, with their unit."""

    title: str
    unit: str
    metrics: tuple[tuple[str, str], ...]


LOSS = Panel("loss", "nats per token", (("loss", "training"), ("eval_loss", "held out")))
PAIR_LOSS = Panel("loss", "nats per pair", LOSS.metrics)
RATING_LOSS = Panel("loss", "squared error per response", LOSS.metrics)
LENGTH = Panel("response length", "tokens", (("completions/mean_length", "response length"),))
ENTROPY = Panel("entropy", "nats per token", (("objective/entropy", "entropy"),))
PANELS: dict[str, tuple[Panel, ...]] = {
    "pretrain": (LOSS,),
    "sft": (LOSS,),
    "reward": (
        PAIR_LOSS,
        Panel("pair accuracy", "share", (("accuracy", "training"), ("eval_accuracy", "held out"))),
    ),
    "dpo": (
        PAIR_LOSS,
        Panel(
            "pair accuracy",
            "share",
            (("rewards/accuracies", "training"), ("eval_rewards/accuracies", "held out")),
        ),
        Panel(
            "margin of implied rewards",
            "reward",
            (("rewards/margins", "training"), ("eval_rewards/margins", "held out")),
        ),
    ),
    "ppo": (
        Panel("score by the reward model", "score", (("objective/scores", "score"),)),
        Panel("KL to the reference", "nats per response", (("objective/kl", "KL"),)),
        LENGTH,
        ENTROPY,
    ),
}
PANELS["reinforce"] = PANELS["raft"] = PANELS["ppo"]
PANELS["distill"] = PANELS["sft"]
PANELS["process"] = (Panel("loss", "nats per mark", LOSS.metrics),)
PANELS["kto"] = (Panel("loss", "per response", LOSS.metrics),)
OTHER = (Panel("loss", "", LOSS.metrics),)
FRONTIER = ("objective/kl", "objective/scores")
FRONTIER_POINTS = 25


def series(lines: Sequence[dict[str, Any]], names: Sequence[str], points: int = POINTS) -> np.ndarray:
    """The steps that have all the named metrics, as columns (steps averaged over, step, metrics...) of few rows."""
    kept = [[1.0, line["step"], *(line[name] for name in names)] for line in lines if _has(line, names)]
    if not kept:
        return np.empty((0, 2 + len(names)))
    groups = np.array_split(np.array(kept, float), min(points, len(kept)))
    return np.array([[len(group), *group[:, 1:].mean(axis=0)] for group in groups])


def draw(run: RunFolder, slot: int) -> tuple[list[str], list[Row]]:
    """The figures of a run, and a row for every point in them: metric "NAME@STEP", n = steps averaged over."""
    drawn, rows = [], []
    for panel in _panels(run):
        lines = []
        for metric, name in panel.metrics:
            found = series(run.metrics, [metric])
            if len(found):
                # The held-out curve takes the model's colour, the training curve a quiet one, when both are there.
                lines.append((name, found))
                rows += [_point(run, metric, n, step, value, panel.unit) for n, step, value in found]
        if lines:
            paler = [0, slot] if len(lines) == 2 else [slot]
            shown = [figures.Line(name, f[:, 1], f[:, 2], ink) for (name, f), ink in zip(lines, paler)]
            drawn.append(figures.curves(f"{run.name}: {panel.title}", shown, "step", panel.unit))
    return drawn, rows


def _panels(run: RunFolder) -> tuple[Panel, ...]:
    if run.command == "reward" and run.settings.get("learn_from") == "ratings":
        return (RATING_LOSS,)
    return PANELS.get(run.command, OTHER)


def draw_frontier(runs: Sequence[tuple[RunFolder, int]]) -> tuple[str, list[Row]]:
    """Score against KL over the training of each run that has both ("" when none has), and its points as rows."""
    lines, rows = [], []
    for run, slot in runs:
        found = series(run.metrics, FRONTIER, FRONTIER_POINTS)
        if len(found):
            lines.append(figures.Line(run.name, found[:, 2], found[:, 3], slot))
            for n, step, kl, score in found:
                rows.append(_point(run, f"frontier/{FRONTIER[0]}", n, step, kl, "nats per response"))
                rows.append(_point(run, f"frontier/{FRONTIER[1]}", n, step, score, "score"))
    if not lines:
        return "", []
    return figures.frontier(
        "Score against KL", lines, "KL to the reference (nats per response)", "score"
    ), rows


def _has(line: dict[str, Any], names: Sequence[str]) -> bool:
    return all(isinstance(line.get(name), int | float) and np.isfinite(line[name]) for name in names)


def _point(run: RunFolder, metric: str, n: float, step: float, value: float, unit: str) -> Row:
    return Row(run.name, f"{metric}@{step:g}", OVERALL, float(value), n=int(n), unit=unit)
