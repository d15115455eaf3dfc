"""Before anything is asked of servers: which model they serve, whether they read its tokens, and whether they take weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import httpx2
from transformers import PreTrainedTokenizerBase

from tutelage.judges.patience import all_or_first_fault
from tutelage.models.loading import SPECIMEN
from tutelage.rollout.remote.pool import Pool
from tutelage.rollout.remote.vllm import Vllm
from tutelage.rollout.remote.wire import Refused, Server, field

TEXTS = ("Once upon a time, in 1984, there was a town by the sea.", SPECIMEN)


class Greeting(NamedTuple):
    """contexts: the longest of each server that says so.  compared: whether all servers said how they cut text into tokens."""

    contexts: list[int]
    compared: bool


def greet(pool: Pool, tokenizer: PreTrainedTokenizerBase, model: str, *, weights: bool) -> Greeting:
    """What servers say of themselves.

    model: the name to ask for; "": the only one that there is.  weights: the servers must take weights.  Raises ValueError, one
    sentence, for a server of which none of that is true.
    """

    async def one(client: httpx2.AsyncClient, server: Server) -> Greeting:
        async def hello() -> Greeting:
            server.model = await served(client, server, model)
            if weights:
                assert isinstance(pool.dialect, Vllm)
                await pool.dialect.label(client, server)
                await pool.dialect.begin(client, server)
            return await compare(client, server, tokenizer)

        return await pool.until(hello, server.name)

    async def work(client: httpx2.AsyncClient) -> list[Greeting]:
        return await all_or_first_fault([one(client, server) for server in pool.servers])

    every = pool.run(work)
    contexts = [length for each in every for length in each.contexts]
    return Greeting(contexts, all(each.compared for each in every))


async def served(client: httpx2.AsyncClient, server: Server, wanted: str) -> str:
    """The name of the model.  Raises ValueError where it is not there, or where several are and none is named."""
    listed = field(await server.get(client, "/v1/models"), "data", server)
    names = [str(one["id"]) for one in listed]
    if wanted and wanted not in names:
        raise ValueError(
            f"{server.name} has no model {wanted!r}: set rollouts_model to one of {', '.join(names) or 'none'}."
        )
    if not wanted and len(names) != 1:
        raise ValueError(
            f"{server.name} has {len(names)} models: set rollouts_model to one of {', '.join(names) or 'none'}."
        )
    return wanted or names[0]


async def compare(client: httpx2.AsyncClient, server: Server, tokenizer: PreTrainedTokenizerBase) -> Greeting:
    """What the server says of its tokens.  Raises ValueError where it cuts text into other tokens."""
    longest: list[int] = []
    for text in TEXTS:
        own = tokenizer(text, add_special_tokens=False)["input_ids"]
        found, context = await tokens_of(client, server, text)
        if found is None:
            return Greeting(longest, False)
        if list(found) != list(own):
            at = next(
                (i for i, (a, b) in enumerate(zip(found, own, strict=False)) if a != b),
                min(len(found), len(own)),
            )
            raise ValueError(
                f"{server.name} reads text as other tokens than the model here ({text[:20]!r}: token {at} is "
                f"{_at(found, at)} there and {_at(own, at)} here): give it the same model."
            )
        longest = [context] if context else []
    return Greeting(longest, True)


async def tokens_of(
    client: httpx2.AsyncClient, server: Server, text: str
) -> tuple[list[int] | None, int | None]:
    """How the server cuts a text, and its longest context; None for what it does not say."""
    body = {"model": server.model, "prompt": text, "add_special_tokens": False}
    try:
        answer = await server.post(client, "/tokenize", body)
        return field(answer, "tokens", server), answer.get("max_model_len")
    except Refused as refused:
        if refused.status not in (404, 405, 501):
            raise
    asked = {**body, "max_tokens": 1, "logprobs": 1, "return_token_ids": True}
    try:
        [choice] = field(await server.post(client, "/v1/completions", asked), "choices", server)
    except Refused:
        return None, None
    return choice.get("prompt_token_ids"), None


def _at(ids: Sequence[int], at: int) -> str:
    return str(ids[at]) if at < len(ids) else "none"
