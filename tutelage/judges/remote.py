"""A judge that answers over HTTP.

    POST {"prompts": [...], "completions": ["..."], "references": [{...} | null], "tasks": ["..."]}
    ->   {"scores": [0.5, null]}          one per completion, in order; null: it does not apply

A prompt is a text, or a list of {"role", "content"}, or {"messages", "tools"}.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Sequence
from urllib.parse import urlsplit

import httpx2

from tutelage.judges.judge import LARGEST, Judge
from tutelage.judges.patience import Again, GaveUp, all_or_first_fault, patiently, run_here
from tutelage.judges.sending import authorization, received, shown, trusted
from tutelage.records import Response, Score

LARGEST_ANSWER = 16 * 2**20  # bytes
_log = logging.getLogger(__name__)


class RemoteJudge(Judge):
    """Scores from an endpoint, in batches of `batch_size`, `concurrency` of them at a time.

    What may pass (no connection, no answer within `timeout` seconds, 429, 5xx) is tried again after growing pauses, or when
    the server says (Retry-After), for `patience` seconds a batch.  Then, and at once for any other answer that is no list of
    scores, `score` raises one ValueError: a fault never becomes a reward.
    """

    def __init__(
        self,
        url: str,
        batch_size: int = 32,
        concurrency: int = 4,
        timeout: float = 60.0,
        patience: float = 300.0,
        token_env: str = "",
    ) -> None:
        try:
            httpx2.URL(url)
        except httpx2.InvalidURL as error:
            raise ValueError(
                f"{url} is no address ({error}): write it like http://localhost:8100/score."
            ) from None
        address = urlsplit(url)
        self.name = (
            f"{address.scheme}://{address.netloc}{address.path}"  # without a query, which may hold a key
        )
        self._url, self._batch_size, self._concurrency = url, batch_size, concurrency
        self._timeout, self._patience = timeout, patience
        self._told = False
        self._headers = {"Content-Type": "application/json", **authorization(token_env, self.name)}

    def score(self, responses: Sequence[Response]) -> list[Score | None]:
        size = self._batch_size
        batches = [responses[at : at + size] for at in range(0, len(responses), size)]
        self._told = False
        found = run_here(lambda: self._ask_all(batches))
        return [score for scores in found for score in scores]

    async def _ask_all(self, batches: Sequence[Sequence[Response]]) -> list[list[Score | None]]:
        gate = asyncio.Semaphore(self._concurrency)
        async with httpx2.AsyncClient(
            headers=self._headers, verify=trusted(), trust_env=False, timeout=None
        ) as client:

            async def one(batch: Sequence[Response]) -> list[Score | None]:
                async with gate:
                    return await self._ask(client, batch)

            return await all_or_first_fault([one(batch) for batch in batches])

    async def _ask(self, client: httpx2.AsyncClient, batch: Sequence[Response]) -> list[Score | None]:
        """The scores of one batch, however often it takes to ask."""
        body = _body(batch)

        async def attempt() -> list[Score | None]:
            return self._read(*await self._post(client, body), len(batch))

        try:
            return await patiently(attempt, self._patience, self._tell)
        except GaveUp as fault:
            raise ValueError(
                f"{self.name} gives no scores {fault}: see to the server and go on with the same command, or give it more "
                "patience or a longer timeout."
            ) from None

    async def _post(self, client: httpx2.AsyncClient, body: bytes) -> tuple[int, bytes]:
        """(status, content) of the answer.  Raises Again for what may pass, ValueError for an answer without end."""
        asked = client.stream("POST", self._url, content=body)
        return await received(asked, self.name, self._timeout, LARGEST_ANSWER, "scores")

    def _read(self, status: int, content: bytes, count: int) -> list[Score | None]:
        """Scores from an answer.  Raises ValueError saying what came instead."""
        if status != 200:
            hint = " (does token_env name the variable with its token?)" if status in (401, 403) else ""
            raise ValueError(f"{self.name} answered with status {status}{hint}: {shown(content)}.")
        try:
            answer = json.loads(
                content, parse_int=float
            )  # a number too long for a float is infinite, as it should
        except (ValueError, RecursionError):
            raise ValueError(f"{self.name} answered with what is not JSON: {shown(content)}.") from None
        scores = answer.get("scores") if isinstance(answer, dict) else None
        if not isinstance(scores, list):
            raise ValueError(f'{self.name} answered without {{"scores": [...]}}: {shown(content)}.')
        if len(scores) != count:
            raise ValueError(
                f"{self.name} gave {len(scores)} scores for {count} completions: it must give one each."
            )
        for number, value in enumerate(scores, 1):
            if value is not None and not (isinstance(value, float) and abs(value) < LARGEST):
                raise ValueError(
                    f"{self.name} gave {shown(json.dumps(value).encode())} as score {number} of {count}: a score is a finite "
                    "number, or null where it does not apply."
                )
        return [None if value is None else Score(value) for value in scores]

    def _tell(self, fault: Again) -> None:
        """Nobody should look at a run that waits and not know why; once for all batches."""
        if not self._told:
            self._told = True
            _log.warning(
                "%s gives no scores (%s): trying again for %.0f s at most.", self.name, fault, self._patience
            )


def _body(batch: Sequence[Response]) -> bytes:
    prompts = [response.prompt for response in batch]
    asked = {
        "prompts": [prompt.content_json() for prompt in prompts],
        "completions": [response.text for response in batch],
        "references": [
            prompt.reference if prompt.reference is None else dict(prompt.reference) for prompt in prompts
        ],
        "tasks": [prompt.task for prompt in prompts],
    }
    return json.dumps(asked).encode()
