"""A simulated judge who cannot verify everything, and an expert who can help.

The checker verifies `checks` random steps of each solution, or those first that an assistant points at, and prefers the solution
that is right for longer: whose first step that was found wrong comes later, if any was.  Where that says nothing it guesses.  Of
two solutions of n steps, one sound and one with a single wrong step, it is right with

    1/2 + 1/2 * checks / n                  unaided
    1                                       with an honest assistant that points at the wrong step
    1/2 + 1/2 * (checks - a) / (n - a)      with one that points at a steps that are right

In general one of k wrong steps of n is found with 1 - C(n-k, checks) / C(n, checks).  What is plain to see
(`checking.Faults.plain`) costs no check, and decides where the steps do not.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from tutelage.judges.assist.assistant import Advice, Assistant, Finding, Pair, advise
from tutelage.judges.assist.build import build_assistant
from tutelage.judges.assist.pointing import VERSION, misled, pointed
from tutelage.judges.judge import Judge
from tutelage.records import Response, Score, Vote
from tutelage.seeds import rng
from tutelage.settings.assist import CheckerOptions

from .checking import faults


class Checker(Judge):
    """Who votes on pairs of solutions by verifying some steps of each.  Votes are for one side (1 or -1), never a tie."""

    name = "checker"
    pairwise = True

    def __init__(self, options: CheckerOptions, assistant: Assistant | None = None) -> None:
        self._options, self._assistant = options, assistant

    def score(self, responses: Sequence[Response]) -> list[Score | None]:
        """Raises ValueError: it compares."""
        raise ValueError("the checker compares solutions and gives no scores: take a command that compares.")

    def compare(self, pairs: Sequence[Pair]) -> list[Vote | None]:
        """Raises ValueError for a prompt without steps that can be verified (`checking.faults`)."""
        if self._assistant is None:
            return [self._vote_on(pair, None) for pair in pairs]
        advice = advise(self._assistant, self._options, pairs, self._options.seed)
        return [self._vote_on(pair, one) for pair, one in zip(pairs, advice, strict=True)]

    def _vote_on(self, pair: Pair, advice: Advice | None) -> Vote:
        generator = rng(self._options.seed, "checker", pair[0].prompt.id, pair[0].text, pair[1].text)
        shown = int(generator.integers(2))
        guess, believes = int(generator.integers(2)), generator.random() < self._options.trust
        steps = advice.steps if advice else ((), ())
        first, second = (self._sound(one, told, generator) for one, told in zip(pair, steps, strict=True))
        better = guess if first == second else int(second > first)
        if advice and believes and advice.help.argues is not None:
            better = advice.help.argues
        vote = Vote(self.name, 1 if better else -1, shown)
        return replace(vote, help=advice.help) if advice else vote

    def _sound(
        self, response: Response, told: Sequence[int], generator: np.random.Generator
    ) -> tuple[float, bool]:
        """Up to which step it finds nothing wrong (infinity: to the end), and whether nothing is plainly wrong.  It verifies the
        steps that it is told of first."""
        wrong, plain = faults(response.prompt, response.text)
        drawn = [int(step) for step in generator.permutation(len(wrong))]
        told = [step for step in told if step < len(wrong)]
        order = [*told, *(step for step in drawn if step not in told)]
        found = [step for step in order[: self._options.checks] if wrong[step]]
        return min(found, default=math.inf), not plain


def checker(options: CheckerOptions) -> Checker:
    """The checker with its assistant.  Raises ValueError for an assistant that cannot help it."""
    return Checker(options, build_assistant(options.assistant) if options.assistant else None)


class Expert(Assistant):
    """Who knows which steps are wrong by themselves, and points at these alone."""

    name = "world"
    template = VERSION

    def __init__(self, points: int = 1) -> None:
        self._points = points

    def review(self, responses: Sequence[Response]) -> list[Finding]:
        return [self._finding(response) for response in responses]

    def mislead(
        self, responses: Sequence[Response], found: Sequence[Finding], praise: Sequence[bool]
    ) -> list[Finding]:
        return [misled(*one) for one in zip(responses, found, praise, strict=True)]

    def _finding(self, response: Response) -> Finding:
        wrong, plain = faults(response.prompt, response.text)
        order = sorted(range(len(wrong)), key=lambda step: (not wrong[step], step))
        return pointed(response, order, sum(wrong), -float(sum(wrong) + plain), self._points)
