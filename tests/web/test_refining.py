"""Refining a problem in the browser: from writing it to accepted, by keyboard alone; and whatever can go wrong on the way."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.web.conftest import Running
from tests.web.kit import Parrots, World, make_world
from tests.web.people import ready, settled, visitor
from tutelage.feedback.asking.payloads import LiveResponse
from tutelage.feedback.refining import history
from tutelage.records import Prompt
from tutelage.web.generation import GenerationFailed, NamedModel
from tutelage.web.limits import Limit
from tutelage.web.site import Limits, Site

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
        self, prompt: Prompt, count: int, begun: str | None = None, model: str | None = None
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
    page.keyboard.type(f"x^2 becomes 0.25x^2 (case {number}). What is right?")
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
