"""What people do, in a real browser against a real server: every test asserts what the store holds in the end."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from tests.web.conftest import Running
from tests.web.kit import World
from tests.web.people import DESKTOP, PHONE, follow, open_work, ready, saved, visitor
from tutelage.feedback.items import browsing
from tutelage.feedback.items.browsing import AnswerRow
from tutelage.feedback.projects import projects
from tutelage.feedback.work import answers as work
from tutelage.feedback.work import queue
from tutelage.store import Store
from tutelage.store.schema import Item
from tutelage.store.schema_feedback import Assignment


def answers_of(world: World, project: str) -> list[AnswerRow]:
    """Every stored answer of a project, revisions included, oldest first."""
    who = world.member(project)
    rows = browsing.find(world.database, who, browsing.Query(limit=500)).items
    found = [answer for row in rows for answer in browsing.detail(world.database, who, row.item_id).answers]
    return sorted(found, key=lambda answer: answer.annotation_id)


def text_of_slot(world: World, project: str, answer: AnswerRow) -> dict[int, str]:
    """The texts of the item that an answer is about, by canonical slot."""
    who = world.member(project)
    for row in browsing.find(world.database, who, browsing.Query(limit=500)).items:
        found = browsing.detail(world.database, who, row.item_id)
        if any(own.annotation_id == answer.annotation_id for own in found.answers):
            return {shown.position: shown.text for shown in found.responses}
    raise AssertionError("the answer is about no item")


def accept_both(page: Any) -> None:
    page.keyboard.press("a")
    page.keyboard.press("b")


def shown(page: Any) -> list[str]:
    """The texts of the responses as they stand on the screen."""
    return [text.strip() for text in page.locator(".response .body").all_inner_texts()]


def test_compare_by_keyboard_alone(world: World, server: Running, browser: Any, shots: Path) -> None:
    """Six items, all by keys; the side that was pressed is the side that trainers are told is the better one."""
    world.project("keyboard", settings={"markdown": False})
    world.user("kim", "keyboard")
    pressed = []
    with visitor(browser, server.url, "kim") as page:
        open_work(page, "keyboard")
        for n in range(6):
            before = shown(page)
            key, side = ("1", 0) if n % 2 else ("7", 1)
            pressed.append(before[side])
            page.keyboard.press(key)
            page.keyboard.press("a")
            page.keyboard.press("b")
            page.keyboard.press("b")
            ready(page)
            if n == 0:
                page.screenshot(path=shots / "compare.png")
            page.keyboard.press("Enter")
            page.wait_for_function(
                "old => document.querySelector('.empty') || "
                "[...document.querySelectorAll('.response .body')].map(e => e.innerText.trim()).join() !== old",
                arg=",".join(before),
            )
        page.get_by_text("Nothing left for you here").wait_for()
        saved(page)
    stored = answers_of(world, "keyboard")
    assert len(stored) == 6
    for answer, text in zip(stored, pressed, strict=True):
        better = 0 if answer.answer.preference < 0 else 1
        assert abs(answer.answer.preference) == 3
        assert text_of_slot(world, "keyboard", answer)[better] == text
        first, second = answer.shown_order
        assert (answer.answer.acceptable[first], answer.answer.acceptable[second]) == (True, False)
    with Store(world.path) as store:
        assert sorted(row.chosen for row in store.comparisons("keyboard")) == sorted(pressed)
    assert {answer.shown_order for answer in stored} == {(0, 1), (1, 0)}, "both screen orders were among them"


def test_keys_are_dead_while_one_types_or_composes(world: World, server: Running, browser: Any) -> None:
    world.project("typing")
    world.user("tia", "typing")
    with visitor(browser, server.url, "tia") as page:
        open_work(page, "typing")
        page.keyboard.press("r")
        page.keyboard.type("1 s ! u g ?")
        assert page.get_by_label("Reason").input_value() == "1 s ! u g ?"
        assert page.locator("dialog[open]").count() == 0
        assert page.locator("#bar input:checked").count() == 0
        page.keyboard.press("Escape")
        page.evaluate(
            "document.body.dispatchEvent(new KeyboardEvent('keydown', {key: '1', isComposing: true, bubbles: true}))"
        )
        assert page.locator("#bar input:checked").count() == 0
        page.keyboard.press("1")
        assert page.locator("#bar input:checked").count() == 1
        page.keyboard.press("?")
        page.get_by_role("heading", name="Keys").wait_for()


def test_rank_with_ties(world: World, server: Running, browser: Any, shots: Path) -> None:
    world.project("ranks", {"type": "rank", "acceptable": False}, items_of={"size": 3})
    world.user("rob", "ranks")
    with visitor(browser, server.url, "rob") as page:
        open_work(page, "ranks")
        on_screen = shown(page)
        for key in ("2", "1", "1"):
            page.keyboard.press(key)
        assert page.locator("output").inner_text() == "B = C > A"
        ready(page)
        page.screenshot(path=shots / "rank.png")
        page.keyboard.press("Enter")
        page.wait_for_function(
            "old => document.querySelector('.response .body').innerText.trim() !== old", arg=on_screen[0]
        )
        saved(page)
    (answer,) = answers_of(world, "ranks")
    by_screen = [answer.answer.ranks[slot] for slot in answer.shown_order]
    assert by_screen == [2, 1, 1]


def drag(page: Any, what: Any, onto: Any) -> None:
    """Press, move in steps, let go, as a hand does."""
    here, there = what.bounding_box(), onto.bounding_box()
    page.mouse.move(here["x"] + here["width"] / 2, here["y"] + here["height"] / 2)
    page.mouse.down()
    page.mouse.move(there["x"] + there["width"] / 2, there["y"] + there["height"] / 2, steps=5)
    page.mouse.up()


def test_rank_by_dragging(world: World, server: Running, browser: Any) -> None:
    """Letters of the bar or of the cards onto numbers: ties where two share one, swaps where the project has no ties."""
    world.project("dragged", {"type": "rank", "acceptable": False}, items_of={"size": 3})
    world.user("dot", "dragged")
    with visitor(browser, server.url, "dot") as page:
        open_work(page, "dragged")
        chip, place = page.locator(".chip-letter"), page.locator(".place:not(.tray)")
        letters = page.locator(".response .letter")
        said = page.locator("output")
        drag(page, page.locator(".tray .chip-letter", has_text="C"), place.nth(0))
        assert said.inner_text() == "C"
        drag(page, letters.nth(0), place.nth(1))
        drag(page, chip.filter(has_text="B"), place.nth(1))
        assert said.inner_text() == "C > A = B"
        page.keyboard.press("j")  # the keys go on from there
        page.keyboard.press("3")
        assert place.nth(2).locator(".chip-letter").count() == 1
        drag(page, chip.filter(has_text="C"), page.locator(".tray"))
        assert page.locator("#submit").get_attribute("aria-disabled") == "true"
        page.mouse.move(*(letters.nth(2).bounding_box()[side] + 8 for side in "xy"))
        page.mouse.down()
        page.mouse.move(700, 700, steps=3)
        page.keyboard.press("Escape")  # a drag that is given up changes nothing
        page.mouse.up()
        assert page.locator(".tray .chip-letter").inner_text() == "C"
        drag(page, chip.filter(has_text="C"), place.nth(0))
        ranks = [
            int(x) for x in page.locator(".response input:checked").evaluate_all("e => e.map(i => i.value)")
        ]
        ready(page)
        page.keyboard.press("Enter")
        saved(page)
    (answer,) = answers_of(world, "dragged")
    assert [answer.answer.ranks[slot] for slot in answer.shown_order] == ranks
    assert sorted(ranks) == [1, 2, 3]

    world.project("no-ties", {"type": "rank", "acceptable": False, "ties": False}, items_of={"size": 3})
    world.user("noa", "no-ties")
    with visitor(browser, server.url, "noa", PHONE, has_touch=True) as page:
        open_work(page, "no-ties")
        for key in "123":
            page.keyboard.press(key)
        chip, place = page.locator(".chip-letter"), page.locator(".place:not(.tray)")
        drag(page, chip.filter(has_text="A"), place.nth(2))
        assert page.locator("output").inner_text() == "C > B > A"
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_rate_every_criterion(world: World, server: Running, browser: Any, shots: Path) -> None:
    world.project("rates", {"type": "rate", "acceptable": False}, items_of={"size": 2})
    world.user("ria", "rates")
    with visitor(browser, server.url, "ria") as page:
        open_work(page, "rates")
        for key in "1234567n":
            page.keyboard.press(key)
        ready(page)
        page.screenshot(path=shots / "rate.png")
        page.keyboard.press("Enter")
        page.wait_for_function("!document.querySelector('#stage input:checked')")
        saved(page)
    (answer,) = answers_of(world, "rates")
    first, second = answer.shown_order
    assert [
        answer.answer.ratings[name][first] for name in ("overall", "accuracy", "coverage", "coherence")
    ] == [1, 2, 3, 4]
    assert [
        answer.answer.ratings[name][second] for name in ("overall", "accuracy", "coverage", "coherence")
    ] == [5, 6, 7, None]


def test_steps_with_a_rewrite_and_the_round_after_it(
    world: World, server: Running, browser: Any, shots: Path
) -> None:
    """A wrong step gets a reason and a better text, the model goes on from it at once, and its steps are marked."""
    prompt, answer = (
        "What is 1/2 + 1/3?",
        "Take six as denominator.\n\nThen it is 3/6 + 1/6.\n\nSo four sixths.",
    )
    world.project("steps", {"type": "step"}, prompts=[prompt], answers=[[answer]])
    world.user("sam", "steps")
    with visitor(browser, server.url, "sam") as page:
        open_work(page, "steps")
        page.keyboard.press("+")
        page.keyboard.press("-")
        page.keyboard.type("One third is two sixths.")
        second = page.locator(".step").nth(1)
        assert second.get_by_role("button", name="Insert my step").is_visible()
        second.get_by_label("A better step").fill("Then it is 3/6 + 2/6.")
        page.screenshot(path=shots / "steps.png")
        second.get_by_role("button", name="Insert my step").click()
        page.get_by_text("That gives five sixths.").first.wait_for()
        page.locator(".round-view.two").wait_for()
        assert page.locator(".step").count() == 4
        assert page.locator(".step input:checked").count() == 2  # as before, and as one wrote it
        for _ in range(2):
            page.keyboard.press("+")
        ready(page)
        page.keyboard.press("Enter")
        page.get_by_text("Was the model right?").first.wait_for()  # no reference: one has to say
        page.keyboard.press("n")
        page.get_by_role("heading", name="This problem is done").wait_for()
        page.keyboard.press("Enter")
        page.get_by_text("Nothing left for you here").wait_for()
        saved(page)
    first, second = answers_of(world, "steps")
    assert [(mark.label, mark.caused_by) for mark in first.answer.marks] == [(1, None), (-1, None), (-1, 1)]
    assert first.answer.marks[1].reason == "One third is two sixths."
    assert first.answer.marks[1].rewrite == "Then it is 3/6 + 2/6."
    assert first.answer.finish == "found-error"
    assert [mark.label for mark in second.answer.marks] == [1, 1, 1, 1]
    assert second.answer.finish == "solution"


def test_rewrite_shows_what_changed(world: World, server: Running, browser: Any, shots: Path) -> None:
    world.project("edits", {"type": "rewrite"}, prompts=["Name a colour."], answers=[["The colour red."]])
    world.user("eve", "edits")
    with visitor(browser, server.url, "eve") as page:
        open_work(page, "edits")
        page.keyboard.press("e")
        page.get_by_label("Your version").fill("The colour green.")
        page.locator("ins", has_text="green").wait_for()
        assert page.locator("del").inner_text() == "red"
        page.screenshot(path=shots / "rewrite.png")
        page.keyboard.press("Control+Enter")
        page.get_by_text("Nothing left for you here").wait_for()
        saved(page)
    (answer,) = answers_of(world, "edits")
    assert answer.answer.text == "The colour green."


def test_chat_goes_on_with_what_was_chosen(world: World, server: Running, browser: Any, shots: Path) -> None:
    world.project("talk", {"type": "chat", "acceptable": False}, prompts=["You are kind."], answers=[[]])
    world.user("cat", "talk")
    with visitor(browser, server.url, "cat") as page:
        open_work(page, "talk")
        for n, words in enumerate(("Good morning", "And now?")):
            page.get_by_label("Your message").fill(words)
            page.keyboard.press("Enter")
            page.locator(".response").nth(1).wait_for()
            best = shown(page)[n]
            page.keyboard.press("Escape")
            page.keyboard.press("7" if n else "1")
            if not n:
                page.screenshot(path=shots / "chat.png")
            page.get_by_role("button", name="Choose").click()
            page.locator(".bubble.assistant").nth(n).wait_for()
            assert page.locator(".bubble.assistant").nth(n).inner_text() == best
        page.locator("#bar").get_by_role("radio", name="Yes").check(force=True)
        ready(page)
        page.locator("#submit").click()
        page.get_by_text("Nothing left for you here").wait_for()
        saved(page)
    chat, *rest = sorted(answers_of(world, "talk"), key=lambda answer: answer.answer.type)
    assert chat.answer.type == "chat" and chat.answer.satisfied is True
    assert [answer.answer.type for answer in rest] == ["pair", "pair"]
    prompt = server.site.generator.asked[-1][0]
    assert [turn.role for turn in prompt.content[-3:]] == ["user", "assistant", "user"]


def test_two_annotators_at_once_never_hold_the_same_item(world: World, server: Running, browser: Any) -> None:
    prompts = [f"Question {n}?" for n in range(12)]  # enough for what the pages fetch ahead
    said = [(f"Yes, {n}.", f"No, {n}.") for n in range(12)]
    world.project("pairwork", settings={"overlap": 1}, prompts=prompts, answers=said)
    world.user("tom", "pairwork"), world.user("una", "pairwork")
    with visitor(browser, server.url, "tom") as tom, visitor(browser, server.url, "una") as una:
        open_work(tom, "pairwork")
        open_work(una, "pairwork")
        for _ in range(3):
            assert set(shown(tom)).isdisjoint(shown(una))
            for page in (tom, una):
                before = shown(page)
                page.keyboard.press("1")
                accept_both(page)
                ready(page)
                page.keyboard.press("Enter")
                page.wait_for_function(
                    "old => document.querySelector('.empty') || "
                    "document.querySelector('.response .body').innerText.trim() !== old",
                    arg=before[0],
                )
        saved(tom), saved(una)
    stored = answers_of(world, "pairwork")
    assert len(stored) == 6
    assert all(answer.role == "answer" for answer in stored)
    assert sorted(answer.annotator for answer in stored) == ["tom"] * 3 + ["una"] * 3


def test_undo_opens_the_last_answer_as_a_revision(world: World, server: Running, browser: Any) -> None:
    world.project("undo")
    world.user("uma", "undo")
    with visitor(browser, server.url, "uma") as page:
        open_work(page, "undo")
        first = shown(page)
        page.keyboard.press("1")
        accept_both(page)
        page.keyboard.press("r")
        page.keyboard.type("first thought")
        page.keyboard.press("Control+Enter")
        page.wait_for_function(
            "old => document.querySelector('.response .body').innerText.trim() !== old", arg=first[0]
        )
        saved(page)
        second = shown(page)
        page.keyboard.press("4")
        page.keyboard.press("u")
        page.get_by_text("You have answered this before").wait_for()
        assert shown(page) == first
        assert page.get_by_label("Reason").input_value() == "first thought"
        page.keyboard.press("7")
        page.keyboard.press("Enter")
        page.wait_for_function(
            "old => document.querySelector('.response .body').innerText.trim() !== old", arg=first[0]
        )
        assert shown(page) == second
        assert page.locator("#bar input:checked").get_attribute("value") == "0"
        saved(page)
    old, new = answers_of(world, "undo")
    assert not old.current and new.current
    assert old.answer.preference == -new.answer.preference != 0


def test_offline_and_back_loses_nothing(world: World, server: Running, browser: Any, shots: Path) -> None:
    """An answer given without a connection stays in the browser, survives a reload, and arrives once."""
    world.project("train")
    who = world.user("tea", "train")
    with visitor(browser, server.url, "tea") as page:
        open_work(page, "train")
        page.wait_for_timeout(400)  # the next item is fetched ahead
        page.context.set_offline(True)
        before = shown(page)
        page.keyboard.press("1")
        accept_both(page)
        ready(page)
        page.keyboard.press("Enter")
        page.locator('#status[data-state="offline"]').wait_for()
        assert shown(page) != before
        assert "1 kept here" in page.locator("#status").inner_text()
        page.keyboard.press("7")
        accept_both(page)
        ready(page)
        page.keyboard.press("Enter")
        page.get_by_text("No connection").wait_for()
        page.screenshot(path=shots / "offline.png")
        assert answers_of(world, "train") == []
        page.context.set_offline(False)
        page.locator("#submit").wait_for(timeout=60_000)
        saved(page)
    stored = answers_of(world, "train")
    assert len(stored) == 2
    assert queue.progress(world.database, world.member("train", who)).answered == 2


def test_leaving_gives_back_what_nobody_has_seen(world: World, server: Running, browser: Any) -> None:
    """The item on the screen stays one's own; the one that was fetched ahead is free for others at once."""
    member = world.project("leaving")
    who = world.member("leaving", world.user("lea", "leaving"))
    held = select(Assignment.status).join(Item, Item.id == Assignment.item_id)
    held = held.where(Item.project_id == member.project_id).order_by(Assignment.id)

    def states() -> list[str]:
        with world.database.read() as connection:
            return list(connection.scalars(held))

    with visitor(browser, server.url, "lea") as page:
        open_work(page, "leaving")
        before = shown(page)
        page.wait_for_timeout(300)
        assert states() == ["leased", "leased"]
        page.goto("/")
        for _ in range(50):  # the request outlives its page
            if states() == ["leased", "released"]:
                break
            page.wait_for_timeout(100)
        assert states() == ["leased", "released"]
        open_work(page, "leaving")
        assert shown(page) == before
    assert queue.progress(world.database, who).left == 6


