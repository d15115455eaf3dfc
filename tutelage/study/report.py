"""The report of a study, in its folder.

results.json      every row of every cell: {axes, model, metric, task, value, low, high, n, unit}         results.csv
summary.json      the same over repetitions, with each one's value                                        summary.csv
differences.json  what was tested: {first, second, at, metric, value, low, high, n, won, p, p_holm}       differences.csv
tuning.json       where there are settings to choose among: {axes, model, metric, settings, above, ..., best_of}
report.html       one page with everything; tables.md the tables; figures/METRIC.svg
"""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from tutelage.files import write_json_atomic, write_text_atomic
from tutelage.settings.pipeline import StudySettings
from tutelage.study import cells, page
from tutelage.study.differences import Difference, differences, measures, pairs_of
from tutelage.study.drawing import figures_of
from tutelage.study.grid import said
from tutelage.study.plan import Study
from tutelage.study.summary import Group, groups, rows
from tutelage.study.told import Told
from tutelage.study.tuning import Tuned, tuned


def write(study: Study, settings: StudySettings, console: Console) -> None:
    """Write what the cells have come to into the study's folder, and say the main of it.

    Raises ValueError for a metric in `measures`, `against` or `prices` that no cell has.
    """
    results = cells.read(study, settings.prices)
    lines = groups(results, settings.repeats)
    metrics = measures(lines, settings.measures)
    found = differences(lines, pairs_of(settings.compare, settings.contrasts), metrics, settings.tuning)
    chosen = tuned(lines, settings.tuning, metrics[0]) if metrics else []
    told = Told(settings, lines, found, chosen, metrics, len(study.results) - len(results))
    drawn = figures_of(told)
    _write_rows(settings.out / "results", cells.tidy(results))
    _write_rows(settings.out / "summary", [_summary(group, one) for group in lines for one in rows(group)])
    _write_rows(settings.out / "differences", [_difference(one) for one in found])
    if chosen:
        write_json_atomic(settings.out / "tuning.json", [_tuned(one) for one in chosen])
    for name, svg in drawn.items():
        write_text_atomic(settings.out / "figures" / f"{name}.svg", page.standalone(svg))
    write_text_atomic(settings.out / "tables.md", page.markdown(told))
    path = write_text_atomic(settings.out / "report.html", page.html(told, drawn))
    if lines:
        console.print(page.terminal(told, console.width))
    for sentence in page.sentences(told):
        console.print(sentence, markup=False, highlight=False)
    console.print(f"Report: {path}", markup=False, highlight=False)


def _summary(group: Group, one: Any) -> dict[str, Any]:
    return {"axes": group.cell, **vars(one.row), "model": group.model, "each": one.each}


def _difference(one: Difference) -> dict[str, Any]:
    measured = {key: value for key, value in vars(one.row).items() if key not in ("model", "task")}
    tests = {key: None if math.isnan(p) else p for key, p in (("p", one.p), ("p_holm", one.p_holm))}
    sides = {"first": said(one.first), "second": said(one.second), "model": one.model, "at": one.at}
    return {**sides, **measured, "won": one.won and one.won.value, **tests}


def _tuned(one: Tuned) -> dict[str, Any]:
    settings = [
        {"axes": at, "value": row.value, "low": row.low, "high": row.high} for at, row in one.settings
    ]
    counts = {"above": one.better, "surely_above": one.surely, "surely_below": one.surely_worse}
    start = counts if one.gains else {}
    return {
        "axes": one.cell,
        "model": one.model,
        "metric": one.metric,
        "settings": settings,
        **start,
        "best_of": list(one.best_of),
    }


def _write_rows(path: Path, found: Sequence[dict[str, Any]]) -> None:
    """As JSON and as CSV, in which axes and repetitions have columns of their own."""
    write_json_atomic(path.with_suffix(".json"), list(found))
    flat = [_flat(one) for one in found]
    columns = list(dict.fromkeys(key for one in flat for key in one))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(flat)
    write_text_atomic(path.with_suffix(".csv"), text.getvalue())


def _flat(one: dict[str, Any]) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in one.items():
        if key == "axes":
            flat |= {f"axis_{axis}": label for axis, label in value.items()}
        elif key == "at":
            flat[key] = said(value) or "all"
        else:
            flat[key] = json.dumps(value) if isinstance(value, dict) else value
    return flat
