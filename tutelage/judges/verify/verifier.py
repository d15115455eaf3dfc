"""What verifiers share: a truth from the prompt's reference, an answer from the response, a score of 1 or 0."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Generic, TypeVar

from tutelage.judges.judge import Judge
from tutelage.records import Prompt, Response, Score

T = TypeVar("T")

Truth = Callable[[Mapping[str, Any]], T | None]
Check = Callable[[Sequence[tuple[str, T]]], list[Score]]


class Verifier(Judge, Generic[T]):
    """A judge that compares responses with what is right.

    `truth`: what is right by a prompt's reference; None where that says nothing of its kind, and then it does not apply.
    `check`: the scores of (text of the response, truth) pairs.
    """

    def __init__(self, name: str, truth: Truth[T], check: Check[T]) -> None:
        self.name, self._truth, self._check = name, truth, check

    def score(self, responses: Sequence[Response]) -> list[Score | None]:
        truths = [self._truth(response.prompt.reference or {}) for response in responses]
        pairs = [
            (response.text, truth)
            for response, truth in zip(responses, truths, strict=True)
            if truth is not None
        ]
        scores = iter(self._check(pairs) if pairs else [])
        return [None if truth is None else next(scores) for truth in truths]

    def lacks(self, prompt: Prompt) -> str:
        if not prompt.reference:
            return "a reference"
        return (
            "" if self._truth(prompt.reference) is not None else "a right answer of its kind in the reference"
        )


UNREADABLE = Score(0.0, {"extracted": 0.0})
"""Of a response in which no answer is found."""


def verdict(right: float, **parts: float) -> Score:
    """The score of a response in which an answer was found."""
    return Score(float(right), {"extracted": 1.0, **parts})


def right_answers(reference: Mapping[str, Any]) -> list[Any]:
    """What a reference counts as right: its `answer`, or one of its `answers`; a list is several right answers."""
    given = reference.get("answer", reference.get("answers"))
    several = list(given) if isinstance(given, list | tuple) else [given]
    return [answer for answer in several if isinstance(answer, str | int | float) and str(answer).strip()]
