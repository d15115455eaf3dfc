"""A front as a figure, tables and sentences: the command and the report say the same.  No torch."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from markupsafe import Markup

from tutelage.evals import figures
from tutelage.evals.findings import Number, Sentence, display, figure, number, one
from tutelage.evals.folders import RunFolder
from tutelage.evals.page.sections import Line, Section, Table, bounds_of, cell_of, signature
from tutelage.evals.rows import Row

CAPTION = (
    "A line joins the models of a group by the first reward; bars are 95 % intervals over prompts. Ringed: the group's first by "
    "that order."
)
COLUMNS = {"kl": "KL", "length": "Length", "missing_eos": "No end", "training_time": "Time to train"}


@dataclass(frozen=True)
class Told:
    """A finished measurement.  rewards: name -> direction.  groups: name -> models.  alone: models of no group."""

    rows: Sequence[Row]
    rewards: Mapping[str, int]
    groups: Mapping[str, Sequence[str]]
    alone: Sequence[str]
    point: Mapping[str, float]
    point_given: bool

    @staticmethod
    def of(lineage: Mapping[str, Any], rows: Sequence[Row]) -> Told:
        rewards = {str(each["name"]): int(each["direction"]) for each in lineage["objectives"]}
        groups = {str(name): list(map(str, own)) for name, own in lineage["groups"].items()}
        grouped = {model for own in groups.values() for model in own}
        names = dict.fromkeys(r.model for r in rows)
        alone = [name for name in names if name not in grouped and name not in groups]
        point = dict(zip(rewards, map(float, lineage["point"]), strict=True))
        return Told(rows, rewards, groups, alone, point, bool(lineage["point_given"]))

    @property
    def models(self) -> list[str]:
        return [*(model for own in self.groups.values() for model in own), *self.alone]

    def label(self, reward: str) -> str:
        """A reward as an axis has it."""
        return reward if self.rewards[reward] > 0 else f"{reward} (less is better)"


def draw(told: Told) -> Iterator[tuple[str, str, str]]:
    """(name, figure as inline SVG, caption), one for each pair of rewards."""
    pairs = list(itertools.combinations(told.rewards, 2))
    for first, second in pairs:
        lines = [
            _line(told, name, own, first, second, 1 + slot % figures.SERIES)
            for slot, (name, own) in enumerate(told.groups.items())
        ]
        starts = [_line(told, name, [name], first, second, 0) for name in told.alone]
        title = f"{second[:1].upper()}{second[1:]} against {first}"
        size = figures.LARGE
        svg = figures.frontier(title, lines, told.label(first), told.label(second), starts=starts, size=size)
        name = (
            "front"
            if len(pairs) == 1
            else "-".join(["front", *(re.sub(r"\W+", "_", one) for one in (first, second))])
        )
        yield name, svg, CAPTION


def _line(told: Told, name: str, models: Sequence[str], first: str, second: str, slot: int) -> figures.Line:
    """The means of models in two rewards, by the first."""
    across, along = (_measured(told, models, reward) for reward in (first, second))
    order = np.argsort(across[0], kind="stable")
    return figures.Line(
        display(name), across[0][order], along[0][order], slot, along[1][:, order], across[1][:, order]
    )


def _measured(told: Told, models: Sequence[str], reward: str) -> tuple[np.ndarray, np.ndarray]:
    """(means [n], how far their intervals reach below and above [2, n])."""
    rows = [found for model in models if (found := one(told.rows, model, f"reward/{reward}")) is not None]
    values = np.array([found.value for found in rows], float)
    bounds = np.array([bounds_of(found) for found in rows], float).T
    return values, np.abs(np.stack([values - bounds[0], bounds[1] - values]))


# ---- tables ------------------------------------------------------------------------------------------------------------


def _columns(told: Told, metrics: Sequence[str]) -> list[str]:
    there = {r.metric for r in told.rows}
    return [metric for metric in metrics if metric in there]


def _of_models(told: Told) -> dict[str, str]:
    """Metric -> heading, of what models have."""
    own = {f"reward/{name}": name if way > 0 else f"{name} (less)" for name, way in told.rewards.items()}
    shown = own | {"non_dominated": "On the front", "non_dominated_share": "How surely"} | COLUMNS
    return {metric: shown[metric] for metric in _columns(told, [*shown]) if metric != "training_time"}


def _of_groups(told: Told) -> dict[str, str]:
    """The same of groups."""
    ratios = [f"hypervolume_ratio@{name}" for name in told.groups]
    shown = {
        "hypervolume": "Hypervolume",
        **{metric: f"Of that of {display(metric.partition('@')[2])}" for metric in ratios},
        "non_dominated_in_group": "On its front",
        "monotone": "In order",
        "monotone_share": "How surely",
        "training_time": COLUMNS["training_time"],
    }
    return {metric: shown[metric] for metric in _columns(told, [*shown])}


def _printed(told: Told, model: str, metric: str) -> Number | None:
    found = one(told.rows, model, metric)
    if found is not None and metric in ("non_dominated", "monotone"):
        return number(found, "yes" if found.value else "no")
    return cell_of(told.rows, model, metric)


def tables(told: Told) -> Iterator[tuple[str, str, list[str], dict[str, list[str]]]]:
    """(title, what the lines are, their names, column -> cells) for a terminal."""
    for title, heading, names, columns in (
        ("Rewards (95 % intervals over prompts)", "model", told.models, _of_models(told)),
        ("What groups cover", "group", list(told.groups), _of_groups(told)),
    ):
        cells = {
            shown: [_short(_printed(told, name, metric)) for name in names]
            for metric, shown in columns.items()
        }
        yield title, heading, [display(name) for name in names], cells


def _short(found: Number | None) -> str:
    return f"{found.text}\n{found.interval or '–'}" if found else "–"


# ---- sentences ---------------------------------------------------------------------------------------------------------


def sentences(told: Told) -> list[str]:
    """What volumes are measured from, and how the groups stand to each other."""
    where = ", ".join(f"{name} {figure(value, 'score')}" for name, value in told.point.items())
    why = (
        "as given"
        if told.point_given
        else "the worst mean of any model in each; give point=... to compare runs"
    )
    said = [f"Hypervolumes are measured from {where} ({why})."]
    for ours, theirs in _beside(told):
        found = one(told.rows, ours, f"hypervolume_ratio@{theirs}")
        if found is not None:
            told_of = number(found)
            said.append(
                f"{display(ours)} covers {told_of.text} {told_of.interval} of what {display(theirs)} covers.".replace(
                    "  ", " "
                )
            )
    return said


def _beside(told: Told) -> list[tuple[str, str]]:
    """Which groups are set beside each other: two as they stand, of more each beside the one that covers most."""
    if len(told.groups) == 2:
        first, second = told.groups
        return [(first, second)]
    volumes = {name: one(told.rows, name, "hypervolume") for name in told.groups}
    most = max(
        told.groups, key=lambda name: (found.value or 0.0) if (found := volumes[name]) else 0.0, default=""
    )
    return [(name, most) for name in told.groups if name != most]


# ---- report ------------------------------------------------------------------------------------------------------------


def section(run: RunFolder) -> Section:
    """A run of `eval front`."""
    told = Told.of(run.lineage, run.results)
    drawn = [(Markup(svg), caption) for _, svg, caption in draw(told)]
    groups = _table(told, "Group", list(told.groups), _of_groups(told))
    models = _table(told, "Model", told.models, _of_models(told))
    lead, signed = " ".join(sentences(told)), [signature(run)]
    return Section("Front", run.name, lead, drawn, groups, signed, _headline(told), [models])


def _table(told: Told, corner: str, names: Sequence[str], shown: Mapping[str, str]) -> Table:
    lines: list[Line] = [
        (display(name), "", [_printed(told, name, metric) for metric in shown]) for name in names
    ]
    return Table(corner, [(heading, 0) for heading in shown.values()], [("", lines)], marked=False)


def _headline(told: Told) -> Sentence:
    """Of the first two that stand beside each other, how much one covers of the other."""
    if len(told.groups) < 2:
        return []
    ours, theirs = _beside(told)[0]
    found = one(told.rows, ours, f"hypervolume_ratio@{theirs}")
    if found is None:
        return []
    return [f"{display(ours)} covers ", number(found), f" of the hypervolume of {display(theirs)}."]
