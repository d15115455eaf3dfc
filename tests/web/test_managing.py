"""Managing a project in a browser: what the forms say is what the services hold afterwards."""

from __future__ import annotations

import json
import urllib.request
from pathlib import Path
from typing import Any, get_args

from tests.web.conftest import Running
from tests.web.kit import PASSWORD, World
from tests.web.people import follow, open_work, settled, visitor
from tutelage.feedback.asking.payloads import PairAnswer, Submission
from tutelage.feedback.exports.foreign import FOREIGN
from tutelage.feedback.exports.refined import PARTS
from tutelage.feedback.items import browsing
from tutelage.feedback.items.browsing import Query
from tutelage.feedback.people.passwords import check_password
from tutelage.feedback.projects import projects
from tutelage.feedback.work import answers, queue
from tutelage.settings.groups import ExportFormat


def vote(world: World, project: str, name: str, preference: int, times: int = 1) -> None:
    """Answer items of a project without a browser."""
    member = world.member(project, world.user(name, project))
    for n in range(times):
        task = queue.next_task(world.database, member)
        assert task is not None
        submission = Submission(
            client_key=f"{project}/{name}/{n:06d}", answer=PairAnswer(preference=preference)
        )
        answers.submit(world.database, member, task.assignment_id, submission)


def test_settings_questions_and_guidelines(world: World, server: Running, browser: Any) -> None:
    member = world.project("shape")
    with visitor(browser, server.url, "ann") as page:
        page.goto("/p/shape/manage#settings")
        page.get_by_label("Annotators per item").fill("3")
        page.get_by_label("Share of gold items handed out").fill("0.25")
        page.get_by_label("Show texts as Markdown").uncheck()
        page.locator("#settings-form").get_by_role("button", name="Save").click()
        page.get_by_text("Open pages take it over").wait_for()
        page.get_by_role("tab", name="Questions").click()
        page.locator("#questions-form").get_by_label("What annotators do").select_option("rate")
        page.locator("#preview").get_by_text("Coherence").first.wait_for()
        page.get_by_role("button", name="Remove Coherence").click()
        page.locator("#questions-form").get_by_label("Ratings run from 1 to").fill("5")
        page.locator("#questions-form").get_by_role("button", name="Save").click()
        page.get_by_text("These are version 2 of the questions").wait_for()
        page.get_by_label("What annotators should know").fill("# Be *fair*")
        page.locator("#guidelines-form").get_by_role("button", name="Save").click()
        page.get_by_text("These are version 1 of the guidelines").wait_for()
        page.goto("/p/shape/guidelines")
        page.get_by_role("heading", name="Be fair").wait_for()
    info = projects.info(world.database, member)
    assert (info.settings.overlap, info.settings.gold_rate, info.settings.markdown) == (3, 0.25, False)
    assert (info.schema.type, info.schema.scale) == ("rate", 5)
    assert [criterion.name for criterion in info.schema.criteria] == ["overall", "accuracy", "coverage"]
    assert info.guideline.markdown == "# Be *fair*"


def test_people(world: World, server: Running, browser: Any) -> None:
    member = world.project("team")
    world.user("joe", "main")
    with visitor(browser, server.url, "ann") as page:
        page.goto("/p/team/manage#people")
        page.locator("#member-form").get_by_label("Name").fill("joe")
        page.locator("#member-form").get_by_role("button", name="Add").click()
        page.get_by_label("Role of joe").wait_for()
        settled(page)
        with page.expect_response(lambda answer: answer.url.endswith("/members/joe")):
            page.get_by_label("Role of joe").select_option("viewer")
        roles = {row.name: row.role for row in projects.members(world.database, member)}
        assert roles["joe"] == "viewer"
        page.on("dialog", lambda dialog: dialog.accept())
        page.locator("tr", has_text="joe").get_by_role("button", name="Take out").click()
        page.locator("#people tr", has_text="joe").wait_for(state="detached")
    assert "joe" not in {row.name for row in projects.members(world.database, member)}


