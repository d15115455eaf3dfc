"""Judges that say what they are told to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tutelage.judges.judge import Judge
from tutelage.records import Finish, Prompt, Response, Score

Said = Mapping[str, Any]


class Says(Judge):
    """The score of each text: a number, a Score, None where it does not apply; `asked` counts what it was asked."""

    def __init__(self, said: Said, name: str = "says") -> None:
        self.name, self._said, self.asked = name, said, 0
        self.learnt: list[Score | None] = []

    def score(self, responses: Sequence[Response]) -> list[Score | None]:
        self.asked += len(responses)
        said = [self._said[response.text] for response in responses]
        return [value if value is None or isinstance(value, Score) else Score(value) for value in said]

    def learn(self, responses: Sequence[Response], scores: Sequence[Score | None]) -> None:
        self.learnt += scores


def written(text: str, tokens: int = 3, finish: Finish = "eos") -> Response:
    """A response of so many tokens."""
    return Response(Prompt(f"prompt of {text}"), text, (1,), tuple(range(tokens)), (-1.0,) * tokens, finish)


def values(scores: Sequence[Score | None]) -> list[float | None]:
    return [None if score is None else score.value for score in scores]


class Longer(Judge):
    """The number of characters."""

    name = "longer"

    def score(self, responses: Sequence[Response]) -> list[Score | None]:
        return [Score(float(len(response.text))) for response in responses]
