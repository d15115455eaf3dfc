"""Every page of a project in which everything has happened: each opens, and every link on it leads somewhere."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import urljoin, urlsplit

import pytest
from fastapi.testclient import TestClient

from tests.web.conftest import Running
from tests.web.everything import NAME
from tests.web.kit import PASSWORD, World
from tests.web.people import settled, visitor
from tutelage.feedback.items import browsing
from tutelage.web.app import build_app
from tutelage.web.site import Site

AWAY = re.compile(r"^/(static|api)/|^/(login|join)|^#|^mailto:")


def _links(html: str) -> set[str]:
    found = {match.replace("&amp;", "&") for match in re.findall(r'(?:href|action)="([^"]+)"', html)}
    return {link for link in found if not AWAY.match(link) and not urlsplit(link).netloc}


@pytest.mark.slow
def test_every_link_leads_to_a_page(world: World, site: Site, labelled: str) -> None:
    """From the start page on, whatever a page links to: nothing breaks, nothing is missing."""
    with TestClient(build_app(site), base_url="http://localhost") as client:
        form = {"name": "ann", "password": PASSWORD}
        client.post("/login", data=form, headers={"Origin": "http://localhost"})
        todo, seen = {link for link in _links(client.get("/").text) if link.startswith("/p/every")}, set()
        while todo:
            path = todo.pop()
            seen.add(path)
            answer = client.get(path)
            assert answer.status_code == 200, f"{path}: {answer.text[-300:]}"
            links = {
                urlsplit(urljoin(path, link))._replace(fragment="").geturl() for link in _links(answer.text)
            }
            todo |= {link for link in links if link.startswith("/p/every")} - seen
    opened = {path.rpartition("/")[2].partition("?")[0] for path in seen}
    assert {"data", "insights", "export", "manage", "guidelines", "adjudicate", "work"} <= opened
    items = {
        row.item_id
        for row in browsing.find(world.database, world.member(NAME), browsing.Query(limit=500)).items
    }
    assert {int(end) for path in seen if (end := path.rpartition("/")[2]).isdigit()} == items


@pytest.mark.slow
def test_every_page_in_a_browser(world: World, server: Running, browser: Any, labelled: str) -> None:
    """No error of a script, no refusal by the security policy, no 500: on any page, seen by its owner."""
    with visitor(browser, server.url, "ann") as page:
        page.on(
            "response",
            lambda answer: answer.status >= 400 and page.faults.append(f"{answer.status} {answer.url}"),
        )
        todo, seen = {"/", "/account", "/new"}, set()
        while todo:
            path = todo.pop()
            seen.add(path)
            page.goto(path)
            settled(page)
            links = page.eval_on_selector_all("a[href]", "all => all.map(link => link.getAttribute('href'))")
            local = {urlsplit(urljoin(path, link))._replace(fragment="").geturl() for link in links}
            todo |= {link for link in local if link.startswith("/p/every")} - seen
    assert len(seen) > 20
