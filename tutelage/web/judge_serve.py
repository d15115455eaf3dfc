"""`tutelage judge serve`: an OpenAI-compatible endpoint without a model, for trying judges, and for tests.

POST /v1/chat/completions answers as `worlds/speaker.py` says; GET /v1/models; GET /stats: what it was asked.  It can be as
difficult as real endpoints are: busy (429 with Retry-After), silent, slow.  An `Idempotency-Key` that it has answered gets the
same answer, which is counted once.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from typing import Any

import uvicorn
from rich.console import Console
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tutelage.data.reading.formats import read_prompts
from tutelage.records import Prompt
from tutelage.seeds import rng
from tutelage.settings.web import JudgeServeSettings as Settings
from tutelage.web.serve import listen
from tutelage.worlds.annotators import Annotator
from tutelage.worlds.gold import gradable
from tutelage.worlds.speaker import Said, Speaker

MODEL = "tutelage-world"
SILENCE = 3600.0  # seconds: longer than any client waits


def main(settings: Settings, console: Console) -> None:
    """Serve until interrupted.  Raises ValueError for prompts that nobody could judge, or a port that is taken."""
    speaker = speaker_of(settings)
    with listen(settings.host, settings.port) as listener:
        host, port = listener.getsockname()[:2]
        console.print(
            f"An offline judge at http://{host}:{port}/v1, model {MODEL}. Ctrl-C ends it.", highlight=False
        )
        config = uvicorn.Config(
            build_app(speaker, settings), log_level="warning", access_log=False, lifespan="off"
        )
        uvicorn.Server(config).run(sockets=[listener])


def speaker_of(settings: Settings) -> Speaker:
    """Who answers."""
    prompts = [one for one in read_prompts(settings.references) if isinstance(one, Prompt) and gradable(one)]
    if not prompts:
        raise ValueError(
            f"references={settings.references} has no prompt of the embedded world with its reference: give what "
            "`tutelage world` wrote."
        )
    annotator = Annotator(
        MODEL, settings.reliability, settings.position_bias, settings.length_bias, settings.tie_width
    )
    return Speaker(prompts, annotator, settings.malformed, settings.seed)


def build_app(speaker: Speaker, settings: Settings) -> Starlette:
    """The endpoint as an ASGI app."""
    endpoint = Completions(speaker, settings)
    routes = [
        Route("/v1/chat/completions", endpoint.complete, methods=["POST"]),
        Route("/v1/models", endpoint.models),
        Route("/stats", endpoint.stats),
    ]
    return Starlette(routes=routes)


class Completions:
    """Answers, faults, and counts of both."""

    def __init__(self, speaker: Speaker, settings: Settings) -> None:
        self._speaker, self._settings = speaker, settings
        self._requests = 0
        self._faults: Counter[str] = Counter()
        self._answered: dict[str, dict[str, Any]] = {}
        self._times: Counter[str] = Counter()  # key -> answers given

    async def models(self, request: Request) -> Response:
        """The one model that there is."""
        return JSONResponse(
            {"object": "list", "data": [{"id": MODEL, "object": "model", "owned_by": "tutelage"}]}
        )

    async def stats(self, request: Request) -> Response:
        """Requests, faults, and what was answered and charged."""
        usage = [one["usage"] for one in self._answered.values()]
        return JSONResponse(
            {
                "requests": self._requests,
                "faults": self._faults,
                "answered": len(self._answered),
                "answers": sum(self._times.values()),
                "prompt_tokens": sum(one["prompt_tokens"] for one in usage),
                "completion_tokens": sum(one["completion_tokens"] for one in usage),
            }
        )

    async def complete(self, request: Request) -> Response:
        """One chat completion, or a fault."""
        self._requests += 1
        fault = self._fault(self._requests)
        if fault:
            self._faults[fault] += 1
        if fault == "busy":
            return failed(429, "rate_limit_exceeded", "Too many requests.", {"Retry-After": "0"})
        if fault == "stalled":
            await asyncio.sleep(SILENCE)
        try:
            asked = json.loads(await request.body())
            messages, weighed = asked["messages"], bool(asked.get("logprobs"))
            content = json.dumps(messages)
        except (ValueError, KeyError, TypeError):
            return failed(400, "invalid_request", "The body must be JSON with messages.")
        if asked.get("model") != MODEL:
            return failed(404, "model_not_found", f"There is no model {asked.get('model')!r}.")
        await asyncio.sleep(self._settings.latency)
        key = request.headers.get("Idempotency-Key") or str(self._requests)
        if key not in self._answered:
            self._answered[key] = completion(self._speaker.answer(messages, weighed), content)
        self._times[key] += 1
        return JSONResponse(self._answered[key])

    def _fault(self, number: int) -> str:
        drawn = float(rng(self._settings.seed, "judge serve", "fault", number).random())
        if drawn < self._settings.busy:
            return "busy"
        return "stalled" if drawn < self._settings.busy + self._settings.stalled else ""


def completion(said: Said, asked: str) -> dict[str, Any]:
    """A chat completion as OpenAI's API gives it; a token is four letters."""
    choice: dict[str, Any] = {
        "index": 0,
        "message": {"role": "assistant", "content": said.text},
        "finish_reason": "stop",
        "logprobs": None,
    }
    if said.likely is not None:
        top: list[dict[str, Any]] = [
            {"token": token, "logprob": value, "bytes": None} for token, value in said.likely.items()
        ]
        first = max(top, key=lambda one: one["logprob"])
        choice["logprobs"] = {"content": [{**first, "top_logprobs": top}], "refusal": None}
    sent, received = len(asked) // 4 + 1, len(said.text) // 4 + 1
    usage = {"prompt_tokens": sent, "completion_tokens": received, "total_tokens": sent + received}
    return {
        "id": "chatcmpl-offline",
        "object": "chat.completion",
        "created": int(time.time()),
        "model": MODEL,
        "choices": [choice],
        "usage": usage,
    }


def failed(status: int, code: str, message: str, headers: dict[str, str] | None = None) -> Response:
    """An error as OpenAI's API gives it."""
    return JSONResponse({"error": {"message": message, "type": code, "code": code}}, status, headers=headers)
