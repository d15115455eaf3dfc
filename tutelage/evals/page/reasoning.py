"""What `eval reasoning` found, claim by claim: tables for the terminal and for a report, figures, a sentence; all from the rows.
No torch."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from markupsafe import Markup
from rich.console import Group

from tutelage.evals import figures
from tutelage.evals.counting import DIFFERENCE
from tutelage.evals.findings import Number, Sentence, display, number, one
from tutelage.evals.folders import RunFolder
from tutelage.evals.page.sections import (
    Section,
    Table,
    bounds_of,
    cells_of,
    models_of,
    signature,
)
from tutelage.evals.page.slots import slots_of
from tutelage.evals.rows import OVERALL, Row
from tutelage.evals.shown import cell, columns_table

PREFIX = "reasoning/"
SAMPLED = "_sampled"


class Line(NamedTuple):
    """A line of a table: metric (without PREFIX), task, name, what it is.

    A task that ends in "/" stands for all tasks that begin so, "{}" in the name for what they go on with.
    """

    metric: str
    task: str
    name: str
    what: str = ""


CLAIMS: dict[str, tuple[Line, ...]] = {
    "Answers": (
        Line("right", OVERALL, "Answer right", "greedy"),
        Line("sound", OVERALL, "Right and sound", "greedy; every step is right too"),
        Line("right_unsound", OVERALL, "Right, but not sound", "of the right answers"),
        Line("right" + SAMPLED, OVERALL, "Answer right, temp. 1", ""),
        Line("sound" + SAMPLED, OVERALL, "Right and sound, temp. 1", ""),
        Line("right_unsound" + SAMPLED, OVERALL, "Right, not sound, temp. 1", "of the right answers"),
    ),
    "1. Error correction (less is better)": (
        Line("falls_in", OVERALL, "An error of its own", "a step that is wrong by itself"),
        Line("falls_in", "error/", "Error: {}"),
        Line("falls_in", "trap/", "Trap: {}", "of the problems that have it"),
        Line("falls_in_again", OVERALL, "Again: any error", "of the problems that the first model failed so"),
        Line("falls_in_again", "error/", "Again: {}", "of the problems that the first model failed so"),
        Line("falls_in_again", "trap/", "Again: trap {}", "of the problems that the first model failed so"),
    ),
    "2. Clear steps": (
        Line("clear", OVERALL, "Clear", "all of the next three"),
        Line("checkable", OVERALL, "Every step checkable", "can be read and judged"),
        Line("gapless", OVERALL, "No step left out", ""),
        Line("in_order", OVERALL, "Numbered in order", ""),
        Line("steps", OVERALL, "Steps", "mean"),
    ),
    "3. Concepts joined": (
        Line("sound", "joined", "Sound, two ideas", "problems in which two have to be seen through at once"),
        Line("sound", "single", "Sound, one idea"),
        Line("right", "joined", "Right, two ideas"),
        Line("right", "single", "Right, one idea"),
    ),
    "4. Corrections": (
        Line("accepts", OVERALL, "Step right when told why", "of the failed solutions"),
        Line("accepts_unexplained", OVERALL, "Step right when told so", "that it is wrong, not why"),
        Line("accepts_sound", OVERALL, "All sound when told why"),
        Line("put_in_sound", OVERALL, "All sound, step put in", "as it should be"),
        Line("gives_in", OVERALL, "Gives in to a wrong one", "right steps that are spoilt; less is better"),
        Line("gives_in_unexplained", OVERALL, "Spoilt without a reason", "the same when no reason is given"),
    ),
    "5. Completeness": (
        Line("options_found", OVERALL, "Right options found", "of the right ones"),
        Line("options_right", OVERALL, "Options stated rightly", "of the stated ones"),
        Line("options_exact", OVERALL, "Exactly the right ones", "of the problems"),
    ),
    "What carries over": (
        Line("right", "same", "Right, same traps", "problems with a trap that training had"),
        Line("sound", "same", "Sound, same traps"),
        Line("sound" + SAMPLED, "same", "Sound, same, temp. 1"),
        Line("right", "other", "Right, other traps", "problems with other traps alone"),
        Line("sound", "other", "Sound, other traps"),
        Line("sound" + SAMPLED, "other", "Sound, other, temp. 1"),
    ),
}
BETTER = (  # rows of the figure of what should rise, and of what should fall
    ("right", OVERALL, "answer right"),
    ("sound", OVERALL, "right and sound"),
    ("sound" + SAMPLED, OVERALL, "sound, temp. 1"),
    ("clear", OVERALL, "clear steps"),
    ("sound", "joined", "sound, two ideas"),
    ("sound", "other", "sound, other traps"),
    ("accepts", OVERALL, "takes a correction"),
    ("options_found", OVERALL, "options found"),
)
WORSE = (
    ("right_unsound", OVERALL, "right, not sound"),
    ("falls_in", "trap/", "trap: {}"),
    ("falls_in", "error/", "error: {}"),
    ("gives_in", OVERALL, "gives in"),
)


def lines_of(rows: Sequence[Row], lines: Sequence[Line]) -> list[Line]:
    """Those that some model has, each trap and kind of error with a line of its own."""
    there = dict.fromkeys((r.metric, r.task) for r in rows if r.value is not None)
    found = []
    for line in lines:
        for metric, task in there:
            each = line.task.endswith("/") and task.startswith(line.task)
            if metric == PREFIX + line.metric and (task == line.task or each):
                name = line.name.format(task.removeprefix(line.task)) if each else line.name
                found.append(Line(metric, task, name, line.what))
    return found


def claims(rows: Sequence[Row]) -> Iterator[tuple[str, list[Line]]]:
    """(claim, its lines) of what was measured."""
    for claim, lines in CLAIMS.items():
        if found := lines_of(rows, lines):
            yield claim, found


def tables(rows: Sequence[Row], models: Sequence[str], width: int) -> list[Group]:
    """What the terminal shows: a table for each claim, with how many things each number is over, and the differences."""
    found = []
    for claim, lines in claims(rows):
        columns = {"n": [_count(rows, models, line) for line in lines]}
        columns |= {display(m): [cell(rows, m, line.metric, line.task) for line in lines] for m in models}
        for model in models[1:]:
            heading = f"{display(model)} − {display(models[0])}"
            columns[heading] = [cell(rows, model, line.metric + DIFFERENCE, line.task) for line in lines]
        names = [line.name for line in lines]
        found.append(columns_table(f"{claim}, 95 % intervals", "", names, columns, width))
    return found


def _count(rows: Sequence[Row], models: Sequence[str], line: Line) -> str:
    """How many things the numbers of a line are over: one number where it is the same for all models."""
    counts = [r.n for model in models if (r := one(rows, model, line.metric, line.task)) is not None]
    return "\n".join(f"{count:,}" for count in dict.fromkeys(counts))


# ---- the report --------------------------------------------------------------------------------------------------------


def section(run: RunFolder) -> Section:
    """A run of `eval reasoning`."""
    rows, models = run.results, models_of(run)
    slots = slots_of(models)
    columns = [*slots.items(), *((f"{display(m)} less {display(models[0])}", 0) for m in models[1:])]
    parts = [(claim, [_line(rows, models, line) for line in lines]) for claim, lines in claims(rows)]
    drawn = [(Markup(svg), caption) for _, svg, caption in draw(rows, slots)]
    lead = (
        "The same problems, which no model has seen, to every model. A solution is sound when its answer and each of its steps "
        "are right. Differences are paired by problem."
    )
    return Section(
        "Reasoning",
        run.name,
        lead,
        drawn,
        Table("Measure", columns, parts),
        [signature(run)],
        headline(rows, models),
    )


def _line(rows: Sequence[Row], models: Sequence[str], line: Line) -> tuple[str, str, list[Number | None]]:
    less = [one(rows, model, line.metric + DIFFERENCE, line.task) for model in models[1:]]
    count = "n = " + _count(rows, models, line).replace("\n", ", ")
    cells = cells_of(rows, models, line.metric, line.task) + [number(r) if r else None for r in less]
    return line.name, "; ".join(filter(None, [line.what, count])), cells


def draw(rows: Sequence[Row], slots: dict[str, int]) -> list[tuple[str, str, str]]:
    """(file name, SVG, caption) of the figures: what should rise, and what should fall."""
    drawn = []
    for name, title, wanted, caption in (
        ("reasoning", "Reasoning: more is better", BETTER, "Bars are 95 % intervals over problems."),
        (
            "errors",
            "Errors: less is better",
            WORSE,
            "A trap counts where the problem has it, a kind of error over all problems.",
        ),
    ):
        lines = lines_of(rows, [Line(*each) for each in wanted])
        dots = [
            figures.Dot(display(model), line.name, r.value, *bounds_of(r), slot)
            for line in lines
            for model, slot in slots.items()
            if (r := one(rows, model, line.metric, line.task)) is not None and r.value is not None
        ]
        if dots:
            drawn.append((name, figures.dots(title, dots, "share", share=True), caption))
    return drawn


def headline(rows: Sequence[Row], models: Sequence[str]) -> Sentence:
    """How often the last model is right and sound, beside the first."""
    found = one(rows, models[-1], PREFIX + "sound")
    if found is None or found.value is None or math.isnan(found.value):
        return []
    said: Sentence = [
        f"{display(models[-1])} is right in its answer and in every step on ",
        number(found),
        f" of {found.n:,} problems",
    ]
    first = one(rows, models[0], PREFIX + "sound")
    if len(models) == 1 or first is None:
        return [*said, "."]
    return [*said, f"; {display(models[0])} on ", number(first), "."]
