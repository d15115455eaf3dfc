"""Models that write on the spot, in a process of their own: this one never imports torch.

The worker (`tutelage.web.generation_worker`) reads one JSON request per line and answers with one line.  It is started
with the server, and again when it is needed after it died; when the server ends in whatever way, its input ends and so
does the worker.
"""

from __future__ import annotations

import asyncio
import json
import random
import secrets
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from tutelage.feedback.asking.payloads import LiveResponse, Splitter
from tutelage.feedback.errors import Refused
from tutelage.records import Prompt

PATIENCE = 180.0  # seconds for an answer, loading the models included
WAITING = 8  # requests that may wait for the worker; more are turned away
LINE_LIMIT = 2**24  # bytes of one answer


class GenerationFailed(Exception):
    """The worker could not write, for a reason that is not the caller's; the text is one sentence."""


@dataclass(frozen=True)
class NamedModel:
    """A model that may write: what managers see it called, and where it is."""

    name: str
    path: str


@dataclass(frozen=True)
class Drawing:
    """How the worker draws; `device`, `precision` and `kernels` as in every command."""

    max_new_tokens: int = 128
    temperature: float = 1.0
    device: str = "auto"
    precision: str = "auto"
    kernels: str = "auto"


class LiveGenerator:
    """Writes candidates, one request at a time.  All methods belong to the server's event loop."""

    def __init__(self, models: Sequence[NamedModel], drawing: Drawing | None = None) -> None:
        self.models = tuple(models)
        self._drawing = drawing or Drawing()
        self._process: asyncio.subprocess.Process | None = None
        self._turn = asyncio.Lock()
        self._waiting = 0

    @property
    def why_off(self) -> str | None:
        """Why nothing can be generated, in one sentence; None when it can."""
        if self.models:
            return None
        return "No model is loaded: start the server with models=PATH to generate here."

    async def start(self) -> None:
        """Start the worker, so that its models load before the first request."""
        if self.models and self._process is None:
            config = {"models": [asdict(model) for model in self.models], "drawing": asdict(self._drawing)}
            command = (sys.executable, "-m", "tutelage.web.generation_worker", json.dumps(config))
            self._process = await asyncio.create_subprocess_exec(
                *command, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, limit=LINE_LIMIT
            )

    async def stop(self) -> None:
        """End the worker."""
        process, self._process = self._process, None
        if process is not None and process.returncode is None:
            process.kill()
            await process.wait()

    async def write(
        self,
        prompt: Prompt,
        count: int,
        begun: str | None = None,
        model: str | None = None,
        one_step: Splitter | None = None,
    ) -> list[LiveResponse]:
        """`count` candidates by the models in turn, in random order, or all by one `model`; with `begun`, what they add to it.

        `one_step`: they are asked for one step, so they stop soon after the first one, as this cuts texts.

        Refused: conflict (no model), invalid (the prompt does not fit the model), too-many (others wait already).
        Raises GenerationFailed when the worker dies or does not answer in time.
        """
        if self.why_off:
            raise Refused("conflict", self.why_off)
        if self._waiting >= WAITING:
            raise Refused(
                "too-many", "Others are waiting for the model already: try again in a moment.", wait=5
            )
        self._waiting += 1
        try:
            async with self._turn:
                found = await self._ask(self._request(prompt, count, begun, model) | {"one_step": one_step})
        finally:
            self._waiting -= 1
        return [LiveResponse(**candidate) for candidate in found]

    def _request(self, prompt: Prompt, count: int, begun: str | None, model: str | None) -> dict[str, Any]:
        first = random.randrange(len(self.models))
        writers = [(first + n) % len(self.models) for n in range(count)]
        random.shuffle(writers)
        if model is not None:
            writers = [[one.name for one in self.models].index(model)] * count
        return {
            "prompt": prompt.content_json(),
            "task": prompt.task,
            "begun": begun,
            "writers": writers,
            "seed": secrets.randbits(31),
        }

    async def _ask(self, request: dict[str, Any]) -> list[dict[str, Any]]:
        await self.start()
        process = self._process
        assert process is not None and process.stdin is not None and process.stdout is not None
        try:
            process.stdin.write(json.dumps(request).encode() + b"\n")
            await process.stdin.drain()
            line = await asyncio.wait_for(process.stdout.readline(), PATIENCE)
        except (TimeoutError, OSError, ValueError) as error:
            await self.stop()
            raise GenerationFailed("The model did not answer in time: try again.") from error
        except asyncio.CancelledError:
            await self.stop()  # its answer to nobody must not be taken for the next one's
            raise
        if not line:
            await self.stop()
            raise GenerationFailed(
                "The process that runs the model has ended: its output says why; try again."
            )
        answer = json.loads(line)
        if "invalid" in answer:
            raise Refused("invalid", answer["invalid"])
        found: list[dict[str, Any]] = answer["candidates"]
        return found
