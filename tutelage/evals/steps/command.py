"""The command `eval steps`: a process reward model on solutions whose first wrong step is known, as ProcessBench has them.

results.json, results.csv   rows {model = the model, or a baseline that knows lengths alone, metric, task = subset, value, ...}
scores.jsonl                one line per solution: id, subset, label (the first wrong step from 0, or -1), said (the model's), and
                            right: the probability that each step is right (null: the model cannot read the solution)
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tutelage.data.encoding import Unusable
from tutelage.data.reading.sources import shown
from tutelage.data.steps import StepEnds, lines_of, response_of
from tutelage.data.template import encode
from tutelage.evals.findings import display
from tutelage.evals.process_model import Solution, step_rows
from tutelage.evals.rows import OVERALL, Row, write
from tutelage.evals.shown import cell, columns_table
from tutelage.evals.solutions import solution_of
from tutelage.evals.steps import measures, reading
from tutelage.evals.steps.measures import UNREAD
from tutelage.evals.steps.reading import Item
from tutelage.files import write_jsonl_atomic
from tutelage.judges.process import marked, read_logits
from tutelage.models.loading import context_of, load_scalar, load_tokenizer
from tutelage.models.policy import ScalarModule
from tutelage.models.step_head import StepHead
from tutelage.parallel import World
from tutelage.records import place_json
from tutelage.runs import Run, result_folder
from tutelage.settings.evals import StepsSettings as Settings

CHUNK = 64  # solutions between two movements of the progress bar
SHOWN = {
    "first_error_accuracy": "errors found",
    "sound_accuracy": "sound recognised",
    "first_error_f1": "F1",
    "first_error_f1_subsets": "F1, mean of subsets",
}


def main(settings: Settings, world: World, run: Run) -> Path:
    """Write results.json, results.csv and scores.jsonl.  Raises ValueError for unusable rows, or another kind of model."""
    folder = result_folder(settings.model)
    head = StepHead.at(folder)
    if head is None or head.about != "steps":
        kind = "scores whole responses" if head is None else "says whether a final answer is right"
        raise ValueError(
            f"model={settings.model} {kind} and marks no steps: give a model that `process` trained with marks=steps"
        )
    found = reading.read(settings.data, settings.columns)
    run.input("model", folder)
    run.input("data", settings.data)
    name = settings.name or display(Path(settings.model).name)
    rival = measures.baselines(found.items)
    if name in rival:
        raise ValueError(f"name={name} is what a baseline is called: give the model another name")
    solutions = _Reader(folder, head, settings, world, run).solutions(found.items)
    said = np.array([UNREAD if one is None else one.said_first for one in solutions])
    options = {"seed": settings.seed, "resamples": settings.resamples}
    entrants = {name: said, **rival}
    rows = [
        row for who, own in entrants.items() for row in measures.evaluate(who, found.items, own, **options)
    ]
    read = [one for one in solutions if one is not None]
    rows[:0] = step_rows(name, read, seed=settings.seed)
    write(run.folder, rows)
    write_jsonl_atomic(run.folder / "scores.jsonl", _lines(found.items, solutions, said))
    run.note(unread=int((said == UNREAD).sum()), unsaid=found.unsaid, left_out=found.left_out)
    _show(rows, list(entrants), list(measures.members(found.items)), run)
    _say(rows, name, found, run)
    return run.folder


class _Reader:
    """Puts solutions to the model, a chunk at a time."""

    def __init__(self, folder: str, head: StepHead, settings: Settings, world: World, run: Run) -> None:
        self._tokenizer, self._head = load_tokenizer(folder), head
        model: ScalarModule = load_scalar(
            folder, dtype=world.dtype, device=world.device, heads=head.classes, fresh_head=False
        )
        self._model = model.eval().requires_grad_(False)
        self._find = StepEnds(self._tokenizer, head.separator)
        self._settings, self._world, self._run = settings, world, run

    def solutions(self, items: Sequence[Item]) -> list[Solution | None]:
        """What it says of each; None of one that it cannot read, which is said with the reason.  Raises ValueError where it can
        read none."""
        why: Counter[str] = Counter()
        found: list[Solution | None] = []
        with self._run.progress(len(items), "solutions") as bar:
            for start in range(0, len(items), CHUNK):
                found += self._chunk(items[start : start + CHUNK], why)
                bar.advance(len(items[start : start + CHUNK]))
        source = shown(self._settings.data)
        if len(items) == why.total():
            raise ValueError(f"{source}: the model can read no solution ({', '.join(why)})")
        for reason, count in why.items():
            self._run.console.print(
                f"{source}: {count} of {len(items)} solutions {reason}: they count as missed.",
                highlight=False,
            )
        return found

    def _chunk(self, items: Sequence[Item], why: Counter[str]) -> list[Solution | None]:
        separator, context = self._head.separator, context_of(self._model)
        texts = [
            (item.marks.prompt, response_of(item.marks, separator, "steps"), item.marks.finish)
            for item in items
        ]
        sequences = {}
        for number, (item, encoded) in enumerate(zip(items, encode(self._tokenizer, texts), strict=True)):
            if isinstance(encoded, Unusable):
                why[str(encoded)] += 1
                continue
            ends = self._find(encoded.response, item.marks.finish)
            if len(ends) != len(lines_of(item.marks, separator)):
                why["whose steps are not found again in their tokens"] += 1
            elif context is not None and len(encoded.prompt) + len(encoded.response) > context:
                why[f"longer than the {context} tokens that the model takes"] += 1
            else:
                sequences[number] = marked(encoded.prompt, encoded.response, ends)
        scored = read_logits(self._model, list(sequences.values()), self._settings.max_tokens, self._world)
        logits = dict(zip(sequences, scored, strict=True))
        return [
            solution_of(item.marks, logits[number], "steps", separator, "positive")
            if number in logits
            else None
            for number, item in enumerate(items)
        ]


def _lines(items: Sequence[Item], solutions: Sequence[Solution | None], said: measures.Ints) -> list[dict]:
    return [
        {
            "id": item.id,
            "subset": item.subset,
            "generator": item.generator,
            **place_json(item.marks),
            "final_answer_correct": item.marks.outcome,
            "label": item.truth,
            "said": None if one is None else int(found),
            "right": None if one is None else one.right.tolist(),
        }
        for item, one, found in zip(items, solutions, said, strict=True)
    ]


def _show(rows: Sequence[Row], names: Sequence[str], subsets: Sequence[str], run: Run) -> None:
    tasks = [OVERALL] if len(subsets) == 1 else [*subsets, OVERALL]
    lines = [
        (metric, task, what if len(tasks) == 1 else f"{_task(task)}: {what}")
        for task in tasks
        for metric, what in SHOWN.items()
        if any((row.metric, row.task) == (metric, task) for row in rows)
    ]
    columns = {name: [cell(rows, name, metric, task) for metric, task, _ in lines] for name in names}
    title = "The first wrong step (95 % intervals)"
    run.console.print(
        columns_table(title, "solutions", [what for *_, what in lines], columns, run.console.width)
    )


def _task(task: str) -> str:
    return "all" if task == OVERALL else task


def _say(rows: Sequence[Row], name: str, found: reading.Read, run: Run) -> None:
    """What is not in the numbers."""
    if found.unsaid:
        run.console.print(
            f"{found.unsaid} solutions are marked in part and without an error: left out.", highlight=False
        )
    if found.left_out:
        run.console.print(
            f"{found.left_out} rows say themselves that they are not to be used.", highlight=False
        )
    one_sided = [
        _task(row.task)
        for row in rows
        if row.model == name and row.metric == "first_error_f1" and row.value is None
    ]
    if one_sided:
        run.console.print(
            f"No F1 of {', '.join(one_sided)}, nor a mean over subsets: solutions of one kind, with or without an error, are "
            "missing there.",
            markup=False,
            highlight=False,
        )
