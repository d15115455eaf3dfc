"""What came of refinements: their figures, a table, and files."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from rich.table import Table

from tutelage.feedback.refining.reading import Standing
from tutelage.feedback.refining.rules import HOW
from tutelage.files import write_jsonl_atomic
from tutelage.records import How, Outcome, Refinement, Round
from tutelage.refine.forms import Hazard, after_corrections
from tutelage.runs import Run
from tutelage.settings.refine import Minutes
from tutelage.settings.refine import RefineSettings as Settings
from tutelage.statistics import wilson


class Spent(NamedTuple):
    """What refinements took: solutions marked, steps rewritten, answers looked at, and minutes of all that."""

    marks: int = 0
    rewrites: int = 0
    looks: int = 0
    minutes: float = 0.0

    @property
    def calls(self) -> int:
        """All of them together."""
        return self.marks + self.rewrites + self.looks


def spent(refinements: Sequence[Refinement], prices: Minutes) -> Spent:
    """What all of it took; a round whose minutes nobody measured at the prices given, and each check a look.

    An answer that somebody marks is looked at with it.  Whole solutions that were written count as rewrites at their own price.
    """
    marks = rewrites = looks = 0
    minutes = 0.0
    for one in refinements:
        for number in range(len(one.rounds)):
            marked, rewritten = _work(one.rounds, number)
            marks, rewrites = marks + marked, rewrites + rewritten
            minutes += priced(one.rounds, number, prices)
        looks += len(one.checks)
        minutes += prices.look * len(one.checks)
    return Spent(marks, rewrites, looks, minutes)


def priced(rounds: Sequence[Round], number: int, prices: Minutes) -> float:
    """Minutes that a round took, as measured, else by the prices."""
    marked, rewritten = _work(rounds, number)
    if rounds[number].minutes:
        return rounds[number].minutes
    price = prices.solution if rounds[number].how == "written" else prices.rewrite
    return prices.mark * marked + price * rewritten


def _work(rounds: Sequence[Round], number: int) -> tuple[int, int]:
    """How many answers marked a round, and how many steps of it were rewritten: the root alone, whoever wrote more of them; a
    written solution counts as one that was."""
    one = rounds[number]
    if one.how == "written":
        return 0, 1
    root = one.root
    rewritten = int(root is not None and one.steps[root].rewrite is not None)
    all_rewrites = sum(step.rewrite is not None for step in one.steps)
    return max(0, one.calls - all_rewrites), rewritten


def close(found: Sequence[Standing], settings: Settings, run: Run) -> None:
    """refinements.jsonl, the figures, and the table."""
    kept = [one for one in found if not one.redacted]
    refinements = [_priced(one.refinement, settings.minutes) for one in kept]
    splits = [{"split": one.split} for one in kept]
    lines = (one.to_json() | split for one, split in zip(refinements, splits, strict=True))
    write_jsonl_atomic(run.folder / "refinements.jsonl", lines)
    figures = measured(refinements, settings.minutes)
    run.rewind(-1)
    run.log(figures)
    run.commit(0)
    run.console.print(_table(refinements, figures))


def _priced(one: Refinement, prices: Minutes) -> Refinement:
    rounds = [replace(round, minutes=priced(one.rounds, n, prices)) for n, round in enumerate(one.rounds)]
    return replace(one, rounds=tuple(rounds))


def measured(refinements: Sequence[Refinement], prices: Minutes) -> dict[str, float]:
    """The figures (docs/metrics.md says which)."""
    outcomes = Counter(one.outcome for one in refinements)
    took = spent(refinements, prices)
    first = [one.rounds[0] for one in refinements]
    figures: dict[str, float] = {
        "refined_problems": float(len(refinements)),
        **{f"refined_{name.replace('-', '_')}": float(outcomes[name]) for name in OUTCOMES},
        "refined_waiting": float(outcomes[None]),
        "first_right_rate": _share([one.right is True for one in first]),
        "first_sound_rate": _share([one.sound and one.right is True for one in first if one.role]),
        "corrections": float(sum(len(one.rounds) - 1 for one in refinements)),
        "check_right_rate": _share([right for one in refinements for right in one.checks]),
        "refine_marks": float(took.marks),
        "refine_rewrites": float(took.rewrites),
        "refine_looks": float(took.looks),
        "refine_minutes": took.minutes,
        "step_hazard": Hazard(first).rate,
    }
    for how in WAYS:
        found, expected = after_corrections(refinements, how)
        if found:
            figures[f"sound_after/{how}"] = _share(found)
            figures[f"sound_after/{how}_form"] = sum(expected) / len(expected)
    return {name: value for name, value in figures.items() if value == value}


OUTCOMES: tuple[Outcome, ...] = ("accepted", "sound", "written", "handed-up", "broken")


WAYS: tuple[How, ...] = ("rewritten", "explained", "regenerated")


def _share(values: Sequence[bool]) -> float:
    return sum(values) / len(values) if values else float("nan")


def _table(refinements: Sequence[Refinement], figures: Mapping[str, float]) -> Table:
    table = Table(
        title="Refinements", title_justify="left", show_header=False, box=None, padding=(0, 2, 0, 0)
    )
    total = len(refinements)
    first = [one.rounds[0] for one in refinements]
    sound = sum(one.sound and one.right is True for one in first)
    interval = wilson(sound, total)
    helped = sum(one.solution is not None and len(one.rounds) > 1 for one in refinements)
    rows = [
        ("problems", f"{total:,}"),
        ("right at first", f"{sum(one.right is True for one in first):,}"),
        ("sound at first", f"{sound:,} ({interval.value:.0%}, {interval.low:.0%} to {interval.high:.0%})"),
        ("sound with help", f"{helped:,}"),
        ("accepted", f"{figures['refined_accepted']:,.0f} (right again without help)"),
        ("sound only", f"{figures['refined_sound']:,.0f} (not right yet without help)"),
        ("handed up", f"{figures['refined_handed_up']:,.0f}{_reasons(refinements)}"),
        (
            "corrections",
            f"{figures['corrections']:,.0f}, {figures['corrections'] / max(total, 1):.2f} per problem",
        ),
        (
            "work",
            f"{figures['refine_marks']:,.0f} solutions marked, {figures['refine_rewrites']:,.0f} steps rewritten, "
            f"{figures['refine_looks']:,.0f} answers looked at: {figures['refine_minutes']:,.1f} minutes",
        ),
    ]
    for how in WAYS:
        if f"sound_after/{how}" in figures:
            measured, form = figures[f"sound_after/{how}"], figures[f"sound_after/{how}_form"]
            rows.insert(
                -1, (f"sound {HOW[how]}", f"{measured:.0%} ({form:.0%} if all steps were equally hard)")
            )
    for name in ("written", "broken", "waiting"):
        if count := figures[f"refined_{name}"]:
            rows.insert(-2, (name, f"{count:,.0f}"))
    for row in rows:
        table.add_row(*row)
    return table


_NUMBERED = re.compile(r"^step \d+ ")


def _reasons(refinements: Sequence[Refinement]) -> str:
    found = Counter(
        _NUMBERED.sub("a step ", one.why) for one in refinements if one.outcome == "handed-up" and one.why
    )
    said = ", ".join(f"{why}: {count}" for why, count in found.most_common(5))
    return f" ({said})" if said else ""
