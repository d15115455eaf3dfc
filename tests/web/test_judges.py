"""Judges on the Manage page and in the API: what they cost, and what they left to people, with the way to those items."""

from __future__ import annotations

import re
from typing import Any

from fastapi.testclient import TestClient

from tests.store.making import new_vote
from tests.web.conftest import Running
from tests.web.kit import World
from tests.web.people import PHONE, follow, settled, visitor
from tests.web.test_managing import vote
from tutelage.feedback.people.tokens import create_token
from tutelage.store import Answer, Question, Store, Unsure
from tutelage.web.app import build_app
from tutelage.web.site import Site

JUDGE = "llm:a & b/pair-1234"


def judged(world: World, project: str) -> list[int]:
    """A project whose judge was asked twice, of whose pairs it left two to people; returns the pairs."""
    world.project(project, items_of={"per_prompt": 0})
    with Store(world.path) as store:
        items = [pair.item_id for pair in store.pairs(project)]
        store.add_annotator(JUDGE, "judge")
        store.set_budget(project, JUDGE, 2.0)
        for key in "ab":
            store.add_questions(project, [Question((key + project).ljust(64, "0"), JUDGE, "pair", "p", 0.25)])
        answer = Answer(("a" + project).ljust(64, "0"), "answered", "A", cost=0.5, seconds=3.0)
        store.add_judge_answers([answer])
        store.ask_people(project, JUDGE, [Unsure(item, 2, 0.9) for item in items[:2]])
        store.add_votes(project, [new_vote(item, JUDGE, 1) for item in items[1:]])
    return items


def test_the_api_says_it_to_those_who_view(own: World, api: TestClient) -> None:
    judged(own, "two")
    vote(own, "two", "bob", 1)
    (said,) = api.get("/api/v1/projects/two/stats/judges").json()
    assert {name: said[name] for name in ("name", "budget", "left", "cost", "open_cost", "asked", "lost")} == {
        "name": JUDGE, "budget": 2.0, "left": 1.25, "cost": 0.5, "open_cost": 0.25, "asked": 2, "lost": 1,
    }  # fmt: skip
    assert (said["left_to_people"], said["people_answered"], said["waiting"]) == (2, 1, 1)
    found = api.get("/api/v1/projects/two/items", params={"left_by": JUDGE, "left": "answered"}).json()
    assert found["total"] == 1
    assert api.get("/api/v1/projects/main/stats/judges").json() == []
    refused = api.get("/api/v1/projects/two/items", params={"left": "perhaps"})
    assert refused.status_code == 422
    for role, status in (("annotator", 403), ("viewer", 200)):
        user = own.user(f"a-{role}", "two", role)  # type: ignore[arg-type]
        token = create_token(own.database, user, "t", ("read", "manage"))
        headers = {"Authorization": f"Bearer {token}"}
        with TestClient(build_app(Site(own.database)), headers=headers) as client:
            assert client.get("/api/v1/projects/two/stats/judges").status_code == status


def test_the_page_leads_to_the_items(world: World, server: Running, browser: Any) -> None:
    """Every number that is a link leads to so many items, with the keyboard alone, and nothing is wider than a phone."""
    judged(world, "shy")
    vote(world, "shy", "bob", 1)
    with visitor(browser, server.url, "ann", viewport=PHONE) as page:
        page.goto("/p/shy/manage#judges")
        settled(page)
        assert page.evaluate("document.documentElement.scrollWidth") == PHONE["width"]
        cost = page.get_by_role("table", name="Cost").get_by_role("row").nth(1).inner_text()
        assert re.findall(r"[\d.]+", cost.split(JUDGE)[1])[:3] == ["0.5", "2", "1.25"]
        names = [link.get_attribute("aria-label") for link in page.locator("#judges a").all()]
        assert names == [
            f"{words}, {JUDGE}: {n}"
            for words, n in (("Left to people", 2), ("Answered by people since", 1), ("Wait for people", 1))
        ]
        for name in names:
            page.goto("/p/shy/manage#judges")
            settled(page)
            page.get_by_role("link", name=name).focus()
            with page.expect_navigation():
                page.keyboard.press("Enter")
            assert page.locator("#found").inner_text().startswith(name.rsplit(" ", 1)[1])
            follow(page, page.locator("#items tbody a").first)
            page.get_by_text(f"of {name.rsplit(' ', 1)[1]}").first.wait_for()
