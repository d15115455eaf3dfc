"""`data=store:PROJECT` for `process`: the steps that people marked."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from tutelage.feedback.exports.current import Source
from tutelage.feedback.exports.outcomes import Marked, marked_steps
from tutelage.feedback.exports.spec import ExportSpec
from tutelage.feedback.training.source import (
    Aggregation,
    StoreRows,
    joined,
    opened_at,
    projects_of,
    require_rows,
    sorted_out,
)
from tutelage.records import StepMarks


def step_marks_from(
    source: str | list[str],
    store: str | Path,
    aggregation: Aggregation = "auto",
    annotators: Sequence[str] = (),
) -> StoreRows[StepMarks]:
    """The marked steps of `store:PROJECT`, or of several, as `feedback export format=stepwise` finds them; those of some
    annotators only (names, or kinds) where `annotators` are given.

    Steps that nobody marked are left off the end; then the response may go on ("length").  Not so where it is known whether the
    answer is right (`outcome`), as of rounds of a refinement: that is said of the whole.  Raises ValueError when the store
    does not exist, the project is not in it, or nothing in it can be trained on (yet).
    """
    if isinstance(source, list):
        parts = projects_of(source)
        return joined(parts, [step_marks_from(part, store, aggregation, annotators) for part in parts])
    left_out: Counter[str] = Counter()
    spec = ExportSpec(format="stepwise", aggregation=aggregation, split="all")
    with opened_at(source, store) as (opened, project):
        kinds = opened.annotator_kinds()
        with opened.reading(project) as (connection, key):
            found = marked_steps(Source(connection, key, spec, left_out), annotators, kinds)
            rows: StoreRows[StepMarks] = sorted_out((one.item.split, _row(one)) for one in found)
    sorted_rows = replace(rows, left_out=dict(left_out))
    nobody = f"nobody has marked steps in project '{project}' of {store} yet"
    if annotators:
        nobody = f"none of annotators={','.join(annotators)} has marked steps in it yet"
    require_rows(sorted_rows, source, f"{nobody}: build items of type step and let people answer them")
    return sorted_rows


def _row(one: Marked) -> StepMarks:
    steps, labels = tuple(one.steps), tuple(one.labels)
    if one.right is None:
        return StepMarks(one.item.prompt, steps, labels, finish=one.finish)
    whole, unsaid = (*steps, *one.rest), (None,) * len(one.rest)
    finish = one.item.finishes[0]
    return StepMarks(one.item.prompt, whole, (*labels, *unsaid), finish=finish, outcome=one.right)
