"""Weights in front of prompts: one policy for all mixtures of several rewards, that is told which one is wanted.

While it practises, every prompt begins with the weights of the reward's parts, drawn anew each time that it is met from a grid of
`steps` steps between 0 and 1, and responses are scored by that mixture.  The policy reads the weights, judges never do.  Wang et
al. 2024 (arXiv 2402.18571) and Yang et al. 2024 (arXiv 2402.10207) put them there as text.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from tutelage.records import Prompt, WeighedPrompt
from tutelage.seeds import rng

Weights = tuple[float, ...]


def grid(parts: int, steps: int) -> list[Weights]:
    """All weights of so many parts in steps of 1 / steps that sum to 1, the first part's falling; C(steps + parts - 1, parts - 1)
    of them."""

    def shares(parts: int, left: int) -> Iterator[tuple[int, ...]]:
        if parts == 1:
            yield (left,)
            return
        for own in range(left, -1, -1):
            yield from ((own, *rest) for rest in shares(parts - 1, left - own))

    return [tuple(share / steps for share in each) for each in shares(parts, steps)]


@dataclass(frozen=True)
class Weighing:
    """Weights of parts, by their names, in front of prompts."""

    weights: Mapping[str, float]

    @cached_property
    def line(self) -> str:
        """What is read: "[short 0.25, keywords 0.75]"."""
        return f"[{', '.join(f'{name} {value:g}' for name, value in self.weights.items())}]\n"

    def before(self, prompt: Prompt) -> WeighedPrompt:
        """The prompt behind the weights; of a conversation they stand before what its last user says."""
        content = prompt.content
        if isinstance(content, str):
            put: str | tuple = self.line + content
        else:
            last = max(number for number, message in enumerate(content) if message.role == "user")
            said = replace(content[last], content=self.line + content[last].content)
            put = (*content[:last], said, *content[last + 1 :])
        return WeighedPrompt(
            put,
            prompt.task,
            prompt.reference,
            prompt.tools,
            prompt.place,
            prompt,
            tuple(self.weights.items()),
        )


@dataclass(frozen=True)
class WeightsInPrompts:
    """Which weights stand in front of a prompt: drawn by seed, step and row, whatever was drawn before."""

    names: Sequence[str]
    steps: int
    seed: int

    @cached_property
    def all(self) -> list[Weighing]:
        """Every weighing of the grid."""
        return [
            Weighing(dict(zip(self.names, each, strict=True))) for each in grid(len(self.names), self.steps)
        ]

    def before(self, prompts: Sequence[Prompt], rows: Sequence[int], step: int) -> list[WeighedPrompt]:
        """The prompts of a step, each behind weights of its own; a row that stands there twice has two draws."""
        draws = rng(self.seed, "weights in prompts", step).integers(len(self.all), size=len(rows))
        return [self.all[draw].before(prompt) for prompt, draw in zip(prompts, draws.tolist(), strict=True)]
