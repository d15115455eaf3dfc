"""Several server processes on one store: what one of them knows, the others know."""

from __future__ import annotations

import contextlib
import re
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2
import pytest
from sqlalchemy import func, select

from tests.databases import fresh_database, postgres_server
from tests.web.kit import PASSWORD, World, make_world
from tutelage.feedback.people.passwords import FAILURES_PER_NAME
from tutelage.feedback.people.tokens import create_token
from tutelage.judges.patience import run_here
from tutelage.settings.base import build
from tutelage.settings.web import ServeSettings
from tutelage.store.schema import Annotation, Item
from tutelage.web.client import Client
from tutelage.web.serve import check, configured
from tutelage.web.workers import SPARE, threads_of

PROMPTS = tuple(f"Question {n}?" for n in range(30))
ANSWERS = tuple((f"Yes, {n}.", f"No, {n}.") for n in range(30))


@contextlib.contextmanager
def serving(store: str, *settings: str) -> Iterator[str]:
    """The address of a server of its own."""
    command = [sys.executable, "-m", "tutelage", "serve", f"store={store}", "port=0", *settings]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        assert process.stdout is not None
        line = next((line for line in process.stdout if "serves" in line), "")
        found = re.search(r"http://\S+", line)
        assert found, f"the server said nothing of its address: {line}"
        yield found[0].replace("localhost", "127.0.0.1")
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=30)


@pytest.fixture(params=["sqlite", "postgresql"])
def world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    with contextlib.ExitStack() as stack:
        address = str(tmp_path / "store.sqlite")
        if request.param == "postgresql":
            server = stack.enter_context(postgres_server())
            address = stack.enter_context(fresh_database(server))
        made = make_world(address)
        stack.callback(made.close)
        made.project("main", {"acceptable": False}, prompts=PROMPTS, answers=ANSWERS)
        yield made


def log_in(server: str, password: str = PASSWORD) -> httpx2.Response:
    body = {"name": "ann", "password": password}
    return httpx2.post(f"{server}/api/v1/auth/login", json=body, timeout=30)


def label_all(server: str, token: str) -> list[int]:
    """Answer until nothing is left; the items, in the order of their coming."""
    items = []
    with Client(server, token) as client:
        while task := client.next("main"):
            receipt = client.submit(task, {"type": "pair", "preference": 1})
            assert not receipt["extra"]
            items.append(task["item_id"])
    return items


@pytest.mark.slow
def test_two_servers_on_one_store_are_one(world: World, tmp_path: Path) -> None:
    shared = f"exports={tmp_path / 'exports'}"
    tokens = [
        create_token(world.database, world.user(name, "main"), "x", ("label",)) for name in ("ben", "cy")
    ]
    with serving(str(world.path), shared) as one, serving(str(world.path), shared) as other:
        sessions_hold(one, other)
        with ThreadPoolExecutor(2) as pool:
            done = list(pool.map(label_all, (one, other), tokens))
        failures_count(one, other)
    given = Counter(item for items in done for item in items)
    assert set(given.values()) == {1} and len(given) == len(PROMPTS)
    with world.database.read() as connection:
        assert connection.scalar(select(func.count(Annotation.id))) == len(PROMPTS)
        assert connection.scalar(select(func.count(Item.id)).where(Item.n_done == 1)) == len(PROMPTS)


def sessions_hold(one: str, other: str) -> None:
    """A session opened at one is known at the other, where an export of the first is fetched; after a logout there, at none."""
    answer = log_in(one)
    cookies = {"tutelage": answer.cookies["tutelage"]}
    headers = {"X-CSRF-Token": answer.json()["csrf"]}
    with httpx2.Client(cookies=cookies, headers=headers, timeout=30) as browser:
        assert browser.get(f"{other}/api/v1/me").json()["name"] == "ann"
        exports = "/api/v1/projects/main/exports"
        made = browser.post(f"{one}{exports}", json={"format": "raw"}).json()
        fetched = browser.get(f"{other}{exports}/{made['name']}/file")
        assert fetched.status_code == 200 and len(fetched.text.splitlines()) == made["rows"]
        assert browser.get(f"{other}{exports}/..%2F..%2Fstore/file").status_code in (404, 410)
        assert browser.post(f"{other}/api/v1/auth/logout").status_code == 204
        assert browser.get(f"{one}/api/v1/me").status_code == 401
        assert browser.get(f"{other}/api/v1/me").status_code == 401


