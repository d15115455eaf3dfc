"""Webhooks over the wire: signed messages arrive, wait while nobody is there, and go nowhere that they should not."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx2
import pytest
from fastapi.testclient import TestClient

from tests.web.kit import World, apart, make_world
from tests.web.test_load import Served, free_port
from tutelage.feedback.people.tokens import create_token
from tutelage.feedback.projects import webhooks
from tutelage.feedback.projects.webhooks import Message
from tutelage.web import sender
from tutelage.web.app import build_app
from tutelage.web.client import Client
from tutelage.web.sender import NotSent, Sender
from tutelage.web.site import Site


class Receiver:
    """A server that keeps what it is sent, and answers with `status`."""

    def __init__(self, port: int = 0) -> None:
        self.status, self.location, self.got = 200, "", []
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(length := int(self.headers["Content-Length"]))
                if len(body) < length:  # whoever sent it was killed at it
                    return
                receiver.got.append((self.path, {k.lower(): v for k, v in self.headers.items()}, body))
                self.send_response(receiver.status)
                if receiver.location:
                    self.send_header("Location", receiver.location)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://localhost:{self.port}/hook?who=me"

    @property
    def types(self) -> list[str]:
        return [json.loads(body)["type"] for _, _, body in self.got]

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@contextmanager
def receiving(port: int = 0) -> Iterator[Receiver]:
    receiver = Receiver(port)
    try:
        yield receiver
    finally:
        receiver.close()


def until(true: Callable[[], Any], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.fixture
def own(tmp_path: Path) -> Iterator[World]:
    world = make_world(tmp_path / "store.sqlite")
    world.project("main", {"acceptable": False})
    yield world
    world.close()


@pytest.fixture
def sending(own: World) -> Iterator[Sender]:
    made = Sender(own.database, pause=0.02)
    made.start()
    yield made
    made.stop()


@pytest.mark.slow
def test_an_answer_over_the_api_is_told_signed(own: World, sending: Sender) -> None:
    token = create_token(own.database, own.owner, "hooks", ("manage",))
    with receiving() as receiver, TestClient(build_app(Site(own.database))) as client:
        client.headers["Authorization"] = f"Bearer {token}"
        base = "/api/v1/projects/main"
        made = client.post(f"{base}/webhooks", json={"url": receiver.url, "events": ["answered", "complete"]})
        assert made.status_code == 201
        task = client.post(f"{base}/next", json={}).json()["view"]["task"]
        given = {"answer": {"type": "pair", "preference": 1}}
        url, key = f"{base}/assignments/{task['assignment_id']}/submit", {"Idempotency-Key": "the-first"}
        for _ in range(2):  # the same answer twice is told once
            assert client.post(url, json=given, headers=key).status_code == 200
        until(lambda: len(receiver.got) == 2)
        path, headers, body = receiver.got[0]
        assert path == "/hook?who=me" and headers["host"] == f"localhost:{receiver.port}"
        message = headers["webhook-id"], int(headers["webhook-timestamp"])
        signed = webhooks.signed(made.json()["secret"], *message, body)
        assert headers["webhook-signature"] == signed["webhook-signature"]
        assert abs(message[1] - time.time()) < 60
        assert receiver.types == ["answered", "complete"]
        said = json.loads(body)["data"]
        assert said["item_id"] == task["item_id"] and task["responses"][0]["text"] not in body.decode()
        hook = f"{base}/webhooks/{made.json()['id']}"
        assert client.post(f"{hook}/test").status_code == 202
        until(lambda: receiver.types[-1] == "test")
        assert client.put(hook, json={"active": False}).status_code == 204
        (listed,) = client.get(f"{base}/webhooks").json()
        assert not listed["active"] and "secret" not in listed
        until(lambda: all(d["delivered_at"] for d in client.get(f"{base}/webhooks/deliveries").json()))
        assert client.delete(hook).status_code == 204
        assert client.get(f"{base}/webhooks").json() == []


def test_messages_wait_for_a_receiver_that_is_away(
    own: World, sending: Sender, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhooks, "FIRST_PAUSE", webhooks.FIRST_PAUSE / 50)
    member, port = own.member("main"), free_port()
    key, _ = webhooks.add_webhook(own.database, member, f"http://127.0.0.1:{port}/", ("answered",))
    for _ in range(3):
        webhooks.send_test(own.database, member, key)
    until(lambda: webhooks.deliveries(own.database, member)[-1].attempts >= 2)
    assert "cannot be reached" in webhooks.deliveries(own.database, member)[-1].error
    with receiving(port) as receiver:
        receiver.status = 503
        until(lambda: receiver.got)
        until(
            lambda: any("answered with 503" in one.error for one in webhooks.deliveries(own.database, member))
        )
        receiver.status = 204
        until(lambda: webhooks.webhooks(own.database, member)[0].waiting == 0)
    ids = [headers["webhook-id"] for _, headers, _ in receiver.got]
    assert len(set(ids)) == 3


def test_redirects_are_not_followed(own: World, sending: Sender) -> None:
    member = own.member("main")
    with receiving() as elsewhere, receiving() as receiver:
        receiver.status, receiver.location = 307, elsewhere.url
        key, _ = webhooks.add_webhook(own.database, member, receiver.url, ("answered",))
        webhooks.send_test(own.database, member, key)
        until(lambda: "which is not followed" in webhooks.deliveries(own.database, member)[0].error)
        assert elsewhere.got == []


@pytest.mark.parametrize(
    "address",
    ["169.254.169.254", "fe80::1", "0.0.0.0", "224.0.0.1", "::", "::ffff:169.254.169.254", "fd00:ec2::254",
     "100.100.100.200", "255.255.255.255"],
)  # fmt: skip
def test_no_message_goes_to_where_clouds_keep_secrets(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    """Also when it is only one of the addresses behind a name."""

    def looked_up(*_: Any, **__: Any) -> list[Any]:
        return [(None, None, None, "", (found, 443)) for found in ("93.184.216.34", address)]

    monkeypatch.setattr(socket, "getaddrinfo", looked_up)
    with pytest.raises(NotSent, match="where messages may not go"):
        sender.checked_address("looks-fine.example.org", 443, "https")


def test_the_address_that_was_checked_is_the_one_that_is_called(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that means another address at the second look-up leads nowhere else; certificates are for the name."""
    called = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        called.append((request.url.host, request.headers["host"], request.extensions["sni_hostname"]))
        return httpx2.Response(200)

    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: [(None, None, None, "", ("10.1.2.3", 443))])
    there = httpx2.MockTransport(answer)
    apart(sender.send, Message(1, 1, "https://hooks.example.org/a", b"{}", {}, 1), there)
    assert called == [("10.1.2.3", "hooks.example.org", "hooks.example.org")]
    with pytest.raises(NotSent, match="may not go"):  # http is for this machine only
        apart(sender.send, Message(1, 1, "http://hooks.localhost/a", b"{}", {}, 1), there)
    assert len(called) == 1


