"""`tutelage mark`: the steps of solutions, marked by how often the model, going on from each, comes out right.

Math-Shepherd (Wang et al. 2023, arXiv 2312.08935): labels for a process reward model without people.  All scores stand in
samples.jsonl, written in fixed groups: a run that was stopped goes on with the group that is not whole, and ends with the same
files.  steps.jsonl is made of it, and anew when only the kind of labels has changed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from rich.table import Table

from tutelage.cost import flops
from tutelage.data.preflight.steps import prepare_solutions
from tutelage.data.reading.formats import read_solutions
from tutelage.data.reading.sources import shown
from tutelage.data.steps import StepEnds
from tutelage.files import write_jsonl_atomic
from tutelage.parallel import World
from tutelage.records import Prompt, Response, StepMarks
from tutelage.rollout.drawing import (
    Row,
    add_lines,
    common_context,
    keep_whole_groups,
    line,
    load_judge,
    load_local,
    read_answerable,
    read_lines,
    show_report,
)
from tutelage.rollout.generator import Sampling
from tutelage.rollout.local import LocalGenerator
from tutelage.rollout.steps import Completer, Judged, in_steps, labels
from tutelage.runs import Bar, Run
from tutelage.settings.rollout import MarkSettings as Settings

GROUP = 64
"""Prompts, or solutions that are there already, that are marked and stored at once: what a crash makes to do again."""


class Source(NamedTuple):
    """Where solutions come from: so many units (prompts, or solutions) with `each` solutions; `take` gives those of a range of
    units; `prompts` are some of those that they answer."""

    units: int
    each: int
    prompts: Sequence[Prompt]
    take: Callable[[int, int], list[Response]]


def main(settings: Settings, world: World, run: Run) -> Path:
    """Write or read solutions, roll them out, label their steps; returns the run folder, with the marks in steps.jsonl.

    Raises ValueError when there are no usable prompts or solutions, when the judge does not apply to a prompt, or when no step
    can be marked.
    """
    generator = load_local(settings, world, run)
    source = _given(settings, generator, run) if settings.data else _asked(settings, generator, run)
    path = run.folder / "samples.jsonl"
    total = source.units * source.each
    there = len(keep_whole_groups(path, total, GROUP * source.each))
    if there < total:
        _mark(path, there, source, generator, settings, world, run)
    rows = read_lines(path)
    marked = [row for row in rows if row["scores"]]
    if not marked:
        raise ValueError(
            f"none of the {len(rows)} solutions has a step that can be marked: give solutions with words, or another separator."
        )
    write_jsonl_atomic(run.folder / "steps.jsonl", (_marks(row, settings) for row in marked))
    written = 0 if settings.data else sum(row["tokens"] for row in rows)
    tokens = written + sum(row["rollout_tokens"] for row in rows)
    run.note(tokens_generated=tokens, flops=flops(generator.parameters, 0, tokens))
    _close(rows, settings, run)
    return run.folder


def _asked(settings: Settings, generator: LocalGenerator, run: Run) -> Source:
    """Solutions that the model writes."""
    prompts = read_answerable(settings, generator, run)
    sampling = Sampling(settings.max_new_tokens, settings.temperature, settings.samples, settings.seed)
    return Source(
        len(prompts),
        settings.samples,
        prompts,
        lambda start, stop: generator.generate(prompts[start:stop], sampling),
    )


def _given(settings: Settings, generator: LocalGenerator, run: Run) -> Source:
    """Solutions that are there already."""
    prepared = prepare_solutions(
        generator.tokenizer,
        read_solutions(settings.data, settings.columns),
        separator=settings.step_end,
        max_new_tokens=settings.max_new_tokens,
        context=common_context(settings, generator),
        source=shown(settings.data),
        max_dropped_share=None,
        console=run.console,
    )
    show_report(prepared.report, settings, run)
    found = prepared.examples
    first = [one.prompt for one in found[:GROUP]]
    return Source(len(found), 1, first, lambda start, stop: found[start:stop])


def _mark(
    path: Path,
    done: int,
    source: Source,
    generator: LocalGenerator,
    settings: Settings,
    world: World,
    run: Run,
) -> None:
    """Append the solutions from number `done` on, with the scores of their rollouts."""
    judge = load_judge(settings, generator, source.prompts, world, run)
    sampling = Sampling(settings.max_new_tokens, settings.temperature, settings.rollouts, settings.seed)
    find = StepEnds(generator.tokenizer, settings.step_end)
    with run.progress(source.units * source.each, "solutions", done) as bar:
        generator.progress = _Rate(bar)
        completer = Completer(
            generator,
            generator.tokenizer,
            judge,
            sampling,
            settings.right_above,
            settings.first_error,
            bar.advance,
        )
        for start in range(done // source.each, source.units, GROUP):
            started = time.monotonic()
            responses = source.take(start, min(start + GROUP, source.units))
            solutions = [
                in_steps(response, find, settings.step_end, settings.max_new_tokens) for response in responses
            ]
            add_lines(path, map(_line, completer(solutions)))
            run.note(drawing_seconds=_seconds(run) + time.monotonic() - started)


class _Rate:
    """Tokens and responses as they are drawn, said beside the progress bar."""

    def __init__(self, bar: Bar) -> None:
        self._bar, self._started = bar, time.monotonic()
        self._tokens = self._responses = 0

    def __call__(self, tokens: int, responses: int) -> None:
        self._tokens += tokens
        self._responses += responses
        seconds = max(time.monotonic() - self._started, 1e-9)
        self._bar.advance(
            0, f"{self._tokens / seconds:,.0f} tokens/s, {self._responses / seconds:,.0f} responses/s"
        )


def _line(judged: Judged) -> Row:
    """A line of samples.jsonl."""
    response = judged.solution.response
    row = line(response)
    del row["logprob"]  # which nobody knows where the solution was there already
    return row | {
        "reference": response.prompt.reference,
        "whole": judged.solution.whole,
        "score": judged.score,
        "completions": list(judged.solution.steps),
        "scores": judged.scores,
        "rollouts": judged.rollouts,
        "rollout_tokens": judged.tokens,
    }


def _marks(row: Row, settings: Settings) -> Row:
    """A row that `process` reads."""
    prompt = Prompt.from_json(row["prompt"], row["task"], row["reference"])
    soft = settings.labels == "soft"
    found = labels(row["scores"], settings.right_above, soft)
    outcome = row["score"] > settings.right_above if row["whole"] else None
    return StepMarks(prompt, tuple(row["completions"]), found, soft, row["finish"], outcome).to_json()


# ---- what came out -------------------------------------------------------------------------------------------------


def _seconds(run: Run) -> float:
    return float(run.lineage.get("drawing_seconds", 0.0))


def _close(rows: Sequence[Row], settings: Settings, run: Run) -> None:
    """Metrics and the closing table."""
    figures = measured(rows, settings.right_above, settings.labels == "soft") | {
        "drawing_seconds": _seconds(run)
    }
    seconds = max(figures["drawing_seconds"], 1e-9)
    figures["tokens_per_second"] = figures["tokens"] / seconds
    figures["rollouts_per_second"] = figures["rollouts"] / seconds
    run.rewind(-1)  # labels of the other kind
    run.log(figures)
    run.commit(0)
    run.console.print(_table(figures))
    run.console.print(
        f"{run.folder / 'steps.jsonl'} is what `process` reads as data=.", markup=False, highlight=False
    )


def measured(rows: Sequence[Mapping[str, Any]], right_above: float, soft: bool) -> dict[str, float]:
    """The figures of the lines of samples.jsonl (docs/metrics.md says which); those of nothing are left out."""
    marked = [row for row in rows if row["scores"]]
    found = [
        label for row in marked for label in labels(row["scores"], right_above, soft) if label is not None
    ]
    tried = [row["scores"][: -1 if row["whole"] else None] for row in marked]
    shares = [label for own in tried for label in labels(own, right_above, True) if label is not None]
    shares_of = {
        "right_rate": [row["score"] > right_above for row in rows if row["whole"]],
        "missing_eos_rate": [row["finish"] == "length" for row in rows],
        "mean_label": [max(label, 0) for label in found],
        "zero_rate": [label <= 0 for label in found],
        "undecided_rate": [0 < share < 1 for share in shares],
    }
    figures = {
        "responses": float(len(rows)),
        "unmarked": float(len(rows) - len(marked)),
        "marked_steps": float(len(found)),
        "marked_share": len(found) / max(1, sum(len(row["completions"]) for row in marked)),
        "rollouts": float(sum(row["rollouts"] for row in rows)),
        "tokens": float(sum(row["rollout_tokens"] for row in rows)),
    }
    return figures | {name: float(np.mean(values)) for name, values in shares_of.items() if values}


def _table(figures: Mapping[str, float]) -> Table:
    table = Table(title="Marks", title_justify="left", show_header=False, box=None, padding=(0, 2, 0, 0))
    right = f", {figures['right_rate']:.1%} right" if "right_rate" in figures else ""
    left_out = f", {figures['unmarked']:,.0f} without marks" if figures["unmarked"] else ""
    undecided = figures.get("undecided_rate", 0.0)
    for name, value in (
        ("solutions", f"{figures['responses']:,.0f}{right}{left_out}"),
        ("marked", f"{figures['marked_steps']:,.0f} steps, {figures['marked_share']:.1%} of all"),
        ("mean label", f"{figures['mean_label']:.3f}"),
        ("wrong", f"{figures['zero_rate']:.1%} of the marked steps"),
        ("undecided", f"{undecided:.1%} of the steps that were rolled out"),
        ("rollouts", f"{figures['rollouts']:,.0f}, {figures['rollouts_per_second']:,.0f} per second"),
        ("drawn", f"{figures['tokens']:,.0f} tokens in {figures['drawing_seconds']:,.1f} s"),
    ):
        table.add_row(name, value)
    return table
