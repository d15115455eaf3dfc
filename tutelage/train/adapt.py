"""The command `adapt`: a reward model for a new group of annotators, from a few of their comparisons.

A reward model with a head for each group has a body that tells apart what groups differ in, and its heads say how they differ.
The new group's head is the most probable one under the Gaussian of the known heads (`statistics/few_labels.py`); the body stays.

model/                  an ordinary reward model with one head
posterior.safetensors   the head's mean [D] and covariance [D, D] after the labels (Laplace's approximation)
results.json            accuracy of the new head, of the known heads' mean, and of a pooled model, on the same pairs
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from rich.table import Table
from safetensors.torch import save_file

from tutelage import statistics
from tutelage.data.reading.formats import read_comparisons
from tutelage.data.reading.sources import shown
from tutelage.evals.reward_model import scores_by
from tutelage.evals.rows import OVERALL, Row, row, write
from tutelage.feedback.training.source import comparisons_from, is_store_source
from tutelage.files import file_atomic
from tutelage.judges.build import build_judge
from tutelage.models.loading import save, stored_dtype
from tutelage.parallel import World
from tutelage.records import Comparison
from tutelage.runs import Run, result_folder
from tutelage.seeds import rng
from tutelage.settings.adapt import AdaptSettings as Settings
from tutelage.settings.groups import Source
from tutelage.statistics import Floats
from tutelage.statistics.few_labels import Gaussian, log_likelihood
from tutelage.train.heads import Body, Labelled, prior_of, set_head
from tutelage.train.members import note_spread

ADAPTED, MEAN, POOLED = "adapted", "mean head", "pooled"


def main(settings: Settings, world: World, run: Run) -> Path:
    """Fit, measure and export; returns the run folder.  Raises ValueError for unusable inputs."""
    run.input("model", result_folder(settings.model))
    body = Body.at(settings.model, world, settings.max_length, settings.max_tokens)
    rows, held_out = _read(settings, run)
    read = partial(
        body.read,
        console=run.console,
        max_dropped_share=settings.max_dropped_share,
        cut_responses=settings.cut_responses,
    )
    labels = read(rows, shown(settings.data))
    if not labels.comparisons:
        raise ValueError(f"data={shown(settings.data)} has {_nothing(settings)}.")
    there = read(held_out, shown(settings.eval_data or settings.data))
    head = body.fitted(labels, settings.prior, settings)
    found = _measured(settings, world, body, head, labels, there)
    write(run.folder, found)
    with file_atomic(run.folder / "posterior.safetensors") as file:
        save_file({name: torch.from_numpy(value.copy()).float() for name, value in vars(head).items()}, file)
    _show(found, len(body.heads), run)
    set_head(body.module, head.mean)
    seen = np.concatenate([labels.features, there.features])
    note_spread(body.module, torch.from_numpy(seen @ head.mean)[..., None], run)
    save(body.module, body.tokenizer, run.folder / "model", stored_dtype(result_folder(settings.model)))
    run.console.print(f"Model: {run.folder / 'model'}.")
    return run.folder


def _nothing(settings: Settings) -> str:
    if settings.group:
        return f"no comparison whose group is {settings.group}: look at its column group, or leave group out"
    return "no comparison that can be learnt from: see what was dropped above"


def _read(settings: Settings, run: Run) -> tuple[Iterable[Comparison], Iterable[Comparison]]:
    """(comparisons to learn from, others to measure on)."""
    if is_store_source(settings.data):
        if settings.group:
            raise ValueError(
                f"group={settings.group} is a column of files: of data={shown(settings.data)} say whose votes, as "
                "annotators=[ann, bob]."
            )
        found = comparisons_from(
            settings.data, settings.store, settings.aggregation, settings.ties, settings.annotators
        )
        run.input("data", settings.data, sha256=found.digest)
        train: Iterable[Comparison] = found.train
        held_out: Iterable[Comparison] = found.held_out
    else:
        run.input("data", settings.data)
        train, held_out = _of_group(settings.data, settings), ()
    if settings.eval_data:
        run.input("eval_data", settings.eval_data)
        held_out = _of_group(settings.eval_data, settings)
    return list(islice(train, settings.labels or None)), list(held_out)


def _of_group(source: Source, settings: Settings) -> Iterator[Comparison]:
    for one in read_comparisons(source, settings.columns):
        if settings.group in ("", one.group) and not (one.p_chosen == 0.5 and settings.ties == "drop"):
            yield one


# ---- measuring -----------------------------------------------------------------------------------------------------------


def _measured(
    settings: Settings, world: World, body: Body, head: Gaussian, labels: Labelled, there: Labelled
) -> list[Row]:
    """All rows of results.json."""
    mean = body.heads.mean(0)
    margins = {
        "accuracy_cross_validated": (
            labels,
            {ADAPTED: cross_validated(labels, body, settings), MEAN: labels.differences @ mean},
        )
    }
    if there.comparisons:
        margins["accuracy"] = there, {ADAPTED: there.differences @ head.mean, MEAN: there.differences @ mean}
    rows = []
    judge = build_judge(settings.pooled, world, max_tokens=settings.max_tokens) if settings.pooled else None
    for metric, (pairs, by_model) in margins.items():
        scores = None if judge is None else scores_by(judge, pairs.comparisons)
        if scores is not None:
            by_model[POOLED] = scores[:, 0] - scores[:, 1]
        for model, own in by_model.items():
            rows += accuracy_rows(model, metric, pairs, own)
    rows.append(Row(ADAPTED, "labels", OVERALL, len(labels.p), n=len(labels.p), unit="pairs"))
    if settings.prior == "inner-steps":
        return rows
    prior = prior_of(body.heads, settings.prior, settings)
    return rows + _about(settings, prior, head, labels, there if there.comparisons else labels)


def accuracy_rows(model: str, metric: str, pairs: Labelled, margins: Floats) -> list[Row]:
    """The accuracy on pairs; none where nothing could be said (NaN)."""
    if not np.isfinite(margins).all():
        return []
    agreed = statistics.correct(margins, pairs.p)
    return [row(model, metric, OVERALL, statistics.bootstrap_mean(agreed, pairs.prompts, rate=True), "share")]


def cross_validated(labels: Labelled, body: Body, settings: Settings) -> Floats:
    """[n]: the margin of every pair by a head that was fitted without its prompt; NaN where all are about one prompt."""
    prompts = sorted(set(labels.prompts))
    found = np.full(len(labels.comparisons), np.nan)
    if len(prompts) < 2:
        return found
    order = rng(settings.seed, "folds").permutation(len(prompts))
    fold = {prompts[place]: number % settings.folds for number, place in enumerate(order)}
    mine = np.array([fold[prompt] for prompt in labels.prompts])
    for number in set(mine.tolist()):
        rest = labels.take(np.flatnonzero(mine != number).tolist())
        head = body.fitted(rest, settings.prior, settings)
        found[mine == number] = labels.differences[mine == number] @ head.mean
    return found


def _about(
    settings: Settings, prior: Gaussian, head: Gaussian, labels: Labelled, pairs: Labelled
) -> list[Row]:
    """How unusual the new head is, and what is left of not knowing."""
    n = len(labels.comparisons)
    off = head.mean - prior.mean
    distance = float(np.sqrt(off @ np.linalg.pinv(prior.covariance, hermitian=True) @ off / len(off)))
    found = [Row(ADAPTED, "prior_distance", OVERALL, distance, n=n, unit="standard deviations")]
    if settings.prior == "mixture":
        return found
    before, after = (one.margins(pairs.differences)[1] for one in (prior, head))
    left = float((after / np.maximum(before, 1e-12)).mean())
    probable = head.probabilities(pairs.differences)
    loss = -log_likelihood(np.log(probable) - np.log1p(-probable), pairs.p) / len(pairs.p)
    found.append(Row(ADAPTED, "uncertainty_left", OVERALL, left, n=len(pairs.p), unit="share"))
    if pairs is not labels:
        found.append(Row(ADAPTED, "log_loss", OVERALL, loss, n=len(pairs.p), unit="nats per pair"))
    return found


def _show(rows: Sequence[Row], heads: int, run: Run) -> None:
    table = Table(box=None, padding=(0, 2, 0, 0))
    metrics = list(dict.fromkeys(one.metric for one in rows if one.metric.startswith("accuracy")))
    table.add_column("head", no_wrap=True)
    for metric in metrics:
        table.add_column("cross-validated" if metric != "accuracy" else "on eval_data", justify="right")
    for model in dict.fromkeys(one.model for one in rows):
        found = {one.metric: one for one in rows if one.model == model}
        table.add_row(model, *(_cell(found.get(metric)) for metric in metrics))
    run.console.print(table)
    about = {one.metric: one.value for one in rows if one.model == ADAPTED}
    left = about.get("uncertainty_left")
    said = "" if left is None else f"; {left:.0%} of what {heads} heads leave open of a pair is still open"
    run.console.print(f"{about['labels']} labels{said}.")


def _cell(found: Row | None) -> str:
    if found is None or found.value is None:
        return "-"
    between = "" if found.low is None else f" [{found.low:.2f}, {found.high:.2f}]"
    return f"{found.value:.2f}{between}"