def test_gold_closing_and_the_browser(world: World, server: Running, browser: Any, shots: Path) -> None:
    world.project("golden", {"acceptable": False})
    vote(world, "golden", "gus", 2)
    with visitor(browser, server.url, "ann") as page:
        page.goto("/p/golden/data")
        page.get_by_label("State").select_option("complete")
        follow(page, page.get_by_role("button", name="Search"))
        follow(page, page.locator("tbody a").first)
        follow(page, page.get_by_role("button", name="Make this the gold answer"))
        page.get_by_role("heading", name="Gold answer").wait_for()
        page.screenshot(path=shots / "item.png")
        follow(page, page.get_by_role("button", name="Take out of the queue"))
        page.get_by_role("button", name="Back into the queue").wait_for()
    (row,) = browsing.find(world.database, world.member("golden"), browsing.Query(state="gold")).items
    found = browsing.detail(world.database, world.member("golden"), row.item_id)
    assert found.gold_answer is not None and found.row.closed
    assert found.gold_answer.preference == found.answers[0].answer.preference


def test_many_items_from_the_list(world: World, server: Running, browser: Any) -> None:
    """Selecting, tagging, then all that fit; sent back and reserved from the page of one item."""
    member = world.project("bulk", {"acceptable": False})
    vote(world, "bulk", "bea", -3)
    with visitor(browser, server.url, "ann") as page:
        page.goto("/p/bulk/data")
        page.keyboard.press("j")
        page.keyboard.press("x")
        page.get_by_text("1 selected.").wait_for()
        page.keyboard.press("j")
        page.keyboard.press("x")
        page.get_by_role("button", name="Tag", exact=True).click()
        page.get_by_label("Tag", exact=True).last.fill("look again")
        follow(page, page.get_by_role("button", name="Add", exact=True))
        assert [row.tags for row in browsing.find(world.database, member, Query(tag="look again")).items] == [
            ("look again",)
        ] * 2
        page.goto("/p/bulk/data?tag=look+again")
        page.get_by_label("Select all on this page").check()
        page.get_by_role("button", name="Reserve").click()
        page.get_by_label("People").select_option("bea")
        follow(page, page.get_by_role("button", name="Save"))
        page.get_by_text("for bea").first.wait_for()
        follow(page, page.locator("tbody a").first)
        page.get_by_text("1 of 2").wait_for()
        with page.expect_navigation():
            page.keyboard.press("j")
        page.get_by_text("2 of 2").wait_for()
        page.get_by_role("button", name="Redact response B").click()
        page.get_by_label("Type “redact” to confirm").fill("redact")
        follow(page, page.get_by_role("button", name="Redact", exact=True).last)
        page.get_by_text("[redacted]").wait_for()
    assert [row.reserved for row in browsing.find(world.database, member, Query(state="reserved")).items] == [
        ("bea",)
    ] * 2


def test_tabs_keep_what_is_typed(world: World, server: Running, browser: Any) -> None:
    world.project("tabs")
    with visitor(browser, server.url, "ann") as page:
        page.goto("/p/tabs/manage#people")
        page.get_by_role("heading", name="People").wait_for()
        page.get_by_role("tab", name="People").focus()
        page.keyboard.press("ArrowLeft")
        page.keyboard.press("ArrowLeft")
        assert page.get_by_role("tab", selected=True).inner_text() == "Questions"
        assert page.url.endswith("#questions")
        page.get_by_label("What to mind").fill("Facts first.")
        page.keyboard.press("Tab")
        page.get_by_role("tab", name="Build").click()
        assert not page.get_by_label("What to mind").is_visible()
        page.get_by_role("tab", name="Questions").click()
        assert page.get_by_label("What to mind").input_value() == "Facts first."
        asked = []
        page.on("dialog", lambda dialog: (asked.append(dialog.type), dialog.dismiss()))
        page.get_by_role("link", name="Data").click()
        page.wait_for_timeout(200)
        assert asked == ["beforeunload"] and "/manage" in page.url
        page.locator("#questions-form").get_by_role("button", name="Save").click()
        page.get_by_text("These are version 2 of the questions").wait_for()
        follow(page, page.get_by_role("link", name="Data"))


