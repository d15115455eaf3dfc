"""The rule for responses that never end."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tutelage.judges.judge import Judge, checked, ending_in
from tutelage.records import Prompt, Response, Score


class Ends(Judge):
    """A judge for responses that end; one that was cut at its longest length gets a fixed score instead.

    What another judge says of half a sentence means little, and where its scores are low on the whole, never ending would
    pay (Huang et al. 2024, arXiv 2403.17031, detail 5: the EOS trick).  A judge that scores places is asked about these, too: the
    steps that were made keep what they are given, and the fixed score is reached at the last token.
    """

    def __init__(self, judge: Judge, missing_eos_score: float) -> None:
        self.name, self.state, self.places = judge.name, judge.state, judge.places
        self._judge, self._missing = judge, missing_eos_score

    def score(self, responses: Sequence[Response]) -> list[Score | None]:
        asked = [response for response in responses if self.places or response.finish != "length"]
        scores = iter(checked(self._judge, asked))
        return [
            next(scores)
            if response.finish != "length"
            else self._cut(response, next(scores) if self.places else None)
            for response in responses
        ]

    def calibrate(self, sample: Callable[[], Sequence[Response]]) -> str | None:
        return self._judge.calibrate(sample)

    def lacks(self, prompt: Prompt) -> str:
        return self._judge.lacks(prompt)

    def learn(self, responses: Sequence[Response], scores: Sequence[Score | None]) -> None:
        pairs = zip(responses, scores, strict=True)
        own = [(response, score) for response, score in pairs if not isinstance(score, Fixed)]
        self._judge.learn([response for response, _ in own], [score for _, score in own])

    def _cut(self, response: Response, score: Score | None) -> Score:
        at = score.at if score is not None else ()
        return Fixed(self._missing, at=ending_in(self._missing, at, len(response.ids) - 1))


class Fixed(Score):
    """A score that no judge gave."""
