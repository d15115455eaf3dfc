"""The command `eval methods`: methods side by side, each by several runs that differ in their seed.

Reads what `eval` wrote, where models that are named METHOD/1, METHOD/2, ... are runs of one method; a model without a number is a
method of one run.  Intervals are over runs and prompts together: with other seeds, on other prompts, the number would be another.

results.json   rows {model = method, metric, ...}; win_rate@OTHER is how often the method beats another one       methods.svg
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tutelage import cost
from tutelage.evals.figures import standalone
from tutelage.evals.findings import JUDGED, display
from tutelage.evals.folders import RunFolder
from tutelage.evals.page import methods as methods_page
from tutelage.evals.rows import OVERALL, Row, row, to_json
from tutelage.files import write_json_atomic, write_text_atomic
from tutelage.runs import Run
from tutelage.settings.evals import MethodsSettings as Settings
from tutelage.statistics import Interval, crossed_mean

Floats = NDArray[np.float64]
WHOLE = ("kl", "unique_share", "self_bleu", "distinct_2", "entropy", "eval_loss", "tokens_per_answer")
"""What `eval` has one number of for every run."""


@dataclass(frozen=True)
class Method:
    """The runs of a method on the same prompts: score, length in tokens and whether cut off, float64 [runs, prompts].

    measured: metric -> (one number for each run, unit).
    """

    name: str
    runs: list[str]
    scores: Floats
    lengths: Floats
    cut: Floats
    measured: dict[str, tuple[list[float], str]]


@dataclass(frozen=True)
class Asked:
    """The prompts that all have answered: ids, and their tasks; what the judge's score is called."""

    ids: list[str]
    tasks: list[str]
    metric: str

    def by_task(self) -> dict[str, NDArray[np.int64]]:
        """Numbers of prompts: all, then those of each task where there are several."""
        names = sorted({task for task in self.tasks if task})
        groups = {OVERALL: np.arange(len(self.ids))}
        if len(names) > 1:
            groups |= {name: np.flatnonzero([task == name for task in self.tasks]) for name in names}
        return groups


def main(settings: Settings, world: None, run: Run) -> Path:
    """Write results.json and methods.svg.  Raises ValueError for evaluations that cannot be put side by side."""
    evaluations = [_evaluation(place) for place in settings.evaluations]
    for evaluation in evaluations:
        run.input(evaluation.name, evaluation.path / "results.json")
    baseline = _baseline(evaluations)
    asked = _asked(evaluations)
    found = list(_methods(evaluations, asked))
    base = next(method for method in found if method.name == baseline)
    rows = [row for method in found for row in _rows(method, base, asked)]
    rows += [row for method in found for other in found for row in _against(method, other, base)]
    write_json_atomic(run.folder / "results.json", to_json(rows))
    figure = write_text_atomic(run.folder / "methods.svg", standalone(methods_page.draw(rows, baseline)))
    run.note(
        baseline=baseline, prompts=len(asked.ids), runs={method.name: len(method.runs) for method in found}
    )
    names = methods_page.ordered(rows, baseline)
    title = f"Methods, compared with {display(baseline)} (95 % intervals over runs and prompts)"
    run.console.print(methods_page.table(rows, names, title, run.console.width))
    for sentence in methods_page.compared(rows, names):
        run.console.print(sentence, markup=False, highlight=False)
    run.console.print(f"Figure: {figure}", markup=False, highlight=False)
    return run.folder


def method_of(model: str) -> str:
    """The method that a model is a run of: METHOD of METHOD/3, or its own name."""
    return re.sub(r"/\d+$", "", model)


def _evaluation(place: str) -> RunFolder:
    folder = RunFolder(Path(place), place)
    if not (folder.path / "lineage.json").is_file() or folder.command != "eval":
        raise ValueError(
            f"evaluations: {place} is no run folder of `tutelage eval`: give the one that it wrote into."
        )
    if folder.state != "done":
        raise ValueError(f"evaluations: {place} is not done: run its command to the end.")
    return folder


def _baseline(evaluations: Sequence[RunFolder]) -> str:
    """The one that all evaluations have compared with."""
    names = {str(evaluation.lineage["baseline"]) for evaluation in evaluations}
    if len(names) > 1:
        raise ValueError(
            f"evaluations: they compare with different baselines ({', '.join(sorted(names))}); name one model as `baseline` "
            "in all of them."
        )
    return names.pop()


def _asked(evaluations: Sequence[RunFolder]) -> Asked:
    """The prompts, which must be the same everywhere."""
    first, *others = evaluations
    ids = [str(line["id"]) for line in first.samples]
    for other in others:
        if [str(line["id"]) for line in other.samples] != ids:
            raise ValueError(
                f"evaluations: {first.name} and {other.name} asked different prompts; evaluate with the same prompts, "
                "max_prompts and seed."
            )
    metric = next((r.metric for r in first.results if r.metric in JUDGED), None)
    if metric is None:
        raise ValueError(f"evaluations: {first.name} has no scores, so nothing tells which method is better.")
    return Asked(ids, [str(line["task"]) for line in first.samples], metric)


