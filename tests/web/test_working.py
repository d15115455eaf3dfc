"""What must hold for whoever labels, in a real browser: slow lines, changed stores, skips, corrections, guidelines."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from tests.web.conftest import Running
from tests.web.kit import Parrots, World, make_world
from tests.web.people import DESKTOP, PHONE, open_work, ready, saved, visitor
from tests.web.test_journeys import accept_both, answers_of, shown
from tutelage.feedback.asking.payloads import PairAnswer, Submission
from tutelage.feedback.projects import projects
from tutelage.feedback.work import answers, corrections, queue
from tutelage.records import Help
from tutelage.store import Store
from tutelage.store.schema import Item
from tutelage.store.schema_feedback import Assignment, GuidelineVersion, Suggestion
from tutelage.store.sql import insert_one
from tutelage.web.site import Site

pytestmark = pytest.mark.slow


def answer_one(world: World, project: str, name: str, preference: int = -1) -> tuple[int, str]:
    """An annotator's answer to the next pair, over the services; returns the answer's id and the prompt."""
    who = world.member(project, world.users[name])
    task = queue.next_task(world.database, who)
    assert task is not None
    given = Submission(
        client_key=f"{project}-{task.assignment_id:08d}",
        answer=PairAnswer(preference=preference, acceptable=(True, True)),
    )
    receipt = answers.submit(world.database, who, task.assignment_id, given)
    return receipt.annotation_id, task.thread[-1].content


SLOW_LINE = """
const real = window.fetch;
window.sentTo = [];
window.fetch = async (url, options) => {
  sentTo.push(String(url));
  if (/(next|submit)$/.test(url)) await new Promise((done) => setTimeout(done, 1500));
  return real(url, options);
};
"""


def test_pressing_again_on_a_slow_line_gives_one_answer(world: World, server: Running, browser: Any) -> None:
    world.project("slow-line")
    world.user("sue", "slow-line")
    with visitor(browser, server.url, "sue") as page:
        page.add_init_script(SLOW_LINE)
        open_work(page, "slow-line")
        before = shown(page)
        page.keyboard.press("2")
        accept_both(page)
        ready(page)
        for _ in range(3):
            page.keyboard.press("Enter")
        page.locator("#submit").dispatch_event("click")
        page.locator("#submit").dispatch_event("click")
        page.keyboard.press("6")  # what is on its way is not changed any more
        page.wait_for_function(
            "old => document.querySelector('.response .body').innerText.trim() !== old", arg=before[0]
        )
        second = shown(page)
        page.keyboard.press("2")
        accept_both(page)
        ready(page)
        page.locator("#submit").dblclick(force=True)
        page.wait_for_function(
            "old => document.querySelector('.response .body').innerText.trim() !== old", arg=second[0]
        )
        saved(page)
        assert page.locator("#refused").count() == 0
        assert page.evaluate("sentTo.filter(url => url.endsWith('/submit')).length") == 2
    assert [answer.answer.preference for answer in answers_of(world, "slow-line")] == [
        2 if answer.shown_order[0] else -2 for answer in answers_of(world, "slow-line")
    ]
    assert len(answers_of(world, "slow-line")) == 2


@pytest.fixture
def twin(tmp_path: Path) -> Iterator[World]:
    """Another store with a project, a person and numbers like those of `world`, but other items under them."""
    made = make_world(tmp_path / "twin.sqlite")
    yield made
    made.close()


QUESTIONS = [[f"{which} question {n}?" for n in range(4)] for which in ("first", "second")]
SAID = [(f"Yes, {n}.", f"No, {n}.") for n in range(4)]


def test_two_stores_at_one_address(twin: World, tmp_path: Path, browser: Any) -> None:
    """A half-answer and an answer that could not be sent belong to their store: kept, shown, and never given to another."""
    first = make_world(tmp_path / "first.sqlite")
    for world, prompts in ((first, QUESTIONS[0]), (twin, QUESTIONS[1])):
        world.project("shared", {"reason": "optional"}, prompts=prompts, answers=SAID)
        world.user("sol", "shared")
    sites = [
        Site(world.database, generator=Parrots(), hosts=("localhost", "127.0.0.1")) for world in (first, twin)
    ]
    server = Running(sites[0])

    def put(site: Site) -> None:
        server.stop()
        server.site = site
        server.start()

    try:
        with visitor(browser, server.url, "sol") as page:
            open_work(page, "shared")
            page.route("**/submit", lambda route: route.abort())
            page.keyboard.press("1")
            accept_both(page)
            page.keyboard.press("r")
            page.keyboard.type("whole words of the first store")
            page.keyboard.press("Control+Enter")
            page.get_by_text("1 kept here").wait_for()
            page.keyboard.press("r")
            page.keyboard.type("half words of the first store")
            page.wait_for_timeout(200)

            put(sites[1])
            page.unroute("**/submit")
            page.context.clear_cookies()
            page.goto("/login")
            page.get_by_label("Name").fill("sol")
            page.get_by_label("Password").fill("correct horse battery staple")
            page.get_by_role("button", name="Log in").click()
            page.get_by_role("heading", name="Projects").wait_for()
            open_work(page, "shared")
            foreign = page.locator("#refused")
            foreign.get_by_text("whole words of the first store").wait_for()
            assert page.get_by_label("Reason").input_value() == ""
            assert page.locator("#bar input:checked").count() == 0
            for _ in range(2):  # the draft is found where its number comes again
                if page.locator("#strangers").count():
                    break
                now = shown(page)
                page.keyboard.press("1")
                accept_both(page)
                ready(page)
                page.keyboard.press("Enter")
                page.wait_for_function(
                    "old => document.querySelector('.response .body').innerText.trim() !== old[0] "
                    "|| document.querySelector('#strangers')",
                    arg=now,
                )
            page.locator("#strangers").get_by_text("half words of the first store").wait_for()
            page.locator("#strangers").get_by_role("button", name="Throw away").click()
            assert page.locator("#strangers").count() == 0
            saved(page)
            assert all(answer.answer.reason == "" for answer in answers_of(twin, "shared"))
            twins = len(answers_of(twin, "shared"))

            put(sites[0])
            page.context.clear_cookies()
            page.goto("/login")
            page.get_by_label("Name").fill("sol")
            page.get_by_label("Password").fill("correct horse battery staple")
            page.get_by_role("button", name="Log in").click()
            page.get_by_role("heading", name="Projects").wait_for()
            open_work(page, "shared")
            saved(page)  # back at its own store the answer that waited is sent
        assert [answer.answer.reason for answer in answers_of(first, "shared")] == [
            "whole words of the first store"
        ]
        assert len(answers_of(twin, "shared")) == twins
    finally:
        server.stop()
        for site in sites:
            site.exports.close()
        first.close()


def test_an_open_page_does_not_write_under_another_item(world: World, server: Running, browser: Any) -> None:
    """After a restore the number on an open page is another item's: refused, kept on the page, offered to copy."""
    world.project("restored")
    world.user("rea", "restored")
    with visitor(browser, server.url, "rea") as page:
        open_work(page, "restored")
        page.wait_for_timeout(300)
        with world.database.write() as connection:
            who = world.users["rea"].annotator_id
            item = select(Item.id).join(Assignment, Assignment.item_id == Item.id)
            for key in connection.scalars(item.where(Assignment.annotator_id == who)).all():
                connection.execute(Item.__table__.update().where(Item.id == key).values(digest=f"{key:016d}"))
        page.keyboard.press("1")
        accept_both(page)
        page.keyboard.press("r")
        page.keyboard.type("what I thought of it")
        page.keyboard.press("Control+Enter")
        refused = page.locator("#refused")
        refused.get_by_text("about another item").wait_for()
        assert refused.locator(".kept").inner_text() == "what I thought of it"
        assert refused.get_by_role("button", name="Copy").is_visible()
    assert answers_of(world, "restored") == []


