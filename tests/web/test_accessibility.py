"""Every page and state, light, dark and on a phone: what can be measured of accessibility, and a picture to look at."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from tests.web.conftest import Running
from tests.web.everything import NAME
from tests.web.kit import World
from tests.web.people import DESKTOP, PHONE, settled, visitor
from tutelage.feedback.items import browsing
from tutelage.feedback.people.invitations import invite, reset_link

KINDS = ("pair", "rank", "rate", "step", "rewrite", "chat")
FAULTS = (Path(__file__).parent / "faults.js").read_text(encoding="utf-8")
LOOKS: dict[str, dict[str, Any]] = {
    "light": {"color_scheme": "light"},
    "dark": {"color_scheme": "dark"},
    "phone": {"viewport": PHONE},
}
SMALL_PHONE = {"width": 390, "height": 664}  # what the browser's own bars leave of it
CSV = b"prompt,response\nHow do I boil an egg?,Eight minutes.\nHow do I boil an egg?,Ask a cook.\n,Nothing was asked.\n"
CHANGES = ("Tag", "Untag", "Reserve", "Priority", "Annotators", "Resolve flags")

Act = Callable[[Any], None]


def _press(*names: str) -> Act:
    """Click on buttons, one after the other."""

    def act(page: Any) -> None:
        for name in names:
            page.get_by_role("button", name=name).locator("visible=true").first.click()
            settled(page)

    return act


def _pick_file(page: Any) -> None:
    page.locator('input[type="file"]').set_input_files(
        {"name": "a.csv", "mimeType": "text/csv", "buffer": CSV}
    )
    page.get_by_text("Nothing is stored yet.").wait_for()


def _choose_raw(page: Any) -> None:
    page.get_by_label("Rows").select_option("raw")
    page.wait_for_timeout(200)  # the preview waits until one has chosen


def _select_all(page: Any) -> None:
    page.get_by_label("Select all on this page").check()


def _open_folded(page: Any) -> None:
    page.eval_on_selector_all("main details", "all => all.forEach(one => { one.open = true; })")


@pytest.fixture(scope="module")
def screens(world: World, labelled: str) -> dict[str, tuple[str, Act | None]]:
    """Every page and state by name: its address, and what is done there."""
    for kind in KINDS:
        world.project(
            f"see-{kind}",
            {"type": kind, "confidence": True, "compare_criteria": True, "instruction": "Mind the facts."},
            items_of={"size": 3} if kind in ("rank", "rate") else {},
        )
    base, fresh = f"/p/{quote(NAME, safe='')}", "/p/see-pair"
    rows = browsing.find(world.database, world.member(labelled), browsing.Query(limit=500)).items
    by_type = {row.type: f"{base}/data/{row.item_id}" for row in rows}
    tagged = next(f"{base}/data/{row.item_id}" for row in rows if row.tags)
    found: dict[str, tuple[str, Act | None]] = {
        name: (path, None)
        for name, path in {
            "home": "/", "account": "/account", "users": "/users", "new": "/new", "item": tagged,
            "data-nothing": f"{base}/data?text=zzz", "data-filters": f"{base}/data?answer=first&state=conflict",
            "guidelines-none": f"{fresh}/guidelines", "adjudicate-none": f"{fresh}/adjudicate",
            "insights-none": f"{fresh}/insights", "insights-judges": f"{base}/insights?whose=all",
            "manage-no-judges": f"{fresh}/manage#judges", "data-left": f"{base}/data?left=waiting",
        }.items()
    }  # fmt: skip
    found |= {
        name: (f"{base}/{name}", None) for name in ("insights", "data", "export", "guidelines", "adjudicate")
    }
    found |= {f"work-{kind}": (f"/p/see-{kind}/work", None) for kind in KINDS}
    found |= {f"item-{kind}": (path, None) for kind, path in by_type.items()}
    parts = ("import", "questions", "build", "people", "judges", "webhooks", "settings", "history")
    found |= {f"manage-{part}": (f"{base}/manage#{part}", None) for part in parts}
    found |= {
        "home-unfolded": ("/", _open_folded),
        "manage-import-preview": (f"{base}/manage", _pick_file),
        "manage-invited": (f"{base}/manage#people", _press("Make a link")),
        "users-reset": ("/users", _press("Reset password")),
        "data-selected": (f"{base}/data", _select_all),
        "export-raw": (f"{base}/export", _choose_raw),
        "adjudicate-unfolded": (f"{base}/adjudicate", _open_folded),
        "adjudicate-settled": (f"{base}/adjudicate", _press("Settled ones")),
        "item-redact": (tagged, _press("Redact response A")),
        "item-send-back": (tagged, _press("Send back")),
        "item-differences": (tagged, _press("Words that differ")),
        "work-skip": ("/p/see-pair/work", _press("Skip")),
        "work-flag": ("/p/see-pair/work", _press("Flag")),
        "work-guidelines": ("/p/see-pair/work", _press("Guidelines")),
        "work-keys": ("/p/see-pair/work", lambda page: page.keyboard.press("?")),
    }
    return found


@pytest.mark.slow
@pytest.mark.parametrize("part", range(3))
def test_every_screen(
    server: Running, browser: Any, shots: Path, screens: dict[str, tuple[str, Act | None]], part: int
) -> None:
    """A third of them in each part; every one is opened once, and then looked at in every look."""
    found = {}
    with visitor(browser, server.url, "ann", reduced_motion="reduce") as page:
        page.on("dialog", lambda dialog: dialog.accept())
        for name, (path, act) in list(screens.items())[part::3]:
            page.set_viewport_size(DESKTOP)
            page.goto("about:blank")  # an address that differs after its # only is a new page, too
            page.goto(path)
            settled(page)
            if act:
                act(page)
                settled(page)
            whole = not name.startswith("work") and not page.locator("dialog[open]").count()
            for look, options in LOOKS.items():
                page.emulate_media(color_scheme=options.get("color_scheme", "light"))
                page.set_viewport_size(options.get("viewport", DESKTOP))
                page.wait_for_timeout(20)  # nothing is asked for: only drawn anew
                found[name, look] = page.evaluate(FAULTS)
                page.screenshot(path=shots / f"{name}-{look}.png", full_page=whole)
    assert {name: faults for name, faults in found.items() if faults} == {}


@pytest.mark.slow
@pytest.mark.parametrize("look", LOOKS)
def test_an_annotators_start_page(
    world: World, server: Running, browser: Any, shots: Path, labelled: str, look: str
) -> None:
    """With what was sent back, what was skipped, and past answers."""
    with visitor(browser, server.url, "eve", **LOOKS[look]) as page:
        page.get_by_text("Sent back to you for correction").wait_for()
        _open_folded(page)
        assert page.evaluate(FAULTS) == []
        page.screenshot(path=shots / f"home-annotator-{look}.png", full_page=True)
        page.locator(".notice .past a").first.click()
        page.locator("#submit").wait_for()
        settled(page)
        assert page.evaluate(FAULTS) == []
        page.screenshot(path=shots / f"work-sent-back-{look}.png")


@pytest.mark.slow
@pytest.mark.parametrize("look", LOOKS)
def test_strangers_pages(world: World, server: Running, browser: Any, shots: Path, look: str) -> None:
    world.user("rory", "main")
    pages = {
        "login": "/login",
        "nothing": "/nothing",
        "join-gone": "/join/nothing",
        "join": f"/join/{invite(world.database, world.owner, 'main', 'annotator')}",
        "reset": f"/join/{reset_link(world.database, world.owner, 'rory')}",
    }
    with visitor(browser, server.url, **LOOKS[look]) as page:
        for name, path in pages.items():
            page.goto(path)
            assert page.evaluate(FAULTS) == [], name
            page.screenshot(path=shots / f"{name}-{look}.png")


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_the_phones_bar_leaves_room_to_read(
    server: Running, browser: Any, shots: Path, screens: dict[str, tuple[str, Act | None]], kind: str
) -> None:
    """Under a quarter of the screen, the tabs in sight."""
    with visitor(browser, server.url, "ann", SMALL_PHONE, has_touch=True) as page:
        page.goto(f"/p/see-{kind}/work")
        page.locator("#submit").wait_for()
        settled(page)
        page.screenshot(path=shots / f"small-{kind}.png")
        page.mouse.wheel(0, 2000)
        page.wait_for_timeout(50)
        top = min(page.locator(part).bounding_box()["y"] for part in ("#bar", "#hint"))
        assert SMALL_PHONE["height"] - top < SMALL_PHONE["height"] / 4
        assert page.locator("header.top nav").first.bounding_box()["y"] >= 0


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    ["users", "new", "data-selected", "item", "export", "adjudicate-unfolded", "manage-people", "manage-webhooks",
     "manage-import-preview", "manage-questions", "insights", *(f"work-{kind}" for kind in KINDS)],
)  # fmt: skip
def test_tab_reaches_every_control_in_the_order_of_the_page(
    server: Running, browser: Any, screens: dict[str, tuple[str, Act | None]], name: str
) -> None:
    """From the top down, each control once, and whatever has the focus is drawn with an outline."""
    path, act = screens[name]
    with visitor(browser, server.url, "ann") as page:
        page.goto(path)
        settled(page)
        if act:
            act(page)
        page.evaluate("document.activeElement.blur(); getSelection().removeAllRanges(); scrollTo(0, 0)")
        page.evaluate("document.querySelector('.skip-link').focus()")
        todo, places = set(page.evaluate(CONTROLS)), []
        for _ in range(400):
            page.keyboard.press("Tab")
            at, outline, what = page.evaluate(FOCUSED)
            if at < 0:
                break
            assert outline != "none", f"the focus is not seen: {what}"
            assert not places or at > places[-1], f"the focus goes back: {what}"
            places.append(at)
        assert todo <= set(places), page.evaluate(
            "ids => ids.map(i => [...document.querySelectorAll('*')][i].outerHTML.slice(0, 120))",
            sorted(todo - set(places)),
        )


# Where the focus is, as a place in the document (-1: nowhere), how it is drawn, and on what. A group of radio buttons
# is one stop.
FOCUSED = """() => { const e = document.activeElement, box = e.closest('.segments label') ?? e;
    const at = e === document.body ? -1 : [...document.querySelectorAll('*')].indexOf(e);
    return [at, getComputedStyle(box).outlineStyle, e.outerHTML.slice(0, 160)]; }"""
CONTROLS = """() => { const all = [...document.querySelectorAll('*')];
    return all.flatMap((e, i) => e.matches('a[href], button, input:not([type=radio]), select, textarea, summary, [tabindex="0"]')
      && !e.matches(':disabled, [tabindex="-1"], .skip-link') && e.checkVisibility({visibilityProperty: true}) ? [i] : []); }"""


@pytest.mark.slow
@pytest.mark.parametrize("where", ["data", "item", "work"])
def test_the_focus_goes_into_a_dialog_and_back(
    server: Running, browser: Any, screens: dict[str, tuple[str, Act | None]], where: str
) -> None:
    path, _ = screens["work-pair" if where == "work" else where]
    buttons = {
        "data": CHANGES, "item": ("Add a tag", "Reserve", "Redact the prompt", "Send back"),
        "work": ("Skip", "Flag", "Guidelines", "Keys"),
    }[where]  # fmt: skip
    with visitor(browser, server.url, "ann") as page:
        page.goto(path)
        settled(page)
        if where == "data":
            _select_all(page)
        for name in buttons:
            exact = where == "data"
            button = page.get_by_role("button", name=name, exact=exact).first
            button.focus()
            page.keyboard.press("Enter")
            page.locator("dialog[open]").wait_for()
            assert page.evaluate(FAULTS) == [], name
            assert page.evaluate("document.activeElement.closest('dialog[open]') !== null"), name
            page.keyboard.press("Escape")
            page.locator("dialog[open]").wait_for(state="detached")
            assert page.evaluate("e => e === document.activeElement", button.element_handle()), name


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
