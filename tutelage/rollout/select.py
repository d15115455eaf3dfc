"""Choosing among responses: the best of n as a generator, and the best of each group."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from tutelage.judges.judge import Judge, scores_of
from tutelage.models.policy import PolicyModule
from tutelage.records import Prompt, Response, Score
from tutelage.rollout.generator import Generator, Sampling


def best_of_each(
    worth: Sequence[float], groups: Sequence[object], candidates: Sequence[int], most: int
) -> list[int]:
    """Of every group the `most` candidates worth most, in their order; of equals the first ones."""
    ranked = sorted(candidates, key=lambda number: (-worth[number], number))
    taken: dict[object, int] = {}
    chosen = []
    for number in ranked:
        group = groups[number]
        if taken.get(group, 0) < most:
            taken[group] = taken.get(group, 0) + 1
            chosen.append(number)
    return sorted(chosen)


class Best(NamedTuple):
    """The best of n responses, what the judge said of it, and the values of all n."""

    response: Response
    score: Score
    values: tuple[float, ...]


@dataclass
class Spent:
    """What the answers of a `BestOf` took so far, candidates that were not chosen included.

    seconds: of drawing and scoring.  chosen, drawn: sums of the scores of the answers, and of all candidates.
    """

    answers: int = 0
    candidates: int = 0
    tokens: int = 0
    seconds: float = 0.0
    chosen: float = 0.0
    drawn: float = 0.0

    @property
    def gain(self) -> float:
        """The mean score of the answers, less that of all candidates."""
        return self.chosen / max(1, self.answers) - self.drawn / max(1, self.candidates)


class BestOf:
    """A generator whose every response is the best of n that another one draws, by the score of a judge.

    Sample k of a prompt is the best of the other's samples k n .. k n + n - 1, so that all are independent and what is drawn
    for a prompt depends on nothing else; it has the number k.  Of equal scores the lowest number wins.  n = 1 is plain
    sampling: the judge is not asked.  `logprobs` of a response stay those of the model: they are not those of the best of n.

    Raises ValueError where the judge does not apply to a prompt, naming it.
    """

    def __init__(self, generator: Generator, judge: Judge, n: int) -> None:
        if n < 1:
            raise ValueError(f"best_of is {n}; give at least 1.")
        self.spent = Spent()
        self._generator, self._judge, self._n = generator, judge, n

    def generate(self, prompts: list[Prompt], sampling: Sampling) -> list[Response]:
        """`sampling.samples` responses per prompt, each the best of n, prompt-major."""
        if self._n > 1:
            return [best.response for best in self.choose(prompts, sampling)]
        started = time.monotonic()
        responses = self._generator.generate(prompts, sampling)
        self._count(responses, len(responses), started)
        return responses

    def choose(self, prompts: list[Prompt], sampling: Sampling) -> list[Best]:
        """As `generate`, with the scores."""
        started = time.monotonic()
        drawn = replace(sampling, samples=sampling.samples * self._n)
        candidates = self._generator.generate(prompts, drawn)
        scores = scores_of(self._judge, candidates)
        worth = [score.value for score in scores]
        groups = [number // self._n for number in range(len(candidates))]
        chosen = best_of_each(worth, groups, range(len(candidates)), 1)
        self._count(candidates, len(chosen), started)
        self.spent.chosen += sum(worth[number] for number in chosen)
        self.spent.drawn += sum(worth)
        return [
            Best(
                replace(candidates[number], sample_index=candidates[number].sample_index // self._n),
                scores[number],
                tuple(worth[groups[number] * self._n :][: self._n]),
            )
            for number in chosen
        ]

    def sync(self, policy: PolicyModule, version: int) -> None:
        """Candidates come from the weights of `policy` from now on."""
        self._generator.sync(policy, version)

    def _count(self, candidates: Sequence[Response], answers: int, started: float) -> None:
        spent = self.spent
        spent.answers += answers
        spent.candidates += len(candidates)
        spent.tokens += sum(len(response.ids) for response in candidates)
        spent.seconds += time.monotonic() - started
