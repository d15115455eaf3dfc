"""A judge that the ranks share: each asks about its part of the responses, and all learn what was said."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from tutelage.judges.judge import Judge
from tutelage.parallel import World
from tutelage.records import Prompt, Response, Score, Vote

A = TypeVar("A")
S = TypeVar("S")


class Shared(Judge):
    """Every response is asked about once, by one of the ranks; those to one prompt together, because a reward function may
    compare them.  All ranks must call it with the same responses, and all get the same answer, or the same error."""

    def __init__(self, judge: Judge, world: World) -> None:
        self._judge, self._world = judge, world
        self.name, self.state, self.places = judge.name, judge.state, judge.places
        self.judges, self.pairwise = judge.judges, judge.pairwise

    def score(self, responses: Sequence[Response]) -> list[Score | None]:
        return self._asked(responses, [one.prompt.id for one in responses], self._judge.score)

    def compare(self, pairs: Sequence[tuple[Response, Response]]) -> list[Vote | None]:
        return self._asked(pairs, [first.prompt.id for first, _ in pairs], self._judge.compare)

    def calibrate(self, sample: Callable[[], Sequence[Response]]) -> str | None:
        return self._judge.calibrate(sample)

    def lacks(self, prompt: Prompt) -> str:
        return self._judge.lacks(prompt)

    def learn(self, responses: Sequence[Response], scores: Sequence[Score | None]) -> None:
        self._judge.learn(responses, scores)

    def _asked(
        self, items: Sequence[A], prompts: Sequence[str], ask: Callable[[Sequence[A]], list[S]]
    ) -> list[S]:
        """What `ask` says of each item, in order."""
        turns = {prompt: turn for turn, prompt in enumerate(dict.fromkeys(prompts))}
        owners = [turns[prompt] % self._world.size for prompt in prompts]
        own = [item for item, owner in zip(items, owners, strict=True) if owner == self._world.rank]
        said = [iter(part) for part in self._world.together(lambda: ask(own) if own else [])]
        return [next(said[owner]) for owner in owners]