def failures_count(one: str, other: str) -> None:
    """Failed logins count over both."""
    half = FAILURES_PER_NAME // 2
    tried = [log_in(server, "wrong password").status_code for server in (one, other) for _ in range(half)]
    assert tried == [401] * FAILURES_PER_NAME
    assert [log_in(server).status_code for server in (one, other)] == [429, 429]


@pytest.mark.slow
def test_workers_are_one_server(world: World) -> None:
    """One address, two processes: counts for a monitor, exports and claims are those of both."""
    token = create_token(world.database, world.owner, "x", ("manage",))
    labelling = [
        create_token(world.database, world.user(name, "main"), "x", ("label",)) for name in ("ben", "cy")
    ]
    with serving(str(world.path), "workers=2") as server:
        with ThreadPoolExecutor(2) as pool:
            done = list(pool.map(label_all, (server, server), labelling))
        headers = {"Authorization": f"Bearer {token}"}
        made = httpx2.post(
            f"{server}/api/v1/projects/main/exports", json={"format": "raw"}, headers=headers
        ).json()
        file = f"{server}/api/v1/projects/main/exports/{made['name']}/file"
        assert [httpx2.get(file, headers=headers).status_code for _ in range(8)] == [200] * 8
        told = {httpx2.get(f"{server}/metrics", headers=headers).text for _ in range(1)}.pop()
    assert sorted(item for items in done for item in items) == sorted(
        {item for items in done for item in items}
    )
    [submits] = re.findall(
        r'tutelage_requests_total\{method="POST",route="[^"]*/submit",status="200"\} (\S+)', told
    )
    assert float(submits) == len(PROMPTS) == sum(map(len, done))


# proxies --------------------------------------------------------------------------------------------------------------


def seen(settings: dict[str, Any], comes_from: str, forwarded: str) -> str:
    """The address that the app sees of a request."""
    found = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        found.append(scope["client"][0])

    config = configured(build(ServeSettings, settings), app)
    config.load()
    headers = [(b"x-forwarded-for", forwarded.encode()), (b"x-forwarded-proto", b"https")]
    scope = {"type": "http", "client": (comes_from, 1), "headers": headers, "scheme": "http", "asgi": {}}
    run_here(lambda: config.loaded_app(scope, None, None))  # type: ignore[arg-type]
    return str(found[0])


URL = {"url": "https://labels.example.org"}


@pytest.mark.parametrize(
    ("settings", "comes_from", "forwarded", "address"),
    [
        (URL, "127.0.0.1", "203.0.113.9", "203.0.113.9"),
        (URL, "10.0.0.5", "203.0.113.9", "10.0.0.5"),  # not one of the proxies
        ({}, "127.0.0.1", "203.0.113.9", "127.0.0.1"),  # no proxy is there at all
        ({**URL, "proxies": ["10.0.0.0/24"]}, "10.0.0.5", "203.0.113.9", "203.0.113.9"),
        ({**URL, "proxies": ["10.0.0.0/24"]}, "127.0.0.1", "203.0.113.9", "127.0.0.1"),
        # What a visitor said before the proxy added the truth is not believed.
        ({**URL, "proxies": ["10.0.0.5"]}, "10.0.0.5", "198.51.100.1, 203.0.113.9", "203.0.113.9"),
        ({**URL, "proxies": ["10.0.0.5", "10.0.0.6"]}, "10.0.0.5", "203.0.113.9, 10.0.0.6", "203.0.113.9"),
    ],
)
def test_only_proxies_say_where_a_request_comes_from(
    settings: dict[str, Any], comes_from: str, forwarded: str, address: str
) -> None:
    assert seen(settings, comes_from, forwarded) == address


@pytest.mark.parametrize("place", ["*", "proxy.example.org", "10.0.0.5/24", ""])
def test_proxies_are_addresses(place: str) -> None:
    with pytest.raises(ValueError, match="is no address and no network"):
        check(build(ServeSettings, {**URL, "proxies": [place]}))


def test_threads_are_shared_out() -> None:
    """So many connections does a PostgreSQL server of the usual 100 have for them."""
    assert [threads_of(workers) for workers in (2, 4, 8)] == [20, 10, 8]
    assert all(workers * (threads_of(workers) + SPARE) <= 97 for workers in (1, 2, 4, 5))
