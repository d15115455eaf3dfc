"""Projects as a whole, in a browser: deleted, restored, purged."""

from __future__ import annotations

from typing import Any

import pytest

from tests.web.conftest import Running
from tests.web.kit import World
from tests.web.people import visitor
from tutelage.feedback import accounts, deletion, projects
from tutelage.web.client import ApiRefused, Client


def test_delete_restore_purge(world: World, server: Running, browser: Any) -> None:
    world.project("brief", settings={"title": "A short one"})
    with visitor(browser, server.url, "ann") as page:
        page.on("dialog", lambda dialog: dialog.accept())
        page.goto("/p/brief/manage")
        page.get_by_role("button", name="Delete", exact=True).click()
        page.wait_for_url("**/")
        assert page.locator(".grid").get_by_role("heading", name="A short one").count() == 0
        page.get_by_text("Deleted projects (1)").click()
        page.get_by_role("button", name="Restore").click()
        page.locator(".grid").get_by_role("heading", name="A short one").wait_for()
        assert "brief" in projects.names(world.database)
        page.goto("/p/brief/manage")
        page.get_by_role("button", name="Delete", exact=True).click()
        page.wait_for_url("**/")
        page.get_by_text("Deleted projects (1)").click()
        page.get_by_label("To delete it for good").fill("A short one")
        page.get_by_role("button", name="Delete for good").click()
        page.get_by_text("Type the project's name exactly").wait_for()
        page.get_by_label("To delete it for good").fill("brief")
        page.get_by_role("button", name="Delete for good").click()
        page.get_by_text("Deleted projects").wait_for(state="detached")
    assert deletion.deleted_projects(world.database, world.owner) == []
    world.project("brief")  # the name is free again


def test_a_program_deletes_what_it_owns(world: World, server: Running) -> None:
    world.project("scripted")
    owner = world.user("sid", "scripted", "owner")
    token = accounts.create_token(world.database, owner, "x", ("manage",))
    with Client(server.url, token) as client:
        made = client.request("POST", "/projects/scripted/exports", {"format": "raw"})["name"]
        client.delete_project("scripted")
        with pytest.raises(ApiRefused, match="no project 'scripted'"):
            client.project("scripted")
        assert [found["name"] for found in client.request("GET", "/deleted")] == ["scripted"]
        client.restore_project("scripted")
        assert client.project("scripted")["role"] == "owner"
        with pytest.raises(ApiRefused, match="is in use: delete it first"):
            client.purge_project("scripted")
        client.delete_project("scripted")
        (kept,) = [found for name, found in server.site.exports._kept.items() if name == made]
        assert client.purge_project("scripted")["items"] == 6
        assert not kept.exported.file.exists()
        assert client.request("GET", "/deleted") == []
