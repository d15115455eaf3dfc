"""What goes over the wire, in our words: what is asked for, what comes back, and a server that is asked."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import urlsplit

import httpx2

from tutelage.judges.sending import received, shown
from tutelage.rollout.decode import Key

LARGEST_ANSWER = 64 * 2**20  # bytes


@dataclass(frozen=True)
class Ask:
    """One response that is wanted.

    key: which of those that are asked for together.  id: what its draws are fixed by, SEED:STEP:PROMPT:SAMPLE.  ids: the
    tokens that it goes on from.  limit: the most tokens that it may have.  seed: the same as `id`, as a number below 2^63.
    """

    key: Key
    id: str
    ids: Sequence[int]
    limit: int
    seed: int
    temperature: float


@dataclass(frozen=True)
class Said:
    """What a server drew: ids, their log-probabilities (nats), whether it stopped by itself, the label of the weights that
    wrote it (None: it does not say), and the text that it made of the ids (None: it does not say)."""

    ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    stopped: bool
    label: str | None = None
    text: str | None = None


class Server:
    """A server by its base URL (without /v1), and what is known of it.

    busy: requests that it has not answered.  down: the last one failed.  label: of the weights that it is known to have;
    None: not known.
    """

    def __init__(self, url: str, timeout: float) -> None:
        address = urlsplit(url)
        if address.scheme not in ("http", "https") or not address.netloc:
            raise ValueError(f"{url} is no address of a server: write it like http://localhost:8000.")
        self.url = url.split("?")[0].rstrip("/").removesuffix("/v1")
        self.name = f"{address.scheme}://{address.netloc.rpartition('@')[2]}{address.path}".rstrip("/")
        self.model = ""
        self.busy, self.down = 0, False
        self.label: str | None = None
        self.proven: str | None = None
        self._timeout = timeout

    async def post(self, client: httpx2.AsyncClient, path: str, body: Mapping[str, Any] | None = None) -> Any:
        """The JSON that it answers.  Raises Again for what may pass, Refused for a status that says no."""
        asked = client.stream("POST", f"{self.url}{path}", json=dict(body or {}))
        return self._read(path, *await received(asked, self.name, self._timeout, LARGEST_ANSWER, "responses"))

    async def get(self, client: httpx2.AsyncClient, path: str) -> Any:
        """The same for a GET."""
        asked = client.stream("GET", f"{self.url}{path}")
        return self._read(path, *await received(asked, self.name, self._timeout, LARGEST_ANSWER, "responses"))

    def _read(self, path: str, status: int, content: bytes) -> Any:
        if status != 200:
            raise Refused(self.name, path, status, content)
        try:
            return json.loads(content)
        except (ValueError, RecursionError):
            raise ValueError(f"{self.name}{path} answered with what is not JSON: {shown(content)}.") from None


class Refused(ValueError):
    """A server said no, with its status and why."""

    def __init__(self, name: str, path: str, status: int, content: bytes) -> None:
        hint = " (does rollouts_key_env name the variable with its key?)" if status in (401, 403) else ""
        super().__init__(f"{name}{path} answered with status {status}{hint}: {why(content)}.")
        self.status = status


class Dialect(Protocol):
    """How a kind of server is spoken to.  ends: the tokens at which a response ends."""

    ends: frozenset[int]

    async def ask(self, client: httpx2.AsyncClient, server: Server, ask: Ask) -> Said:
        """What it draws.  Raises Again for what may pass, ValueError for what will not."""
        ...


def why(content: bytes) -> str:
    """The message in an error's JSON, or the start of whatever it is, without the full stop."""
    try:
        said = json.loads(content)
        while isinstance(said, dict):
            said = said.get("message") or said.get("error") or said.get("detail")
        text = said if isinstance(said, str) else ""
    except (ValueError, RecursionError):
        text = ""
    return (" ".join(text.split())[:400] or shown(content)).removesuffix(".")


def field(answer: Any, name: str, server: Server) -> Any:
    """`answer[name]`.  Raises ValueError where there is none."""
    if not isinstance(answer, dict) or answer.get(name) is None:
        said = shown(json.dumps(answer).encode())
        raise ValueError(f"{server.name} answered without {name!r}: {said}.")
    return answer[name]
