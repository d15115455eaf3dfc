"""Servers that a run asks: whether they answer, with what, how fast, and whether their clock is ours."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit

from tutelage.doctor.asked import Asked, Server
from tutelage.doctor.check import Check, fail, ok, warn

PROMPT = "Two and two make"
SKEW = 5.0
"""Seconds that clocks may differ."""
STATES = {
    401: "does {key} hold its key?",
    403: "does {key} hold a key that may ask this model?",
    404: "is it the base of the server, as http://localhost:8000/v1?",
    429: "wait, or ask for less: the server has had too many questions",
}


def checks(asked: Asked) -> Iterator[Check]:
    for server in asked.servers:
        yield from server_checks(server, asked.timeout)


def server_checks(server: Server, timeout: float, now: Callable[[], float] = time.time) -> Iterator[Check]:
    """The checks of one server; the first that fails ends them."""
    import httpx2

    address = urlsplit(server.url)
    name = f"{address.scheme}://{address.netloc}{address.path}"  # without a query, which may hold a key
    key = os.environ.get(server.key_env, "") if server.key_env else ""
    yield from _key(name, server, key)
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    try:
        with httpx2.Client(headers=headers, timeout=timeout, follow_redirects=True) as client:
            yield from (_scores if server.kind == "scores" else _asked)(client, name, server, now)
    except httpx2.TimeoutException:
        yield fail(name, f"no answer within {timeout:g} s", "see to the server, or give it a longer timeout")
    except (httpx2.HTTPError, httpx2.InvalidURL) as error:
        yield fail(
            name,
            f"no connection: {str(error) or type(error).__name__}",
            "start the server, or correct its address",
        )


def _key(name: str, server: Server, key: str) -> Iterator[Check]:
    local = urlsplit(server.url).hostname in ("localhost", "127.0.0.1", "::1")
    if not server.key_env or (not key and local):
        return
    if key:
        yield ok(f"{name} key", f"{server.key_env} is set")
    else:
        yield warn(
            f"{name} key", f"{server.key_env} is not set, so no key is sent", f"export {server.key_env}=..."
        )


def _asked(client: Any, name: str, server: Server, now: Callable[[], float]) -> Iterator[Check]:
    """A server of language models: its models, one token of one of them with log-probabilities."""
    base = server.url.rstrip("/")
    answer, seconds = _timed(lambda: client.get(f"{base}/models"))
    if answer.status_code != 200:
        yield _refused(f"{name} models", answer, server)
        return
    models = _models(answer)
    if not models:
        yield fail(f"{name} models", "it lists none", "is it the base of an OpenAI-compatible server?")
        return
    model = server.model or models[0]
    yield _listed(name, model, models, seconds)
    yield from clock(name, answer.headers.get("date", ""), now(), seconds)
    if model in models:
        yield from _token(client, base, name, model, server)


def _models(answer: Any) -> list[str]:
    try:
        return [str(model["id"]) for model in answer.json()["data"]]
    except (ValueError, KeyError, TypeError):
        return []


def _listed(name: str, model: str, models: list[str], seconds: float) -> Check:
    shown = ", ".join(models[:3]) + (f" and {len(models) - 3} more" if len(models) > 3 else "")
    facts = {"models": models, "seconds": seconds}
    if model not in models:
        return fail(
            f"{name} models", f"{model} is not among its models ({shown})", "name one of them", **facts
        )
    return ok(f"{name} models", f"{shown}; answered in {1000 * seconds:.0f} ms", **facts)


def _token(client: Any, base: str, name: str, model: str, server: Server) -> Iterator[Check]:
    """One token, by the route that a run would take."""
    if server.kind == "chat":
        route = "chat/completions"
        body: dict[str, Any] = {"messages": [{"role": "user", "content": PROMPT}]}
        wanted: dict[str, Any] = {"logprobs": True, "top_logprobs": 1} if server.logprobs else {}
    else:
        route, body, wanted = "completions", {"prompt": PROMPT}, {"logprobs": 1}
    asked = {"model": model, "max_tokens": 1, "temperature": 0, **body, **wanted}
    answer, seconds = _timed(lambda: client.post(f"{base}/{route}", json=asked))
    if answer.status_code != 200:
        yield _refused(f"{name} token", answer, server)
        return
    try:
        choice = answer.json()["choices"][0]
    except (ValueError, KeyError, IndexError, TypeError):
        yield fail(
            f"{name} token", f"no completion in its answer: {answer.text[:80]!r}", "is it OpenAI-compatible?"
        )
        return
    said = f"one token of {model} in {1000 * seconds:.0f} ms"
    if not has_logprobs(choice) and server.logprobs:
        do = "start it with log-probabilities" if server.kind != "chat" else "take mode: text"
        yield fail(
            f"{name} token", f"{said}, without log-probabilities, which are needed", do, seconds=seconds
        )
        return
    with_them = ", with log-probabilities" if has_logprobs(choice) else ""
    yield ok(f"{name} token", f"{said}{with_them}", seconds=seconds)


def has_logprobs(choice: Any) -> bool:
    """Whether a choice gives a log-probability of its token, in the way of either route."""
    given = choice.get("logprobs") if isinstance(choice, dict) else None
    return isinstance(given, dict) and bool(given.get("token_logprobs") or given.get("content"))


def _scores(client: Any, name: str, server: Server, now: Callable[[], float]) -> Iterator[Check]:
    """A judge over HTTP: one response is scored."""
    body = {"prompts": [PROMPT], "completions": [" four."], "references": [None], "tasks": [""]}
    answer, seconds = _timed(lambda: client.post(server.url, json=body))
    if answer.status_code != 200:
        yield _refused(name, answer, server)
        return
    try:
        scores = answer.json()["scores"]
        right = len(scores) == 1 and (scores[0] is None or isinstance(scores[0], int | float))
    except (ValueError, KeyError, TypeError):
        right = False
    if right:
        yield ok(name, f"scored a response in {1000 * seconds:.0f} ms", seconds=seconds)
    else:
        do = 'it must answer {"scores": [number or null]}, one for each completion'
        yield fail(
            name,
            f"one response was sent, and what came back is no list of one score: {answer.text[:80]!r}",
            do,
        )
    yield from clock(name, answer.headers.get("date", ""), now(), seconds)


def _timed(ask: Callable[[], Any]) -> tuple[Any, float]:
    started = time.perf_counter()
    return ask(), time.perf_counter() - started


def _refused(name: str, answer: Any, server: Server) -> Check:
    status = answer.status_code
    do = STATES.get(status, "see to the server").format(key=server.key_env or "key_env")
    text = " ".join(answer.text.split())[:80]
    return fail(name, f"status {status}" + (f": {text}" if text else ""), do, status=status)


def clock(name: str, date: str, now: float, seconds: float) -> Iterator[Check]:
    """Its clock against ours, as far as whole seconds and the time that the answer took tell."""
    try:
        theirs = parsedate_to_datetime(date)
    except ValueError:
        return
    theirs = theirs if theirs.tzinfo else theirs.replace(tzinfo=UTC)
    skew = datetime.fromtimestamp(now, UTC).timestamp() - theirs.timestamp()
    if abs(skew) > SKEW + seconds:
        ahead = "ahead of" if skew > 0 else "behind"
        said = f"our clock is {abs(skew):.0f} s {ahead} its clock"
        yield warn(f"{name} clock", said, "run a time service (chrony, systemd-timesyncd) on both", skew=skew)
    else:
        yield ok(f"{name} clock", f"within {SKEW:g} s of ours", skew=skew)
