"""Habits of annotators as a report shows them: what runs with `aggregation=habit-bt` left in habits.json."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tutelage.evals.folders import RunFolder

SHOWN = 50  # annotators in a table, those with most votes


@dataclass(frozen=True)
class Habits:
    """One project's (or group's) annotators: (annotator, votes, liking for the first place, liking for length), most votes
    first; `more` of them are left out.  runs: whose labels they were taken out of."""

    title: str
    runs: list[str]
    lines: list[tuple[str, str, str, str]]
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
    who = sorted(told["annotators"], key=lambda row: (-row["votes"], row["annotator"]))
    lines = [
        (row["annotator"], f"{row['votes']:,}", _with_error(row, "position"), _with_error(row, "length"))
        for row in who[:SHOWN]
    ]
    where = " ".join(part for part in (told["project"], told["group"] and f"({told['group']})") if part)
    return Habits(where, runs, lines, len(who) - len(lines), told.get("said", ""))


def _with_error(row: Mapping[str, Any], name: str) -> str:
    return f"{row[name]:+.2f} ± {row[f'{name}_error']:.2f}"
