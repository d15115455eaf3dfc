"""What a report shows of benchmarks in files: judges on right and wrong responses, and process models on first wrong steps.  No
torch."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from tutelage.evals import figures
from tutelage.evals.findings import PROCESS_METRICS, Sentence, display, number, one
from tutelage.evals.folders import RunFolder
from tutelage.evals.page import process as process_page
from tutelage.evals.page.sections import (
    MOST,
    Section,
    Table,
    by_task,
    cells_of,
    count_of,
    dots_of,
    filled,
    models_of,
    signature,
    tasks_of,
)
from tutelage.evals.rows import OVERALL, Row

BASELINES = {"longer wins": 0, "shorter wins": 5, "no error": 0, "longest step": 5, "longer half": 2}
"""Models that know lengths alone, in quiet colours."""


# ---- pairs -------------------------------------------------------------------------------------------------------------

PAIR_MEANS = {
    "accuracy": ("All rows", ""),
    "accuracy_sections": ("Mean of sections", "RewardBench 1's score"),
    "accuracy_subsets": ("Mean of subsets", "RewardBench 2's score"),
}


def pairs(run: RunFolder) -> Section:
    """A run of `eval pairs`."""
    rows, models = run.results, models_of(run)
    slots = with_baselines(models)
    judge = models[0]
    means = [(name, what, cells_of(rows, models, metric)) for metric, (name, what) in PAIR_MEANS.items()]
    groups = {
        heading: by_task(rows, models, metrics)
        for heading, metrics in (("Sections", ("accuracy_section",)), ("Subsets", ("accuracy", "ties_score")))
    }
    named = {OVERALL: "all rows"}
    parts = tasks_of(rows, "accuracy_section")
    metric, tasks = (
        ("accuracy_section", parts) if parts else ("accuracy", [OVERALL, *tasks_of(rows, "accuracy")])
    )
    names = {task: named.get(task, task) for task in tasks[:MOST]}
    title = "The right response scored highest"
    dots = dots_of(rows, metric, names, slots)
    drawn = [(Markup(figures.dots(title, dots, "share of the rows", share=True)), "")] if dots else []
    table = Table(
        "Rows", list(slots.items()), [("", filled(means)), *((k, v) for k, v in groups.items() if v)]
    )
    lead = "How often a right response has the highest score; the other models always prefer the longer, or the shorter one."
    own, longer = one(rows, judge, "accuracy"), one(rows, "longer wins", "accuracy")
    said: Sentence = []
    if own and longer:
        said = [
            f"{display(judge)} scores the right response highest on ",
            number(own),
            f" of {own.n:,} rows; always taking the longer one gets ",
            number(longer),
            ".",
        ]
    return Section("Right and wrong responses", run.name, lead, drawn, table, [signature(run)], said)


# ---- first wrong steps -------------------------------------------------------------------------------------------------

FIRST = {
    "first_error_f1": "F1 of first errors",
    "first_error_accuracy": "First errors found",
    "sound_accuracy": "Sound solutions recognised",
}


def steps(run: RunFolder) -> Section:
    """A run of `eval steps`."""
    rows, models = run.results, models_of(run)
    slots, model = with_baselines(models), models[0]
    names = {task: task for task in tasks_of(rows, "first_error_f1")[: MOST - 1]} | {OVERALL: "all solutions"}
    parts = []
    for metric, heading in FIRST.items():
        lines = [
            (name, count_of(rows, model, metric, task), cells_of(rows, models, metric, task))
            for task, name in names.items()
        ]
        if metric == "first_error_f1":
            lines.append(
                ("Mean of subsets", "ProcessBench's score", cells_of(rows, models, "first_error_f1_subsets"))
            )
        parts.append((heading, filled(lines)))
    more = [
        (name, what, cells_of(rows, models, metric))
        for metric, (name, what) in PROCESS_METRICS.items()
        if metric not in FIRST
    ]
    parts.append(("Steps", filled(more)))
    drawn = [
        (
            Markup(
                figures.dots(
                    heading,
                    dots,
                    "share of the solutions" if metric != "first_error_f1" else "F1",
                    share=True,
                )
            ),
            "",
        )
        for metric, heading in FIRST.items()
        if (dots := dots_of(rows, metric, names, slots))
    ]
    drawn += [(Markup(svg), caption) for svg, caption in process_page.draw(rows, model)]
    table = Table("Solutions", list(slots.items()), [part for part in parts if part[1]])
    lead = (
        "A step is taken for wrong below a probability of one half. The other models know lengths alone: no step is wrong; the "
        "longest step is; the longest step is, in the longer half of each subset."
    )
    return Section(
        "First wrong steps", run.name, lead, drawn, table, [signature(run)], _said_of_steps(rows, model)
    )


def _said_of_steps(rows: Sequence[Row], model: str) -> Sentence:
    hit, sound = one(rows, model, "first_error_accuracy"), one(rows, model, "sound_accuracy")
    if hit is None or sound is None:
        return []
    return [
        *(
            f"{display(model)} finds ",
            number(hit),
            f" of the first errors of {hit.n:,} solutions in files, and leaves ",
        ),
        *(number(sound), f" of {sound.n:,} sound ones without a complaint."),
    ]


def with_baselines(models: Sequence[str]) -> dict[str, int]:
    return {model: BASELINES.get(model, 1) for model in models}
