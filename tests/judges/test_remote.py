"""A judge over HTTP against a real server that answers, stalls, breaks off and lies."""

from __future__ import annotations

import asyncio
import json
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import uvicorn

from tests.judges.kit import Longer, values, written
from tutelage.judges import patience, remote
from tutelage.judges.build import build_judge
from tutelage.judges.judge import scores_of
from tutelage.judges.remote import RemoteJudge
from tutelage.records import Message, Prompt, Response, Score

RESPONSES = [written("x" * (i % 7)) for i in range(10)]
EXPECTED = [float(i % 7) for i in range(10)]
Answer = tuple[int, dict[str, str], bytes]


class Endpoint(ThreadingHTTPServer):
    """`answer` makes what is sent from a request's JSON; None: the connection is broken off."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.answer: Callable[[dict[str, Any]], Answer | None] = lengths
        self.asked: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.at_once, self.most, self.lock = 0, 0, threading.Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/score"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is what some tests are about."""


class Handler(BaseHTTPRequestHandler):
    server: Endpoint

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with self.server.lock:
            self.server.asked.append(asked)
            self.server.headers.append(dict(self.headers))
            self.server.at_once += 1
            self.server.most = max(self.server.most, self.server.at_once)
        try:
            answer = self.server.answer(asked)
        finally:
            with self.server.lock:
                self.server.at_once -= 1
        if answer is None:
            self.connection.shutdown(socket.SHUT_RDWR)
            return
        status, headers, body = answer
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: Any) -> None:
        pass


def say(scores: Any) -> Answer:
    return 200, {}, json.dumps({"scores": scores}).encode()


def lengths(asked: dict[str, Any]) -> Answer:
    return say([len(text) for text in asked["completions"]])


def failing(*faults: Answer | None) -> Callable[[dict[str, Any]], Answer | None]:
    """These, one after the other, then what is right."""
    left = list(faults)
    return lambda asked: left.pop(0) if left else lengths(asked)