def test_a_skip_is_undone_at_once_and_from_home(world: World, server: Running, browser: Any) -> None:
    world.project("unskip")
    world.user("una", "unskip")
    with visitor(browser, server.url, "una") as page:
        open_work(page, "unskip")
        before = shown(page)
        page.keyboard.press("r")
        page.keyboard.type("half a thought")
        page.keyboard.press("Escape")
        page.keyboard.press("s")
        page.keyboard.press("Enter")
        page.wait_for_function(
            "old => document.querySelector('.response .body').innerText.trim() !== old", arg=before[0]
        )
        page.keyboard.press("u")
        page.wait_for_function(
            "old => document.querySelector('.response .body').innerText.trim() === old", arg=before[0]
        )
        assert page.get_by_label("Reason").input_value() == "half a thought"
        page.keyboard.press("s")
        page.keyboard.press("Enter")
        page.wait_for_function(
            "old => document.querySelector('.response .body').innerText.trim() !== old", arg=before[0]
        )
        page.goto("/")
        card = page.locator(".project-card", has=page.get_by_role("heading", name="unskip"))
        card.get_by_text("What you skipped (1)").click()
        card.locator(".past a").last.click()
        page.locator("#submit").wait_for()
        assert shown(page) == before
        page.keyboard.press("1")
        accept_both(page)
        ready(page)
        page.keyboard.press("Enter")
        saved(page)
    assert len(answers_of(world, "unskip")) == 1


