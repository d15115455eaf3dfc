"""Twenty tasks of a manager and of annotators, done by what the page shows and nothing else: no address is typed.

A task has a bound of clicks and presses, finds what it looks for by role, label or text, sees what came of it, and ends
where something leads on.  The bounds are what a person needs who makes no mistake; more means that something moved away.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.web.conftest import Running
from tests.web.kit import PASSWORD, World
from tests.web.people import DESKTOP, PHONE, settled, visitor
from tutelage.feedback.projects import projects

pytestmark = pytest.mark.slow

TITLE = "Kitchen help"
CSV = "prompt,response\n" + "".join(
    f"{prompt},{long}\n{prompt},{short}\n"
    for prompt, long, short in (
        ("How do I boil an egg?", "Eight minutes in boiling water then cold water.", "Boil it."),
        ("How long does rice take?", "About twelve minutes with the lid on.", "Long."),
        ("What goes with fish?", "Lemon and dill or a light white sauce.", "Chips."),
        ("How do I peel garlic?", "Press it with a flat knife and the skin comes off.", "By hand."),
        ("Can one freeze bread?", "Yes for three months and sliced is best.", "Yes."),
        ("What is a roux?", "Butter and flour cooked together to thicken a sauce.", "A base."),
        ("How do I ripen a pear?", "Keep it beside a banana for two days.", "Wait."),
        ("Why rest a dough?", "The gluten relaxes so it rolls out without tearing.", "It helps."),
    )
)
AGREED = ("How do I boil an egg?", "How do I peel garlic?", "How do I ripen a pear?")


class Hand:
    """One person at a page: every click, press, choice and filled field is counted."""

    def __init__(self, page: Any) -> None:
        self.page, self.moves, self.done = page, 0, dict[str, int]()

    @contextmanager
    def task(self, name: str, at_most: int) -> Iterator[None]:
        """One of the twenty: within its bound, and with a way on from where it ends."""
        self.moves = 0
        yield
        settled(self.page)
        self.done[name] = self.moves
        assert self.moves <= at_most, f"{name} took {self.moves} moves, not {at_most}"
        ways = self.page.locator("main, #bar, dialog[open]").locator(
            "a[href]:visible, button:enabled:visible"
        )
        assert ways.count(), f"{name} ends where nothing leads on"

    def click(self, role: str, name: str | re.Pattern[str], where: Any = None, exact: bool = True) -> None:
        """Click on what has this role and this name: the only one in sight, or the first in `where`."""
        self.moves += 1
        found = (where or self.page).get_by_role(role, name=name, exact=exact)
        (found.first if where else found).click()

    def fill(self, label: str, text: str, where: Any = None) -> None:
        """Write into the field with this label."""
        self.moves += 1
        self._labelled(label, where).fill(text)

    def choose(self, label: str, option: str, where: Any = None) -> None:
        """Choose in the list with this label."""
        self.moves += 1
        self._labelled(label, where).select_option(option)

    def _labelled(self, label: str, where: Any) -> Any:
        """The field in sight whose label begins so; its hint may follow."""
        found = (where or self.page).get_by_label(re.compile(f"^{re.escape(label)}"))
        return found.and_(self.page.locator("input, textarea, select")).locator("visible=true")

    def press(self, key: str) -> None:
        """Press a key that a button shows."""
        self.moves += 1
        self.page.keyboard.press(key)

    def sees(self, text: str | re.Pattern[str]) -> None:
        """What the page says is in sight."""
        self.page.get_by_text(text).locator("visible=true").first.wait_for()

    def longer(self) -> int:
        """Which of the two responses on the screen is the longer one: 0 for A."""
        one, other = self.page.locator(".response .body").all_inner_texts()
        return int(len(other) > len(one))

    def compare(self, better: int) -> None:
        """Say that a response is much better, that both are acceptable, and submit; then the next one is there."""
        before = self.page.locator("#stage").inner_text()
        self.click("radio", f"{'AB'[better]} much better", self.page.locator("#bar"))
        for letter in "AB":
            self.click("radio", "Acceptable", self.page.get_by_role("article", name=f"Response {letter}"))
        self.click("button", re.compile("^(Submit|Revise|Settle)"), self.page.locator("#bar"), exact=False)
        self.page.wait_for_function("old => document.querySelector('#stage').innerText !== old", arg=before)
        settled(self.page)


@contextmanager
def hand(browser: Any, url: str, name: str = "", **options: Any) -> Iterator[Hand]:
    """Somebody on the start page, or whom the server does not know."""
    with visitor(browser, url, name, **options) as page:
        page.on("dialog", lambda dialog: dialog.accept())
        yield Hand(page)


def set_up(ann: Hand, name: str) -> str:
    """From nothing to a link for an annotator; returns the link."""
    page = ann.page
    with ann.task("make a project", 4):
        ann.click("link", "New project")
        ann.fill("Name", name)
        ann.fill("Title", TITLE)
        ann.click("button", "Make the project")
        ann.sees("Manage")
    with ann.task("import a table", 2):
        ann.moves += 1
        file = {"name": "kitchen.csv", "mimeType": "text/csv", "buffer": CSV.encode()}
        page.get_by_label("File (JSON, CSV, TSV, Parquet)").set_input_files(file)
        ann.sees("How do I boil an egg?")  # as it was understood, before anything is stored
        ann.sees("Nothing is stored yet.")
        ann.click("button", "Import")
        ann.sees("16 new, 0 were there already, 0 not taken.")
    with ann.task("set the question, and write guidelines", 6):
        ann.click("tab", "Questions")
        ann.fill("Question", "Which answer would you rather cook by?")
        ann.click("button", "Save as a new version", page.locator("#questions"))
        ann.sees("These are version 2 of the questions.")
        ann.fill("What annotators should know, in Markdown", "# Be fair\n\nLength is no virtue.")
        ann.click("button", "Save as a new version", page.locator("#guidelines"))
        ann.sees("These are version 1 of the guidelines.")
    with ann.task("have two people answer every item", 3):
        ann.click("tab", "Settings")
        ann.fill("Annotators per item", "2")
        ann.click("button", "Save")
        ann.sees(re.compile("^Saved"))
    with ann.task("build items", 2):
        ann.click("tab", "Build")
        ann.click("button", "Build")
        ann.sees("8 new items")
    with ann.task("invite an annotator", 2):
        ann.click("tab", "People")
        ann.click("button", "Make a link")
        ann.sees("Send this link to one person; it works once.")
    return page.locator(".secret").inner_text()


def join(eve: Hand, link: str, name: str) -> None:
    """Come in by a link, which was sent."""
    eve.page.goto(link)
    with eve.task(f"{name} joins", 3):
        eve.fill("Name", name)
        eve.fill("Password", PASSWORD)
        eve.click("button", "Join")
        eve.sees(TITLE)


def annotate(eve: Hand) -> None:
    """What an annotator does on a first day."""
    page = eve.page
    with eve.task("read the guidelines before the start", 2):
        eve.click("link", "Read version 1 of the guidelines")
        eve.sees("Length is no virtue.")
        eve.click("link", "Label")
    with eve.task("compare three pairs, seeing how far one is", 12):
        eve.sees("Which answer would you rather cook by?")
        for n in range(3):
            eve.sees(f"{n} done, {8 - n} left, 8 in all")
            eve.compare(eve.longer())
        eve.sees("3 done, 5 left, 8 in all")
    with eve.task("undo, and say otherwise", 3):
        eve.click("button", "Undo", exact=False)
        eve.sees("You have answered this before")
        eve.click("radio", f"{'AB'[eve.longer()]} better", page.locator("#bar"))
        eve.click("button", "Revise", exact=False)
        eve.sees("3 done, 5 left")
    with eve.task("flag an item", 3):
        eve.click("button", "Flag", page.locator("#bar"), exact=False)
        eve.click("radio", "Unsafe content")
        eve.click("button", "Flag", page.get_by_role("dialog"))
        eve.sees("Flagged.")
    with eve.task("skip an item, and take the skip back", 4):
        eve.click("button", "Skip", page.locator("#bar"), exact=False)
        eve.click("radio", "Not my field")
        eve.click("button", "Skip", page.get_by_role("dialog"))
        eve.sees("3 done, 4 left")
        eve.click("button", "Undo", exact=False)
        eve.sees("3 done, 5 left")
    with eve.task("read the guidelines in between", 2):
        eve.click("button", "Guidelines", exact=False)
        eve.sees("Length is no virtue.")
        eve.click("button", "Close")
    with eve.task("find an own past answer, and revise it", 5):
        eve.click("link", "Tutelage")
        page.get_by_text("Your latest answers").click()
        eve.moves += 1
        page.locator(".past a").last.click()
        eve.moves += 1
        eve.sees("You have answered this before")
        eve.click("radio", f"{'AB'[eve.longer()]} much better", page.locator("#bar"))
        eve.click("button", "Revise", exact=False)
        eve.sees("3 done, 5 left")
    for _ in range(5):
        eve.compare(eve.longer())
    eve.sees("Nothing left for you here")


def look_after(ann: Hand, eve: str) -> None:
    """What a manager does with answers: everything on a project's pages."""
    page = ann.page
    with ann.task("find an item by its text, and tag it", 7):
        ann.click("link", "Data")
        ann.fill("Text in prompts, responses or reasons", "PEEL garlic")
        ann.click("button", "Search")
        ann.sees("1 item fits")
        page.locator("#items tbody a").click()
        ann.moves += 1
        ann.click("button", "Add a tag")
        ann.fill("Tag", "vegetables", page.get_by_role("dialog"))
        ann.press("Enter")
        ann.sees("vegetables")
    with ann.task("give somebody a team, and reserve items for it", 9):
        ann.click("link", "Manage")
        ann.click("tab", "People")
        ann.fill(f"Team of {eve}", "cooks")
        ann.press("Tab")
        ann.sees("Saved.")
        ann.click("link", "Data")
        ann.click("checkbox", "Select all on this page")
        ann.click("button", "Reserve")
        ann.choose("Teams", "cooks", page.get_by_role("dialog"))
        ann.click("button", "Save", page.get_by_role("dialog"))
        ann.sees("for @cooks")
    with ann.task("open reserved items to everybody again", 4):
        ann.click("checkbox", "Select all on this page")
        ann.click("button", "Reserve")
        page.get_by_role("dialog").get_by_label("Teams").select_option([])
        ann.moves += 1
        ann.click("button", "Save", page.get_by_role("dialog"))
        page.get_by_text("for @cooks").first.wait_for(state="detached")
    with ann.task("send an answer back with a note", 4):
        page.locator("#items tbody a").first.click()
        ann.moves += 1
        ann.click("button", f"Send back: answer of {eve}", page.get_by_role("row", name=eve))
        ann.fill("What is to be corrected", "Please mind the second sentence.", page.get_by_role("dialog"))
        ann.click("button", "Send back", page.get_by_role("dialog"))
        ann.sees("sent back")


