"""Every screen, light and dark: what can be measured of accessibility, and a picture of each to look at."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.web.conftest import Running
from tests.web.kit import World
from tests.web.people import visitor

KINDS = ("pair", "rank", "rate", "step", "rewrite", "chat")
FAULTS = """() => {
  const faults = [], say = (what, e) => faults.push(`${what}: ${e.outerHTML.slice(0, 140)}`);
  const shown = e => e.checkVisibility({opacityProperty: false, visibilityProperty: true});
  const name = e => (e.getAttribute('aria-label') || [...(e.labels ?? [])].map(l => l.innerText).join(' ')
      || (e.getAttribute('aria-labelledby') ?? '').split(' ').map(id => document.getElementById(id)?.innerText ?? '').join(' ')
      || e.innerText || e.title || '').trim();
  for (const e of document.querySelectorAll('button, a[href], input:not([type=hidden]), select, textarea, dialog[open], summary, [role=img]'))
    if (shown(e) && !name(e)) say('no name', e);
  for (const e of document.querySelectorAll('fieldset')) if (shown(e) && !e.querySelector(':scope > legend')?.innerText.trim() && e.querySelector('input')) say('no legend', e);
  const ids = [...document.querySelectorAll('[id]')].map(e => e.id);
  for (const id of ids) if (ids.indexOf(id) !== ids.lastIndexOf(id)) faults.push('id twice: ' + id);
  if (!document.documentElement.lang || !document.title) faults.push('no language or title');
  if (document.querySelectorAll('main').length !== 1 || document.querySelectorAll('h1').length !== 1) faults.push('not one main and one h1');
  let level = 0;
  for (const e of document.querySelectorAll('h1, h2, h3, h4')) if (shown(e)) { const n = Number(e.localName[1]); if (n > level + 1 && !e.closest('.prose')) say('heading leaps', e); level = n; }
  for (const e of document.querySelectorAll('body *'))
    if (shown(e) && [...e.childNodes].some(n => n.nodeType === 3 && n.data.trim()) && !e.closest('header, main, nav, section[aria-label], dialog, [aria-live], .skip-link, script, style')) say('outside landmarks', e);
  const canvas = document.createElement('canvas').getContext('2d', {willReadFrequently: true});
  const rgba = c => { canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = c; canvas.fillRect(0, 0, 1, 1); return [...canvas.getImageData(0, 0, 1, 1).data]; };
  const light = ([r, g, b]) => { const f = v => (v /= 255) <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; return 0.2126 * f(r) + 0.7152 * f(g) + 0.0722 * f(b); };
  const ground = e => { for (; e; e = e.parentElement) { const c = rgba(getComputedStyle(e).backgroundColor); if (c[3] === 255) return c; } return rgba(getComputedStyle(document.documentElement).backgroundColor); };
  for (const e of document.querySelectorAll('body *')) {
    if (!shown(e) || e.closest('[aria-disabled=true], :disabled, svg, .visually-hidden, .skip-link, option') || ![...e.childNodes].some(n => n.nodeType === 3 && n.data.trim())) continue;
    if ([...function* () { for (let p = e; p; p = p.parentElement) yield p; }()].some(p => Number(getComputedStyle(p).opacity) < 1)) continue;
    const a = light(rgba(getComputedStyle(e).color)), b = light(ground(e)), ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < 4.5) say('contrast ' + ratio.toFixed(2), e);
  }
  for (const e of document.querySelectorAll('button, .segments label, select, input[type=text]')) {
    const box = e.getBoundingClientRect();
    if (shown(e) && box.width && (box.height < 24 || box.width < 24)) say('small target', e);
  }
  if (document.documentElement.scrollWidth > innerWidth) faults.push('wider than the screen');
  return faults;
}"""


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
    return dict([("home", "/"), ("account", "/account"), ("new", "/new"), *project, *work])


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_screen(
    world: World, server: Running, browser: Any, shots: Path, screens: dict[str, str], scheme: str
) -> None:
    with visitor(browser, server.url, "ann", color_scheme=scheme) as page:
        for name, path in screens.items():
            page.goto(path)
            page.wait_for_load_state("networkidle")
            assert page.evaluate(FAULTS) == [], name
            page.screenshot(path=shots / f"{name}-{scheme}.png", full_page=not name.startswith("work"))


def test_every_screen_fits_a_phone(
    world: World, server: Running, browser: Any, shots: Path, screens: dict[str, str]
) -> None:
    with visitor(browser, server.url, "ann", {"width": 390, "height": 844}) as page:
        for name, path in screens.items():
            page.goto(path)
            page.wait_for_load_state("networkidle")
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
