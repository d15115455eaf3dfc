"""Every screen, light and dark: what can be measured of accessibility, and a picture of each to look at."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.web.conftest import Running
from tests.web.kit import World
from tests.web.people import settled, visitor

KINDS = ("pair", "rank", "rate", "step", "rewrite", "chat")
FAULTS = (Path(__file__).parent / "faults.js").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def screens(world: World) -> dict[str, str]:
    """Every screen by name."""
    for kind in KINDS:
        world.project(
            f"see-{kind}",
            {"type": kind, "confidence": True, "compare_criteria": True},
            items_of={"size": 3} if kind in ("rank", "rate") else {},
        )
    project = [
        (name, f"/p/see-pair/{name}")
        for name in ("manage", "insights", "data", "guidelines", "adjudicate", "export")
    ]
    work = [(f"work-{kind}", f"/p/see-{kind}/work") for kind in KINDS]
    return dict(
        [("home", "/"), ("account", "/account"), ("users", "/users"), ("new", "/new"), *project, *work]
    )


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_screen(
    world: World, server: Running, browser: Any, shots: Path, screens: dict[str, str], scheme: str
) -> None:
    with visitor(browser, server.url, "ann", color_scheme=scheme) as page:
        for name, path in screens.items():
            page.goto(path)
            settled(page)
            assert page.evaluate(FAULTS) == [], name
            page.screenshot(path=shots / f"{name}-{scheme}.png", full_page=not name.startswith("work"))


def test_every_screen_fits_a_phone(
    world: World, server: Running, browser: Any, shots: Path, screens: dict[str, str]
) -> None:
    with visitor(browser, server.url, "ann", {"width": 390, "height": 844}) as page:
        for name, path in screens.items():
            page.goto(path)
            settled(page)
            assert page.evaluate(FAULTS) == [], name
            page.screenshot(path=shots / f"{name}-phone.png", full_page=not name.startswith("work"))


def test_strangers_pages(server: Running, browser: Any) -> None:
    with visitor(browser, server.url) as page:
        for path in ("/login", "/join/nothing", "/nothing"):
            page.goto(path)
            assert page.evaluate(FAULTS) == [], path


@pytest.mark.parametrize("kind", KINDS)
def test_all_controls_are_reached_by_tab_and_show_it(
    world: World, server: Running, browser: Any, screens: dict[str, str], kind: str
) -> None:
    """Tab walks from the prompt to the submit button; whatever has the focus is drawn with an outline."""
    with visitor(browser, server.url, "ann") as page:
        page.goto(screens[f"work-{kind}"])
        page.locator("#submit").wait_for()
        for _ in range(120):
            page.keyboard.press("Tab")
            drawn = page.evaluate(
                """() => { const e = document.activeElement, box = e.closest('.segments label') ?? e;
                    return e.id === 'submit' ? 'submit' : e === document.body ? 'body' : getComputedStyle(box).outlineStyle; }"""
            )
            if drawn == "submit":
                return
            assert drawn not in ("none", "body"), page.evaluate(
                "document.activeElement.outerHTML.slice(0, 200)"
            )
    pytest.fail("Tab never came to the submit button")


def test_motion_and_theme_follow_the_person(server: Running, browser: Any) -> None:
    with visitor(browser, server.url, "ann", color_scheme="light", reduced_motion="reduce") as page:
        page.goto("/account")
        ground = "getComputedStyle(document.documentElement).backgroundColor"
        light = page.evaluate(ground)
        assert page.evaluate("getComputedStyle(document.querySelector('button')).transitionDuration") == "0s"
        page.get_by_label("Theme").select_option("dark")
        page.reload()
        assert page.evaluate(ground) != light
        page.get_by_label("Theme").select_option("auto")
        assert page.evaluate(ground) == light