def correct(eve: Hand) -> None:
    """The annotator finds what came back."""
    with eve.task("correct what was sent back", 4):
        eve.click("link", "Back to your projects")
        eve.sees("Sent back to you for correction")
        eve.sees("Please mind the second sentence.")
        eve.page.locator(".notice .past a").click()
        eve.moves += 1
        eve.sees("Sent back to you:")
        eve.click("radio", f"{'AB'[eve.longer()]} much better", eve.page.locator("#bar"))
        eve.click("button", "Revise", exact=False)
        eve.sees("Nothing left for you here")


def judge(ann: Hand, eve: str) -> None:
    """Conflicts, the verdict, the rows, and what must go."""
    page = ann.page
    with ann.task("settle a conflict, and reopen it", 8):
        ann.click("link", "Adjudicate")
        ann.sees("5 conflicts left")
        ann.compare(0)
        ann.sees("4 conflicts left")
        ann.click("button", "Settled ones", exact=False)
        ann.click("button", "Open again")
        ann.sees("ann settled this")
        ann.click("button", "Reopen", exact=False)
        ann.sees("5 conflicts left")
    with ann.task("read how far to trust the answers", 1):
        ann.click("link", "Insights")
        ann.sees("22 more items until agreement can be told")
    with ann.task("export preferences", 3):
        ann.click("link", "Export")
        ann.click("checkbox", re.compile("^With provenance"))
        ann.sees("3 rows")
        ann.sees("Left out: ties: 5")
        with page.expect_download() as download:
            ann.click("button", "Download")
        rows = [json.loads(line) for line in download.value.path().read_text(encoding="utf-8").splitlines()]
        assert sorted(row["prompt"] for row in rows) == sorted(AGREED)
        ann.sees("The file again")
    with ann.task("redact a response", 5):
        ann.click("link", "Data")
        page.locator("#items tbody a").last.click()
        ann.moves += 1
        ann.click("button", "Redact response A")
        ann.fill("Type “redact” to confirm", "redact", page.get_by_role("dialog"))
        ann.click("button", "Redact", page.get_by_role("dialog"))
        ann.sees("redacted")
    with ann.task("make a webhook", 4):
        ann.click("link", "Manage")
        ann.click("tab", "Webhooks")
        ann.fill("Address", "https://example.org/hook")
        ann.click("button", "Add", page.locator("#webhook-form"))
        ann.sees("Messages are signed with this secret.")
    with ann.task("reset a password", 2):
        ann.click("link", "Users")
        ann.click("button", "Reset password", page.get_by_role("row", name=eve))
        ann.sees(f"Send this link to {eve}")


