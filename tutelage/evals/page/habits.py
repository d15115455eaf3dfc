"""Habits of annotators as a report shows them: what runs with `aggregation=habit-bt` left in habits.json."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # what tells habits to a labeller starts without numpy
    from tutelage.evals.folders import RunFolder

SHOWN = 50  # annotators in a table, those with most votes


Line = tuple[str, str, str, str]
"""Annotator, votes, liking for the first place, liking for length."""


@dataclass(frozen=True)
class Habits:
    """One project's (or group's) annotators, most votes first; `more` of them are left out.  runs: whose labels their habits were
    taken out of."""

    title: str
    runs: list[str]
    lines: list[Line]
    more: int
    said: str


def habits_of(runs: Sequence[RunFolder]) -> list[Habits]:
    """What stands in the runs' habits.json; what several runs found alike stands once."""
    found: dict[str, tuple[dict[str, Any], list[str]]] = {}
    for run in runs:
        path = run.path / "habits.json"
        for told in json.loads(path.read_text(encoding="utf-8")) if path.exists() else []:
            found.setdefault(json.dumps(told, sort_keys=True), (told, []))[1].append(run.name)
    return [_shown(told, names) for told, names in found.values()]


def _shown(told: Mapping[str, Any], runs: list[str]) -> Habits:
    found = lines_of(told)
    return Habits(where_of(told), runs, found[:SHOWN], len(found[SHOWN:]), told["said"])


def where_of(told: Mapping[str, Any]) -> str:
    """Whose annotators an entry of habits.json is about: the project, and the group, where there are groups."""
    return " ".join(part for part in (told["project"], told["group"] and f"({told['group']})") if part)


def lines_of(told: Mapping[str, Any]) -> list[Line]:
    """The annotators of an entry of habits.json, those with most votes first."""
    who = sorted(told["annotators"], key=lambda row: (-row["votes"], row["annotator"]))
    return [(row["annotator"], f"{row['votes']:,}", _of(row, "position"), _of(row, "length")) for row in who]


def with_error(value: float, error: float) -> str:
    """A number of logits with its standard error."""
    return f"{value + 0.0:+.2f} ± {error:.2f}"


def _of(row: Mapping[str, Any], name: str) -> str:
    return with_error(row[name], row[f"{name}_error"])
