"""The canary: what a server draws right after new weights, weighed by the policy itself.

A server can say that it has weights and still compute with others: a copy of a tied head that nobody renewed, a part of an
update, a softmax over fewer tokens or at another temperature.  All of these show in the log-probabilities of a few tokens.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from transformers import PreTrainedTokenizerBase

from tutelage.data.batch import TokenBatch, Tokens
from tutelage.models.policy import PolicyModule
from tutelage.parallel import World
from tutelage.rollout.remote.wire import Ask, Said, Server

BOUND = {torch.float32: 1e-3, torch.bfloat16: 0.1}
"""Nats per token (root of the mean square) that trainer and server may differ by; arithmetic alone makes 1e-5, or 2e-2.  Of a
single token bf16 may say something else by more: it knows a logit of 16 to an eighth."""

ONE_WAY = 0.3
"""Share of it that all may be off in the same direction, as they are where unlikely tokens are cut off."""

TEXTS = (
    "The",
    "What is the capital of France?",
    "1 + 1 =",
    "Once upon a time there was",
    "def add(a, b):\n    return",
    "Dear Sir or Madam,\n\n",
)
TOKENS = 8
"""Tokens that are drawn for each text."""


def probes(tokenizer: PreTrainedTokenizerBase, temperature: float) -> list[Ask]:
    """What servers are asked for: always the same draws."""
    return [
        Ask((number, 0), f"0:-3:probe:{number}", ids, TOKENS, number + 1, temperature)
        for number, text in enumerate(TEXTS)
        if (ids := tokenizer(text)["input_ids"])
    ]


class Canary:
    """What a server with the right weights draws for the probes: as the first one that had them drew, once the policy agreed."""

    def __init__(self, asks: Sequence[Ask], world: World) -> None:
        self.asks = asks
        self._world = world
        self._known: list[tuple[Said, list[float]]] = []

    @property
    def bound(self) -> float:
        """Nats."""
        return BOUND[self._world.dtype]

    def weigh(self, policy: PolicyModule, server: Server, said: Sequence[Said]) -> float:
        """By how much the server's log-probabilities differ from the policy's (nats per token, root of the mean square).  Raises
        ValueError where that is more than the bound."""
        own = logprobs(policy, self.asks, said, self._world)
        gap = self._gap(
            [
                a - b
                for one, found in zip(said, own, strict=True)
                for a, b in zip(one.logprobs, found, strict=True)
            ],
            server,
        )
        self._known = list(zip(said, own, strict=True))
        return gap

    def compare(self, server: Server, said: Sequence[Said]) -> None:
        """The same without the policy, for a server that got its weights again: against what is known, as far as it draws the
        same tokens.  Raises ValueError."""
        same, total = list[float](), 0
        for one, (known, own) in zip(said, self._known, strict=True):
            total += len(known.ids)
            for token, value, expected, logprob in zip(one.ids, one.logprobs, known.ids, own, strict=False):
                if token != expected:
                    break
                same.append(value - logprob)
        self._gap(same, server)
        if 2 * len(same) < total:
            raise ValueError(self._off(server, f"it draws other tokens ({total - len(same)} of {total})"))

    def _gap(self, differences: Sequence[float], server: Server) -> float:
        count = max(len(differences), 1)
        gap = math.sqrt(math.fsum(one * one for one in differences) / count)
        if not gap <= self.bound:
            off = f"its log-probabilities are {gap:.3g} nats per token off (allowed: {self.bound:g})"
            raise ValueError(self._off(server, off))
        mean = math.fsum(differences) / count
        if not abs(mean) <= ONE_WAY * self.bound:
            way = "high" if mean > 0 else "low"
            off = f"its log-probabilities are {abs(mean):.3g} nats too {way} on average (allowed: {ONE_WAY * self.bound:g})"
            raise ValueError(self._off(server, off))
        return gap

    def _off(self, server: Server, what: str) -> str:
        return (
            f"{server.name} does not compute what the policy does: right after new weights {what}; "
            "it may keep old weights or a part of them (a tied head), compute in another dtype, or cut or rescale its softmax "
            "(start vLLM with --logprobs-mode processed_logprobs --enforce-eager, in the dtype of precision)."
        )


@torch.no_grad()
def logprobs(
    policy: PolicyModule, asks: Sequence[Ask], said: Sequence[Said], world: World
) -> list[list[float]]:
    """The policy's log-probabilities of what was drawn, at the temperature that was asked for (nats)."""
    rows = []
    for ask, one in zip(asks, said, strict=True):
        ids = torch.tensor([*ask.ids, *one.ids], dtype=torch.int32).numpy()
        mask = torch.arange(len(ids)).ge(len(ask.ids)).numpy()
        rows.append(Tokens(ids, mask))
    batch = TokenBatch.collate(rows).to(world.device)
    with world.autocast():
        found = policy(batch, asks[0].temperature or 1.0).logprobs
    parts = found.float().cpu().split(list(batch.lengths))
    return [part[len(ask.ids) :].tolist() for part, ask in zip(parts, asks, strict=True)]