def test_export_is_what_was_previewed(world: World, server: Running, browser: Any, shots: Path) -> None:
    world.project("files", {"acceptable": False})
    vote(world, "files", "fay", -3, times=6)
    with visitor(browser, server.url, "ann") as page:
        page.goto("/p/files/export")
        page.locator("#rows pre").first.wait_for()
        previewed = json.loads(page.locator("#rows pre").first.inner_text())
        page.get_by_text("6 rows", exact=True).wait_for()  # before anything is written
        with page.expect_download() as waiting:
            page.get_by_role("button", name="Download").click()
        rows = [json.loads(line) for line in Path(waiting.value.path()).read_text().splitlines()]
        page.screenshot(path=shots / "export.png", full_page=True)
        assert rows[0] == previewed and len(rows) == 6
        with page.expect_download() as waiting:
            page.get_by_role("link", name="Its manifest").click()
        assert json.loads(Path(waiting.value.path()).read_text())["rows"] == 6
        page.get_by_label("Kind of file").select_option("csv")
        with page.expect_download() as waiting:
            page.get_by_role("button", name="Download").click()
        assert waiting.value.suggested_filename == "preference.csv"


def test_every_format_can_be_chosen_and_previewed(world: World, server: Running, browser: Any) -> None:
    """The page offers what the command knows; what a form cannot say is told in words."""
    spoken = [f"Human: {n}?\n\nAssistant: No." for n in range(3)]
    world.project("forms", {"acceptable": False}, {}, ["Talk.", "Why?"], [spoken, ("So.", "No.", "Ah.")])
    vote(world, "forms", "fay", -3, times=2)
    with visitor(browser, server.url, "ann") as page:
        page.goto("/p/forms/export")
        page.locator("#rows pre").first.wait_for()
        choice = page.locator("select[name='format']")
        offered = choice.locator("option").evaluate_all("all => all.map(one => one.value)")
        assert sorted(offered) == sorted(get_args(ExportFormat))
        for format in FOREIGN:
            with page.expect_response("**/exports/preview") as told:
                choice.select_option(format)
            assert told.value.ok, format
        assert not page.get_by_label("What of them").is_visible()
        choice.select_option("refinements")
        offered = (
            page.get_by_label("What of them")
            .locator("option")
            .evaluate_all("all => all.map(one => one.value)")
        )
        assert offered == list(PARTS), "all of them at once are for programs: a page fetches one file"
        choice.select_option("orca")
        page.get_by_text("texts that this form would change: 1").wait_for()
        choice.select_option("nemo")
        page.locator("#rows").get_by_text('"rank": 0').first.wait_for()
        with page.expect_download() as waiting:
            page.get_by_role("button", name="Download").click()
        rows = [json.loads(line) for line in Path(waiting.value.path()).read_text().splitlines()]
        assert waiting.value.suggested_filename == "nemo.jsonl" and len(rows) == 2
        page.get_by_label("Kind of file").select_option("csv")
        page.get_by_text("format=nemo has objects within its rows").wait_for()


def test_insights_tell_numbers_only_where_there_are_enough(
    world: World, server: Running, browser: Any, shots: Path
) -> None:
    few = world.project("few", {"acceptable": False}, {"overlap": 2})
    vote(world, "few", "fran", 1, times=3)
    vote(world, "few", "fay", 1, times=2)
    prompts = [f"Question {n}?" for n in range(60)]
    said = [(f"Yes {n}, gladly and at length.", f"No {n}.", f"Maybe {n}.") for n in range(60)]
    world.project("many", {"acceptable": False}, {"overlap": 3}, prompts, said)
    for name, preference in (("mia", 2), ("moe", -1), ("max", 2)):
        vote(world, "many", name, preference, times=60)
    assert few is not None
    with visitor(browser, server.url, "ann") as page:
        page.goto("/p/few/insights")
        assert page.get_by_text("28 more items until agreement can be told").count() == 1  # said once
        assert page.get_by_text("insufficient").count() == 0 and page.locator("tbody strong").count() == 0
        page.goto("/p/many/insights")
        page.get_by_role("heading", name="Annotators of pairs").wait_for()
        page.screenshot(path=shots / "insights.png", full_page=True)
        agreement = page.locator("tr", has_text="Of two answers to an item").locator("strong").inner_text()
        assert float(agreement) / 100 == _agreement(world, "many")
        assert page.locator("svg.figure circle").count() == 3
        assert page.locator("section", has_text="What they part on most").locator("tbody tr").count() == 10
        follow(page, page.locator("section", has_text="What they part on most").locator("tbody a").first)
        page.get_by_role("heading", name="Answers").wait_for()


