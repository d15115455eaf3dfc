"""A model that reads something in front of every prompt; its responses are to the prompts as they were given."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from tutelage.models.policy import PolicyModule
from tutelage.records import Prompt
from tutelage.rollout.decode import Drawn, Key
from tutelage.rollout.generator import Sampling
from tutelage.rollout.writer import Progress, Writer


class Front(Protocol):
    """What stands in front of prompts."""

    def before(self, prompt: Prompt) -> Prompt:
        """The prompt behind it."""
        ...


class Behind(Writer):
    """A generator that puts every prompt behind something and lets another one draw.  `prompt_ids` of a response hold what was
    put there."""

    def __init__(self, front: Front, generator: Writer) -> None:
        self._generator = generator
        super().__init__(generator.tokenizer, version=generator.version, progress=generator.progress)
        self.front = front

    @property
    def progress(self) -> Progress | None:
        """The other one's: it draws."""
        return self._generator.progress

    @progress.setter
    def progress(self, progress: Progress | None) -> None:
        self._generator.progress = progress

    @property
    def context(self) -> int | None:
        return self._generator.context

    @property
    def parameters(self) -> int:
        return self._generator.parameters

    def sync(self, policy: PolicyModule, version: int) -> None:
        self._generator.sync(policy, version)
        self.version = version

    def _encode(self, prompts: list[Prompt], new_tokens: int) -> list[list[int]]:
        return super()._encode([self.front.before(prompt) for prompt in prompts], new_tokens)

    def _drawn(
        self,
        names: Sequence[str],
        ids: Sequence[list[int]],
        limits: Sequence[int],
        numbers: Sequence[range],
        sampling: Sampling,
    ) -> dict[Key, Drawn]:
        return self._generator._drawn(names, ids, limits, numbers, sampling)