def test_drafts_come_back_after_a_reload_and_elsewhere(world: World, server: Running, browser: Any) -> None:
    world.project("drafts")
    world.user("dan", "drafts")
    with visitor(browser, server.url, "dan") as page:
        open_work(page, "drafts")
        page.keyboard.press("2")
        page.keyboard.press("a")
        page.keyboard.press("r")
        page.keyboard.type("half a thought")
        with page.expect_response(lambda answer: "/draft" in answer.url):
            pass
        page.reload()
        page.locator("#submit").wait_for()
        assert page.get_by_label("Reason").input_value() == "half a thought"
        assert page.locator("#bar input:checked").get_attribute("value") == "-2"
        item = shown(page)
    with visitor(browser, server.url, "dan") as other:
        open_work(other, "drafts")
        assert shown(other) == item
        assert other.get_by_label("Reason").input_value() == "half a thought"


def test_server_stopped_in_mid_submit(world: World, server: Running, browser: Any) -> None:
    world.project("crash")
    world.user("cleo", "crash")
    with visitor(browser, server.url, "cleo") as page:
        open_work(page, "crash")
        page.wait_for_timeout(400)
        server.stop()
        try:
            page.keyboard.press("1")
            accept_both(page)
            ready(page)
            page.keyboard.press("Enter")
            page.locator('#status[data-state="offline"]').wait_for()
        finally:
            server.start()
        page.locator('#status[data-state="saved"]').wait_for(timeout=60_000)
    assert len(answers_of(world, "crash")) == 1


