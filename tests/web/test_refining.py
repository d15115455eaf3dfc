"""Refining a problem in the browser: from writing it to accepted, by keyboard alone; and whatever can go wrong on the way."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.web.conftest import Running
from tests.web.kit import Parrots, World, make_world
from tests.web.people import PHONE, ready, settled, visitor
from tutelage.feedback.asking.payloads import LiveResponse
from tutelage.feedback.refining import history
from tutelage.records import Prompt
from tutelage.web.generation import GenerationFailed, NamedModel
from tutelage.web.limits import Limit, Limits
from tutelage.web.site import Site

FAULTS = (Path(__file__).parent / "faults.js").read_text(encoding="utf-8")
FIRST = "1. 0.25 is less than 1.\n\n2. So the graph is stretched vertically.\n\n3. That makes it taller.\n\nAnswer: B"
STEP = "2. Every y is a quarter of what it was: the graph is compressed vertically."
REST = "3. (x/2)^2 is the same, so it is stretched horizontally, too.\n\nAnswer: A, D"
OPTIONS = ("It is compressed vertically.", "It is stretched vertically.",
           "It is compressed horizontally.", "It is stretched horizontally.")  # fmt: skip


class Pupil(Parrots):
    """A model that is none: wrong when it is first asked, right from a corrected step on, and `after` that as it is told."""

    def __init__(self) -> None:
        super().__init__()
        self.models = (NamedModel("new", "new"), NamedModel("old", "old"))
        self.after = "1. By squares.\n\nAnswer: A, D"
        self.rest, self.finish, self.fails, self.slow = REST, "eos", False, 0.0

    async def write(
        self,
        prompt: Prompt,
        count: int,
        begun: str | None = None,
        model: str | None = None,
        one_step: Any = None,
    ) -> list[LiveResponse]:
        self.asked.append((prompt, count, begun))
        if self.fails:
            raise GenerationFailed(
                "The process that runs the model has ended: its output says why; try again."
            )
        name = model or "new"
        if begun is not None:
            return [LiveResponse(text=self.rest, model=name, n_tokens=9, finish=self.finish)]  # type: ignore[arg-type]
        if "Teacher:" in prompt.text():
            return [LiveResponse(text=f"{STEP}\n\n3. And so on.", model=name, n_tokens=9)]
        if count == 1:
            return [LiveResponse(text=self.after, model=name, n_tokens=9)]
        said = [FIRST] * count if name == "new" else [FIRST, self.after, self.after, FIRST]
        return [LiveResponse(text=text, model=name, n_tokens=9) for text in said]


@pytest.fixture(scope="module")
def pupil() -> Pupil:
    return Pupil()


@pytest.fixture(scope="module")
def school(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    made = make_world(tmp_path_factory.mktemp("school") / "store.sqlite")
    yield made
    made.close()


@pytest.fixture(scope="module")
def served(school: World, pupil: Pupil) -> Iterator[Running]:
    free = Limits(**{name: Limit(100_000, 0.001) for name in ("generate", "export", "token", "invite")})
    running = Running(Site(school.database, generator=pupil, limits=free, hosts=("localhost",)))
    yield running
    running.stop()


def project(school: World, name: str, **more: Any) -> None:
    school.project(
        name, {"type": "step"}, more.pop("settings", None), **{"prompts": (), "answers": (), **more}
    )


def tab_to(page: Any, name: str) -> None:
    """Press Tab until the control of this name has the focus."""
    for _ in range(60):
        page.keyboard.press("Tab")
        found = page.evaluate(
            "(() => { const e = document.activeElement; return e.getAttribute('aria-label') || "
            "[...(e.labels ?? [])].map(l => l.innerText).join(' ') || e.innerText || ''; })()"
        )
        if found.strip().startswith(name):
            return
    raise AssertionError(f"Tab does not lead to {name}")


def write_problem(page: Any, number: int) -> None:
    """On the author's page: type a problem, try it, keep it."""
    tab_to(page, "The problem")
    more = f" ({number})" if number else ""
    page.keyboard.type(f"The function f(x) = x^2 becomes f(x) = 0.25x^2. Which of these are correct?{more}")
    tab_to(page, "Option A")
    for place, option in enumerate(OPTIONS):
        page.keyboard.type(option)
        if place in (0, 3):
            page.keyboard.press("Tab")
            page.keyboard.press("Space")
            page.keyboard.press("Shift+Tab")
        if place < 3:
            page.keyboard.press("Enter")
    tab_to(page, "Where its trap is")
    page.keyboard.type("A factor can be read in two ways.")
    page.keyboard.press("Control+Enter")
    page.get_by_role("heading", name="What the models make of it").wait_for()


