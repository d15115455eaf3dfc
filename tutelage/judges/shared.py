"""Judges that the ranks share.

`Shared`: each asks about its part of the responses, and all learn what was said.  `led`: only rank 0 knows what there is to ask,
and the others help it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, TypeVar

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


@contextmanager
def led(judge: Judge, world: World) -> Iterator[Judge | None]:
    """On rank 0 the judge to ask, with which the others help; on the others None, once nothing is asked any more.

    `judge` is made in this world on every rank, and shares its work with the others by itself.  What rank 0 cannot go on for is
    raised on all.
    """
    if not world.leads:
        while (asked := world.told(_of_rank_0)) is not None:
            method, argument = asked
            getattr(judge, method)((lambda: world.told(_of_rank_0)) if method == "calibrate" else argument)
        yield None
        return
    asking = _Led(judge, world)
    try:
        yield asking
    except (ValueError, OSError) as error:
        if asking.together:  # else all have it already
            world.told(partial(_raise, error))
        raise
    world.told(lambda: None)


def _of_rank_0() -> Any:
    """What is told is told by rank 0."""


def _raise(error: Exception) -> None:
    raise error


class _Led(Judge):
    """Tells the other ranks what is asked, and asks.  `together`: the others wait for the next question."""

    def __init__(self, judge: Judge, world: World) -> None:
        self._judge, self._world, self.together = judge, world, True
        self.name, self.state, self.places = judge.name, judge.state, judge.places
        self.judges, self.pairwise = judge.judges, judge.pairwise

    def score(self, responses: Sequence[Response]) -> list[Score | None]:
        with self._all("score", responses):
            return self._judge.score(responses)

    def compare(self, pairs: Sequence[tuple[Response, Response]]) -> list[Vote | None]:
        with self._all("compare", pairs):
            return self._judge.compare(pairs)

    def calibrate(self, sample: Callable[[], Sequence[Response]]) -> str | None:
        with self._all("calibrate", None):
            return self._judge.calibrate(lambda: self._world.told(sample))

    def lacks(self, prompt: Prompt) -> str:
        return self._judge.lacks(prompt)

    @contextmanager
    def _all(self, method: str, argument: Any) -> Iterator[None]:
        """All ranks do this; what it raises, it raises on all."""
        self._world.told(lambda: (method, argument))
        self.together = False
        yield
        self.together = True