def test_lost_reply_is_stored_once(world: World, server: Running, browser: Any) -> None:
    """The server has the answer, but its reply never arrives: the same answer is sent again, and is there once."""
    world.project("reply")
    world.user("ron", "reply")
    with visitor(browser, server.url, "ron") as page:
        open_work(page, "reply")
        lost: list[int] = []

        def lose(route: Any) -> None:
            route.fetch()
            lost.append(1)
            route.abort()

        page.route("**/submit", lose, times=1)
        page.keyboard.press("1")
        accept_both(page)
        ready(page)
        page.keyboard.press("Enter")
        page.locator('#status[data-state="offline"]').wait_for()
        page.locator('#status[data-state="saved"]').wait_for(timeout=60_000)
        assert lost == [1]
    assert len(answers_of(world, "reply")) == 1


def test_double_click_and_two_tabs_store_one_answer(world: World, server: Running, browser: Any) -> None:
    world.project("tabs", settings={"overlap": 3})
    world.user("tad", "tabs")
    with visitor(browser, server.url, "tad") as page:
        open_work(page, "tabs")
        other = page.context.new_page()
        other.goto("/p/tabs/work")
        other.locator("#submit").wait_for()
        assert shown(other) == shown(page)
        for tab in (page, other):
            tab.bring_to_front()
            tab.keyboard.press("1")
            accept_both(tab)
            ready(tab)
            tab.locator("#submit").dblclick()
        other.get_by_text("not accepted").first.wait_for()
        other.get_by_role("button", name="Open again").click()
        other.get_by_text("You have answered this before").wait_for()
        saved(page)
    assert len([answer for answer in answers_of(world, "tabs") if answer.current]) == 1


