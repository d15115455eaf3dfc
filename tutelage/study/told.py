"""All that the report of a study says, before it is drawn.  No torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tutelage.evals.overlap.sums import DIFFERENCE
from tutelage.evals.rows import OVERALL
from tutelage.settings.pipeline import StudySettings
from tutelage.study.differences import Difference
from tutelage.study.summary import OVERLAP, Group, Measured
from tutelage.study.tuning import Tuned

SHOWN = (
    "gold",
    "score",
    "accuracy",
    "win_rate",
    "kl",
    "length",
    "missing_eos",
    "copy_rate",
    "cost",
    "votes",
    "demonstrations",
    "time",
    "cost/tokens_generated",
    "cost/tokens_trained",
)
"""The columns of the wide table, before whatever measures of overlap there are."""
SINGLE = "bleu_precision"


@dataclass(frozen=True)
class Told:
    """The numbers of the report.  missing: cells, repetitions counted, that have no results."""

    settings: StudySettings
    groups: Sequence[Group]
    differences: Sequence[Difference]
    tuned: Sequence[Tuned]
    measures: Sequence[str]
    missing: int


def columns(told: Told) -> list[tuple[str, str]]:
    """(metric, unit) of the wide table: what some cell has."""
    there = {metric: unit for group in told.groups for metric, task, unit in group.metrics if task == OVERALL}
    overlap = [name for name in there if name.startswith(OVERLAP) and not name.endswith(DIFFERENCE)]
    known = [*told.measures, *SHOWN, *(name for name in overlap if not name.startswith(SINGLE))]
    return [(name, there[name]) for name in dict.fromkeys(known) if name in there]


def measured(group: Group, metric: str, unit: str) -> Measured | None:
    """A cell of a table; None where there is nothing."""
    return group.measured(metric, OVERALL, unit) if group.values(metric) else None