@pytest.fixture
def server() -> Iterator[Endpoint]:
    with Endpoint() as endpoint:
        thread = threading.Thread(target=endpoint.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        yield endpoint
        endpoint.shutdown()
        thread.join()


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses that were asked for; none is made."""
    found: list[float] = []
    sleep = asyncio.sleep

    async def at_once(seconds: float) -> None:
        found.append(seconds)
        await sleep(0)

    monkeypatch.setattr(patience, "sleep", at_once)
    return found


def test_what_is_asked_and_what_comes_back(server: Endpoint) -> None:
    tools = ({"type": "function", "function": {"name": "f"}},)
    chat = (Message("user", "Grüße\ud800"),)
    responses = [
        Response.written(Prompt("2 + 2", "maths", {"answer": "4"}), "4"),
        Response.written(Prompt(chat), ""),
        Response.written(Prompt(chat, tools=tools), "ja\n"),
    ]
    server.answer = lambda asked: say([1, None, -0.5])
    judge = RemoteJudge(server.url)
    assert judge.score(responses) == [Score(1.0), None, Score(-0.5)] and judge.score([]) == []
    turn = [{"role": "user", "content": "Grüße\ud800"}]
    assert server.asked == [
        {
            "prompts": ["2 + 2", turn, {"messages": turn, "tools": [dict(tools[0])]}],
            "completions": ["4", "", "ja\n"],
            "references": [{"answer": "4"}, None, None],
            "tasks": ["maths", "", ""],
        }
    ]
    assert "Authorization" not in server.headers[0]


def test_batches_go_out_together_and_come_back_in_order(server: Endpoint) -> None:
    def slow(asked: dict[str, Any]) -> Answer:
        time.sleep(0.05 if asked["completions"][0] == "" else 0.01)  # the first batch comes last
        return lengths(asked)

    server.answer = slow
    assert values(RemoteJudge(server.url, batch_size=3, concurrency=2).score(RESPONSES)) == EXPECTED
    assert sorted(len(asked["prompts"]) for asked in server.asked) == [1, 3, 3, 3]
    assert server.most == 2


@pytest.mark.parametrize(
    "fault",
    [
        (503, {}, b"starting"),
        (429, {}, b""),
        (500, {}, b"<html>"),
        None,
        (200, {"Content-Length": "999"}, b'{"sc'),
    ],
)
def test_what_passes_is_tried_again_and_is_no_reward(
    server: Endpoint, waits: list[float], fault: Answer | None, caplog: pytest.LogCaptureFixture
) -> None:
    server.answer = failing(fault, fault, fault)
    assert values(RemoteJudge(server.url).score(RESPONSES)) == EXPECTED
    assert len(server.asked) == 4
    for wait, full in zip(waits, (0.5, 1.0, 2.0), strict=True):
        assert full / 2 <= wait < full  # not all come back at once
    assert len(set(waits)) == 3 and len(caplog.messages) == 1 and "trying again for 300 s" in caplog.text


@pytest.mark.parametrize("seconds", [7, -3])
@pytest.mark.parametrize("dated", [False, True])
def test_the_server_says_when(server: Endpoint, waits: list[float], seconds: int, dated: bool) -> None:
    date = format_datetime(datetime.now(UTC) + timedelta(seconds=seconds), usegmt=True)
    server.answer = failing((429, {"Retry-After": date if dated else str(seconds)}, b""))
    assert values(RemoteJudge(server.url).score(RESPONSES)) == EXPECTED
    [wait] = waits
    assert 5 < wait <= 7 if seconds > 0 else wait <= 0.5


def test_a_server_that_asks_for_more_than_there_is_patience_is_not_waited_for(server: Endpoint) -> None:
    server.answer = failing((503, {"Retry-After": "3600"}, b""))
    with pytest.raises(
        ValueError, match=r"/score gives no scores \(status 503, which asks to wait for 3600 s\) after 0 s"
    ):
        RemoteJudge(server.url).score(RESPONSES)


def test_patience_ends_in_one_sentence(server: Endpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "FIRST_PAUSE", 0.02)
    server.answer = lambda asked: (502, {}, b"<html>Bad gateway</html>")
    began = time.monotonic()
    with pytest.raises(ValueError) as caught:
        RemoteJudge(server.url, batch_size=1, concurrency=3, patience=0.2).score(RESPONSES)
    assert time.monotonic() - began < 30
    assert re.fullmatch(
        r"http://127\.0\.0\.1:\d+/score gives no scores \(status 502\) after \d+ s of trying: .*",
        str(caught.value),
    )
    assert 6 <= len(server.asked) <= 30  # those that waited for their turn were never sent
    assert "patience" in str(caught.value)


def test_nobody_there() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/score"
    with pytest.raises(ValueError, match=r"gives no scores \(ConnectError: .*see to the server"):
        RemoteJudge(url, patience=0).score(RESPONSES)


def test_a_server_that_stalls_or_drips_is_given_up_in_time(server: Endpoint) -> None:
    over = threading.Event()

    def stall(asked: dict[str, Any]) -> Answer:
        over.wait(60)
        return lengths(asked)

    def drip(handler: Handler) -> None:
        handler.send_response(200)
        handler.end_headers()
        while not over.wait(0.02):  # never silent for long, and never done
            handler.wfile.write(b" ")
            handler.wfile.flush()

    server.answer = stall
    judge = RemoteJudge(server.url, timeout=0.15, patience=0)
    began = time.monotonic()
    with pytest.raises(ValueError, match=r"no answer within 0\.15 s"):
        judge.score(RESPONSES)
    server.RequestHandlerClass = type("Dripping", (Handler,), {"do_POST": drip})
    with pytest.raises(ValueError, match=r"no answer within 0\.15 s"):
        judge.score(RESPONSES)
    assert time.monotonic() - began < 30
    over.set()


@pytest.mark.parametrize(
    ("status", "body", "said"),
    [
        (200, b"<html><body>Please\n log in</body>", "answered with what is not JSON: <html><body>Please log in</body>"),
        (200, b"", "what is not JSON: nothing"),
        (200, b"[" * 100_000, "what is not JSON"),
        (200, b"[1, 2]", r"answered without \{\"scores\": \[\.\.\.\]\}: \[1, 2\]"),
        (200, b'{"score": [1, 2]}', "answered without"),
        (200, b'{"scores": 1}', "answered without"),
        (200, b'{"scores": [1]}', "gave 1 scores for 2 completions"),
        (200, b'{"scores": [1, 2, 3]}', "gave 3 scores for 2 completions"),
        (200, b'{"scores": [1, "2"]}', 'gave "2" as score 2 of 2: a score is a finite number'),
        (200, b'{"scores": [true, 1]}', "gave true as score 1 of 2"),
        (200, b'{"scores": [NaN, 1]}', "gave NaN as score 1 of 2"),
        (200, b'{"scores": [1, Infinity]}', "gave Infinity as score 2 of 2"),
        (200, b'{"scores": [1, 1e999]}', "as score 2 of 2"),
        (200, b'{"scores": [1, 1' + b"0" * 400 + b"]}", "as score 2 of 2"),
        (200, b'{"scores": [1, 1e39]}', "as score 2 of 2"),
        (200, b'{"scores": [1, [2]]}', r"gave \[2\.0\] as score 2 of 2"),
        (401, b'{"detail": "who?"}', r"status 401 \(does token_env name .*\): .*who\?"),
        (404, b"Not Found", "answered with status 404: Not Found"),
        (422, b"\xff\xfe" + b"y" * 500, "answered with status 422: .{80}\\.\\.\\."),
        (302, b"", "answered with status 302: nothing"),
        (204, b"", "answered with status 204"),
    ],
)  # fmt: skip
def test_garbage_is_refused_at_once(server: Endpoint, status: int, body: bytes, said: str) -> None:
    server.answer = lambda asked: (status, {}, body)
    with pytest.raises(ValueError, match=said) as caught:
        RemoteJudge(server.url).score(RESPONSES[:2])
    assert len(server.asked) == 1
    assert str(caught.value).startswith(server.url) and "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300


def test_an_answer_without_end_is_not_read_to_its_end(
    server: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote, "LARGEST_ANSWER", 2**20)
    server.answer = lambda asked: (200, {}, b" " * (2**20 + 1))
    with pytest.raises(ValueError, match="more than 1 MiB, which are no scores"):
        RemoteJudge(server.url).score(RESPONSES)


def test_what_does_not_unpack_is_refused(server: Endpoint) -> None:
    server.answer = lambda asked: (200, {"Content-Encoding": "gzip"}, b"no gzip")
    with pytest.raises(ValueError, match="cannot be unpacked"):
        RemoteJudge(server.url).score(RESPONSES)
    assert len(server.asked) == 1


def test_the_token_is_sent_and_never_shown(server: Endpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_TOKEN", "s3cret\n")
    spec = [{"judge": server.url, "token_env": "MY_TOKEN", "name": "remote"}]
    assert values(build_judge(spec).score(RESPONSES)) == EXPECTED
    assert server.headers[0]["Authorization"] == "Bearer s3cret"
    server.answer = lambda asked: (403, {}, b"no")
    with pytest.raises(ValueError) as caught:
        build_judge(spec).score(RESPONSES)
    assert "s3cret" not in str(caught.value)
    for value in ("", "näh", "a\nb"):
        monkeypatch.setenv("MY_TOKEN", value)
        with pytest.raises(
            ValueError, match=r"the environment variable MY_TOKEN .* token_env of http.*: set it to the token"
        ):
            build_judge(spec)


def test_options_reach_the_judge(server: Endpoint) -> None:
    options = {"batch_size": 4, "concurrency": 1, "timeout": 0.1, "patience": 0, "weight": 2}
    assert values(build_judge([{"judge": server.url, **options}]).score(RESPONSES)) == [
        2 * v for v in EXPECTED
    ]
    assert [len(asked["tasks"]) for asked in server.asked] == [4, 4, 2] and server.most == 1
    server.answer = lambda asked: time.sleep(0.3)
    with pytest.raises(ValueError, match=r"no answer within 0\.1 s"):
        build_judge([{"judge": server.url, **options}]).score(RESPONSES)


def test_it_works_where_a_loop_runs_already(server: Endpoint) -> None:
    async def in_a_notebook() -> list[float | None]:
        return values(RemoteJudge(server.url).score(RESPONSES))

    found: list[list[float | None]] = []
    thread = threading.Thread(target=lambda: found.append(asyncio.run(in_a_notebook())))
    thread.start()
    thread.join(10)
    assert found == [EXPECTED]


def test_the_server_of_the_documentation_serves_any_judge() -> None:
    """As it stands on the page."""
    page = (Path(__file__).parents[2] / "docs" / "rewards-mixing.md").read_text(encoding="utf-8")
    [block] = re.findall(r"^```python reward_server\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    names: dict[str, Any] = {"__name__": "reward_server"}
    exec(compile(block, "reward_server", "exec", dont_inherit=True), names)
    config = uvicorn.Config(names["serving"]("python:tests.judges.kit:Longer"), port=0, log_level="error")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started and thread.is_alive():
        time.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    judge = build_judge(f"http://127.0.0.1:{port}/score")
    chat = Response.written(Prompt((Message("user", "hi"),), "t", {"a": [1]}), "hello")
    try:
        assert scores_of(judge, [*RESPONSES, chat]) == scores_of(Longer(), [*RESPONSES, chat])
    finally:
        server.should_exit = True
        thread.join(5)