def test_back_button_keeps_the_item(world: World, server: Running, browser: Any) -> None:
    world.project("back")
    world.user("bea", "back")
    with visitor(browser, server.url, "bea") as page:
        open_work(page, "back")
        item = shown(page)
        page.keyboard.press("3")
        page.goto("/")
        page.go_back()
        page.locator("#submit").wait_for()
        assert shown(page) == item
        assert page.locator("#bar input:checked").get_attribute("value") == "-1"


def test_skip_with_a_reason_and_flag(world: World, server: Running, browser: Any) -> None:
    world.project("skips")
    world.user("sky", "skips")
    with visitor(browser, server.url, "sky") as page:
        open_work(page, "skips")
        before = shown(page)
        page.keyboard.press("!")
        page.get_by_label("Unsafe content").check()
        page.get_by_role("button", name="Flag", exact=True).last.click()
        page.get_by_text("Flagged.").first.wait_for()
        page.keyboard.press("s")
        page.get_by_label("Not my field").check()
        page.keyboard.press("Enter")
        page.wait_for_function(
            "old => document.querySelector('.response .body').innerText.trim() !== old", arg=before[0]
        )
    rows = browsing.find(world.database, world.member("skips"), browsing.Query(state="flagged")).items
    assert [(row.skips, row.flags) for row in rows] == [(1, 1)]


