"""A model that reads something in front of every prompt; its responses are to the prompts as they were given."""

from __future__ import annotations

from typing import Any, Protocol

from transformers import PreTrainedTokenizerBase

from tutelage.models.policy import PolicyModule
from tutelage.records import Prompt
from tutelage.rollout.local import LocalGenerator


class Front(Protocol):
    """What stands in front of prompts."""

    def before(self, prompt: Prompt) -> Prompt:
        """The prompt behind it."""
        ...


class Behind(LocalGenerator):
    """A generator that puts every prompt behind something.  `prompt_ids` of a response hold what was put there."""

    def __init__(
        self, front: Front, model: PolicyModule, tokenizer: PreTrainedTokenizerBase, **options: Any
    ) -> None:
        super().__init__(model, tokenizer, **options)
        self.front = front

    def _encode(self, prompts: list[Prompt], new_tokens: int) -> list[list[int]]:
        return super()._encode([self.front.before(prompt) for prompt in prompts], new_tokens)