def mark_first(page: Any) -> None:
    """On the screen of steps: the second step is wrong, and the rest follows."""
    page.keyboard.press("+")
    page.keyboard.press("-")
    page.keyboard.type("Every y gets smaller, not larger.")
    page.keyboard.press("Escape")
    page.keyboard.press("1")


def test_three_problems_from_writing_to_accepted_by_keyboard_alone(
    school: World, served: Running, browser: Any, shots: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    project(school, "keys")
    school.user("erin", "keys", "expert")
    took = []
    with visitor(browser, served.url, "erin") as page:
        for number, way in enumerate(("x", "i", "w")):
            started = time.monotonic()
            page.goto("/p/keys/author")
            write_problem(page, number)
            assert page.locator(".card .chip").all_inner_texts() == ["0 % right", "50 % right"]
            if not number:
                page.evaluate("scrollTo(0, 0)")
                page.screenshot(path=shots / "author.png", full_page=True)
            page.keyboard.press("Enter")
            page.get_by_role("link", name="Mark its first round").wait_for()
            page.keyboard.press("Enter")
            page.locator(".step").nth(3).wait_for()
            settled(page)
            mark_first(page)
            assert page.locator(".step.beyond").count() == 2
            if way == "i":
                page.keyboard.press("e")
                page.keyboard.type(STEP)
                page.keyboard.press("Escape")
            if not number:
                page.screenshot(path=shots / "root.png", full_page=True)
            page.keyboard.press(way)
            page.locator(".round-view.two").wait_for()
            settled(page)
            left = {"x": 3, "i": 2, "w": 3}[way]
            if not number:
                page.screenshot(path=shots / "rounds.png", full_page=True)
            for _ in range(left):
                page.keyboard.press("+")
            ready(page)
            page.keyboard.press("Enter")
            page.get_by_role("heading", name="This problem is done").wait_for()
            assert page.locator('.lamp[data-state="right"]').count() == 2
            if not number:
                page.screenshot(path=shots / "lamps.png", full_page=True)
            page.keyboard.press("Enter")
            page.get_by_text("Nothing left for you here").wait_for()
            took.append(time.monotonic() - started)
        page.goto("/p/keys/problems")
        page.locator("table a").last.click()
        page.get_by_role("heading", name="Round 2").wait_for()
        page.screenshot(path=shots / "accepted.png", full_page=True)
    erin = school.member("keys", school.users["erin"])
    lines = history.problems(school.database, erin)
    assert [line.outcome for line in lines] == ["accepted"] * 3
    hows = [[one.how for one in history.problem(school.database, erin, line.root).rounds] for line in lines]
    assert hows == [["first", "regenerated"], ["first", "rewritten"], ["first", "explained"]]
    one = history.problem(school.database, erin, lines[2].root)
    assert [step.label for step in one.rounds[0].steps] == [1, -1, -1, -1]
    assert [step.caused_by for step in one.rounds[0].steps] == [None, None, 1, 1]
    assert one.rounds[0].steps[1].error == "reasoning" and one.rounds[0].right is False
    assert one.rounds[1].right is True and one.rounds[1].since == 1
    assert one.rounds[1].steps[1].text.strip() == STEP and one.answer == ["A", "D"]
    with capsys.disabled():
        print(f"\nfrom writing to accepted: {', '.join(f'{seconds:.1f} s' for seconds in took)}")


def first_round(page: Any, school: World, name: str) -> None:
    """A project with one wrong solution, on the screen of its annotator, marked."""
    project(school, name, prompts=["What happens to x^2?"], answers=[[FIRST]])
    page.goto(f"/p/{name}/work")
    page.locator(".step").nth(3).wait_for()
    settled(page)
    mark_first(page)


def test_what_goes_wrong_is_said_and_nothing_typed_is_lost(
    school: World, served: Running, browser: Any, pupil: Pupil
) -> None:
    """A rewrite of two steps, a model that dies or comes to no end: one sentence each, and the same page goes on."""
    project(school, "faults", prompts=["What happens to x^2?"], answers=[[FIRST]])
    school.user("finn", "faults")
    with visitor(browser, served.url, "finn") as page:
        first_round(page, school, "faults")
        note = page.locator(".ways .hint")
        page.keyboard.press("i")
        assert "Write the better step first" in note.inner_text()
        page.keyboard.type("2. One.\n\n3. Two.")
        page.keyboard.press("Escape")
        page.keyboard.press("i")
        page.get_by_text("the rewrite of step 2 has 2 steps").first.wait_for()
        assert school_answers(school, "faults") == 0, "nothing is stored that one could not go on from"
        pupil.fails = True
        page.keyboard.press("x")
        page.get_by_text("The process that runs the model has ended").first.wait_for()
        assert school_answers(school, "faults") == 1, "the marks are stored"
        pupil.fails, pupil.finish = False, "length"
        page.keyboard.press("w")
        page.get_by_text("came to no end").first.wait_for()
        pupil.finish = "eos"
        page.reload()  # whatever was under way is on the screen again
        page.locator(".step").nth(3).wait_for()
        settled(page)
        assert (
            page.get_by_label("What is wrong with step 2?").input_value()
            == "Every y gets smaller, not larger."
        )
        page.keyboard.press("w")
        page.locator(".round-view.two").wait_for()
        assert school_answers(school, "faults") == 1
    [line] = history.problems(school.database, school.member("faults"))
    assert line.rounds == 2


def test_the_same_round_in_two_tabs(school: World, served: Running, browser: Any) -> None:
    """The second tab is told that the solution has gone on, and a reload shows it the new round; nothing is there twice."""
    project(school, "tabs", prompts=["What happens to x^2?"], answers=[[FIRST]])
    school.user("tom", "tabs")
    with visitor(browser, served.url, "tom") as page:
        first_round(page, school, "tabs")
        late = page.context.new_page()
        late.goto("/p/tabs/work")
        late.locator(".step").nth(3).wait_for()
        page.keyboard.press("x")
        page.locator(".round-view.two").wait_for()
        late.bring_to_front()
        late.get_by_label("What is wrong with step 2?").fill("I see it otherwise.")
        late.get_by_role("button", name="Regenerate", exact=False).last.click()
        late.get_by_text("reload the page to see the new round").first.wait_for()
        late.reload()
        late.locator(".round-view.two").wait_for()
        assert school_answers(school, "tabs") == 1
    [line] = history.problems(school.database, school.member("tabs"))
    assert line.rounds == 2


def school_answers(school: World, name: str) -> int:
    """How many answers a project has."""
    with school.database.read() as connection:
        query = "SELECT count(*) FROM annotation JOIN item ON item.id = item_id JOIN project ON project.id = project_id"
        return connection.exec_driver_sql(f"{query} WHERE project.name = '{name}'").scalar() or 0


def test_what_is_handed_up_waits_for_an_expert(
    school: World, served: Running, browser: Any, shots: Path
) -> None:
    """An annotator hands it up; the expert sees it at home, marks the last round anew, goes on; another one is written."""
    texts = [[FIRST], [FIRST.replace("taller", "larger")]]
    project(school, "stuck", prompts=["What happens to x^2?", "And to x^3?"], answers=texts)
    school.user("gus", "stuck")
    school.user("eva", "stuck", "expert")
    with visitor(browser, served.url, "gus") as page:
        page.goto("/p/stuck/work")
        for _ in range(2):
            page.locator(".step").nth(3).wait_for()
            settled(page)
            mark_first(page)
            page.keyboard.press("h")
            page.get_by_label("What stands in the way").fill("I cannot say it better.")
            page.get_by_role("button", name="Hand up", exact=True).click()
            page.get_by_role("heading", name="This problem is done").wait_for()
            page.keyboard.press("Enter")
        page.get_by_text("Nothing left for you here").wait_for()
    with visitor(browser, served.url, "eva") as page:
        page.get_by_role("link", name="2 problems wait for an expert").click()
        page.get_by_role("heading", name="For experts").wait_for()
        page.screenshot(path=shots / "experts.png", full_page=True)
        page.locator("table a").first.click()
        page.get_by_role("heading", name="What now?").wait_for()
        page.screenshot(path=shots / "history.png", full_page=True)
        page.get_by_text("Write the solution yourself").click()
        page.get_by_label("The whole solution").fill("1. Squares.\n\nAnswer: it is wider.")
        page.get_by_role("button", name="This is the solution").click()
        page.locator("#outcome").get_by_text("Written by an expert").wait_for()
        page.goto("/p/stuck/experts")
        page.locator("table a").first.click()
        page.get_by_role("link", name="Mark the last round anew and go on").click()
        page.locator(".step").nth(3).wait_for()
        settled(page)
        assert (
            page.get_by_label("What is wrong with step 2?").input_value()
            == "Every y gets smaller, not larger."
        )
        page.locator(".step").nth(1).get_by_label("A better step").fill(STEP)
        page.get_by_role("button", name="Insert my step").click()
        page.locator(".round-view.two").wait_for()
        settled(page)
        for _ in range(2):
            page.keyboard.press("+")
        ready(page)
        page.keyboard.press("Enter")
        page.get_by_role("heading", name="Was the model right?").wait_for()
        page.screenshot(path=shots / "judge.png", full_page=True)
        page.keyboard.press("y")
        page.locator('.lamp[data-state="right"]').wait_for()
        page.locator('.lamp[data-state="open"]').wait_for()
        page.keyboard.press("y")
        page.get_by_role("heading", name="This problem is done").wait_for()
        page.get_by_role("link", name="Its history").click()
        page.get_by_role("heading", name="Round 2").wait_for()
        page.screenshot(path=shots / "history-done.png", full_page=True)
    eva = school.member("stuck", school.users["eva"])
    assert sorted(line.outcome or "" for line in history.problems(school.database, eva)) == [
        "accepted",
        "written",
    ]


@pytest.mark.parametrize("look", ["light", "dark", "phone"])
def test_pages_can_be_seen_and_heard_by_everybody(
    school: World, served: Running, browser: Any, shots: Path, look: str
) -> None:
    """What can be measured of accessibility, on every page of refinements, light, dark and on a phone."""
    name = f"look-{look}"
    project(school, name, prompts=["What happens to x^2?"], answers=[[FIRST]])
    school.user(f"lou-{look}", name, "expert")
    options = {"viewport": PHONE} if look == "phone" else {}
    scheme = "dark" if look == "dark" else "light"
    found = {}
    with visitor(
        browser, served.url, f"lou-{look}", color_scheme=scheme, reduced_motion="reduce", **options
    ) as page:

        def measure(state: str) -> None:
            settled(page)
            found[state] = page.evaluate(FAULTS)
            page.screenshot(path=shots / f"{state}-{look}.png", full_page=True)

        page.goto(f"/p/{name}/author")
        measure("author-empty")
        write_problem(page, 1)
        measure("author-tried")
        page.goto(f"/p/{name}/experts")
        measure("experts-none")
        first_round(page, school, name)
        page.evaluate("document.querySelector('.ways').scrollIntoView({block: 'center'})")
        measure("work-root")
        page.keyboard.press("x")
        page.locator(".round-view.two").wait_for()
        measure("work-rounds")
        for _ in range(3):
            page.keyboard.press("+")
        page.keyboard.press("Enter")
        page.get_by_role("heading", name="Was the model right?").wait_for()
        measure("work-judge")
        page.goto(f"/p/{name}/problems")
        measure("problems")
        page.locator("table a").first.click()
        page.get_by_role("heading", name="Round 2").wait_for()
        measure("history")
    assert {state: faults for state, faults in found.items() if faults} == {}