def test_dwell_and_scroll_hold_a_submit_back(world: World, server: Running, browser: Any) -> None:
    long = "\n\n".join(f"Line {n} of a long text." for n in range(80))
    world.project(
        "slow", {"acceptable": False}, {"dwell_seconds": 1.5}, prompts=["Talk."], answers=[[long, "Short."]]
    )
    world.user("lou", "slow")
    with visitor(browser, server.url, "lou") as page:
        open_work(page, "slow")
        page.keyboard.press("1")
        page.keyboard.press("Enter")
        assert answers_of(world, "slow") == []
        assert "Scroll to the end of response" in page.locator("#hint").inner_text()
        page.evaluate("scrollTo(0, document.body.scrollHeight)")
        ready(page)
        page.keyboard.press("Enter")
        page.get_by_text("Nothing left for you here").wait_for()
        saved(page)
    assert answers_of(world, "slow")[0].active_ms >= 0


def test_adjudicating_a_conflict(world: World, server: Running, browser: Any, shots: Path) -> None:
    world.project(
        "court", {"acceptable": False}, {"overlap": 2}, prompts=["Pick."], answers=[["Left", "Right"]]
    )
    for name, wanted in (("ada", "Left"), ("abe", "Right")):
        world.user(name, "court")
        with visitor(browser, server.url, name) as page:
            open_work(page, "court")
            page.keyboard.press("1" if shown(page)[0] == wanted else "7")
            ready(page)
            page.keyboard.press("Enter")
            page.get_by_text("Nothing left for you here").wait_for()
            saved(page)
    world.user("judy", "court", "adjudicator")
    with visitor(browser, server.url, "judy") as page:
        page.goto("/p/court/adjudicate")
        page.locator("#submit").wait_for()
        opinions = page.locator(".opinion")
        assert opinions.count() == 2 and not opinions.first.is_visible()  # one's own view first
        page.screenshot(path=shots / "adjudicate.png")
        page.keyboard.press("1")
        ready(page)
        assert opinions.first.is_visible() and page.get_by_text("ada").count() == 0
        page.screenshot(path=shots / "adjudicate-open.png")
        page.keyboard.press("Enter")
        page.get_by_text("No conflicts left").wait_for()
        saved(page)
        page.get_by_role("button", name="Undo").click()  # shows what it was, to be settled otherwise
        page.get_by_text("judy settled this").wait_for()
        assert page.locator("#bar input:checked").count() == 1
        page.keyboard.press("7")
        page.keyboard.press("Enter")
        page.get_by_text("No conflicts left").wait_for()
        saved(page)
        page.get_by_role("button", name="Settled ones").click()
        page.screenshot(path=shots / "settled.png")
        page.get_by_role("button", name="Open again").click()
        page.get_by_role("button", name="Reopen").click()
        page.get_by_role("button", name="Reopen").wait_for(state="detached")
        assert not opinions.first.is_visible()
    said = [answer for answer in answers_of(world, "court") if answer.role == "adjudication"]
    assert {answer.annotator for answer in said} == {"judy"}
    assert work.settled(world.database, world.member("court")) == []


