"""The contract of a judge."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from numbers import Real
from typing import TYPE_CHECKING, Protocol, TypeVar

from tutelage.records import Prompt, Response, Score, Vote

if TYPE_CHECKING:  # `label` by a rule starts without torch
    from torch import nn

T = TypeVar("T")
CALIBRATION_PROMPTS = 256
"""So many responses of the reference tell a judge's mean score to 0.06 of its standard deviation."""


class Judge(Protocol):
    """Anything that says at once how good responses are.  Derive from it to get `compare` from `score`."""

    name: str
    """What its votes and figures are called."""

    state: nn.Module | None = None
    """What must survive a restart, as buffers that a checkpoint holds; None: nothing."""

    places: bool = False
    """Whether it scores places in a response (`Score.at`)."""

    judges: Sequence[Judge] = ()
    """Those it is made of, where it is made of several."""

    pairwise: bool = False
    """Whether it compares responses and has no scores: `score` raises ValueError, `compare` says it all."""

    def score(self, responses: Sequence[Response]) -> list[Score | None]:
        """One score per response, in order; higher is better, comparable within one judge.  None: it does not apply, as
        when a verifier of maths is asked about a poem."""
        ...

    def compare(self, pairs: Sequence[tuple[Response, Response]]) -> list[Vote | None]:
        """One vote per pair of responses to one prompt; None where the judge does not apply.

        Unless a judge says more, the higher score is slightly better (1, the least that a vote can say: a score has no
        unit) and equal scores are a tie.  Raises ValueError for what is no score (`checked`).
        """
        scores = checked(self, [response for pair in pairs for response in pair])
        return [self._vote(*both) for both in zip(scores[::2], scores[1::2], strict=True)]

    def calibrate(self, sample: Callable[[], Sequence[Response]]) -> str | None:
        """Measure what must be known before scores mean anything, on responses of the reference (made when asked for).

        What was measured, in one sentence; None where nothing had to be.
        """
        return None

    def lacks(self, prompt: Prompt) -> str:
        """What the row of a prompt lacks to which the judge does not apply ("a reference"), "" where it cannot tell."""
        return ""

    def learn(self, responses: Sequence[Response], scores: Sequence[Score | None]) -> None:
        """Take in what it said of a batch that is trained on (never of one that only evaluates), for its next scores."""
        return None

    def _vote(self, first: Score | None, second: Score | None) -> Vote | None:
        if first is None or second is None:
            return None
        return Vote(self.name, (second.value > first.value) - (second.value < first.value), first_shown=0)


GRID = 2.0**32  # shares stand on a grid, so that p and 1 - p are exact


def shared_vote(name: str, first: float, shown: int) -> Vote:
    """A vote that the first response is better with probability `first`; `shown` is the one that was shown first."""
    share = round(first * GRID) / GRID
    preference = (share < 0.5) - (share > 0.5)
    return Vote(name, preference, shown, share=max(share, 1 - share), margin=0.0)


def rewarding(judge: Judge) -> Judge:
    """The judge.  Raises ValueError, naming the part, where it compares and has no scores: nothing can be rewarded by it."""
    if judge.pairwise:
        own = next((one for one in judge.judges if one.pairwise), judge)
        raise ValueError(
            f"{own.name} compares responses and has no scores that could be a reward: take template: rating, or one that scores."
        )
    return judge


def scores_of(judge: Judge, responses: Sequence[Response]) -> list[Score]:
    """The scores of responses that all must have one.  Raises ValueError naming the first prompt without, or what `checked`
    finds."""
    found: list[Score] = []
    for response, score in zip(responses, checked(judge, responses), strict=True):
        if score is None:
            raise ValueError(_not_for(judge, response))
        found.append(score)
    return found


def _not_for(judge: Judge, response: Response) -> str:
    """The sentence about a prompt to which a judge does not apply: where it stands, what is missing, what to do."""
    prompt, missing = response.prompt, judge.lacks(response.prompt)
    where = f" ({prompt.place})" if prompt.place else ""
    why = ":"
    if missing:
        why = f", whose row lacks {missing}: add it (a column of another name is read with columns={{reference: NAME}}),"
    return (
        f"the judge {judge.name} does not apply to the prompt {_shown(response)}{where}{why} leave such prompts out, or add a "
        "judge that does."
    )


def checked(judge: Judge, responses: Sequence[Response], name: str = "") -> list[Score | None]:
    """What a judge says of responses, when every score can be used; it is asked nothing when there are none.

    Raises ValueError naming the judge (as `name`, where it goes by another) and the prompt: the count is wrong, what it
    gives is no score, a value is no finite number, or a place is not in the response.
    """
    scores = judge.score(responses) if responses else []
    name = name or judge.name
    if len(scores) != len(responses):
        raise ValueError(
            f"the judge {name} gave {len(scores)} scores for {len(responses)} responses: it must give one each."
        )
    for response, score in zip(responses, scores, strict=True):
        fault = score is not None and _fault(score, len(response.ids))
        if fault:
            raise ValueError(f"the judge {name} gave {fault} for the prompt {_shown(response)}, {SCORE}.")
    return scores


def ending_in(value: float, at: Sequence[tuple[int, float]], last: int) -> tuple[tuple[int, float], ...]:
    """Places as they are, and at the `last` token what brings their sum to `value`; () where there are none.

    For a score that takes the place of another once the whole is known.  To take back what the steps before were given would make
    what comes after them look better than it is: reward-to-go from there would be highest where the whole fails.
    """
    if not at:
        return ()
    placed = dict(at)
    placed[max(last, 0)] = placed.get(max(last, 0), 0.0) + value - math.fsum(given for _, given in at)
    return tuple(sorted(placed.items()))


def first_of_each(rows: Sequence[T], tasks: Sequence[str], count: int = CALIBRATION_PROMPTS) -> list[T]:
    """The first `count` rows (tasks: one for each row); where a task is not among these, the first ones of every task instead, in
    equal shares, so that a judge for that task has something to be measured on."""
    there = dict.fromkeys(tasks)
    if len(rows) <= count or len(there) == len(set(tasks[:count])):
        return list(rows[:count])
    share, seen = max(1, count // len(there)), Counter[str]()
    found = []
    for row, task in zip(rows, tasks, strict=True):
        seen[task] += 1
        if seen[task] <= share:
            found.append(row)
    return found


SCORE = "but a score is a finite number, or None where it does not apply"
LARGEST = 3e38  # what training computes with, float32, knows as finite


def _fault(score: Score, length: int) -> str:
    """What is wrong with a score of a response of so many tokens (0: only its text is known); "": nothing."""
    if not isinstance(score, Score):
        return repr(score)[:60]
    for value in (score.value, *(value for _, value in score.at)):
        if not isinstance(value, Real) or not abs(value) < LARGEST:
            return repr(value)[:60]
    outside = next((token for token, _ in score.at if length and not 0 <= token < length), None)
    return "" if outside is None else f"a score at token {outside} of {length}"


def _shown(response: Response) -> str:
    return repr(response.prompt.text()[:60])
