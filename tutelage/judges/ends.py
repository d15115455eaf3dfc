"""The rule for responses that never end."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tutelage.judges.judge import Judge, checked
from tutelage.records import Response, Score


class Ends(Judge):
    """A judge for responses that end; one that was cut at its longest length gets a fixed score instead.

    What another judge says of half a sentence means little, and where its scores are low on the whole, never ending would
    pay (Huang et al. 2024, arXiv 2403.17031, detail 5: the EOS trick).
    """

    def __init__(self, judge: Judge, missing_eos_score: float) -> None:
        self.name, self.state = judge.name, judge.state
        self._judge, self._missing = judge, Score(missing_eos_score)

    def score(self, responses: Sequence[Response]) -> list[Score | None]:
        ended = [response for response in responses if response.finish != "length"]
        scores = iter(checked(self._judge, ended))
        return [self._missing if response.finish == "length" else next(scores) for response in responses]

    def calibrate(self, sample: Callable[[], Sequence[Response]]) -> str | None:
        return self._judge.calibrate(sample)

    def learn(self, scores: Sequence[Score | None]) -> None:
        self._judge.learn([score for score in scores if score is not self._missing])
