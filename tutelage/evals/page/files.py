"""What a report shows of measurements of files (outputs, verdicts, benchmarks), and of refinements.  No torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from markupsafe import Markup

from tutelage.evals import figures
from tutelage.evals.findings import METRICS, Sentence, display, number, one
from tutelage.evals.folders import RunFolder
from tutelage.evals.overlap.sums import DIFFERENCE
from tutelage.evals.page import benchmarks as benchmarks_page
from tutelage.evals.page import front as front_page
from tutelage.evals.page import reasoning as reasoning_page
from tutelage.evals.page import refined as refined_page
from tutelage.evals.page.sections import (
    MOST,
    Section,
    Table,
    bounds_of,
    cell_of,
    cells_of,
    dots_of,
    filled,
    models_of,
    signature,
)
from tutelage.evals.page.slots import slots_of
from tutelage.evals.rows import OVERALL, Row


def sections(runs: Sequence[RunFolder]) -> list[Section]:
    """A section for each such run that has results, and for each refinement that has come to an end."""
    found = [SECTIONS[run.command](run) for run in runs if run.command in SECTIONS and run.results]
    return found + [refined_page.section(run) for run in runs if run.command == "refine" and run.metrics]


def rows_of(runs: Sequence[RunFolder]) -> list[Row]:
    """Every number of the sections, the run before the name of the model."""
    return [
        Row(**{**vars(row), "model": f"{run.name}/{row.model}"})
        for run in runs
        if run.command in SECTIONS
        for row in run.results
    ]


# ---- outputs -----------------------------------------------------------------------------------------------------------


def _outputs(run: RunFolder) -> Section:
    rows, models = run.results, models_of(run)
    slots = slots_of(models)
    lines = [(name, what, cells_of(rows, models, metric)) for metric, (name, what) in METRICS.items()]
    less = [(name, "", cells_of(rows, models, metric + DIFFERENCE)) for metric, (name, _) in METRICS.items()]
    first = display(str(run.lineage.get("baseline", models[0])))
    overlap = [metric for metric in METRICS if any(r.metric == metric and r.unit == "overlap" for r in rows)]
    shown = [metric for metric in overlap if not metric.startswith(("bleu_precision", "bertscore_"))]
    dots = [dot for metric in shown for dot in dots_of(rows, metric, {OVERALL: METRICS[metric][0]}, slots)]
    drawn = (
        [(Markup(figures.dots("Overlap with the references", dots, "from 0 to 1", share=False)), "")]
        if dots
        else []
    )
    parts = [("", filled(lines)), (f"Less {first}, on the same prompts", filled(less))]
    table = Table("Measure", list(slots.items()), [part for part in parts if part[1]])
    own = list(dict.fromkeys(r.signature for r in rows if r.signature and not r.metric.endswith(DIFFERENCE)))
    counts = ", ".join(f"{display(k)} {v:,}" for k, v in dict(run.lineage.get("outputs", {})).items())
    lead = f"Outputs in files: {counts}." if counts else ""
    return Section("Outputs", run.name, lead, drawn, table, [signature(run), *own])


# ---- verdicts ----------------------------------------------------------------------------------------------------------

VERDICT_COLUMNS = {
    "win_rate_length_controlled": "Length-controlled",
    "win_rate": "Win rate",
    "win_rate_discrete": "Wins counted",
    "strength": "Strength",
    "length_chars": "Characters",
    "failed_verdicts": "Failed",
}
RATES = {"win_rate_length_controlled": 1, "win_rate": 0}


def _verdicts(run: RunFolder) -> Section:
    rows = run.results
    there = [metric for metric in VERDICT_COLUMNS if any(r.metric == metric for r in rows)]
    by_rate = models_of(run)
    rated = [model for model in by_rate if one(rows, model, "win_rate") is not None]
    baseline = display(str(run.lineage.get("baseline", "the baseline")))
    lines = [
        (display(m), _of_verdicts(rows, m, baseline), [cell_of(rows, m, metric) for metric in there])
        for m in by_rate
    ]
    dots = [
        figures.Dot(VERDICT_COLUMNS[metric].lower(), display(model), found.value, *bounds_of(found), slot)
        for metric, slot in RATES.items()
        for model in rated[:MOST]
        if (found := one(rows, model, metric)) is not None and found.value is not None
    ]
    title = f"Preferred to {baseline}"
    caption = f"The first {MOST} of {len(rated)}." if len(rated) > MOST else ""
    drawn = [(Markup(figures.dots(title, dots, "win rate", share=True, middle=0.5)), caption)] if dots else []
    table = Table(
        "Generator", [(VERDICT_COLUMNS[metric], 0) for metric in there], [("", lines)], marked=False
    )
    judged = str(run.lineage.get("judge", ""))
    lead = f"Verdicts {f'of {judged} ' if judged else ''}against {baseline}. {run.lineage.get('length_control', '')}"
    best = next((r for metric in RATES if (r := one(rows, by_rate[0], metric))), None)
    even = " at equal lengths" if best is not None and best.metric != "win_rate" else ""
    said: Sentence = (
        [
            f"{display(by_rate[0])} is preferred to {baseline} on ",
            number(best),
            f" of {best.n:,} instructions{even}.",
        ]
        if best is not None
        else []
    )
    return Section("Verdicts", run.name, lead.strip(), drawn, table, [signature(run)], said)


def _of_verdicts(rows: Sequence[Row], model: str, baseline: str) -> str:
    found = one(rows, model, "win_rate")
    if display(model) == baseline:
        return "the baseline"
    return f"{found.n:,} verdicts" if found else "not set against the baseline"


SECTIONS: dict[str, Callable[[RunFolder], Section]] = {
    "eval outputs": _outputs,
    "eval pairs": benchmarks_page.pairs,
    "eval verdicts": _verdicts,
    "eval steps": benchmarks_page.steps,
    "eval reasoning": reasoning_page.section,
    "eval front": front_page.section,
}