def _methods(evaluations: Sequence[RunFolder], asked: Asked) -> Iterator[Method]:
    """Every method, in the order of the evaluations.  The baseline is in each of them and counts once."""
    places: dict[str, dict[str, RunFolder]] = {}
    for evaluation in evaluations:
        for model in dict.fromkeys(r.model for r in evaluation.results):
            known = places.setdefault(method_of(model), {})
            if model in known and model != evaluation.lineage["baseline"]:
                raise ValueError(
                    f"evaluations: {known[model].name} and {evaluation.name} both have a model '{model}'; give them names of "
                    f"their own, such as {method_of(model)}/2."
                )
            known.setdefault(model, evaluation)
    for name, runs in places.items():
        yield _method(name, runs)


def _method(name: str, runs: dict[str, RunFolder]) -> Method:
    answers = [[line["responses"][model] for line in place.samples] for model, place in runs.items()]
    if not all("score" in answer for each in answers for answer in each):
        raise ValueError(
            f"evaluations: responses of {name} have no score, so nothing tells whether it is better."
        )

    def table(key: str) -> Floats:
        return np.array([[float(answer[key]) for answer in each] for each in answers])

    cut = np.array([[float(answer["finish"] == "length") for answer in each] for each in answers])
    measured: dict[str, tuple[list[float], str]] = {}
    for model, place in runs.items():
        for metric, (value, unit) in {**_whole(model, place), **_spent(model, place)}.items():
            measured.setdefault(metric, ([], unit))[0].append(value)
    everywhere = {metric: found for metric, found in measured.items() if len(found[0]) == len(runs)}
    return Method(name, list(runs), table("score"), table("tokens"), cut, everywhere)


def _whole(model: str, place: RunFolder) -> dict[str, tuple[float, str]]:
    """What the evaluation says of a run as a whole."""
    return {
        r.metric: (r.value, r.unit)
        for r in place.results
        if r.model == model and r.task == OVERALL and r.metric in WHOLE and r.value is not None
    }


def _spent(model: str, place: RunFolder) -> dict[str, tuple[float, str]]:
    """What training the model cost, where it lies in a run folder."""
    trained = _trained(model, place)
    if trained is None:
        return {}
    known = cost.of_run(trained.lineage, trained.metrics)
    found = {f"cost/{name}": measured for name, measured in known.items()}
    return found if trained.seconds is None else {**found, "time": (trained.seconds, "s")}


def _trained(model: str, place: RunFolder) -> RunFolder | None:
    """The run that made a model of an evaluation."""
    inputs: Sequence[Any] = place.lineage.get("inputs", [])
    path = next((Path(entry["path"]) for entry in inputs if entry["name"] == f"model {model}"), None)
    folder = path and next(
        (each for each in (path, *path.parents) if (each / "lineage.json").is_file()), None
    )
    return RunFolder(folder, str(folder)) if folder else None


def _rows(method: Method, base: Method, asked: Asked) -> Iterator[Row]:
    """What a method is like."""
    name = method.name
    yield Row(name, "runs", OVERALL, float(len(method.runs)), n=len(method.runs), unit="runs")
    for task, of in asked.by_task().items():
        if method is not base:
            won = _beats(method.scores[:, of], base.scores[:, of])
            yield row(name, "win_rate", task, won, "share")
        yield row(name, asked.metric, task, crossed_mean(method.scores[:, of]), "score")
        yield row(name, "length", task, crossed_mean(method.lengths[:, of]), "tokens")
        yield row(name, "missing_eos", task, crossed_mean(method.cut[:, of], rate=True), "share")
    for metric, (values, unit) in method.measured.items():
        if metric in WHOLE:
            yield row(name, metric, OVERALL, crossed_mean(values), unit)
        else:  # what these runs have cost, which says little of others: of another machine, another hour
            yield Row(name, metric, OVERALL, float(np.mean(values)), n=len(values), unit=unit)


def _against(method: Method, other: Method, base: Method) -> Iterator[Row]:
    """How often a method beats another one; with the baseline that is `win_rate`."""
    if method is not other and base not in (method, other):
        found = _beats(method.scores, other.scores)
        yield row(method.name, f"win_rate@{other.name}", OVERALL, found, "share")


def _beats(ours: Floats, theirs: Floats) -> Interval:
    """Share of prompts on which a run of ours scores higher than a run of theirs, ties one half, over all pairs of runs."""
    return crossed_mean(0.5 + 0.5 * np.sign(ours[:, None] - theirs[None]), rate=True)