def test_a_receiver_that_answers_in_drops_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sender, "TIMEOUT", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def drip() -> None:
            connection, _ = listener.accept()
            with connection:
                for letter in b"HTTP/1.1 200 OK":
                    try:
                        connection.send(bytes([letter]))
                    except OSError:
                        return
                    time.sleep(0.1)

        threading.Thread(target=drip, daemon=True).start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/"
        with pytest.raises(NotSent, match="did not answer within"):
            apart(sender.send, Message(1, 1, url, b"{}", {}, 1))


@pytest.mark.slow
def test_a_killed_server_loses_no_message(tmp_path: Path) -> None:
    """Killed with -9 while it answers and sends: each stored answer is told at least once, under one id."""
    world = make_world(tmp_path / "store.sqlite")
    prompts = [f"Question {n}?" for n in range(30)]
    answers = [(f"Yes {n}.", f"No {n}.") for n in range(30)]
    world.project("load", {"acceptable": False}, {}, prompts, answers)
    token = create_token(world.database, world.owner, "load", ("label",))
    with receiving() as receiver:
        webhooks.add_webhook(world.database, world.member("load"), receiver.url, ("answered",))
        server = Served(str(tmp_path / "store.sqlite"), port := free_port(), tmp_path / "said.txt")
        stored = set()
        with Client(f"http://127.0.0.1:{port}", token) as client:
            for number in range(30):
                task = client.next("load")
                assert task is not None
                stored.add(client.submit(task, {"type": "pair", "preference": 1})["annotation_id"])
                if number == 10:
                    server.kill()
                    server.start()

        def told() -> set[int]:
            return {json.loads(body)["data"]["annotation_id"] for *_, body in receiver.got}

        until(lambda: told() == stored, 90)
        server.kill()
    ids = {headers["webhook-id"] for _, headers, _ in receiver.got}
    assert len(ids) == len(stored) == 30
    world.close()