@pytest.mark.parametrize("viewport", [PHONE, {"width": 640, "height": 400}], ids=["phone", "200 % zoom"])
def test_small_screens(
    world: World, server: Running, browser: Any, shots: Path, viewport: dict[str, int]
) -> None:
    """One column, nothing cut off sideways, and the whole way to an answer by touch."""
    world.project(f"small-{viewport['width']}")
    world.user("phil", f"small-{viewport['width']}")
    with visitor(browser, server.url, "phil", viewport, has_touch=True) as page:
        open_work(page, f"small-{viewport['width']}")
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        before = shown(page)
        page.locator("#bar .segments input").first.tap()
        for card in page.locator(".response").all():
            card.get_by_role("radio", name="Acceptable", exact=True).tap()
        ready(page)
        page.screenshot(path=shots / f"small-{viewport['width']}.png")
        page.locator("#submit").tap()
        page.wait_for_function(
            "old => document.querySelector('.response .body').innerText.trim() !== old", arg=before[0]
        )
        saved(page)
    assert len(answers_of(world, f"small-{viewport['width']}")) == 1


def test_owner_makes_a_project_and_invites(world: World, server: Running, browser: Any, shots: Path) -> None:
    """The way from an empty server to an annotator at work, through the pages."""
    with visitor(browser, server.url, "ann", DESKTOP) as page:
        page.goto("/new")
        page.get_by_label("Name").fill("fresh one")
        follow(page, page.get_by_role("button", name="Make the project"))
        page.get_by_role("heading", name="Manage").wait_for()
        rows = '{"prompt": "Say a number.", "response": "One."}\n{"prompt": "Say a number.", "response": "Two."}\nnonsense\n'
        page.get_by_label("File (JSON, CSV, TSV, Parquet)").set_input_files(
            {"name": "rows.jsonl", "mimeType": "text/plain", "buffer": rows.encode()}
        )
        page.get_by_text("JSON lines, utf-8, responses. 2 new, 0 were there already, 1 not taken.").wait_for()
        assert browsing.find(world.database, world.member("fresh one"), browsing.Query()).items == []
        page.get_by_role("button", name="Import").click()
        page.get_by_text("2 new, 0 were there already, 1 not taken.", exact=True).wait_for()
        page.get_by_role("link", name="Go on to build items").click()
        page.get_by_role("button", name="Build").click()
        page.get_by_text("1 new items").wait_for()
        page.get_by_role("tab", name="People").click()
        page.get_by_role("button", name="Make a link").click()
        link = page.locator(".secret").inner_text()
        page.screenshot(path=shots / "manage.png", full_page=True)
    with visitor(browser, server.url) as page:
        page.goto(link)
        page.get_by_label("Name").fill("newcomer")
        page.get_by_label("Password").fill("a long enough password")
        follow(page, page.get_by_role("button", name="Join"))
        follow(page, page.get_by_role("link", name="Start"))
        page.get_by_text("Say a number.").wait_for()
    member = world.member("fresh one")
    assert {row.name: row.role for row in projects.members(world.database, member)} == {
        "ann": "owner",
        "newcomer": "annotator",
    }
    (row,) = browsing.find(world.database, member, browsing.Query()).items
    assert (row.type, row.answers) == ("pair", 0)
