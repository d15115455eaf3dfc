"""What correcting steps is worth where each step is wrong with the same probability, whatever stands before it: closed forms.

T steps, each wrong with probability p; k (from 1) is the first wrong one.  A solution is sound when no step is wrong, which from
scratch has probability (1-p)^T; gone on from step k, that step written again, (1-p)^(T-k+1); with a right step put in at k,
(1-p)^(T-k).  Each correction that puts a right step in moves the first wrong step on, and the number of wrong steps that are ever
met is binomial: T p corrections are needed in the mean.  Writing step k again needs a geometric number of tries at each of the T
steps: T p/(1-p).  Starting again needs (1-p)^-T - 1.  With T = 6 and p = 0.2: 1.20, 1.50 and 2.81.

The hazards of a real model differ by step and problem, and a problem that it has failed is harder than the mean: then starting
again succeeds less often than the form says, and so does writing a step again; a right step put in is nearest to its form.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from tutelage.records import Refinement, Round


def sound_from_scratch(p: float, steps: int) -> float:
    """The probability that all of so many steps are right."""
    return (1 - p) ** steps


def sound_written_again(p: float, steps: int, k: int) -> float:
    """The same, gone on from step k (from 1), which is written again."""
    return (1 - p) ** (steps - k + 1)


def sound_put_in(p: float, steps: int, k: int) -> float:
    """The same, gone on behind step k (from 1), in whose place a right one was put."""
    return (1 - p) ** (steps - k)


def corrections_put_in(p: float, steps: int) -> float:
    """Failed rounds before a sound solution, in the mean, where a right step is put in each time."""
    return steps * p


def corrections_written_again(p: float, steps: int) -> float:
    """The same, where the first wrong step is written again each time."""
    return steps * p / (1 - p)


def corrections_from_scratch(p: float, steps: int) -> float:
    """The same, starting again each time."""
    return (1 - p) ** -steps - 1


class Hazard:
    """How often a step is the first wrong one, counted over first solutions: wrong ones, of the steps that were reached."""

    def __init__(self, firsts: Sequence[Round]) -> None:
        marked = [one for one in firsts if one.role is not None and one.steps]
        roots = [one.root for one in marked]
        self.wrong = sum(root is not None for root in roots)
        self.reached = sum(
            len(one.steps) if root is None else root + 1 for one, root in zip(marked, roots, strict=True)
        )

    @property
    def rate(self) -> float:
        """p; nan where no step was marked."""
        return self.wrong / self.reached if self.reached else math.nan


def after_corrections(refinements: Sequence[Refinement], how: str) -> tuple[list[bool], list[float]]:
    """Of every round that came about in this way: whether it was sound with a right answer, and the probability of that by the
    form, with the hazard of the first solutions."""
    p = Hazard([one.rounds[0] for one in refinements]).rate
    form = sound_put_in if how == "rewritten" else sound_written_again
    found, expected = [], []
    for one in refinements:
        for round in one.rounds[1:]:
            if round.how == how and round.role is not None:
                found.append(round.sound and round.right is not False)
                expected.append(form(p, len(round.steps), round.since + 1))
    return found, expected
