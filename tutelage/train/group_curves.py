"""The command `eval groups`: reward models on groups of annotators that they have not seen, by the number of labels.

Every model with heads is adapted as `adapt` does it, every group by itself; beside it stand a pooled model as it is and,
fine-tuned as a whole on the same labels, by `reward`.  The groups are what is drawn, so intervals are over groups.

results.json, results.csv   rows {model = NAME/PRIOR, pooled or fine-tuned, metric, task = all or a group, ...}
tuned/GROUP-K/              the runs of the fine-tuned ones
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from tutelage import statistics
from tutelage.data.reading.formats import read_comparisons
from tutelage.data.reading.sources import shown
from tutelage.evals.entrants import named
from tutelage.evals.reward_model import scores_by
from tutelage.evals.rows import OVERALL, Row, row, write
from tutelage.evals.shown import cell, columns_table
from tutelage.files import write_jsonl_atomic
from tutelage.judges.build import WORLD, build_judge
from tutelage.parallel import World
from tutelage.records import Comparison
from tutelage.runs import Run, result_folder
from tutelage.settings.adapt import GroupsSettings as Settings
from tutelage.settings.adapt import Prior
from tutelage.settings.groups import Source
from tutelage.settings.reward import RewardSettings
from tutelage.statistics import Floats
from tutelage.train import reward
from tutelage.train.heads import Body

POOLED, TUNED = "pooled", "fine-tuned"
QUIET = Console(quiet=True)  # for what is said once for every group
Rows = Mapping[str, list[Comparison]]
Curves = dict[str, dict[int, Floats]]
"""Model -> number of labels -> accuracy by group [G]."""


def main(settings: Settings, world: World, run: Run) -> Path:
    """Measure; returns the run folder.  Raises ValueError for unusable inputs."""
    models = named(settings.models)
    support, query = by_group(settings.data, settings), by_group(settings.eval_data, settings)
    names = _groups(support, query, settings)
    run.input("data", settings.data)
    run.input("eval_data", settings.eval_data)
    curves: Curves = {}
    for name, path in models.items():
        run.input(f"model {name}", result_folder(path))
        body = Body.at(path, world, settings.max_length, settings.max_tokens)
        curves |= _adapted(name, body, names, support, query, settings, run)
    if settings.pooled:
        run.input("pooled", result_folder(settings.pooled))
        curves |= _pooled(names, support, query, settings, world, run)
    rows = _rows(curves, names, settings)
    rows += _ceiling(names, query, settings)
    write(run.folder, rows)
    _show(rows, list(curves), settings, run)
    return run.folder


def by_group(source: Source, settings: Settings) -> dict[str, list[Comparison]]:
    """Group -> its comparisons, in their order."""
    found: dict[str, list[Comparison]] = defaultdict(list)
    for one in read_comparisons(source, settings.columns):
        if one.group:
            found[one.group].append(one)
    return dict(found)


def _groups(support: Rows, query: Rows, settings: Settings) -> list[str]:
    """Those that have labels and something to measure on.  Raises ValueError where there are fewer than two, or few labels."""
    names = sorted(set(support) & set(query))
    if len(names) < 2:
        raise ValueError(
            f"data={shown(settings.data)} and eval_data={shown(settings.eval_data)} have {len(names)} groups in common in their "
            "columns group, and a curve is a mean over two or more: name the column, as columns={group: annotator}."
        )
    few = min(names, key=lambda name: len(support[name]))
    if len(support[few]) < settings.labels[-1]:
        raise ValueError(
            f"labels has {settings.labels[-1]}, and group {few} has {len(support[few])} comparisons in {shown(settings.data)}: "
            "ask for fewer."
        )
    return names


def _adapted(
    name: str, body: Body, names: Sequence[str], support: Rows, query: Rows, settings: Settings, run: Run
) -> Curves:
    """Of a model with heads: a curve for each prior."""
    priors: list[Prior] = settings.priors if body.steps is None else ["inner-steps"]
    curves: Curves = {
        f"{name}/{prior}": {k: np.zeros(len(names)) for k in settings.labels} for prior in priors
    }
    with run.progress(len(names), f"adapting {name}") as bar:
        for number, group in enumerate(names):
            share = settings.max_dropped_share
            labels = body.read(support[group][: settings.labels[-1]], group, QUIET, share)
            there = body.read(query[group], group, QUIET, share)
            for prior in priors:
                for k in settings.labels:
                    few = labels.take(range(min(k, len(labels.comparisons))))
                    margins = there.differences @ body.fitted(few, prior, settings).mean
                    curves[f"{name}/{prior}"][k][number] = accuracy(margins, there.comparisons)
            bar.advance()
    return curves


def _pooled(
    names: Sequence[str], support: Rows, query: Rows, settings: Settings, world: World, run: Run
) -> Curves:
    """The pooled model, which labels do not change, and what fine-tuning makes of it."""
    found = {k: np.zeros(len(names)) for k in settings.labels}
    tuned = {k: np.zeros(len(names)) for k in settings.labels}
    some = [k for k in settings.labels if k and settings.tune_steps]
    with run.progress(len(names) * (1 + len(some)), "the pooled model") as bar:
        for number, group in enumerate(names):
            as_it_is = _scored(settings.pooled, query[group], settings, world)
            for k in settings.labels:
                found[k][number] = tuned[k][number] = as_it_is
            bar.advance()
            for k in some:
                folder = _tuned(group, support[group][:k], settings, world, run)
                tuned[k][number] = _scored(str(folder), query[group], settings, world)
                bar.advance()
    return {POOLED: found, TUNED: tuned} if some else {POOLED: found}


def _tuned(group: str, labels: Sequence[Comparison], settings: Settings, world: World, run: Run) -> Path:
    """The folder of the pooled model after `reward` on these labels, all of them in every step; made once."""
    folder = run.folder / "tuned" / f"{group}-{len(labels)}"
    data = folder.with_suffix(".jsonl")
    write_jsonl_atomic(data, (one.to_json() for one in labels))
    asked = RewardSettings(
        model=settings.pooled,
        data=str(data),
        out=folder,
        batch_size=len(labels),
        batch_by="pairs",
        max_steps=settings.tune_steps,
        learning_rate=settings.tune_rate,
        schedule="constant",
        warmup=0.0,
        heldout_share=0.0,
        max_length=settings.max_length,
        precision=settings.precision,
        tensorboard=False,
        seed=settings.seed,
    )
    own = Run.open(folder, "reward", asked, QUIET)
    if not own.done:
        reward.main(asked, world, own)
        own.finish()
    own.release()
    return folder


def accuracy(margins: Floats, comparisons: Sequence[Comparison]) -> float:
    """The share of the votes that margins agree with."""
    return float(statistics.correct(margins, [one.p_chosen for one in comparisons]).mean())


def _scored(path: str, comparisons: Sequence[Comparison], settings: Settings, world: World) -> float:
    scores = scores_by(build_judge(path, world, max_tokens=settings.max_tokens), comparisons)
    assert scores is not None, "a reward model applies to every prompt"
    return accuracy(scores[:, 0] - scores[:, 1], comparisons)


# ---- what is said of the curves --------------------------------------------------------------------------------------


def _rows(curves: Curves, names: Sequence[str], settings: Settings) -> list[Row]:
    """Means over groups, the gains over the best baseline paired by group, and every group by itself."""
    seeded: dict[str, Any] = {"seed": settings.seed, "resamples": settings.resamples}
    baseline = next((name for name in (TUNED, POOLED) if name in curves), None)
    found = []
    for model, curve in curves.items():
        for k, values in curve.items():
            mean = statistics.bootstrap_mean(values, names, rate=True, **seeded)
            found.append(row(model, f"accuracy@{k}-labels", OVERALL, mean, "share"))
            if baseline and model not in (POOLED, TUNED):
                gain = statistics.bootstrap_mean(values - curves[baseline][k], names, **seeded)
                found.append(row(model, f"gain@{k}-labels", OVERALL, gain, "share"))
            for group, value in zip(names, values.tolist(), strict=True):
                found.append(Row(model, f"accuracy@{k}-labels", group, value, n=1, unit="share"))
    return found


def _ceiling(names: Sequence[str], query: Rows, settings: Settings) -> list[Row]:
    """What who knows the gold scores would reach on the same votes, in the embedded world."""
    judge = build_judge(WORLD)
    scores = [scores_by(judge, query[group]) for group in names]
    if any(one is None for one in scores):
        return []
    known = [
        accuracy(s[:, 0] - s[:, 1], query[g]) for g, s in zip(names, scores, strict=True) if s is not None
    ]
    mean = statistics.bootstrap_mean(
        known, names, rate=True, seed=settings.seed, resamples=settings.resamples
    )
    return [row("gold", "ceiling", OVERALL, mean, "share")]


def _show(rows: Sequence[Row], models: Sequence[str], settings: Settings, run: Run) -> None:
    metrics = [f"accuracy@{k}-labels" for k in settings.labels]
    names = [f"{k} labels" for k in settings.labels]
    columns = {model: [cell(rows, model, metric) for metric in metrics] for model in models}
    title = "Accuracy on groups that were not trained on (95 % intervals over groups)"
    run.console.print(columns_table(title, "labels", names, columns, run.console.width))
