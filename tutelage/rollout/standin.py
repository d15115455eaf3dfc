"""A small server that speaks vLLM's protocol, for trying remote rollouts without one, and for tests.

    python -m tutelage.rollout.standin --model runs/sft --port 8000

It draws with this project's own decoding, in float32 on the CPU.  Where a request's id is one of ours
(SEED:STEP:PROMPT:SAMPLE) it draws what the local generator does.  POST /standin/faults makes it wrong on purpose
(`standin_engine.Faults`), GET /standin/stats says what it was asked.  With --fixed it is a plain OpenAI-compatible endpoint
that takes no weights.
"""

from __future__ import annotations

import argparse
import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import asdict, replace
from typing import Any

import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse

from tutelage.models.loading import load_policy, load_tokenizer
from tutelage.rollout.decode import Drawn
from tutelage.rollout.remote.vllm import UNFIT
from tutelage.rollout.standin_engine import Engine, Faults, Wanted

MODEL = "stand-in"
SILENCE = 3600.0  # seconds: longer than any client waits
Answers = tuple[Drawn, str]


class Service:
    """Requests that come at the same time are drawn together."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.counts: Counter[str] = Counter()
        self.ids: Counter[str] = Counter()  # of responses that were asked for
        self._waiting: list[tuple[Wanted, asyncio.Future[Answers]]] = []
        self._going: asyncio.Event | None = None
        self._worker: asyncio.Task[None] | None = None

    @property
    def going(self) -> asyncio.Event:
        """Set unless the server is paused."""
        if self._going is None:
            self._going = asyncio.Event()
            self._going.set()
        return self._going

    async def draw(self, wanted: Wanted) -> Answers:
        """What is drawn, and the label of the weights that drew it."""
        answered: asyncio.Future[Answers] = asyncio.get_running_loop().create_future()
        self._waiting.append((wanted, answered))
        if self._worker is None or self._worker.done():
            self._worker = asyncio.create_task(self._work())
        return await answered

    async def _work(self) -> None:
        while self._waiting:
            await self.going.wait()
            await asyncio.sleep(0.002)  # those who ask at the same time
            some, self._waiting = self._waiting, []
            try:
                drawn, label = await asyncio.to_thread(self.engine.draw, [wanted for wanted, _ in some])
            except Exception as fault:
                for _, answered in some:
                    answered.set_exception(fault)
            else:
                for one, (_, answered) in zip(drawn, some, strict=True):
                    if not answered.cancelled():
                        answered.set_result((one, label))

    async def fault(self) -> Response | None:
        """The answer to a request that goes wrong; None where it does not."""
        faults = self.engine.faults
        if faults.take("error"):
            self.counts["error"] += 1
            return failed(500, "something broke")
        if faults.take("hang"):
            self.counts["hang"] += 1
            await asyncio.sleep(SILENCE)
        if faults.take("drop"):
            self.counts["drop"] += 1
            return StreamingResponse(_broken(), headers={"Content-Length": "1000"})
        return None

    def refuses(self, wanted: Wanted) -> Response | None:
        """The answer to a request for more than the model takes."""
        most = self.engine.context
        if most is not None and len(wanted.ids) + wanted.limit > most:
            return failed(400, f"the prompt and max_tokens are longer than the context of {most} tokens")
        return None


def failed(status: int, message: str) -> JSONResponse:
    return JSONResponse({"error": {"message": message, "code": status}}, status)


async def _broken() -> AsyncIterator[bytes]:
    yield b'{"choices": [{'
    raise ConnectionResetError("dropped on purpose")


def build_app(engine: Engine, *, fixed: bool = False) -> FastAPI:
    """The server.  fixed: without the routes for weights."""
    app, service = FastAPI(openapi_url=None), Service(engine)
    app.state.service = service
    _reading(app, service)
    _drawing(app, service, fixed)
    if not fixed:
        _weights(app, service)
    _trying(app, service)
    return app


def _reading(app: FastAPI, service: Service) -> None:
    engine = service.engine

    @app.get("/health")
    async def health() -> Response:
        return Response(status_code=200)

    @app.get("/v1/models")
    async def models() -> Any:
        return {"object": "list", "data": [{"id": MODEL, "object": "model", "max_model_len": engine.context}]}

    @app.post("/tokenize")
    async def tokenize(asked: dict[str, Any]) -> Any:
        ids = engine.tokens(asked["prompt"], asked.get("add_special_tokens", True))
        return {"tokens": ids, "count": len(ids), "max_model_len": engine.context}


def _drawing(app: FastAPI, service: Service, fixed: bool) -> None:
    engine = service.engine

    @app.post("/v1/completions")
    async def completions(asked: dict[str, Any]) -> Any:
        prompt = asked["prompt"]
        ids = (
            engine.tokens(prompt, asked.get("add_special_tokens", True))
            if isinstance(prompt, str)
            else prompt
        )
        wanted = _wanted(ids, asked, asked["max_tokens"], asked.get("request_id", ""))
        service.counts["completions"] += 1
        if (answer := service.refuses(wanted) or await service.fault()) is not None:
            return answer
        drawn, _ = await service.draw(wanted)
        service.ids[wanted.id] += 1
        return {
            "object": "text_completion",
            "model": MODEL,
            "choices": [_completion(drawn, ids, asked, engine)],
        }

    if fixed:
        return

    @app.post("/inference/v1/generate")
    async def generate(asked: dict[str, Any]) -> Any:
        sampling = asked["sampling_params"]
        wanted = _wanted(asked["token_ids"], sampling, sampling["max_tokens"], asked.get("request_id", ""))
        service.counts["generate"] += 1
        if (answer := service.refuses(wanted) or await service.fault()) is not None:
            return answer
        drawn, label = await service.draw(wanted)
        service.ids[wanted.id] += 1
        label = "mislabelled" if engine.faults.take("mislabel") else label
        choice = {
            "index": 0,
            "token_ids": drawn.ids,
            "logprobs": {
                "content": [
                    {"token_id": a, "logprob": b} for a, b in zip(drawn.ids, drawn.logprobs, strict=True)
                ]
            },
            "finish_reason": "abort" if engine.faults.take("abort") else _finish(drawn),
            "weight_versions": [{"version": label, "start": 0, "end": len(drawn.ids)}],
        }
        return {"request_id": wanted.id, "choices": [choice]}


def _weights(app: FastAPI, service: Service) -> None:
    engine = service.engine

    @app.post("/pause")
    async def pause() -> Any:
        service.going.clear()
        return {"status": "paused"}

    @app.post("/resume")
    async def resume() -> Any:
        service.going.set()
        return {"status": "resumed"}

    @app.get("/weight_info")
    async def weight_info() -> Any:
        return {"weight_version": engine.label}

    @app.post("/init_weight_transfer_engine")
    async def init(asked: dict[str, Any]) -> Any:
        return {"message": "Weight transfer initialized"}

    @app.post("/start_weight_update")
    async def start() -> Any:
        service.counts["updates"] += 1
        return _tried(engine.start)

    @app.post("/update_weights")
    async def update(asked: dict[str, Any]) -> Any:
        return _tried(lambda: engine.read(asked["update_info"]["path"]))

    @app.post("/finish_weight_update")
    async def finish(request: Request) -> Any:
        asked = await request.json() if await request.body() else {}
        return _tried(lambda: engine.finish(asked.get("weight_version")))


def _trying(app: FastAPI, service: Service) -> None:
    @app.post("/standin/faults")
    async def faults(asked: dict[str, Any]) -> Any:
        service.engine.faults = replace(service.engine.faults, **asked)
        return asdict(service.engine.faults)

    @app.get("/standin/stats")
    async def stats() -> Any:
        return {"counts": service.counts, "ids": service.ids, "label": service.engine.label}


def _tried(work: Any) -> Any:
    try:
        work()
    except ValueError as error:
        return failed(500, f"{UNFIT}{error}")
    except (RuntimeError, OSError, KeyError) as error:
        return failed(500, str(error))
    return {"message": "done"}


def _wanted(ids: list[int], sampling: dict[str, Any], limit: int, name: str) -> Wanted:
    temperature = sampling.get("temperature")
    return Wanted(
        name, tuple(ids), limit, 1.0 if temperature is None else temperature, sampling.get("seed") or 0
    )


def _finish(drawn: Drawn) -> str:
    return "stop" if drawn.ended else "length"


def _completion(drawn: Drawn, ids: list[int], asked: dict[str, Any], engine: Engine) -> dict[str, Any]:
    choice: dict[str, Any] = {"index": 0, "text": engine.text(drawn.ids), "finish_reason": _finish(drawn)}
    if asked.get("logprobs") is not None:
        choice["logprobs"] = {
            "tokens": [f"token_id:{token}" for token in drawn.ids],
            "token_logprobs": drawn.logprobs,
        }
    if asked.get("return_token_ids"):
        choice |= {"token_ids": drawn.ids, "prompt_token_ids": list(ids)}
    return choice


def main() -> None:
    """Serve until interrupted."""
    parser = argparse.ArgumentParser(
        prog="python -m tutelage.rollout.standin", description=__doc__.split("\n")[0]
    )
    parser.add_argument("--model", required=True, help="folder or hub name of the model")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--fixed", action="store_true", help="a plain endpoint that takes no weights")
    given = parser.parse_args()
    engine = Engine(load_policy(given.model), load_tokenizer(given.model), Faults())
    print(
        f"A stand-in for a server of rollouts at http://{given.host}:{given.port}. Ctrl-C ends it.",
        flush=True,
    )
    uvicorn.run(build_app(engine, fixed=given.fixed), host=given.host, port=given.port, log_level="warning")


if __name__ == "__main__":
    main()
