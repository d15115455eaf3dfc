"""The contract of a judge."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from tutelage.records import Response, Score, Vote


class Judge(Protocol):
    """Anything that says at once how good responses are.  Derive from it to get `compare` from `score`."""

    name: str
    """What its votes and figures are called."""

    def score(self, responses: Sequence[Response]) -> list[Score | None]:
        """One score per response, in order; higher is better, comparable within one judge.  None: it does not apply, as
        when a verifier of maths is asked about a poem."""
        ...

    def compare(self, pairs: Sequence[tuple[Response, Response]]) -> list[Vote | None]:
        """One vote per pair of responses to one prompt; None where the judge does not apply.

        Unless a judge says more, the higher score is slightly better (1, the least that a vote can say: a score has no
        unit) and equal scores are a tie.
        """
        scores = self.score([response for pair in pairs for response in pair])
        return [self._vote(*both) for both in zip(scores[::2], scores[1::2], strict=True)]

    def calibrate(self, sample: Callable[[], Sequence[Response]]) -> str | None:
        """Measure what must be known before scores mean anything, on responses of the reference (made when asked for).

        What was measured, in one sentence; None where nothing had to be.
        """
        return None

    def _vote(self, first: Score | None, second: Score | None) -> Vote | None:
        if first is None or second is None:
            return None
        return Vote(self.name, (second.value > first.value) - (second.value < first.value), first_shown=0)


def scores_of(judge: Judge, responses: Sequence[Response]) -> list[Score]:
    """The scores of responses that all must have one.  Raises ValueError naming the first prompt without."""
    found: list[Score] = []
    for response, score in zip(responses, judge.score(responses) if responses else [], strict=True):
        if score is None:
            raise ValueError(
                f"the judge {judge.name} does not apply to the prompt {response.prompt.text()[:60]!r}: leave such prompts "
                "out, or add a judge that does."
            )
        found.append(score)
    return found
