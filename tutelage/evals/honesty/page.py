"""Honesty as people read it: tables for the terminal and for a report, figures, sentences; all from the rows.  No torch."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from rich.console import Group

from tutelage.evals import figures
from tutelage.evals.counting import DIFFERENCE
from tutelage.evals.findings import Sentence, display, number, one
from tutelage.evals.rows import OVERALL, Row
from tutelage.evals.shown import cell, columns_table

# Measure -> (name, what it is); "@" stands for any cost.
MEASURES: dict[str, tuple[str, str]] = {
    "answered": ("Answered", "of the questions about facts"),
    "right": ("Right", "of all questions, the unanswered ones among them"),
    "wrong_given_answered": ("Wrong, of what it answered", "how often an answer misleads"),
    "false_abstention": ("Did not answer what it knows", "of the questions marked as known"),
    "utility@": ("Utility, c = ", "a right answer is worth 1, none 0, a wrong one -c"),
    "utility_cut@": (
        "Utility of its surest answers, c = ",
        "if only those were given whose agreement is above c / (1 + c)",
    ),
    "aurc": ("Area under risk and coverage", "of the answers, the surest first; 0 is best"),
    "switch": ("Begins to answer at p =", "of the best guess, by a logistic curve"),
    "switch_wanted@": ("Answering pays from p =, c = ", "c / (1 + c)"),
    "false_premise_acceptance": ("Accepts a false premise", ""),
    "over_correction": ("Denies a true premise", ""),
    "harmful_compliance": ("Complies with harm", "what does not decline counts as complying"),
    "over_refusal": ("Refuses what is harmless", ""),
    "unanswerable_answered": ("Answers what nobody told it", ""),
    "answerable_abstained": ("Does not answer what it was told", ""),
    "twins_right/premise": ("Both twins right: premise", ""),
    "twins_right/harm": ("Both twins right: harm", ""),
    "twins_right/answerability": ("Both twins right: told or not", ""),
}
IN_GROUPS = ("answered", "right", "wrong_given_answered")
WIDEST_GROUPS = 24  # groups in a figure; more are unreadable


def measures(rows: Sequence[Row]) -> list[tuple[str, str, str]]:
    """(metric, name, what it is) of what some model has, in the order of a table."""
    there = list(dict.fromkeys(r.metric for r in rows if r.value is not None))
    found = []
    for known, (name, what) in MEASURES.items():
        for metric in there:
            cost = known.endswith("@") and metric.startswith(known) and not metric.endswith(DIFFERENCE)
            if metric == known or cost:
                found.append((metric, name + metric.removeprefix(known), what))
    return found


def groups_of(rows: Sequence[Row]) -> list[str]:
    """The groups, in the order in which they come."""
    return list(dict.fromkeys(r.task for r in rows if r.metric == "answered" and r.task != OVERALL))


def tables(rows: Sequence[Row], models: Sequence[str], width: int) -> list[Group]:
    """What the terminal shows: all questions, then the groups."""
    shown = measures(rows)
    columns = {display(model): [cell(rows, model, metric) for metric, _, _ in shown] for model in models}
    found = [
        columns_table("Honesty (95 % intervals)", "measure", [name for _, name, _ in shown], columns, width)
    ]
    groups = groups_of(rows)
    if groups:
        names = [f"{group}: {MEASURES[metric][0].lower()}" for group in groups for metric in IN_GROUPS]
        cells = {
            display(model): [
                _in_group(rows, model, metric, group) for group in groups for metric in IN_GROUPS
            ]
            for model in models
        }
        found.append(columns_table("By group", "group", names, cells, width))
    return found


def _in_group(rows: Sequence[Row], model: str, metric: str, group: str) -> str:
    found = one(rows, model, metric, group)
    return " ".join(filter(None, (number(found).text, number(found).interval))) if found else "–"


def draw(rows: Sequence[Row], slots: dict[str, int]) -> list[tuple[str, str, str]]:
    """(file name, SVG, caption) of every figure there is something for."""
    drawn = [
        ("risk_coverage", *_risk(rows, slots)),
        ("answered", *_answered(rows, slots)),
        *((f"switch_{k}", svg, caption) for k, (svg, caption) in enumerate(_switches(rows, slots), 1)),
    ]
    return [figure for figure in drawn if figure[1]]


def _risk(rows: Sequence[Row], slots: dict[str, int]) -> tuple[str, str]:
    lines = []
    for model, slot in slots.items():
        found = [r for r in rows if r.model == model and r.metric.startswith("risk@") and r.value is not None]
        if found:
            x = [int(r.metric.partition("@")[2]) for r in found]
            lines.append(figures.Line(display(model), x, [r.value or 0.0 for r in found], slot))
    if not lines:
        return "", ""
    caption = (
        "Wrong among what is answered when only the surest answers are given. A line ends where the model abstains; one that "
        "rises knows which of its answers to trust."
    )
    return figures.curves("Risk and coverage", lines, "answered (% of the questions)", "share"), caption


def _answered(rows: Sequence[Row], slots: dict[str, int]) -> tuple[str, str]:
    groups = groups_of(rows)[:WIDEST_GROUPS]
    found = []
    for group in groups:
        for model, slot in slots.items():
            r = one(rows, model, "answered", group)
            if r is not None:
                found.append(figures.Dot(display(model), group, *_bounds(r), slot))
    if not found:
        return "", ""
    return figures.dots("Answered, by group", found, "share answered", share=True), "Bars are 95 % intervals."


def _switches(rows: Sequence[Row], slots: dict[str, int]) -> Iterator[tuple[str, str]]:
    """Answering rate by p, for every group where p varies."""
    tasks = dict.fromkeys(r.task for r in rows if r.metric == "switch" and r.task != OVERALL)
    for task in tasks or dict.fromkeys(r.task for r in rows if r.metric == "switch"):
        lines = []
        for model, slot in slots.items():
            points = [
                (float(r.metric.partition("@")[2]), *_bounds(r))
                for r in rows
                if (r.model, r.task) == (model, task)
                and r.metric.startswith("answered@")
                and r.value is not None
            ]
            x, y, low, high = (list(column) for column in zip(*sorted(points), strict=True))
            reach = [
                [a - b for a, b in zip(y, low, strict=True)],
                [b - a for a, b in zip(y, high, strict=True)],
            ]
            lines.append(figures.Line(display(model), [100 * each for each in x], y, slot, reach))
        named = "" if task == OVERALL else f": {task}"
        caption = "A model that weighs what it risks answers nothing left of c / (1 + c), and everything right of it."
        yield (
            figures.curves(f"Answered by p{named}", lines, "best guess is right (%)", "share", whole=True),
            caption,
        )


def _bounds(r: Row) -> tuple[float, float, float]:
    value, low, high = (math.nan if each is None else each for each in (r.value, r.low, r.high))
    return value, low, high


def headline(rows: Sequence[Row], models: Sequence[str]) -> list[Sentence]:
    """How often each model's answers are wrong, and what it leaves unanswered, in a sentence each."""
    found: list[Sentence] = []
    for model in models:
        answered, wrong = one(rows, model, "answered"), one(rows, model, "wrong_given_answered")
        if answered is None:
            continue
        sentence: Sentence = [
            f"{display(model)} answers ",
            number(answered),
            f" of {answered.n:,} questions about facts",
        ]
        found.append(
            [*sentence, "; of its answers ", number(wrong), " are wrong."] if wrong else [*sentence, "."]
        )
    return found
