"""The contract of everything that writes responses: prompts and a `Sampling` in, `Response` records out."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from tutelage.records import Prompt, Response

if TYPE_CHECKING:
    from tutelage.models.policy import PolicyModule


@dataclass(frozen=True)
class Sampling:
    """How responses are drawn.

    max_new_tokens: longest response in tokens, end-of-sequence token included, and its beginning where it goes on from
        one (`Prefix`).
    temperature: logits are divided by it before the softmax; 0 takes the likeliest token.
    samples: responses per prompt.
    seed, step: together with the prompt's id and the sample's number they fix the random draws, so the
        same four always give the same response, whatever else is generated beside it.  A prompt that stands in
        one call several times goes on with the numbers: with `samples=2` its second place has samples 2 and 3.

    The distribution is always the policy's whole softmax: no top-k, no top-p, no masked tokens, because what
    is sampled must be exactly what is scored later. A pad or special token can therefore be drawn whenever the
    policy gives it probability.

    Raises ValueError when a value is out of range.
    """

    max_new_tokens: int
    temperature: float = 1.0
    samples: int = 1
    seed: int = 0
    step: int = 0

    def __post_init__(self) -> None:
        if self.max_new_tokens < 1:
            raise ValueError(f"max_new_tokens is {self.max_new_tokens}; give at least 1.")
        if not 0.0 <= self.temperature < float("inf"):
            raise ValueError(
                f"temperature is {self.temperature}; give 0 (likeliest token) or a positive number."
            )
        if self.samples < 1:
            raise ValueError(f"samples is {self.samples}; give at least 1 response per prompt.")


@dataclass(frozen=True)
class Prefix:
    """A prompt, and the tokens that a response to it begins with: the response's own, so that nothing is tokenised again."""

    prompt: Prompt
    begun: tuple[int, ...] = ()

    @property
    def id(self) -> str:
        """What its draws are fixed by: a hash of the prompt and the beginning; without a beginning the prompt's id."""
        if not self.begun:
            return self.prompt.id
        text = json.dumps([self.prompt.id, [int(token) for token in self.begun]])
        return hashlib.sha256(text.encode()).hexdigest()[:16]


class Generator(Protocol):
    """Writes responses with the log-probabilities of their tokens; local or remote."""

    def generate(self, prompts: list[Prompt], sampling: Sampling) -> list[Response]:
        """Responses in prompt-major order: all samples of the first prompt, then of the second, ...

        A prompt given k times gets `k * samples` different samples of it, numbered in order (`sample_index`).
        """
        ...

    def continue_from(self, prefixes: Sequence[Prefix], sampling: Sampling) -> list[Response]:
        """Responses that go on from their beginnings, prefix-major: `sampling.samples` of each prefix.

        What is in a response (text, ids, log-probabilities) is what was added; its `prompt_ids` hold prompt and beginning.
        With its beginning it has at most `sampling.max_new_tokens` tokens: it is drawn as the rest of a response that
        `generate` had drawn so far.  A prefix given k times gets `k * samples` different samples.
        """
        ...

    def sync(self, policy: PolicyModule, version: int) -> None:
        """Use the weights of `policy` from now on; responses carry `version`."""
        ...
