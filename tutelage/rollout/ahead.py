"""Responses that are drawn while the policy learns, from weights that are a few steps old (asynchronous rollouts).

Which weights write the responses of a step depends on the step alone: with max_staleness=k the servers get the weights at the
steps 0, k, 2k, ... and draw for the k steps after while these are learnt from.  So responses are 1 to k steps old, but for those
of step 0.  What the policy has moved by meanwhile is weighed like any other difference between sampler and trainer
(`Experience.importance`), which makes the clipped loss the decoupled one of Hilton et al. 2022 (arXiv 2110.00641).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import nn

from tutelage.models.policy import PolicyModule
from tutelage.parallel import World
from tutelage.records import Prompt, Response
from tutelage.rollout.generator import Sampling

Asked = Callable[[int], tuple[list[Prompt], Sampling]]
"""What is drawn at a step."""

KEPT = ("text", "prompt_ids", "ids", "logprobs", "finish", "sample_index", "version")
"""What a checkpoint has of a response; its prompt is known by the step."""


class Begins(Protocol):
    """A generator that draws while others work."""

    def sync(self, policy: PolicyModule, version: int) -> None:
        """Use these weights from now on, for what is begun afterwards."""
        ...

    def begin(self, prompts: list[Prompt], sampling: Sampling) -> Callable[[], list[Response]]:
        """Begin to draw; what it returns waits for the responses, as often as it is called, on rank 0."""
        ...


class Ahead(nn.Module):
    """The responses of each step, drawn up to `staleness` steps ahead.  steps: of the whole run.

    A module, because what has been drawn and not been learnt from belongs into every checkpoint: the weights that wrote it are
    gone.
    """

    def __init__(self, generator: Begins, staleness: int, steps: int, world: World) -> None:
        super().__init__()
        self._generator, self._every, self._steps, self._world = generator, staleness, steps, world
        self._begun: dict[int, Callable[[], list[Response]]] = {}
        self._kept: dict[int, list[dict[str, Any]]] = {}

    def take(self, step: int, policy: PolicyModule, asked: Asked) -> list[Response]:
        """The responses of a step, before it is learnt from; begins to draw for those after it where it is time to."""
        if step not in self._kept and step not in self._begun:
            self._begin([step], step, policy, asked)
        found = self._responses(step, asked)
        if step % self._every == 0:
            self._begin(range(step + 1, min(step + self._every + 1, self._steps)), step, policy, asked)
        return found

    def _begin(self, steps: Sequence[int], now: int, policy: PolicyModule, asked: Asked) -> None:
        if steps:
            self._generator.sync(policy, now)
        for step in steps:
            self._begun[step] = self._generator.begin(*asked(step))

    def _responses(self, step: int, asked: Asked) -> list[Response]:
        if step not in self._kept:
            return self._world.told(self._begun.pop(step))
        prompts, sampling = asked(step)
        kept = self._kept.pop(step)
        of = [prompt for prompt in prompts for _ in range(sampling.samples)]
        return [_response(prompt, one) for prompt, one in zip(of, kept, strict=True)]

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        """Wait for all that has been begun.  Raises ValueError where it does not come."""
        begun = {step: [_facts(one) for one in wait()] for step, wait in self._begun.items()}
        text = json.dumps({str(step): rows for step, rows in (self._kept | begun).items()})
        destination[prefix + "responses"] = torch.frombuffer(bytearray(text.encode()), dtype=torch.uint8)

    def _load_from_state_dict(self, state_dict: Mapping[str, Any], prefix: str, *_: Any) -> None:
        found = json.loads(bytes(state_dict[prefix + "responses"].tolist()))
        self._begun, self._kept = {}, {int(step): rows for step, rows in found.items()}


def _facts(response: Response) -> dict[str, Any]:
    return {name: getattr(response, name) for name in KEPT}


def _response(prompt: Prompt, facts: Mapping[str, Any]) -> Response:
    known: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in facts.items()}
    return Response(prompt, **known)