def _agreement(world: World, project: str) -> float:
    """The share of pairs of answers with the same winner, counted here, to two digits."""
    who = world.member(project)
    shares = []
    for row in browsing.find(world.database, who, browsing.Query(limit=500)).items:
        said = [
            answer.answer.preference > 0
            for answer in browsing.detail(world.database, who, row.item_id).answers
        ]
        pairs = [(a, b) for i, a in enumerate(said) for b in said[:i]]
        shares.append(sum(a == b for a, b in pairs) / len(pairs))
    return round(sum(shares) / len(shares), 2)


def test_own_password_and_tokens(world: World, server: Running, browser: Any) -> None:
    world.user("pat", "main")
    with visitor(browser, server.url, "pat") as page, visitor(browser, server.url, "pat") as elsewhere:
        page.goto("/account")
        page.locator("#token-form").get_by_label("Name").fill("my script")
        page.get_by_role("button", name="Make a token").click()
        token = page.locator(".secret").inner_text()
        request = urllib.request.Request(
            f"{server.url}/api/v1/me", headers={"Authorization": f"Bearer {token}"}
        )
        assert json.load(urllib.request.urlopen(request))["name"] == "pat"
        page.get_by_label("Now").fill(PASSWORD)
        page.get_by_label("New").fill("an entirely new password")
        page.get_by_role("button", name="Change the password").click()
        page.get_by_text("Every other session has ended").wait_for()
        elsewhere.goto("/account")
        elsewhere.get_by_role("heading", name="Log in").wait_for()
        page.reload()
        follow(page, page.get_by_role("button", name="Log out"))
        page.get_by_role("heading", name="Log in").wait_for()
    assert check_password(world.database, "pat", "an entirely new password").name == "pat"


def test_a_page_takes_nothing_until_its_scripts_listen(world: World, server: Running, browser: Any) -> None:
    """A form that the browser sent alone would write the passwords into the address."""
    world.user("eve", "main")
    with visitor(browser, server.url, "eve") as page:
        held: list[Any] = []
        page.route("**/static/account.js", lambda route: held.append(route))
        page.goto("/account", wait_until="commit")
        button = page.get_by_role("button", name="Change the password")
        button.wait_for()
        page.evaluate(
            "for (const field of document.querySelectorAll('[type=password]')) field.value = 'x'.repeat(12)"
        )
        place = button.bounding_box()
        page.mouse.click(place["x"] + place["width"] / 2, place["y"] + place["height"] / 2)
        page.keyboard.press("Tab")
        page.keyboard.press("Enter")
        page.wait_for_timeout(200)
        assert page.url.endswith("/account")
        held[0].continue_()
        page.wait_for_load_state()
        button.click()
        page.get_by_text(
            "name and password do not fit together: check both, or ask an administrator for a link to a new password."
        ).wait_for()
        assert page.url.endswith("/account")


def test_a_session_that_ended_keeps_the_answer(world: World, server: Running, browser: Any) -> None:
    """Logged out in the middle: the answer stays in the browser, and is sent after logging in again."""
    world.project("expired", {"acceptable": False})
    world.user("exa", "expired")
    with visitor(browser, server.url, "exa") as page:
        open_work(page, "expired")
        page.wait_for_timeout(500)
        page.context.clear_cookies()
        page.keyboard.press("1")
        page.locator('#submit[aria-disabled="false"]').wait_for()
        page.keyboard.press("Enter")
        page.get_by_text("Logged out, 1 kept here").wait_for()
        page.goto("/login?next=/p/expired/work")
        page.get_by_label("Name").fill("exa")
        page.get_by_label("Password").fill(PASSWORD)
        follow(page, page.get_by_role("button", name="Log in"))
        page.locator('#status[data-state="saved"]').wait_for()
    assert queue.progress(world.database, world.member("expired", world.users["exa"])).answered == 1
