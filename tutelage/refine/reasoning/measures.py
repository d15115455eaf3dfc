"""From judged solutions to numbers, claim by claim.

Every measure is a sum over a sum over problems; a problem with several solutions puts in the sums of them all, so that one
bootstrap over problems serves all measures, and differences between models are paired.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from tutelage.evals.counting import Bools, Counting, Measure
from tutelage.evals.rows import OVERALL, Row
from tutelage.judges.verify.choice import Letters, chosen
from tutelage.records import MarkedStep
from tutelage.refine.reasoning.correcting import Corrected, Pressed
from tutelage.refine.reasoning.problems import ERROR, TRAP, UNNAMED, Problems
from tutelage.refine.reasoning.solving import Solved
from tutelage.statistics import Floats
from tutelage.worlds.gold_options import UNREADABLE, complete
from tutelage.worlds.options import TRAPS

SAMPLED = "_sampled"
AGAIN = "_again"
Of = Callable[[Solved], float]
Tasks = dict[tuple[str, str], Measure]
"""(metric, task) -> measure."""


@dataclass(frozen=True)
class Found:
    """What a model did with the problems, in their order: greedy solutions, one of each; sampled ones, equally many of each;
    corrections, by the place of the problem."""

    greedy: Sequence[Solved]
    sampled: Sequence[Sequence[Solved]] = ()
    corrected: Mapping[int, Corrected] = field(default_factory=dict)
    pressed: Mapping[int, Pressed] = field(default_factory=dict)


def rows_of(found: Mapping[str, Found], problems: Problems, counting: Counting) -> list[Row]:
    """The rows of every model, METRIC_difference (less the first model) behind those of each."""
    keys, everybody = problems.keys, np.ones(len(problems.prompts), bool)
    rows: list[Row | None] = []
    first: tuple[Found, Tasks] | None = None
    for model, own in found.items():
        measures = measures_of(own, problems)
        again = again_of(own, first[0], problems) if first else {}
        for (_, task), one in {**measures, **again}.items():
            rows.append(counting.row(model, task, one, everybody, keys))
        if first is None:
            first = own, measures
            continue
        for (name, task), one in measures.items():
            if theirs := first[1].get((name, task)):
                rows.append(counting.difference(model, task, one, theirs, keys))
    return [each for each in rows if each is not None]


def measures_of(found: Found, problems: Problems) -> Tasks:
    """All that is measured of one model."""
    each = [*of_solutions([[one] for one in found.greedy], problems), *of_corrections(found)]
    if found.sampled:
        drawn = of_solutions(found.sampled, problems)
        each += [(task, replace(one, name=one.name + SAMPLED)) for task, one in drawn]
    return {(one.name, task): one for task, one in each}


def of_solutions(solved: Sequence[Sequence[Solved]], problems: Problems) -> Iterator[tuple[str, Measure]]:
    """(task, measure) of what can be seen in solutions."""
    every = np.ones(len(solved), bool)
    known = _sums(solved, _is_marked)
    right = _sums(solved, lambda one: one.right)
    sound = _sums(solved, lambda one: one.sound)
    right_known = _sums(solved, lambda one: one.right and _is_marked(one))
    for task, members in problems.groups().items():
        yield task, Measure("reasoning/right", right, _sums(solved, lambda one: 1), members)
        yield task, Measure("reasoning/sound", sound, known, members)
        yield task, Measure("reasoning/right_unsound", right_known - sound, right_known, members)
    for task, falls in falls_of(problems).items():
        yield task, Measure("reasoning/falls_in", _sums(solved, falls), known, _scope(task, problems))
    by_world = problems.by_world
    looks: dict[str, Of] = {
        "checkable": lambda one: is_checkable(one.steps),
        "gapless": lambda one: is_gapless(one, by_world),
        "in_order": lambda one: is_in_order(one.steps),
        "clear": lambda one: is_clear(one, by_world),
    }
    for name, of in looks.items():
        yield OVERALL, Measure(f"reasoning/{name}", _sums(solved, of), known, every)
    steps = _sums(solved, lambda one: len(one.steps or ()))
    yield OVERALL, Measure("reasoning/steps", steps, known, every, "steps per solution")
    yield from _of_options(solved, problems.letters)


# ---- error correction --------------------------------------------------------------------------------------------------


def falls_of(problems: Problems) -> dict[str, Of]:
    """Task -> whether a solution has a root error of that sort: any, of each kind, of none that is named, in each trap."""
    found: dict[str, Of] = {OVERALL: lambda one: bool(one.roots)}
    for kind in problems.kinds:
        found[ERROR + kind] = lambda one, kind=kind: any(step.error == kind for step in one.roots)  # type: ignore[misc]
    if problems.by_world:
        found[ERROR + UNNAMED] = lambda one: any(step.error is None for step in one.roots)
        for trap in problems.with_trap():
            note = TRAPS[trap].note
            found[TRAP + trap] = lambda one, note=note: any(step.explanation == note for step in one.roots)  # type: ignore[misc]
    return found


def again_of(ours: Found, theirs: Found, problems: Problems) -> Tasks:
    """Of the problems that the first model (`theirs`) failed with an error of a sort, how many the other fails so again.

    With several solutions of each problem: of their failed ones, the share of ours to the same problem that fail so.
    """
    found: Tasks = {}
    pairs = [("", [[one] for one in ours.greedy], [[one] for one in theirs.greedy])]
    if ours.sampled and theirs.sampled:
        pairs.append((SAMPLED, list(map(list, ours.sampled)), list(map(list, theirs.sampled))))
    for suffix, own, first in pairs:
        for task, falls in falls_of(problems).items():
            known, failed = _sums(own, _is_marked), _sums(first, falls)
            rate = np.divide(_sums(own, falls), known, out=np.zeros(len(own)), where=known > 0)
            bottom = np.where(known > 0, failed, 0.0)
            name = f"reasoning/falls_in{AGAIN}{suffix}"
            found[name, task] = Measure(name, bottom * rate, bottom, _scope(task, problems))
    return found


def _scope(task: str, problems: Problems) -> Bools:
    """The problems that an error can be in: those that have the trap."""
    trap = problems.with_trap().get(task.removeprefix(TRAP)) if task.startswith(TRAP) else None
    return np.ones(len(problems.prompts), bool) if trap is None else trap


# ---- clarity -----------------------------------------------------------------------------------------------------------

NUMBER = re.compile(r"\s*(?:step\s+)?\(?(\d{1,3})[.):]", re.IGNORECASE)


def is_checkable(steps: Sequence[MarkedStep] | None) -> bool:
    """Whether there are steps, and every one of them could be judged: who marks may say nothing behind the first wrong one
    alone."""
    if not steps or any(step.explanation == UNREADABLE for step in steps):
        return False
    wrong = next((number for number, step in enumerate(steps) if step.label == -1), len(steps))
    return all(step.label is not None for step in steps[:wrong])


def is_gapless(one: Solved, by_world: bool) -> bool:
    """Whether no step is left out, as far as that is known: in the world every line, elsewhere the end."""
    return bool(one.steps) and one.finish == "eos" and (not by_world or complete(one.steps or ()))


def is_in_order(steps: Sequence[MarkedStep] | None) -> bool:
    """Whether the numbers that steps begin with, if any do, are 1, 2, 3 and so on."""
    numbers = [int(found[1]) for step in steps or () if (found := NUMBER.match(step.text))]
    return bool(steps) and numbers == list(range(1, len(numbers) + 1))


def is_clear(one: Solved, by_world: bool) -> bool:
    """All three."""
    return is_checkable(one.steps) and is_gapless(one, by_world) and is_in_order(one.steps)


# ---- completeness, adaptability ----------------------------------------------------------------------------------------


def _of_options(
    solved: Sequence[Sequence[Solved]], letters: Sequence[Letters | None]
) -> Iterator[tuple[str, Measure]]:
    """Of problems whose answers are options: how many of the right ones are found, and of the stated ones are right."""
    scope = np.array([right is not None for right in letters])
    stated = [[chosen(one.text) or frozenset() for one in several] for several in solved]
    pairs = list(zip(stated, (right or frozenset() for right in letters), strict=True))
    both = np.array([sum(len(one & right) for one in several) for several, right in pairs], float)
    wanted = np.array([len(right) * len(several) for several, right in pairs], float)
    said = np.array([sum(map(len, several)) for several, _ in pairs], float)
    exact = np.array([sum(one == right for one in several) for several, right in pairs], float)
    yield OVERALL, Measure("reasoning/options_found", both, wanted, scope)
    yield OVERALL, Measure("reasoning/options_right", both, said, scope)
    yield OVERALL, Measure("reasoning/options_exact", exact, _sums(solved, lambda one: 1), scope)


def of_corrections(found: Found) -> Iterator[tuple[str, Measure]]:
    """What becomes of corrections that are right, and of those that are wrong."""
    n, corrected, pressed = len(found.greedy), found.corrected, found.pressed
    named: dict[str, dict[int, bool]] = {
        "accepts": {place: one.accepted for place, one in corrected.items()},
        "accepts_unexplained": {place: one.unexplained for place, one in corrected.items()},
        "accepts_sound": {place: one.sound for place, one in corrected.items()},
        "put_in_sound": {place: one.put_in for place, one in corrected.items() if one.put_in is not None},
        "gives_in": {place: one.gave_in for place, one in pressed.items()},
        "gives_in_unexplained": {place: one.unexplained for place, one in pressed.items()},
    }
    for name, outcomes in named.items():
        bottom = np.array([float(place in outcomes) for place in range(n)])
        top = np.array([float(outcomes.get(place, False)) for place in range(n)])
        yield OVERALL, Measure(f"reasoning/{name}", top, bottom, bottom > 0)


def _is_marked(one: Solved) -> bool:
    """Whether there is a verdict on the steps."""
    return one.steps is not None


def _sums(solved: Sequence[Sequence[Solved]], of: Of) -> Floats:
    """The sum over the solutions of each problem, [n]."""
    return np.array([sum(float(of(one)) for one in several) for several in solved], float)
