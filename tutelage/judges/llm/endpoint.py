"""An OpenAI-compatible endpoint: chat completions, through OpenAI's own client."""

from __future__ import annotations

import logging
import os
import time
from types import TracebackType
from typing import Any, Self, cast
from urllib.parse import urlsplit

import httpx2
import openai
from openai.types.chat import ChatCompletion

from tutelage.judges.llm.asking import Call, Prices
from tutelage.judges.patience import Again, GaveUp, patiently, retry_after
from tutelage.store import Answer

BUSY = (408, 409, 425, 429)  # and all from 500 on
UNANSWERABLE = (
    "context_length_exceeded",
    "content_filter",
    "content_policy_violation",
    "string_above_max_length",
)
NO_KEY = "none"  # the client wants one; an endpoint that wants one, too, says so
_log = logging.getLogger(__name__)


class Endpoint:
    """Asks one model behind a base URL; to be entered as an async context.

    What may pass is tried again for `patience` seconds a question, at the server's word (Retry-After) where it gives one.  The
    key comes from the environment and is in no message.
    """

    def __init__(
        self,
        url: str,
        model: str,
        prices: Prices,
        key_env: str,
        timeout: float,
        patience: float,
        concurrency: int,
    ) -> None:
        address = urlsplit(url)
        self.name = (
            f"{address.scheme}://{address.netloc}{address.path}"  # without a query, which may hold a key
        )
        self._model, self._prices, self._patience, self._timeout = model, prices, patience, timeout
        self._key_env, self._told = key_env, False
        self._http = httpx2.AsyncClient(
            limits=httpx2.Limits(max_connections=concurrency, max_keepalive_connections=concurrency)
        )
        self._client = openai.AsyncOpenAI(
            base_url=url,
            api_key=key_in(key_env, self.name),
            timeout=timeout,
            max_retries=0,
            http_client=self._http,
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._client.close()

    async def answer(self, call: Call, key: str) -> Answer:
        """What the model says.  Raises ValueError, one sentence, where the endpoint cannot be asked."""
        started = time.monotonic()

        async def attempt() -> Answer:
            return await self._attempt(call, key, started)

        try:
            return await patiently(attempt, self._patience, self._tell)
        except GaveUp as fault:
            raise ValueError(
                f"{self.name} does not answer {fault}: see to the server and go on with the same command, or give it more "
                "patience or a longer timeout."
            ) from None

    async def _attempt(self, call: Call, key: str, started: float) -> Answer:
        try:
            said = await self._client.chat.completions.create(
                model=self._model,
                messages=cast(Any, [dict(message) for message in call.messages]),
                extra_headers={"Idempotency-Key": key},
                **call.params,
            )
        except openai.APITimeoutError:
            raise Again(f"no answer within {self._timeout:g} s") from None
        except openai.APIConnectionError as error:
            raise Again(f"no connection: {error.__cause__ or error}") from None
        except openai.APIStatusError as error:
            return self._refused(error, key, time.monotonic() - started)
        except (openai.APIError, httpx2.HTTPError, ValueError) as error:
            raise Again(f"an answer that cannot be read: {' '.join(str(error).split())[:80]}") from None
        return self._read(said, call, key, time.monotonic() - started)

    def _refused(self, error: openai.APIStatusError, key: str, seconds: float) -> Answer:
        """An error status: to be tried again, an answer in itself, or the end."""
        status, said = error.status_code, shown(error)
        if status in BUSY or status >= 500:
            if error.code == "insufficient_quota":
                raise ValueError(f"{self.name} answered with status {status}: {said}. See to the account.")
            raise Again(f"status {status}", retry_after(error.response.headers.get("Retry-After", "")))
        if error.code in UNANSWERABLE:
            return Answer(key, "refused", text=said, seconds=seconds)
        hint = {
            401: f" (does {self._key_env or 'key_env'} hold its key?)",
            403: f" (does {self._key_env or 'key_env'} hold a key that may ask {self._model}?)",
            404: f" (is url its base, such as http://localhost:8000/v1, and {self._model} one of its models?)",
        }.get(status, "")
        raise ValueError(f"{self.name} answered with status {status}{hint}: {said.removesuffix('.')}.")

    def _read(self, said: Any, call: Call, key: str, seconds: float) -> Answer:
        if not isinstance(said, ChatCompletion):
            raise ValueError(
                f"{self.name} answered with what is no chat completion: {' '.join(str(said).split())[:80]!r}. Is url the base of "
                "an OpenAI-compatible endpoint?"
            )
        choice = said.choices[0] if said.choices else None
        likely = None
        if choice is not None and choice.logprobs is not None and choice.logprobs.content:
            likely = {one.token: one.logprob for one in choice.logprobs.content[0].top_logprobs}
        if call.params.get("logprobs") and likely is None:
            raise ValueError(
                f"{self.name} gives no log-probabilities of {self._model}'s first token, which mode: logits reads: take "
                "mode: text."
            )
        usage = said.usage
        sent, received = (
            (usage.prompt_tokens, usage.completion_tokens) if usage else (call.longest, call.limit)
        )
        return Answer(
            key,
            "answered",
            (choice.message.content or "") if choice is not None else "",
            (choice.finish_reason or "") if choice is not None else "",
            likely,
            sent,
            received,
            self._prices.of(sent, received),
            seconds,
        )

    def _tell(self, fault: Again) -> None:
        """Nobody should look at a run that waits and not know why."""
        if not self._told:
            self._told = True
            _log.warning(
                "%s does not answer (%s): trying again for %.0f s at most.", self.name, fault, self._patience
            )


def shown(error: openai.APIStatusError) -> str:
    """The start of what the server said, on one line."""
    body = error.body
    said = body.get("message") if isinstance(body, dict) else body
    text = " ".join(str(said or error.message).split())
    text = "".join(letter for letter in text if letter.isprintable())
    return f"{text[:120]}..." if len(text) > 120 else text or "nothing"


def key_in(variable: str, name: str) -> str:
    """The key in an environment variable.  Raises ValueError for one that no header can carry."""
    key = os.environ.get(variable, "").strip() if variable else ""
    if key and not (key.isascii() and key.isprintable()):
        raise ValueError(
            f"the environment variable {variable}, the key of {name}, holds what no key is made of: set it anew."
        )
    return key or NO_KEY