def answer_other_way(ben: Hand) -> None:
    """Somebody who prefers what is shorter, but on three items: conflicts on the others."""
    ben.click("link", "Start")
    for _ in range(8):
        ben.page.locator("#submit").wait_for()
        prompt = ben.page.locator(".prompt .turns").inner_text().strip()
        ben.compare(ben.longer() if prompt in AGREED else 1 - ben.longer())
    ben.sees("Nothing left for you here")


def let_answers_be_quick(world: World, project: str) -> None:
    """Submit is not off for two seconds of every item (which test_journeys.py sees to): nobody here reads."""
    owner = world.member(project)
    wanted = projects.settings(world.database, owner).model_copy(update={"dwell_seconds": 0})
    projects.set_settings(world.database, owner, wanted)


@pytest.mark.parametrize("where", ["desktop", "phone"])
def test_twenty_tasks(server: Running, browser: Any, world: World, where: str) -> None:
    url, options = server.url, {"viewport": {"desktop": DESKTOP, "phone": PHONE}[where]}
    eve_name, ben_name = f"eve-{where}", f"ben-{where}"
    with (
        hand(browser, url, "ann", **options) as ann,
        hand(browser, url, **options) as eve,
        hand(browser, url, **options) as ben,
    ):
        link = set_up(ann, f"kitchen-{where}")
        let_answers_be_quick(world, f"kitchen-{where}")
        join(eve, link, eve_name)
        annotate(eve)
        ann.click("button", "Make a link")
        settled(ann.page)
        join(ben, ann.page.locator(".secret").last.inner_text(), ben_name)
        answer_other_way(ben)
        look_after(ann, eve_name)
        correct(eve)
        judge(ann, eve_name)
        with eve.task("set a new password by a link", 2):
            eve.page.goto(ann.page.locator(".secret").inner_text())
            eve.fill("Password", PASSWORD + "!")
            eve.click("button", "Set the password")
            eve.sees(TITLE)
        done = ann.done | eve.done | ben.done
    assert len(done) >= 20, done
