"""THE place for what is particular to vLLM: its routes for tokens in and tokens out, and for new weights.

Written for vLLM 0.32 (its routes as they stand in that version; they changed in 0.16, 0.22, 0.25, 0.29 and 0.32).  The routes for
weights are there when the server is started with VLLM_SERVER_DEV_MODE=1, the one for tokens with --enable-scale-out, and the disk
when its environment has the package in tools/vllm_disk and --weight-transfer-config '{"backend": "tutelage_disk"}' is said.

    POST /inference/v1/generate    {"token_ids": [...], "sampling_params": {...}}
         -> {"choices": [{"token_ids", "logprobs": {"content": [{"token_id", "logprob"}]}, "finish_reason",
                          "weight_versions": [{"version", "start", "end"}]}]}
    POST /pause?mode=abort, /resume
    POST /start_weight_update, /update_weights {"update_info": {...}}, /finish_weight_update {"weight_version": "..."}
    GET  /weight_info -> {"weight_version": "..."}
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import httpx2

from tutelage.judges.patience import Again
from tutelage.rollout.remote.plain import WHOLE, first_choice, stopped
from tutelage.rollout.remote.wire import Ask, Refused, Said, Server, field, why

WRITTEN_FOR = "0.32"
"""The version of vLLM that this was written for and tried with (docs/remote.md says how)."""

DISK = "tutelage_disk"
"""The name under which tools/vllm_disk registers its way to read weights."""

UNFIT = "tutelage: "
"""What the messages of tools/vllm_disk begin with: no second try will help."""


class Vllm:
    """`ends`: the tokens at which a response ends."""

    def __init__(self, ends: Sequence[int]) -> None:
        self.ends = frozenset(ends)

    async def ask(self, client: httpx2.AsyncClient, server: Server, ask: Ask) -> Said:
        sampling = {
            "n": 1,
            "max_tokens": ask.limit,
            "temperature": ask.temperature,
            **WHOLE,
            "seed": ask.seed,
            "stop_token_ids": sorted(self.ends),
            "logprobs": 0,
            "detokenize": False,
        }
        body = {"request_id": ask.id, "token_ids": list(ask.ids), "sampling_params": sampling}
        choice = first_choice(await server.post(client, "/inference/v1/generate", body), server)
        content = field(field(choice, "logprobs", server), "content", server)
        ids = tuple(field(choice, "token_ids", server))
        if [one["token_id"] for one in content] != list(ids):
            raise ValueError(f"{server.name} gave log-probabilities of other tokens than it drew.")
        logprobs = tuple(float(one["logprob"]) for one in content)
        return Said(ids, logprobs, stopped(choice, server), _label(choice.get("weight_versions"), server))

    async def label(self, client: httpx2.AsyncClient, server: Server) -> str:
        """Of the weights that a server has.  Raises ValueError for one that takes no weights."""
        try:
            return str(field(await server.get(client, "/weight_info"), "weight_version", server))
        except Refused as refused:
            if refused.status not in (404, 405):
                raise
            raise ValueError(
                f"{server.name} takes no weights, so that a policy that learns cannot be sampled from it: start vLLM "
                f"{WRITTEN_FOR} with VLLM_SERVER_DEV_MODE=1, --enable-scale-out and a --weight-transfer-config, as docs/remote.md"
                " says."
            ) from None

    async def begin(self, client: httpx2.AsyncClient, server: Server) -> None:
        """The server makes ready to read weights from a disk.  Raises ValueError where it was started for another way."""
        try:
            await server.post(client, "/init_weight_transfer_engine", {"init_info": {}})
        except Again as fault:
            if not fault.said:
                raise
            raise ValueError(
                f"{server.name} does not read weights from a disk ({why(fault.said)}): start it with --weight-transfer-config "
                f'\'{{"backend": "{DISK}"}}\' and tools/vllm_disk in its environment.'
            ) from None

    async def push(
        self, client: httpx2.AsyncClient, server: Server, label: str, update: Mapping[str, Any]
    ) -> None:
        """Give a server weights.  It is stopped meanwhile, and what it was writing is broken off.

        Raises Again for what may pass, ValueError for weights that it cannot take; it goes on writing either way.
        """
        await server.post(client, "/pause?mode=abort")
        try:
            await self._update(client, server, label, update)
        except Again as fault:
            text = why(fault.said)
            if UNFIT not in text:
                raise
            raise ValueError(f"{server.name} cannot take the weights: {text.partition(UNFIT)[2]}.") from None
        finally:
            await server.post(client, "/resume")

    async def _update(
        self, client: httpx2.AsyncClient, server: Server, label: str, update: Mapping[str, Any]
    ) -> None:
        try:
            await server.post(client, "/start_weight_update")
        except Again as fault:
            if not fault.said:
                raise
            await server.post(client, "/finish_weight_update")  # one that was never finished is in the way
            await server.post(client, "/start_weight_update")
        await server.post(client, "/update_weights", {"update_info": dict(update)})
        await server.post(client, "/finish_weight_update", {"weight_version": label})


def _label(spans: Any, server: Server) -> str:
    """The label of the weights that wrote a whole response; of one that several wrote, all of them."""
    if not isinstance(spans, list) or not spans:
        raise ValueError(
            f"{server.name} does not say which weights wrote a response: use vLLM {WRITTEN_FOR}, whose responses carry "
            "weight_versions."
        )
    return "+".join(dict.fromkeys(str(span["version"]) for span in spans))