def test_an_answer_comes_back_for_correction(
    world: World, server: Running, browser: Any, shots: Path
) -> None:
    world.project("corrected")
    world.user("cora", "corrected")
    ids = [answer_one(world, "corrected", "cora") for _ in range(2)]
    corrections.send_back(world.database, world.member("corrected"), ids[1][0], "Read B to its end.")
    with visitor(browser, server.url, "cora") as page:
        page.goto("/")
        card = page.locator(".project-card", has=page.get_by_role("heading", name="corrected"))
        card.get_by_text("Read B to its end.").wait_for()
        card.get_by_text("Your latest answers").click()
        assert card.get_by_text("you said: A is slightly better").count() >= 2
        page.screenshot(path=shots / "home.png", full_page=True)
        open_work(page, "corrected")
        page.get_by_text("Read B to its end.").wait_for()
        page.keyboard.press("s")  # not now: it comes again with the next visit
        page.get_by_text("Read B to its end.").wait_for(state="detached")
        page.reload()
        page.get_by_text("Read B to its end.").wait_for()
        page.keyboard.press("7")
        ready(page)
        page.keyboard.press("Enter")
        page.get_by_text("Read B to its end.").wait_for(state="detached")
        saved(page)
    kept = [answer for answer in answers_of(world, "corrected") if answer.current]
    assert sorted(abs(answer.answer.preference) for answer in kept) == [1, 3]


def test_new_guidelines_lead_to_themselves(world: World, server: Running, browser: Any) -> None:
    """Answers count as given under a version once it was on the screen, and not before."""
    owner = world.project("rules")
    projects.set_guideline(world.database, owner, "# The first rules")
    world.user("gus", "rules")
    with visitor(browser, server.url, "gus") as page:
        open_work(page, "rules")
        page.get_by_text("Read the guidelines before you begin.").wait_for()
        with page.expect_response("**/guidelines/1/seen"):
            page.keyboard.press("g")
        page.get_by_role("heading", name="The first rules").wait_for()
        page.keyboard.press("Escape")
        page.get_by_text("Read the guidelines before you begin.").wait_for(state="detached")

        def give() -> None:
            before = shown(page)
            page.keyboard.press("1")
            accept_both(page)
            ready(page)
            page.keyboard.press("Enter")
            page.wait_for_function(
                "old => document.querySelector('.response .body').innerText.trim() !== old", arg=before[0]
            )
            saved(page)

        give()
        projects.set_guideline(world.database, owner, "# The second rules")
        give()  # fetched ahead: its page does not know yet
        give()
        page.get_by_text("The guidelines have changed").wait_for()
        with page.expect_response("**/guidelines/2/seen"):
            page.get_by_role("button", name="Read", exact=True).click()
        page.get_by_role("heading", name="The second rules").wait_for()
        page.keyboard.press("Escape")
        page.get_by_text("The guidelines have changed").wait_for(state="detached")
        give()
    with world.database.read() as connection:
        query = (
            select(GuidelineVersion.n)
            .join(Assignment, Assignment.guideline_version_id == GuidelineVersion.id)
            .where(Assignment.annotator_id == world.users["gus"].annotator_id, Assignment.status == "done")
        )
        assert sorted(connection.scalars(query)) == [1, 1, 1, 2]


