"""Projects as a whole, in a browser: deleted, restored, purged; and labelled after a simulated panel."""

from __future__ import annotations

import shlex
from typing import Any

import pytest

from tests.web.conftest import Running
from tests.web.kit import World
from tests.web.people import ready, saved, visitor
from tutelage.feedback.insights.own import own_agreement
from tutelage.feedback.people.tokens import create_token
from tutelage.feedback.projects import deletion, projects
from tutelage.feedback.training.source import comparisons_from
from tutelage.records import Vote
from tutelage.settings.base import load
from tutelage.settings.reward import RewardSettings
from tutelage.store import NewVote, Store
from tutelage.web.client import ApiRefused, Client


def test_delete_restore_purge(world: World, server: Running, browser: Any) -> None:
    world.project("brief", settings={"title": "A short one"})
    with visitor(browser, server.url, "ann") as page:
        page.on("dialog", lambda dialog: dialog.accept())
        page.goto("/p/brief/manage#settings")
        page.get_by_role("button", name="Delete", exact=True).click()
        page.wait_for_url("**/")
        assert page.locator(".grid").get_by_role("heading", name="A short one").count() == 0
        page.get_by_text("Deleted projects (1)").click()
        page.get_by_role("button", name="Restore").click()
        page.locator(".grid").get_by_role("heading", name="A short one").wait_for()
        assert "brief" in projects.names(world.database)
        page.goto("/p/brief/manage#settings")
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
    token = create_token(world.database, owner, "x", ("manage",))
    with Client(server.url, token) as client:
        made = client.request("POST", "/projects/scripted/exports", {"format": "raw"})["name"]
        kept = server.site.exports.find(world.database, world.member("scripted"), made)
        client.delete_project("scripted")
        with pytest.raises(ApiRefused, match="no project 'scripted'"):
            client.project("scripted")
        assert [found["name"] for found in client.request("GET", "/deleted")] == ["scripted"]
        client.restore_project("scripted")
        assert client.project("scripted")["role"] == "owner"
        with pytest.raises(ApiRefused, match="is in use: delete it first"):
            client.purge_project("scripted")
        client.delete_project("scripted")
        assert client.purge_project("scripted")["items"] == 6
        assert not kept.file.exists()
        assert client.request("GET", "/deleted") == []


def test_a_newcomer_labels_what_a_panel_has_labelled(world: World, server: Running, browser: Any) -> None:
    """From a project that simulated annotators have finished to the command that trains on one's own answers only."""
    world.project("panel", {"acceptable": False})
    with Store(world.path) as store:
        store.add_annotator("simulated 1", "simulated")
        votes = [
            NewVote(pair.item_id, Vote("simulated 1", -2, 0), f"panel/{pair.digest}")
            for pair in store.pairs("panel")
        ]
        store.add_votes("panel", votes)
    world.user("nell van Dyk", "panel", "manager")
    world.user("plain", "panel", "annotator")
    with visitor(browser, server.url, "plain") as page:
        page.get_by_text("Nothing left for you").wait_for()
        assert page.get_by_role("button", name="Label these yourself").count() == 0
    with visitor(browser, server.url, "nell van Dyk") as page:
        page.goto("/p/panel/work")
        page.get_by_text("Only programs have answered so far").wait_for()
        page.get_by_role("button", name="Label these yourself").wait_for()
        page.goto("/")
        page.get_by_text("lets every item have one annotator more").wait_for()
        page.get_by_role("button", name="Label these yourself").click()
        page.locator("#submit").wait_for()
        for n in range(6):
            page.locator(".response").first.wait_for()
            texts = page.locator(".response .body").all_inner_texts()
            page.keyboard.press("1")
            ready(page)
            page.keyboard.press("Enter")
            if n < 5:
                page.wait_for_function(
                    "old => document.querySelector('.response .body').innerText !== old", arg=texts[0]
                )
        page.get_by_text("Nothing left for you here").wait_for()
        saved(page)
        assert page.get_by_role("button", name="Label these yourself").count() == 0
        page.goto("/")
        page.get_by_text("agreement with the simulated panel, of 6").wait_for()
        page.get_by_text("Train on your answers").click()
        command = page.locator("pre").inner_text()
    words = shlex.split(command)
    assert words[:2] == ["tutelage", "reward"]
    settings = load(RewardSettings, words[2:])
    own = comparisons_from(
        settings.data, settings.store, settings.aggregation, settings.ties, settings.annotators
    ).rows
    member = world.member("panel", world.users["nell van Dyk"])
    agreed = own_agreement(world.database, member)
    assert agreed is not None and agreed.compared == 6 == len(own)
    panel = comparisons_from(settings.data, settings.store, annotators=["simulated"]).rows
    same = {(row.prompt, row.chosen) for row in own} & {(row.prompt, row.chosen) for row in panel}
    assert len(same) == agreed.agreed
