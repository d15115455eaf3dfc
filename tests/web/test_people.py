"""People in a browser: back in after a forgotten password, administrators, teams, invitations, webhooks."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from fastapi.testclient import TestClient

from tests.feedback.test_upkeep import run
from tests.web.conftest import Running
from tests.web.kit import PASSWORD, World
from tests.web.people import follow, settled, visitor
from tests.web.test_webhooks import receiving
from tutelage.feedback.people import invitations
from tutelage.feedback.people.tokens import create_token, tokens_of
from tutelage.feedback.projects import projects, webhooks
from tutelage.settings.feedback import FeedbackAdminSettings
from tutelage.web.app import build_app
from tutelage.web.site import Site

FRESH = "a brand new password"


def log_in(page: Any, name: str, password: str) -> None:
    page.goto("/login")
    page.get_by_label("Name").fill(name)
    page.get_by_label("Password").fill(password)
    follow(page, page.get_by_role("button", name="Log in"))


def test_back_in_after_a_forgotten_password(world: World, server: Running, browser: Any, shots: Path) -> None:
    beate = world.user("beate", "main")
    create_token(world.database, beate, "script", ("read",))
    with visitor(browser, server.url, "ann") as page:
        follow(page, page.get_by_role("link", name="Users"))
        page.on("dialog", lambda dialog: dialog.accept())
        row = page.locator('tr[data-user="beate"]')
        row.get_by_role("button", name="Reset password").click()
        link = page.locator(".secret").inner_text()
        page.screenshot(path=shots / "users.png")
        follow(page, row.get_by_role("button", name="Make administrator"))
        row.get_by_text("administrator", exact=True).wait_for()
        follow(page, row.get_by_role("button", name="Remove as administrator"))
        row.get_by_role("button", name="Make administrator").wait_for()
        page.locator('tr[data-user="ann"]').get_by_role("button", name="Remove as administrator").click()
        settled(page)
        assert page.locator('tr[data-user="ann"]').get_by_text("administrator", exact=True).count() == 1
    with visitor(browser, server.url) as page:
        page.goto("/login")
        page.get_by_text("Password forgotten?").wait_for()
        page.goto(link)
        page.get_by_role("heading", name="A new password for beate").wait_for()
        assert page.evaluate("document.activeElement.name") == "password"
        page.keyboard.type(FRESH)
        follow(page, page.get_by_role("button", name="Set the password"))
        page.get_by_role("link", name="beate").wait_for()
        assert page.get_by_role("link", name="Users").count() == 0
    with visitor(browser, server.url) as page:
        log_in(page, "beate", PASSWORD)
        page.get_by_text("do not fit together").wait_for()
        log_in(page, "beate", FRESH)
        page.get_by_role("link", name="beate").wait_for()
    assert all(token.revoked for token in tokens_of(world.database, beate))


def test_the_command_on_the_servers_machine(world: World, server: Running, browser: Any) -> None:
    """It works beside a server that runs, for a name and for nobody in particular."""
    world.user("clea", "main", "viewer")
    for name, joined in (("clea", "clea"), ("", "dora")):
        said = run("feedback admin", FeedbackAdminSettings(store=str(world.path), name=name, url=server.url))
        link = re.search(rf"{server.url}/join/\S+", said)
        assert link is not None
        with visitor(browser, server.url) as page:
            page.goto(link[0])
            if not name:
                page.get_by_label("Name").fill(joined)
            page.get_by_label("Password").fill(FRESH)
            follow(page, page.locator("main button"))
            page.get_by_role("link", name="Users").wait_for()  # an administrator
            assert page.goto(link[0]).status == 410


def test_a_token_is_made_and_a_password_changed(world: World, server: Running, browser: Any) -> None:
    eve = world.user("evelyn", "main")
    with visitor(browser, server.url, "evelyn") as page:
        page.goto("/account")
        page.get_by_text("revokes all of your tokens").wait_for()
        page.locator("#token-form").get_by_label("Name").fill("script")
        page.get_by_role("button", name="Make a token").click()
        assert page.locator(".secret").inner_text().startswith("tut_")
        page.get_by_label("Now").fill(PASSWORD)
        page.locator("#password-form").get_by_label("New").fill(FRESH)
        with page.expect_navigation():
            page.get_by_role("button", name="Change the password").click()
        page.get_by_text("revoked", exact=True).wait_for()
    assert [token.revoked for token in tokens_of(world.database, eve)] == [True]


def test_teams_and_invitations(world: World, server: Running, browser: Any, shots: Path) -> None:
    member = world.project("crew")
    world.user("finn", "crew", "expert")
    invitations.invite(world.database, world.owner, "crew", "viewer")
    with visitor(browser, server.url, "ann") as page:
        page.goto("/p/crew/manage#people")
        with page.expect_response(lambda answer: answer.url.endswith("/members/finn")):
            page.get_by_label("Team of finn").fill("chemists")
            page.get_by_label("Team of finn").press("Tab")
        page.on("dialog", lambda dialog: dialog.accept())
        listed = page.locator("#people details tbody tr")
        assert [row.inner_text().split("\t")[0] for row in listed.all()] == ["viewer", "expert"]
        assert "used by finn" in listed.nth(1).inner_text()
        follow(page, listed.nth(0).get_by_role("button", name="Revoke"))
        page.locator("#people details > summary").click()
        page.locator("#people details").get_by_text("revoked").wait_for()
        page.locator("#people").screenshot(path=shots / "people.png")
    found = {row.name: (row.role, row.team) for row in projects.members(world.database, member)}
    assert found["finn"] == ("expert", "chemists")


def test_a_webhook_is_added_tested_paused_and_deleted(
    world: World, server: Running, browser: Any, shots: Path
) -> None:
    member = world.project("hooked")
    with receiving() as receiver, visitor(browser, server.url, "ann") as page:
        receiver.status = 500
        page.goto("/p/hooked/manage#webhooks")
        page.on("dialog", lambda dialog: dialog.accept())
        page.locator("#webhook-form").get_by_label("Address").fill("http://example.org/")
        page.locator("#webhook-form").get_by_role("button", name="Add").click()
        page.get_by_text("messages go over https").wait_for()
        page.locator("#webhook-form").get_by_label("Address").fill(receiver.url)
        page.locator("#webhook-form").get_by_role("button", name="Add").click()
        assert page.locator(".secret").inner_text().startswith("whsec_")
        page.reload()
        follow(page, page.locator("#webhooks").get_by_role("button", name="Test"))
        page.get_by_text("answered with 500").wait_for()
        page.locator("#webhooks").screenshot(path=shots / "webhooks.png")
        follow(page, page.locator("#webhooks").get_by_role("button", name="Pause"))
        page.locator("#webhooks").get_by_text("paused").wait_for()
        follow(page, page.locator("#webhooks").get_by_role("button", name="Delete"))
        assert page.locator("#webhooks tbody tr").count() == 0
    assert receiver.types[0] == "test" and webhooks.webhooks(world.database, member) == []


def test_the_same_over_the_api(world: World, site: Site) -> None:
    world.project("api people")
    world.user("gil", "main")
    with TestClient(build_app(site), raise_server_exceptions=False) as client:
        csrf = client.post("/api/v1/auth/login", json={"name": "ann", "password": PASSWORD}).json()["csrf"]
        client.headers["X-CSRF-Token"] = csrf
        base = "/api/v1/projects/api people"
        place = {"role": "expert", "team": "chemists"}
        assert client.put(f"{base}/members/gil", json=place).status_code == 204
        listed = {row["name"]: row for row in client.get(f"{base}/members").json()}
        assert (listed["gil"]["role"], listed["gil"]["team"]) == ("expert", "chemists")
        path = client.post(f"{base}/invitations", json={"role": "viewer"}).json()["path"]
        (made,) = client.get(f"{base}/invitations").json()
        assert (made["by"], made["state"], made["used_by"]) == ("ann", "open", None)
        assert client.delete(f"{base}/invitations/{made['id']}").status_code == 204
        assert client.get(path).status_code == 410
        assert client.put("/api/v1/users/gil/administrator", json={"administrator": True}).status_code == 204
        users = {row["name"]: row for row in client.get("/api/v1/users").json()}
        assert users["gil"]["administrator"] and users["gil"]["projects"] == 2
        assert client.put("/api/v1/users/gil/administrator", json={"administrator": False}).status_code == 204
        path = client.post("/api/v1/users/gil/reset").json()["path"]
        assert "A new password for gil" in client.get(path).text
        assert client.post("/api/v1/users/nobody/reset").status_code == 404