def test_a_suggestion_is_beside_and_is_taken_over(world: World, server: Running, browser: Any) -> None:
    world.project("suggest", settings={"show_suggestions": True})
    with world.database.write() as connection:
        shared = world.member("suggest").project_id
        for item in connection.scalars(select(Item.id).where(Item.project_id == shared)).all():
            pair = PairAnswer(preference=3, acceptable=(False, True)).model_dump(mode="json")
            insert_one(connection, Suggestion, item_id=item, source="judge", answer=pair, score=0.9)
    world.user("sven", "suggest")
    with visitor(browser, server.url, "sven") as page:
        open_work(page, "suggest")
        page.get_by_text("A model suggests:").wait_for()
        assert page.locator("#bar input:checked").count() == 0
        page.keyboard.press("r")
        page.keyboard.type("my own reason")
        page.keyboard.press("Escape")
        page.keyboard.press("t")
        ready(page)
        assert page.get_by_label("Reason").input_value() == "my own reason"
        before = shown(page)
        page.keyboard.press("Enter")
        page.wait_for_function(
            "old => document.querySelector('.response .body').innerText.trim() !== old", arg=before[0]
        )
        saved(page)
    (answer,) = answers_of(world, "suggest")
    assert (answer.answer.preference, answer.answer.acceptable) == (3, (False, True))
    with world.database.read() as connection:
        place = Assignment.annotator_id == world.users["sven"].annotator_id
        done = select(Assignment.suggestion_id).where(place, Assignment.status == "done")
        assert connection.scalar(done) is not None


def test_what_an_assistant_says_stands_below_each_response(
    world: World, server: Running, browser: Any, shots: Path
) -> None:
    """By position, for whom it is shown to; nothing of it is filled in, and the vote says that it was seen."""
    world.project("told", settings={"show_help": True, "help_control": 0.0})
    with Store(world.path) as store:
        store.add_help(
            "told",
            [
                (
                    pair.item_id,
                    Help("honest", "critic", tuple(f"Look at “{text[:9]}”." for text in pair.texts), 0),
                )  # type: ignore[arg-type]
                for pair in store.pairs("told")
            ],
        )
    world.user("tess", "told")
    with visitor(browser, server.url, "tess") as page:
        open_work(page, "told")
        page.get_by_text("An assistant says:").first.wait_for()
        told = page.locator(".told .asis").all_inner_texts()
        assert [words.split("“")[1].split("”")[0] for words in told] == [text[:9] for text in shown(page)]
        assert page.locator("#bar input:checked").count() == 0
        page.screenshot(path=shots / "told.png", full_page=True)
        page.keyboard.press("1")
        accept_both(page)
        ready(page)
        page.keyboard.press("Enter")
        saved(page)
    with Store(world.path) as store:
        [vote] = [one.vote for one in store.votes("told") if one.vote.help is not None]
    assert vote.help is not None and vote.help.arm == "honest"


def test_steps_say_what_follows_from_what(world: World, server: Running, browser: Any) -> None:
    """Behind a wrong step all follow from it, unless one says otherwise; a reload keeps what one has said."""
    text = "Take six.\n\nThen it is 3/6 + 1/6.\n\nSo four sixths.\n\nDone.\n\nReally."
    world.project("causes", {"type": "step"}, prompts=["What is 1/2 + 1/3?"], answers=[[text]])
    world.user("cas", "causes")
    with visitor(browser, server.url, "cas") as page:
        open_work(page, "causes")
        steps = page.locator(".step")
        page.keyboard.press("+")
        assert page.get_by_role("radio", name="Step 2: wrong because").is_hidden()
        page.keyboard.press("-")
        assert steps.nth(2).get_by_label("What is wrong with step 3?").is_hidden()
        assert page.locator("#hint").inner_text() == "Say what is wrong with step 2."
        page.keyboard.type("One third is two sixths.")
        page.keyboard.press("Escape")
        assert page.get_by_role("radio", name="Step 3: wrong because").is_checked()
        page.get_by_role("radio", name="Step 3: correct").check(force=True)
        page.get_by_role("radio", name="Step 4: wrong", exact=True).check(force=True)
        steps.nth(3).get_by_label("What is wrong with step 4?").fill("Not done.")
        steps.nth(4).get_by_label("It follows from").select_option("step 2")
        page.wait_for_timeout(100)
        page.reload()
        page.locator("#submit").wait_for()
        assert steps.nth(4).get_by_label("It follows from").input_value() == "1"
        for said in ("right", "has an error", "the problem is broken", "I cannot tell"):
            assert page.locator("#bar").get_by_text(said, exact=True).is_visible()
        ready(page)
        page.locator("#submit").click()
        page.get_by_text("Nothing left for you here").wait_for()
        saved(page)
    (said,) = answers_of(world, "causes")
    assert [mark.label for mark in said.answer.marks] == [1, -1, 1, -1, -1]
    assert [mark.caused_by for mark in said.answer.marks] == [None, None, None, None, 1]
    assert [mark.reason for mark in said.answer.marks] == [
        "",
        "One third is two sixths.",
        "",
        "Not done.",
        "",
    ]


