"""Several servers as one: who is asked, who is waited for, and which weights wrote what came back.

Every response that is wanted is asked for until it has come once: by its id, so that none is counted twice.  A server that
fails is passed over for the others; where there is none, it is waited for.  Where weights are given (`Update`), a server that
may have lost its own (it was started again) gets them anew before it is asked, and what other weights wrote is asked for
again.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import httpx2

from tutelage.judges.patience import Again, GaveUp, all_or_first_fault, patiently, run_here
from tutelage.judges.sending import authorization, trusted
from tutelage.rollout.decode import Key
from tutelage.rollout.remote.vllm import Vllm
from tutelage.rollout.remote.wire import Ask, Dialect, Said, Server

_log = logging.getLogger(__name__)
T = TypeVar("T")
Done = Callable[[Said], None]


@dataclass(frozen=True)
class Update:
    """Weights that servers are to have.

    label: their name, which no others have.  info: where a server reads them.  probes: what it is asked for right after.  proven:
    what a server with these weights draws for the probes, as the policy itself has confirmed; raises ValueError for anything
    else.
    """

    label: str
    info: Mapping[str, Any]
    probes: Sequence[Ask] = ()
    proven: Callable[[Server, Sequence[Said]], None] = lambda server, said: None


class Pool:
    """Servers, by their URLs.  timeout: seconds for one request; patience: seconds that a response is tried to get; at_once:
    requests to one server."""

    def __init__(
        self,
        urls: Sequence[str],
        dialect: Dialect,
        *,
        timeout: float,
        patience: float,
        at_once: int,
        key_env: str = "",
    ) -> None:
        self.servers = [Server(url, timeout) for url in urls]
        self.dialect = dialect
        self._patience, self._at_once = patience, at_once
        self._headers = authorization(key_env, self.servers[0].name)
        self._told = False

    def run(self, work: Callable[[httpx2.AsyncClient], Coroutine[Any, Any, T]]) -> T:
        """What `work` returns, with a client that keeps its connections."""

        async def inside() -> T:
            most = self._at_once * len(self.servers)
            limits = httpx2.Limits(max_connections=most + 8, max_keepalive_connections=most + 8)
            async with httpx2.AsyncClient(
                headers=self._headers, verify=trusted(), trust_env=False, timeout=None, limits=limits
            ) as client:
                return await work(client)

        self._told = False
        return run_here(inside)

    async def until(self, attempt: Callable[[], Awaitable[T]], whom: str) -> T:
        """What `attempt` returns in the end.  Raises ValueError where patience does."""
        try:
            return await patiently(attempt, self._patience, self._tell)
        except GaveUp as fault:
            raise ValueError(
                f"{whom} gives no responses {fault}: see to the server and go on with the same command, or give it more "
                "rollouts_patience or a longer rollouts_timeout."
            ) from None

    def draw(self, asks: Sequence[Ask], update: Update | None, done: Done) -> dict[Key, Said]:
        """What the servers draw, each once.  done: told of every response."""

        async def work(client: httpx2.AsyncClient) -> list[Said]:
            gate = asyncio.Semaphore(self._at_once * len(self.servers))
            locks = {server.url: asyncio.Lock() for server in self.servers}
            for server in self.servers:
                server.down, server.busy = False, 0

            async def one(ask: Ask) -> Said:
                async with gate:
                    said = await self.until(
                        lambda: self._attempt(client, ask, update, locks), self.servers[0].name
                    )
                done(said)
                return said

            return await all_or_first_fault([one(ask) for ask in asks])

        return dict(zip([ask.key for ask in asks], self.run(work), strict=True))

    def push(self, update: Update) -> list[tuple[Server, list[Said]]]:
        """Give the weights to all servers that take them, and ask those for the probes; at least one is waited for."""

        async def tried(client: httpx2.AsyncClient, server: Server) -> list[Said] | Again:
            try:
                return await self._give(client, server, update)
            except Again as fault:
                server.label = None
                return fault

        async def work(client: httpx2.AsyncClient) -> list[tuple[Server, list[Said]]]:
            async def attempt() -> list[tuple[Server, list[Said]]]:
                answers = await all_or_first_fault([tried(client, server) for server in self.servers])
                found = [
                    (server, answer)
                    for server, answer in zip(self.servers, answers, strict=True)
                    if not isinstance(answer, Again)
                ]
                if not found:
                    raise next(answer for answer in answers if isinstance(answer, Again))
                return found

            return await self.until(attempt, self.servers[0].name)

        return self.run(work)

    async def _attempt(
        self,
        client: httpx2.AsyncClient,
        ask: Ask,
        update: Update | None,
        locks: Mapping[str, asyncio.Lock],
    ) -> Said:
        server = min(self.servers, key=lambda one: (one.down, one.busy))
        server.busy += 1
        try:
            if update is not None:
                async with locks[server.url]:
                    await self._ready(client, server, update)
            said = await self.dialect.ask(client, server, ask)
            check(said, ask, server, self.dialect.ends)
            if update is not None and said.label != update.label:
                raise Again(f"{server.name} wrote with the weights {said.label} instead of {update.label}")
        except Again:
            server.down, server.label = True, None
            raise
        finally:
            server.busy -= 1
        server.down = False
        return said

    async def _ready(self, client: httpx2.AsyncClient, server: Server, update: Update) -> None:
        """The server has the weights, by its own word and by what it draws."""
        if server.label == update.label:
            return
        if server.proven != update.label or await self._vllm.label(client, server) != update.label:
            update.proven(server, await self._give(client, server, update))
        server.label = server.proven = update.label

    async def _give(self, client: httpx2.AsyncClient, server: Server, update: Update) -> list[Said]:
        """Push the weights; what the server draws for the probes with them."""
        await self._vllm.push(client, server, update.label, update.info)
        said = await all_or_first_fault([self.dialect.ask(client, server, ask) for ask in update.probes])
        for one, ask in zip(said, update.probes, strict=True):
            check(one, ask, server, self.dialect.ends)
            if one.label != update.label:
                raise Again(f"{server.name} wrote with the weights {one.label} right after {update.label}")
        server.label = update.label
        return said

    @property
    def _vllm(self) -> Vllm:
        assert isinstance(self.dialect, Vllm), "only these servers take weights"
        return self.dialect

    def _tell(self, fault: Again) -> None:
        """Nobody should look at a run that waits and not know why; once for all responses of a call."""
        if not self._told:
            self._told = True
            _log.warning("No response (%s): trying again for %.0f s at most.", fault, self._patience)


def check(said: Said, ask: Ask, server: Server, ends: frozenset[int]) -> None:
    """Raises ValueError for what is no response to what was asked."""
    if not said.ids or len(said.ids) > ask.limit or len(said.ids) != len(said.logprobs):
        raise ValueError(
            f"{server.name} drew {len(said.ids)} tokens with {len(said.logprobs)} log-probabilities where 1 to {ask.limit} "
            "were asked for."
        )
    if not all(isinstance(value, float | int) and -math.inf < value < 1e-3 for value in said.logprobs):
        raise ValueError(f"{server.name} gave log-probabilities that are none: {list(said.logprobs)[:4]}.")
    if said.ids[-1] in ends:
        return
    if said.stopped:
        raise ValueError(
            f"{server.name} ended a response at the token {said.ids[-1]}, which ends none of this model's: does it serve "
            "the same model?"
        )
    if len(said.ids) < ask.limit:
        raise ValueError(
            f"{server.name} broke a response off at {len(said.ids)} of {ask.limit} tokens: give it a longer context "
            "(--max-model-len of vLLM), or lower max_new_tokens."
        )
