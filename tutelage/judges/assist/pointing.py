"""Assistants that point at steps: the words they say it in, and the models that know which step is doubtful.

A process reward model doubts a step that it holds to be wrong.  A policy doubts one that it would hardly have written itself
there: its doubt is minus the log-probability of the step's tokens, given the problem and the steps before.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from tutelage.judges.assist.assistant import Assistant, Finding
from tutelage.records import Response

if TYPE_CHECKING:
    from tutelage.judges.process import ProcessJudge
    from tutelage.models.policy import PolicyModule
    from tutelage.parallel import World

VERSION = "pointing-1"
NOTHING = "I find nothing wrong."


def lines_of(text: str) -> list[str]:
    """The steps of a solution: its lines, without those that are empty."""
    return [line.strip() for line in text.splitlines() if line.strip()]


def pointed(response: Response, order: Sequence[int], doubtful: int, quality: float, points: int) -> Finding:
    """A finding from the steps of a response in `order`, the most doubtful first, of which the first `doubtful` may be wrong."""
    steps = tuple(order[: min(points, doubtful)])
    said = " ".join(f"Look at {_named(response, step)}" for step in steps)
    return Finding(said or NOTHING, quality, steps, tuple(reversed(order))[:points])


def misled(response: Response, found: Finding, praise: bool) -> Finding:
    """Praise for, or fault found with, steps about which there is no doubt."""
    named = [_named(response, step) for step in found.harmless]
    said = (
        " ".join(["Every step is right.", *(f"Look at {step}" for step in named)])
        if praise
        else (" ".join(f"This is wrong: {step}" for step in named) or "This is wrong.")
    )
    return Finding(said, found.quality, found.harmless, found.harmless)


def _named(response: Response, step: int) -> str:
    lines = lines_of(response.text)
    return f"step {step + 1}: {lines[step]}" if step < len(lines) else f"step {step + 1}."


class Pointing(Assistant):
    """An assistant that has a doubt about each step."""

    template = VERSION

    def __init__(self, name: str, points: int) -> None:
        self.name, self._points = name, points

    def doubts(self, responses: Sequence[Response]) -> list[list[float]]:
        """For each response the doubt about each of its steps; higher is more doubtful."""
        raise NotImplementedError

    def review(self, responses: Sequence[Response]) -> list[Finding]:
        return [
            self._finding(response, doubts)
            for response, doubts in zip(responses, self.doubts(responses), strict=True)
        ]

    def mislead(
        self, responses: Sequence[Response], found: Sequence[Finding], praise: Sequence[bool]
    ) -> list[Finding]:
        return [misled(*one) for one in zip(responses, found, praise, strict=True)]

    def _finding(self, response: Response, doubts: Sequence[float]) -> Finding:
        order = sorted(range(len(doubts)), key=lambda step: (-doubts[step], step))
        return pointed(response, order, len(order), -max(doubts, default=0.0), self._points)


class ProcessAssistant(Pointing):
    """A process reward model: its doubt is the probability that a step is wrong."""

    def __init__(self, judge: ProcessJudge, points: int) -> None:
        super().__init__(judge.name, points)
        self._judge = judge

    def doubts(self, responses: Sequence[Response]) -> list[list[float]]:
        return [[1 - p for p in right or ()] for right in self._judge.right(responses)]


class PolicyAssistant(Pointing):
    """A policy: its doubt is how surprised it is at a step, in nats."""

    def __init__(
        self, policy: PolicyModule, tokenizer: object, world: World, max_tokens: int, name: str, points: int
    ) -> None:
        from tutelage.data.steps import StepEnds

        super().__init__(name, points)
        self._policy = policy.eval().requires_grad_(False)
        self._tokenizer, self._world, self._max_tokens = tokenizer, world, max_tokens
        self._ends = StepEnds(tokenizer, "\n")  # type: ignore[arg-type]

    def doubts(self, responses: Sequence[Response]) -> list[list[float]]:
        from tutelage.data.batch import TokenBatch
        from tutelage.data.template import Encoded, encode
        from tutelage.models.passes import forward_pass

        rows = encode(self._tokenizer, [(one.prompt, one.text, one.finish) for one in responses])  # type: ignore[arg-type]
        for row, response in zip(rows, responses, strict=True):
            if not isinstance(row, Encoded):
                raise ValueError(
                    f"the assistant {self.name} cannot read a response {row}, to the prompt "
                    f"{response.prompt.text()[:60]!r}: leave it out."
                )
        encoded = [row for row in rows if isinstance(row, Encoded)]
        batch = TokenBatch.collate([row.tokens() for row in encoded]).to(self._world.device)
        policy = self._policy
        logprobs = forward_pass(
            policy, lambda part: policy(part).logprobs, batch, "tokens", self._max_tokens, self._world
        )
        found, at = [], np.cumsum([0, *batch.lengths])
        values = logprobs.double().cpu().numpy()
        for number, (row, response) in enumerate(zip(encoded, responses, strict=True)):
            own = values[at[number] + len(row.prompt) : at[number + 1]]
            found.append(_by_step(own, self._ends.cuts(row.response, response.finish)))
        return found


def _by_step(logprobs: np.ndarray, cuts: Sequence[int]) -> list[float]:
    """Minus the sums of what stands up to and with each cut."""
    starts = [0, *(cut + 1 for cut in cuts[:-1])]
    return [float(-logprobs[start : cut + 1].sum()) for start, cut in zip(starts, cuts, strict=True)]
