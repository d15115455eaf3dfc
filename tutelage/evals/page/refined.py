"""What a report shows of `refine`: how problems ended, what it took, and how often one correction was enough, beside the
closed form.  No torch."""

from __future__ import annotations

from collections.abc import Mapping

from markupsafe import Markup

from tutelage.evals import figures
from tutelage.evals.findings import number
from tutelage.evals.folders import RunFolder
from tutelage.evals.page.sections import Line, Section, Table, signature
from tutelage.evals.rows import OVERALL, Row
from tutelage.statistics import Interval, wilson

OUTCOMES = {
    "refined_accepted": ("accepted", "sound, and the model is right again without help"),
    "refined_sound": ("sound only", "the model is not right yet without help"),
    "refined_written": ("written", "solved by an expert"),
    "refined_handed_up": ("handed up", "given up; why stands in refinements.jsonl"),
    "refined_broken": ("broken", "the problem itself is wrong"),
    "refined_waiting": ("waiting", "for marks"),
}
FIRST = {
    "first_right_rate": ("Answer right", "first solutions"),
    "first_sound_rate": ("Right and sound", "first solutions; every step is right too"),
    "check_right_rate": ("Right without help", "checks"),
}
WORK = {
    "corrections": ("Corrections", "solutions that were gone on from", "rounds"),
    "refine_marks": ("Solutions marked", "by each marker", "solutions"),
    "refine_rewrites": ("Steps rewritten", "", "steps"),
    "refine_looks": ("Answers looked at", "checks", "answers"),
    "refine_minutes": ("Minutes", "as measured of people, else as the prices say", "minutes"),
}
WAYS = {
    "rewritten": "Sound after a step put in",
    "explained": "Sound after an explanation",
    "regenerated": "Sound after a step written again",
}


def section(run: RunFolder) -> Section:
    """A run of `refine`, from the one line of its metrics."""
    found = run.metrics[-1]
    total = int(found.get("refined_problems", 0))
    ends = {metric: words for metric, words in OUTCOMES.items() if found.get(metric)}
    shares = {metric: wilson(int(found[metric]), total) for metric in ends}
    how: list[Line] = [
        (f"{name}: {found[metric]:,.0f}", what, [number(_share(metric, shares[metric], total))])
        for metric, (name, what) in ends.items()
    ]
    dots = [
        figures.Dot(name, name, shares[metric].value, shares[metric].low, shares[metric].high, 1)
        for metric, (name, _) in ends.items()
    ]
    lead = (
        f"{total:,} problems, each solution marked step by step and gone on from at its first wrong step until every step holds. "
        "The closed form says how often one correction would be enough if all steps were equally hard."
    )
    drawn = (
        [(Markup(figures.dots("How problems ended", dots, "share of the problems", share=True)), "")]
        if dots
        else []
    )
    parts = [("How problems ended", how), ("The model by itself", _rates(found))]
    parts += [("After one correction", _after(found)), ("Work", _work(found))]
    table = Table("Measure", [("found", 0)], [part for part in parts if part[1]], marked=False)
    return Section("Refinements", run.name, lead, drawn, table, [signature(run)])


def _share(metric: str, found: Interval, n: int) -> Row:
    return Row("", metric, OVERALL, found.value, found.low, found.high, n, "share")


def _rates(found: Mapping[str, float]) -> list[Line]:
    return [
        (name, what, [number(Row("", metric, OVERALL, found[metric], None, None, 0, "share"))])
        for metric, (name, what) in FIRST.items()
        if metric in found
    ]


def _after(found: Mapping[str, float]) -> list[Line]:
    lines: list[Line] = []
    for way, name in WAYS.items():
        for metric, said in (
            (f"sound_after/{way}", name),
            (f"sound_after/{way}_form", f"{name}, by the closed form"),
        ):
            if metric in found:
                row = Row("", metric, OVERALL, found[metric], None, None, 0, "share")
                lines.append((said, "", [number(row)]))
    return lines


def _work(found: Mapping[str, float]) -> list[Line]:
    return [
        (
            name,
            what,
            [number(Row("", metric, OVERALL, found[metric], None, None, 1, unit), _count(found[metric]))],
        )
        for metric, (name, what, unit) in WORK.items()
        if metric in found
    ]


def _count(value: float) -> str:
    return f"{value:,.0f}" if value == int(value) else f"{value:,.1f}"
