"""The card as people read it: figures for a report, a page of Markdown beside the model, a few lines for the terminal."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tutelage.evals import figures
from tutelage.evals.card.findings import BASELINES, doubts, plain
from tutelage.evals.card.probes import PROBES
from tutelage.evals.card.slices import AGREEMENT, COVERAGES, QUARTERS, STRENGTH
from tutelage.evals.findings import REWARD_METRICS, Number, number, one
from tutelage.evals.rows import Row

SLOT = 4  # the colour of reward models
RATING_EXPLAINED = "variance that the score explains; below 0: worse than the mean rating"
FEW = 20  # prompts, below which a bootstrap over prompts is too narrow
SHOWN = 3  # doubts in the terminal, each of a line or two
Line = tuple[str, str, Number]
ACCURACY_ON = {
    "accuracy": "On",
    "accuracy_previous": "The previous model on",
    "accuracy_policy": "The policy's own responses in",
}
NAMES = {"split": "votes split evenly", "most": "most agree", "all": "all agree"}
NAMES |= {name: f"said to be a {name} difference" for name in ("slight", "clear", "strong")}


def tables(rows: Sequence[Row], model: str) -> list[tuple[str, list[Line]]]:
    """(title, lines of (name, what it is, number)); what was not measured is left out, and so is a table with nothing in it."""
    where: list[Line] = []

    def add(lines: list[Line], metric: str, name: str, what: str = "") -> None:
        found = one(rows, model, metric)
        if found is not None:
            lines.append((name, what, number(found, _points(found))))

    main: list[Line] = []
    for metric, (name, what) in REWARD_METRICS.items():
        add(main, metric, name, what)
    for r in rows:
        metric, at, project = r.metric.partition("@")
        if r.model == model and at and metric in ACCURACY_ON:
            add(where, r.metric, f"{ACCURACY_ON[metric]} {project}")
    for metric, bounds in (("agreement", AGREEMENT), ("strength", STRENGTH)):
        for name, _, _ in bounds:
            add(where, f"accuracy_by_{metric}/{name}", NAMES[name].capitalize())
    for quarter in range(1, QUARTERS + 1):
        middle = one(rows, model, f"accuracy_by_length/{quarter}/difference")
        if middle is not None:
            name = f"Chosen − rejected: {round(middle.value or 0.0) + 0:+d} tokens"
            add(
                where, f"accuracy_by_length/{quarter}/accuracy", name, f"quarter {quarter} by that difference"
            )
    for per_cent in (25, 50, 80, 90):
        if per_cent in COVERAGES:
            add(
                where,
                f"accuracy_at_coverage/{per_cent:03}",
                f"The surest {per_cent} %",
                "by size of the margin",
            )
    named = (("", main), ("Ratings", _ratings(rows, model)), ("Accuracy, where", where))
    return [(title, lines) for title, lines in named if lines]


def _ratings(rows: Sequence[Row], model: str) -> list[Line]:
    """What a model that learns from ratings makes of held-out ones, criterion by criterion."""
    names = {
        "rating_correlation": "rank correlation of score and rating",
        "rating_explained": RATING_EXPLAINED,
    }
    return [
        (r.task.capitalize(), names[r.metric], number(r))
        for r in rows
        if r.model == model and r.metric in names and r.value is not None
    ]


def _points(found: Row) -> str | None:
    """A difference of two shares says on which side of 0 it is."""
    return f"{100 * (found.value or 0):+.1f} points" if found.metric.startswith("over_") else None


def probed(rows: Sequence[Row], model: str) -> list[tuple[str, str, Number, Number]]:
    """(what was done, what its score should do, change in standard deviations, share that scores higher) of each probe."""
    found: list[tuple[str, str, Number, Number]] = []
    for name, probe in PROBES.items():
        change, higher = one(rows, model, f"probe/{name}/change"), one(rows, model, f"probe/{name}/higher")
        if change is not None and higher is not None:
            found.append((probe.what, probe.expected, number(change), number(higher)))
    return found


def draw(rows: Sequence[Row], model: str) -> list[tuple[str, str]]:
    """(SVG, caption) of each figure that there are rows for."""
    return [
        drawn
        for part in (_calibration, _histogram, _margins, _coverage, _probes)
        if (drawn := part(rows, model))[0]
    ]


def _values(rows: Sequence[Row], model: str, start: str, key: str) -> list[float]:
    return [r.value or 0.0 for r in _series(rows, model, start, key)]


def _series(rows: Sequence[Row], model: str, start: str, key: str) -> list[Row]:
    return [
        r
        for r in rows
        if r.model == model and r.value is not None and r.metric.startswith(start) and r.metric.endswith(key)
    ]


def _calibration(rows: Sequence[Row], model: str) -> tuple[str, str]:
    confidence, found = reliability_dots(rows, model)
    drawn = figures.reliability(f"{model}: calibration on held-out pairs", confidence, found) if found else ""
    caption = "Each dot is a tenth of the pairs. Below the dashed line the model is over-confident, above it under-confident."
    return drawn, caption


def reliability_dots(rows: Sequence[Row], model: str) -> tuple[list[float], list[figures.Dot]]:
    """Of each bin the mean confidence, and how often it was right."""
    confidence, found = list[float](), list[figures.Dot]()
    for r in _series(rows, model, "reliability/", "/accuracy"):
        other = one(rows, model, r.metric.replace("/accuracy", "/confidence"))
        if other is not None and other.value is not None and r.low is not None and r.high is not None:
            confidence.append(other.value)
            found.append(figures.Dot(model, "", r.value or 0.0, r.low, r.high, SLOT))
    return confidence, found


def _histogram(rows: Sequence[Row], model: str) -> tuple[str, str]:
    x = _values(rows, model, "score_histogram/", "/middle")
    sides = [
        (name, _values(rows, model, "score_histogram/", f"/{name}"), slot)
        for name, slot in (("rejected", 2), ("chosen", SLOT))
    ]
    if not x:
        return "", ""
    bars = [figures.Line(name, x, y, slot) for name, y, slot in sides]
    return figures.histogram(f"{model}: scores", bars, "score", size=figures.LARGE), (
        "Scores of held-out responses; the more the two overlap, the less the model tells them apart."
    )


def _margins(rows: Sequence[Row], model: str) -> tuple[str, str]:
    x = _values(rows, model, "margin_histogram/", "/middle")
    if not x:
        return "", ""
    bars = [figures.Line("margin", x, _values(rows, model, "margin_histogram/", "/share"), SLOT)]
    drawn = figures.histogram(
        f"{model}: margins", bars, "score of chosen − rejected", middle=0.0, size=figures.LARGE
    )
    return drawn, "Left of the dashed line the rejected response scored higher."


def _coverage(rows: Sequence[Row], model: str) -> tuple[str, str]:
    found = _series(rows, model, "accuracy_at_coverage/", "")
    if not found:
        return "", ""
    y = [r.value or 0.0 for r in found]
    reach = np.array([[(r.value or 0) - (r.low or 0), (r.high or 0) - (r.value or 0)] for r in found]).T
    x = [int(r.metric.rpartition("/")[2]) for r in found]
    line = figures.Line("accuracy", x, y, SLOT, reach)
    drawn = figures.curves(
        f"{model}: if it may abstain", [line], "surest pairs kept, %", "share", whole=True, size=figures.LARGE
    )
    return drawn, "Accuracy on the pairs with the largest margins: it should fall from left to right."


def _probes(rows: Sequence[Row], model: str) -> tuple[str, str]:
    changes = {name: one(rows, model, f"probe/{name}/change") for name in PROBES}
    dots = [
        figures.Dot(
            model,
            name,
            r.value or 0.0,
            r.value or 0.0 if r.low is None else r.low,
            r.value or 0.0 if r.high is None else r.high,
            2 if PROBES[name].expected == "no higher" else SLOT,
        )
        for name, r in changes.items()
        if r is not None
    ]
    if not dots:
        return "", ""
    drawn = figures.panels(
        f"{model}: spoiled responses",
        [("change of the score, standard deviations", dots, 0.0)],
        width=figures.WIDE,
    )
    return (
        drawn,
        "What people would see at once should stand left of the dashed line; praise should not stand right of it.",
    )


def summary(rows: Sequence[Row], model: str) -> list[str]:
    """At most ten lines of 80 columns: what it is worth, what the surface is worth, and what to doubt."""
    accuracy = one(rows, model, "accuracy")
    if accuracy is None or accuracy.low is None or accuracy.high is None:
        return []
    lines = [
        f"Held-out accuracy {accuracy.value:.3f} [{accuracy.low:.3f}, {accuracy.high:.3f}] on {_count(accuracy.n, 'pair')}."
    ]
    names = {"longer_wins": "longer wins", "shorter_wins": "shorter wins", "bag_of_words": "bag of words"}
    alone = [
        f"{names[b]} {r.value:.3f}" for b in BASELINES if (r := one(rows, model, f"accuracy_{b}")) and r.value
    ]
    if alone:
        lines.append(f"The surface alone: {', '.join(alone)}.")
    found = doubts(rows, model)
    lines += [f"Doubt: {plain(doubt.seen)}" for doubt in found[:SHOWN]]
    if len(found) > SHOWN:
        lines.append(f"And {len(found) - SHOWN} more.")
    return [*lines, "More, with what to do: card.md."]


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'s' * (number != 1)}"


def _intervals(prompts: int) -> str:
    few = " Prompts are so few that the intervals are rough themselves." if prompts < FEW else ""
    return (
        "Intervals are 95 %; a figure without one was not resampled, or comes out the same in every resample."
        + few
    )


def markdown(rows: Sequence[Row], model: str, data: str, prompts: int) -> str:
    """The card as a page: doubts first, then every number with its interval.  prompts: to which the held-out pairs belong."""
    accuracy = one(rows, model, "accuracy")
    n = accuracy.n if accuracy else 0
    lines = [
        "# Reward model card",
        "",
        f"Trained on {data}; measured on {_count(n, 'held-out pair')} of {_count(prompts, 'prompt')}. {_intervals(prompts)}",
        "",
    ]
    lines += ["## Reasons to doubt", ""]
    found = doubts(rows, model)
    for doubt in found:
        lines += [
            f"- **{plain(doubt.seen)}** {doubt.cause} *What to do:* {doubt.change} Healthy: {doubt.healthy}."
        ]
    if not found:
        lines.append("None of the checks found any.")
    for title, cells in tables(rows, model):
        lines += ["", f"## {title or 'Figures'}", "", "| | | interval |", "|---|---:|---|"]
        lines += [
            f"| {name}{f' ({what})' if what else ''} | {cell.text} | {cell.interval} |"
            for name, what, cell in cells
        ]
    probes = probed(rows, model)
    if probes:
        lines += [
            "",
            "## Spoiled responses",
            "",
            "Change of the score in standard deviations, and how often it rises.",
            "",
        ]
        lines += ["| the response becomes | should be | change | | higher | |", "|---|---|---:|---|---:|---|"]
        lines += [
            f"| {what} | {expected} | {change.text} | {change.interval} | {higher.text} | {higher.interval} |"
            for what, expected, change, higher in probes
        ]
    return "\n".join([*lines, ""])
