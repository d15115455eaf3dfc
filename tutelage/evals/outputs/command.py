"""The command `eval outputs`: outputs from anywhere, measured against reference texts and beside each other.

results.json, results.csv   rows {model = name of the file, metric, task, value, low, high, n, unit, signature};
                            METRIC_difference is the paired difference to the first file
outputs.jsonl               one line per prompt: prompt, references, and the outputs of every file
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from rich.text import Text

from tutelage.data.reading.sources import shown
from tutelage.evals import diversity
from tutelage.evals.findings import METRICS
from tutelage.evals.outputs import matching, reading
from tutelage.evals.outputs.reading import Output
from tutelage.evals.overlap import beside, habits, sums
from tutelage.evals.overlap.beside import Measured
from tutelage.evals.overlap.metrics import Metrics, signatures
from tutelage.evals.rows import OVERALL, Row, write
from tutelage.evals.shown import models_table
from tutelage.files import write_jsonl_atomic
from tutelage.records import Prompt, Response
from tutelage.runs import Run
from tutelage.settings.evals import OutputsSettings as Settings

SHOWN = [name for name in METRICS if not name.startswith("bleu_precision")]
References = Mapping[str, tuple[str, ...]]


def main(settings: Settings, world: None, run: Run) -> Path:
    """Write results.json, results.csv and outputs.jsonl.  Raises ValueError for files that cannot be put side by side."""
    models = matching.keyed(_read(settings, run))
    references = _references(settings, models, run)
    say = partial(run.console.print, markup=False, highlight=False)
    metrics = Metrics(settings, say, _device(settings))
    measured = {name: _measured(name, outputs, references, metrics) for name, outputs in models.items()}
    names = list(models)
    rows = beside.rows(measured, names[0], seed=settings.seed, resamples=settings.resamples)
    rows += _distinct(models)
    write(run.folder, rows)
    write_jsonl_atomic(run.folder / "outputs.jsonl", _lines(models, references))
    run.note(baseline=names[0], outputs={name: len(outputs) for name, outputs in models.items()})
    title = "Outputs in files (95 % intervals)"
    run.console.print(models_table(rows, names, SHOWN, title, run.console.width))
    _close(rows, names, run)
    return run.folder


def _device(settings: Settings) -> str:
    """Where an encoder runs; nobody asks where there is none, for torch takes seconds to import."""
    if "bertscore" not in settings.overlap or settings.device == "cpu":
        return "cpu"
    from tutelage.models.precision import device_for

    return device_for(settings.device)


# ---- what is read ------------------------------------------------------------------------------------------------------


def _read(settings: Settings, run: Run) -> dict[str, list[Output]]:
    found: dict[str, list[Output]] = {}
    for given in settings.files:
        named, _, path = given.rpartition("=") if not Path(given).exists() else ("", "", given)
        name = named or Path(path).stem
        run.input(f"file {name}", path)
        for model, outputs in reading.read(name, path, settings.columns).items():
            if model in found:
                raise ValueError(
                    f"files: two are named '{model}'; give them names as in files=[first={path}, ...]"
                )
            found[model] = outputs
    return found


def _references(settings: Settings, models: matching.Found, run: Run) -> References:
    """The references by key; how many prompts have none is said."""
    given = []
    if settings.references:
        run.input("references", settings.references)
        given = reading.read_references(settings.references, settings.columns)
    found = matching.references_of(models, given, shown(settings.references))
    none = sum(not texts for texts in found.values())
    run.note(without_reference=none)
    if none and settings.overlap:
        asked = ", ".join(settings.overlap)
        left = (
            f"these ({asked}) are over the other {len(found) - none}" if none < len(found) else f"no {asked}"
        )
        run.console.print(f"{none} of {len(found)} prompts have no reference text: {left}.", highlight=False)
    return found


# ---- what is measured --------------------------------------------------------------------------------------------------


def _measured(name: str, outputs: Sequence[Output], references: References, metrics: Metrics) -> Measured:
    every = list(range(len(outputs)))
    texts = [output.text for output in outputs]
    described = habits.sums(texts, [o.asked for o in outputs], [o.ended for o in outputs])
    compared = [i for i in every if references[outputs[i].key]]
    overlaps = metrics.of(name, [texts[i] for i in compared], [references[outputs[i].key] for i in compared])
    parts = [(found, every) for found in described] + [(found, compared) for found in overlaps]
    return Measured([o.key for o in outputs], [o.task for o in outputs], parts)


def _distinct(models: matching.Found) -> list[Row]:
    rows = []
    for task in beside.tasks_of([output.task for output in next(iter(models.values()))]):
        written = {
            name: [Response.written(Prompt(""), o.text) for o in outputs if task in (OVERALL, o.task)]
            for name, outputs in models.items()
        }
        rows += [replace(row, task=task) for row in diversity.distinct_rows(written)]
    return rows


# ---- what is written ---------------------------------------------------------------------------------------------------


def _lines(models: matching.Found, references: References) -> list[dict]:
    lines: dict[str, dict] = {}
    for name, outputs in models.items():
        for one in outputs:
            known = list(references[one.key])
            line = {"prompt": one.asked, "task": one.task, "references": known, "outputs": {}}
            lines.setdefault(one.key, line)["outputs"].setdefault(name, []).append(one.text)
    return list(lines.values())


def _close(rows: Sequence[Row], names: Sequence[str], run: Run) -> None:
    """Differences that chance does not explain, and the signatures."""
    for row in rows:
        compared = row.task == OVERALL and row.signature and row.metric.endswith(sums.DIFFERENCE)
        if compared and (said := _told(row, names[0])):
            run.console.print(said, markup=False, highlight=False)
    for line in signatures(rows):
        run.console.print(Text(line, "dim"), soft_wrap=True)


def _told(row: Row, first: str) -> str:
    """A difference whose interval is on one side of 0."""
    if row.value is None or row.low is None or row.high is None or row.low <= 0 <= row.high:
        return ""
    side, name = "above" if row.value > 0 else "below", METRICS[row.metric.removesuffix(sums.DIFFERENCE)][0]
    return f"{row.model} is {side} {first} in {name}: {row.value:+.4f} [{row.low:+.4f}, {row.high:+.4f}]"
