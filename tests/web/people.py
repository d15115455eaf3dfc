"""What people do in a browser: come in, open a project, press keys; and everything that a page must never do."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

from tests.web.kit import PASSWORD

DESKTOP = {"width": 1280, "height": 800}
PHONE = {"width": 390, "height": 844}
PICTURES = (
    "TUTELAGE_TEST_PICTURES"  # set: pages are also photographed, for people to look at; no test compares them
)


@contextmanager
def visitor(
    browser: Any, url: str, name: str = "", viewport: dict[str, int] | None = None, **options: Any
) -> Iterator[Any]:
    """A page of a fresh visitor, logged in as `name` if given; whatever goes wrong in it ends the test.

    `page.faults` collects errors of scripts, refusals by the security policy, and requests to other servers;
    `page.asking` holds the requests under way.
    """
    context = browser.new_context(base_url=url, viewport=viewport or DESKTOP, **options)
    context.set_default_timeout(60_000)
    page = context.new_page()
    if not os.environ.get(PICTURES):
        page.screenshot = lambda **_: None
    page.faults, page.asking = [], set()
    page.on("request", lambda request: page.asking.add(request))
    for event in ("requestfinished", "requestfailed"):
        page.on(event, lambda request: page.asking.discard(request))
    page.on("pageerror", lambda error: page.faults.append(f"error: {error}"))
    page.on("console", lambda message: _note(page, message))
    page.on("request", lambda request: _abroad(page, request, url))
    try:
        if name:
            log_in(page, name)
        yield page
        assert page.faults == []
    finally:
        context.close()


def log_in(page: Any, name: str) -> None:
    """With the cookie that the form would bring; the form itself is for test_people.py."""
    answer = page.context.request.post("/api/v1/auth/login", data={"name": name, "password": PASSWORD})
    assert answer.ok, answer.text()
    page.goto("/")


def follow(page: Any, link: Any) -> None:
    """Click on what leads to another page, and wait until that page is there."""
    with page.expect_navigation():
        link.click()


def settled(page: Any) -> None:
    """Wait until the page is loaded and has what its scripts asked for: nothing is under way for 60 ms."""
    page.wait_for_load_state()
    deadline, quiet = time.monotonic() + 30, 0
    while quiet < 3:
        assert time.monotonic() < deadline, f"no answer to {[request.url for request in page.asking]}"
        page.wait_for_timeout(20)
        quiet = 0 if page.asking else quiet + 1


def open_work(page: Any, project: str) -> None:
    """The labelling page with an item on it."""
    page.goto(f"/p/{project}/work")
    page.locator("#submit").wait_for()


def ready(page: Any) -> None:
    """Wait until a submit would be taken."""
    page.locator('#submit[aria-disabled="false"]').wait_for()


def saved(page: Any) -> None:
    """Wait until the server has everything."""
    page.locator('#status[data-state="saved"]').wait_for()


def item_of(page: Any) -> str:
    """What the page announced last: the item on the screen."""
    return page.evaluate("document.querySelector('#stage .response .body')?.innerText ?? ''")


def _note(page: Any, message: Any) -> None:
    if (
        message.type == "error"
        and "Failed to load resource" not in message.text
        and "net::ERR" not in message.text
    ):
        page.faults.append(f"console: {message.text}")


def _abroad(page: Any, request: Any, url: str) -> None:
    if (
        urlsplit(request.url).scheme in ("http", "https", "ws", "wss")
        and urlsplit(request.url).netloc != urlsplit(url).netloc
    ):
        page.faults.append(f"foreign request: {request.url}")
