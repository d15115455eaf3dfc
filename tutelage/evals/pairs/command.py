"""The command `eval pairs`: a judge on benchmarks of reward models that lie in files, with what length alone gets beside it.

results.json, results.csv   rows {model = the judge, "longer wins" or "shorter wins", metric, task = subset or section, ...}
scores.jsonl                one line per row of the files: id, subset, the scores of the chosen and of the rejected responses
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tutelage.evals.pairs import measures, reading
from tutelage.evals.pairs.reading import Item
from tutelage.evals.rows import OVERALL, Row, write
from tutelage.evals.shown import cell, columns_table
from tutelage.files import write_jsonl_atomic
from tutelage.judges.build import build_judge
from tutelage.judges.judge import Judge, scores_of
from tutelage.parallel import World
from tutelage.records import Response
from tutelage.rollout.drawing import note_judge
from tutelage.runs import Run
from tutelage.settings.evals import PairsSettings as Settings
from tutelage.statistics import Floats

LONGER, SHORTER = "longer wins", "shorter wins"
MEANS = {
    "accuracy": "all rows",
    "accuracy_sections": "mean of sections",
    "accuracy_subsets": "mean of subsets",
}


def main(settings: Settings, world: World, run: Run) -> Path:
    """Write results.json, results.csv and scores.jsonl.  Raises ValueError for unusable rows, or a judge that has no scores."""
    items = reading.read(settings.data, settings.columns)
    run.input("data", settings.data)
    note_judge(run, "judge", settings.judge)
    judge = build_judge(settings.judge, world, max_tokens=settings.max_tokens)
    name = settings.name or judge.name
    if name in (LONGER, SHORTER):
        raise ValueError(f"name={name} is what a baseline is called: give the judge another name")
    scores = _scores(judge, items)
    lengths = [np.array([len(text) for text in (*one.chosen, *one.rejected)], float) for one in items]
    entrants = {name: scores, LONGER: lengths, SHORTER: [-own for own in lengths]}
    seeded = {"seed": settings.seed, "resamples": settings.resamples}
    rows = [row for model, own in entrants.items() for row in measures.evaluate(model, items, own, **seeded)]
    write(run.folder, rows)
    write_jsonl_atomic(run.folder / "scores.jsonl", _lines(items, scores))
    _show(rows, list(entrants), run)
    return run.folder


def _scores(judge: Judge, items: Sequence[Item]) -> list[Floats]:
    """Of each item the scores of its chosen, then of its rejected responses."""
    if judge.pairwise:
        raise ValueError(
            f"judge={judge.name} compares responses and has no scores: give one that scores each by itself"
        )
    asked = [Response.written(one.prompt, text) for one in items for text in (*one.chosen, *one.rejected)]
    values = np.array([score.value for score in scores_of(judge, asked)], float)
    ends = np.cumsum([len(one.chosen) + len(one.rejected) for one in items])
    return np.split(values, ends[:-1])


def _lines(items: Sequence[Item], scores: Sequence[Floats]) -> list[dict]:
    return [
        {
            "id": one.id,
            "subset": one.subset,
            "chosen": own[: len(one.chosen)].tolist(),
            "rejected": own[len(one.chosen) :].tolist(),
        }
        for one, own in zip(items, scores, strict=True)
    ]


def _show(rows: Sequence[Row], names: Sequence[str], run: Run) -> None:
    own = [row for row in rows if row.model == names[0]]
    lines = [
        (row.metric, row.task, MEANS.get(row.metric, "") if row.task == OVERALL else row.task) for row in own
    ]
    columns = {name: [cell(rows, name, metric, task) for metric, task, _ in lines] for name in names}
    title = "The right response scored highest (95 % intervals)"
    run.console.print(
        columns_table(title, "rows", [shown for *_, shown in lines], columns, run.console.width)
    )
