"""Every screen in another language, and in one that is written from right to left."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.web.conftest import Running
from tests.web.kit import PASSWORD, World
from tests.web.people import DESKTOP, PHONE, settled, visitor
from tests.web.test_languages import keys
from tutelage.web import languages
from tutelage.web.languages import Language

KINDS = ("pair", "rank", "rate", "step", "rewrite", "chat")
FAULTS = (Path(__file__).parent / "faults.js").read_text(encoding="utf-8")
HEBREW = dict(zip("abcdefghijklmnopqrstuvwxyz", "אבגדהוזחטיכלמנסעפצקרשתךםןץ", strict=True))


def in_hebrew_letters(text: str) -> str:
    """As long as in English, and from right to left; the names in braces stay."""
    said, inside = "", False
    for letter in text:
        inside = letter == "{" or (inside and letter != "}")
        said += letter if inside else HEBREW.get(letter.lower(), letter)
    return said


@pytest.fixture
def hebrew(monkeypatch: pytest.MonkeyPatch) -> Iterator[Language]:
    texts = {text: in_hebrew_letters(text) for text in keys()}
    language = Language("he", "עברית", "rtl", texts)
    known = {**languages.languages(), "he": language}
    monkeypatch.setattr(languages, "languages", lambda: known)
    yield language


@pytest.fixture(scope="module")
def screens(world: World) -> list[str]:
    """The pages of projects of every type, with answers that two people differ on."""
    for kind in KINDS:
        questions = {"type": kind, "confidence": True, "compare_criteria": True, "instruction": "Mind it."}
        items = {"size": 3} if kind in ("rank", "rate") else {}
        world.project(f"rtl-{kind}", questions, {"show_word_counts": True}, items_of=items)
    pages = [
        f"/p/rtl-pair/{page}" for page in ("data", "insights", "manage", "export", "guidelines", "adjudicate")
    ]
    parts = [
        f"/p/rtl-pair/manage#{part}" for part in ("questions", "build", "people", "webhooks", "settings")
    ]
    return ["/", "/account", "/users", "/new", *pages, *parts, *(f"/p/rtl-{kind}/work" for kind in KINDS)]


def test_every_screen_from_right_to_left(
    server: Running, browser: Any, hebrew: Language, screens: list[str], shots: Path
) -> None:
    with visitor(browser, server.url, locale="he") as page:
        come_in(page, hebrew)
        for path in screens:
            page.set_viewport_size(DESKTOP)
            page.goto("about:blank")
            page.goto(path)
            settled(page)
            assert page.evaluate("[document.documentElement.dir, document.documentElement.lang]") == [
                "rtl",
                "he",
            ]
            name = path.strip("/").replace("/", "-").replace("#", "-") or "home"
            for viewport in (DESKTOP, PHONE):
                page.set_viewport_size(viewport)
                settled(page)
                assert page.evaluate(FAULTS) == [], path
                assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), path
                shot = shots / f"rtl-{name}-{viewport['width']}.png"
                page.screenshot(path=shot, full_page="work" not in path)


def test_what_is_mirrored_and_what_is_not(
    server: Running, browser: Any, hebrew: Language, screens: list[str]
) -> None:
    with visitor(browser, server.url, locale="he") as page:
        come_in(page, hebrew)
        page.goto("/p/rtl-pair/work")
        page.locator("#submit").wait_for()
        left = "e => e.getBoundingClientRect().left"
        tabs = [tab.evaluate(left) for tab in page.locator("header .tabs:not(.right) a").all()]
        assert tabs == sorted(tabs, reverse=True), "the first tab is the rightmost"
        assert page.locator(".brand").evaluate(left) > page.locator(".tabs.right").evaluate(left)
        assert page.locator("#submit").evaluate(left) < page.locator("#bar .tools").evaluate(left)
        first, second = page.locator(".response").all()
        assert first.evaluate(left) > second.evaluate(left), "A is on the right"
        scale = [label.evaluate(left) for label in page.locator("#bar .segments label").all()]
        assert scale == sorted(scale, reverse=True), "... and so is the end of the scale that is for A"
        text = page.locator(".response .body > [dir=auto]").first
        assert text.evaluate("e => getComputedStyle(e).direction") == "ltr", (
            "English stays from left to right"
        )


@pytest.mark.parametrize("viewport", [PHONE], ids=["phone"])  # where long words are in the way first
def test_every_screen_in_german(
    server: Running, browser: Any, screens: list[str], shots: Path, viewport: dict[str, int]
) -> None:
    """Longer words fit, and the choice on the account page is the language from then on."""
    with visitor(browser, server.url, "ann", viewport) as page:
        page.goto("/account")
        with page.expect_navigation():
            page.get_by_label("Language").select_option("de")
        for path in screens:
            page.goto("about:blank")
            page.goto(path)
            settled(page)
            assert page.evaluate("document.documentElement.lang") == "de"
            assert page.evaluate(FAULTS) == [], path
            name = path.strip("/").replace("/", "-").replace("#", "-") or "home"
            page.screenshot(path=shots / f"de-{name}-{viewport['width']}.png", full_page="work" not in path)


def come_in(page: Any, language: Language) -> None:
    """Through the login page, which is in the language that the browser asks for."""
    page.goto("/login")
    page.locator("#name").fill("ann")
    page.get_by_label(language.say("Password")).fill(PASSWORD)
    with page.expect_navigation():
        page.get_by_role("button", name=language.say("Log in")).click()