def test_a_chat_begins_from_the_prompt_alone_and_survives_a_reload(
    world: World, server: Running, browser: Any
) -> None:
    world.project("opening", {"type": "chat", "acceptable": False}, prompts=["Name a bird."], answers=[[]])
    world.user("opal", "opening")
    with visitor(browser, server.url, "opal") as page:
        open_work(page, "opening")
        page.locator(".prompt").get_by_text("Name a bird.").wait_for()
        page.get_by_role("button", name="Let the models answer the prompt").click()
        page.locator(".response").nth(1).wait_for()
        assert server.site.generator.asked[-1][0].content == "Name a bird."
        page.reload()
        page.locator(".response").nth(1).wait_for()
        page.keyboard.press("1")
        page.get_by_role("button", name="Choose").dblclick()
        page.locator(".bubble.assistant").wait_for()
        page.get_by_label("Your message").fill("A smaller one.")
        page.keyboard.press("Enter")
        page.locator(".response").nth(1).wait_for()
        asked = server.site.generator.asked[-1][0].content
        assert asked[0].content == "Name a bird." and len(asked) == 3
        page.keyboard.press("1")
        page.get_by_role("button", name="Choose").click()
        page.locator(".bubble.assistant").nth(1).wait_for()
        ready(page)
        page.locator("#submit").click()
        page.get_by_text("Nothing left for you here").wait_for()
        saved(page)


@pytest.mark.parametrize("type", ["pair", "rank", "rate", "step", "rewrite", "chat"])
def test_screens_say_what_is_asked_and_how_far_one_is(
    world: World, server: Running, browser: Any, shots: Path, type: str
) -> None:
    """On a desk and on a phone: question and instruction, progress, tabs, and a bar that leaves room for the texts."""
    asked = {"type": type, "question": f"What of this {type}?", "instruction": "Mind the facts."}
    world.project(f"say-{type}", asked, items_of={"size": 3} if type == "rank" else None)
    world.user("sia", f"say-{type}")
    for name, viewport in (("desk", DESKTOP), ("phone", PHONE)):
        with visitor(browser, server.url, "sia", viewport) as page:
            open_work(page, f"say-{type}")
            assert page.locator("#bar").get_by_text(f"What of this {type}?").is_visible()
            assert page.get_by_text("Mind the facts.").is_visible()
            page.get_by_text("0 done, 6 left, 6 in all").wait_for()
            page.evaluate("scrollTo(0, document.body.scrollHeight)")
            assert page.locator(".top").evaluate("e => e.getBoundingClientRect().top") == 0
            assert page.get_by_role("link", name="Guidelines").is_visible()
            height = page.locator("#bar").evaluate("e => e.offsetHeight")
            assert height < viewport["height"] / 4
            assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
            page.screenshot(path=shots / f"{type}-{name}.png")


def test_a_long_text_is_read_to_its_end(world: World, server: Running, browser: Any) -> None:
    """Also one that is too long for Markdown: it wraps, and its end has to be scrolled to."""
    long = "word " * 25_000
    world.project("long", {"acceptable": False}, prompts=["Write much."], answers=[[long, long + "more"]])
    world.user("lola", "long")
    with visitor(browser, server.url, "lola") as page:
        open_work(page, "long")
        page.keyboard.press("1")
        page.get_by_text("Scroll to the ends of responses A, B.").wait_for()
        page.get_by_text("Shown as written").first.wait_for()
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        page.evaluate("scrollTo(0, document.body.scrollHeight)")
        ready(page)
