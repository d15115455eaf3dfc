"""Any OpenAI-compatible endpoint with /v1/completions that gives token ids and log-probabilities, for weights that stay."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import httpx2

from tutelage.judges.patience import Again
from tutelage.rollout.remote.wire import Ask, Said, Server, field

WHOLE = {
    "top_p": 1.0,
    "top_k": -1,
    "min_p": 0.0,
    "presence_penalty": 0.0,
    "frequency_penalty": 0.0,
    "repetition_penalty": 1.0,
}
"""The whole softmax and nothing else: a server takes what is not said from its model's generation_config.json."""


class Plain:
    """`ends`: the tokens at which a response ends."""

    def __init__(self, ends: Sequence[int]) -> None:
        self.ends = frozenset(ends)

    async def ask(self, client: httpx2.AsyncClient, server: Server, ask: Ask) -> Said:
        body = {
            "model": server.model,
            "prompt": list(ask.ids),
            "max_tokens": ask.limit,
            "n": 1,
            "temperature": ask.temperature,
            **WHOLE,
            "seed": ask.seed,
            "stop_token_ids": sorted(self.ends),
            "logprobs": 1,
            "return_token_ids": True,
            "return_tokens_as_token_ids": True,
            "skip_special_tokens": True,
            "request_id": ask.id,
        }
        return self._read(await server.post(client, "/v1/completions", body), server)

    def _read(self, answer: Any, server: Server) -> Said:
        choice = first_choice(answer, server)
        logprobs = field(choice, "logprobs", server)
        values = field(logprobs, "token_logprobs", server)
        ids = choice.get("token_ids") or named_ids(logprobs.get("tokens") or ())
        if len(ids) != len(values):
            raise ValueError(
                f"{server.name} gives no ids of the tokens that it drew, from which nothing can be learnt or weighed: use a "
                "server that knows return_token_ids, as vLLM does."
            )
        return Said(tuple(ids), tuple(values), stopped(choice, server), text=choice.get("text"))


def first_choice(answer: Any, server: Server) -> Mapping[str, Any]:
    """The one choice of an answer."""
    choices = field(answer, "choices", server)
    if not isinstance(choices, list) or len(choices) != 1 or not isinstance(choices[0], dict):
        raise ValueError(f"{server.name} answered with other than one choice, of which it was asked for one.")
    found: Mapping[str, Any] = choices[0]
    return found


def stopped(choice: Mapping[str, Any], server: Server) -> bool:
    """Whether a response ended by itself.  Raises Again for one that the server broke off."""
    reason = choice.get("finish_reason")
    if reason == "abort":
        raise Again("the server broke a response off")
    if reason not in ("stop", "length"):
        raise ValueError(
            f"{server.name} ended a response with finish_reason {reason!r}, which is not known here."
        )
    return bool(reason == "stop")


def named_ids(tokens: Sequence[str]) -> list[int]:
    """The ids in names like token_id:5; [] where these are other names."""
    head = "token_id:"
    known = all(token.startswith(head) and token[len(head) :].isdecimal() for token in tokens)
    return [int(token[len(head) :]) for token in tokens] if known else []
