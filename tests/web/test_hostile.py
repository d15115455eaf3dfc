"""Two hundred hostile texts, as responses and prompts, in a real browser: nothing runs, nothing is fetched."""

from __future__ import annotations

from itertools import cycle, islice
from pathlib import Path
from typing import Any

import pytest

from tests.web.conftest import Running
from tests.web.kit import World
from tests.web.people import open_work, ready, visitor
from tutelage.feedback.items import browsing
from tutelage.feedback.projects import projects

HURTFUL = (Path(__file__).parent / "hostile.js").read_text(encoding="utf-8")
CALL = "window.hurt=(window.hurt||0)+1"
FAR = "http://evil.example/x"
SEEDS = [
    f"<script>{CALL}</script>",
    f"<img src=x onerror={CALL}>",
    f"<img src={FAR}.png>",
    f"<svg onload={CALL}>",
    f"<svg><script href={FAR}.js /></svg>",
    f"<iframe src='javascript:{CALL}'></iframe>",
    f"<iframe srcdoc='<script>parent.{CALL}</script>'></iframe>",
    f"<object data={FAR}></object><embed src={FAR}>",
    f"<link rel=stylesheet href={FAR}.css><style>@import url({FAR}.css);body{{background:url({FAR})}}</style>",
    f"<body onload={CALL}><details open ontoggle={CALL}>x</details>",
    f"<form action={FAR}><button formaction=javascript:{CALL}>x</button></form>",
    f"<meta http-equiv=refresh content='0;url={FAR}'><base href={FAR}>",
    f"<math><maction actiontype=statusline xlink:href='javascript:{CALL}'>x</maction></math>",
    f"<math><mtext><table><mglyph><style><img src=x onerror={CALL}></style></mglyph></table></mtext></math>",
    f"<noscript><p title='</noscript><img src=x onerror={CALL}>'>",
    f"<template><img src=x onerror={CALL}></template><video><source onerror={CALL}></video>",
    f"[click](javascript:{CALL})",
    f"[click](JaVaScRiPt:{CALL})",
    f"[click](java&#x0A;script:{CALL})",
    "[click](data:text/html;base64,PHNjcmlwdD5hbGVydCgxKTwvc2NyaXB0Pg==)",
    f"[click](vbscript:{CALL}) <javascript:{CALL}>",
    f"![picture]({FAR}.png)",
    f'![picture](x"onerror="{CALL})',
    f"[x]: javascript:{CALL}\n\n[x]",
    f'[a]({FAR} "onmouseover={CALL}")',
    f"```html\n</code></pre><script>{CALL}</script>\n```",
    f'```"><img src=x onerror={CALL}>\nx\n```',
    f"`</code><script>{CALL}</script>`",
    f"| a | <img src=x onerror={CALL}> |\n|---|---|\n| [x](javascript:{CALL}) | 2 |",
    f"$\\href{{javascript:{CALL}}}{{x}}$",
    f"$\\text{{<img src=x onerror={CALL}>}}$",
    f"$$\\text{{</mtext></math><script>{CALL}</script>}}$$",
    f"\\(\\unicode{{<svg onload={CALL}>}}\\)",
    f"$\\url{{{FAR}}} \\includegraphics{{{FAR}.png}}$",
    "$" + "{" * 900 + "$",
    "$" + "\\frac{1}{" * 200 + "$",
    "\u202etxet desrever\u202c and \u2066isolated\u2069",
    "\x00\x01\x07\x08\x0b\x0c\x1b[31mred\x7f\x9b",
    "zero\u200bwidth\u200e\u200f\ufeff soft\u00adhyphen",
    "\U000e0041\U000e0042 tags, \u3164 filler, \u2028 separator \u2029",
    "Z\u0351\u036b\u0343" * 300,
    "A" * 20_000,
    "> " * 300 + "deep",
    "[" * 500 + "x" + "]" * 500,
    "*" * 2000 + "_" * 2000,
    "\n".join("#" * (n % 7) + " heading" for n in range(400)),
    "| a " * 300 + "|\n" + "|---" * 300 + "|",
    f"{{{{ 7*7 }}}} {{% raw %}} ${{7*7}} <%= 7*7 %> </script><!--<script>{CALL}//-->",
    f"</textarea></title></style><script>{CALL}</script>",
    f'"\'><img src=x onerror={CALL}><a href="javascript:{CALL}',
]
WRAPS = ["{}", "Sure! Here you go:\n\n{}", "- {}\n- end", "> {}"]


def hostile() -> list[str]:
    """The seeds in four settings: two hundred texts."""
    return [wrap.format("\x02").replace("\x02", seed) for wrap in WRAPS for seed in SEEDS]


@pytest.fixture(scope="module")
def zoo(world: World) -> list[str]:
    """A project for pairs that holds each text as a response, and every one of the first as a prompt."""
    texts = [text.replace("\x00", "\ufffd") for text in hostile()]
    assert len(texts) == len(set(texts)) == 200
    asked = [f"{n}: {text}" for n, text in enumerate(islice(cycle(SEEDS), 100))]
    prompts = [text.replace("\x00", "\ufffd") for text in asked]
    pairs = [(texts[2 * n], texts[2 * n + 1]) for n in range(100)]
    world.project(
        "zoo", {"acceptable": False}, {"overlap": 5, "require_scroll": False}, prompts=prompts, answers=pairs
    )
    return texts


@pytest.mark.slow
def test_two_hundred_hostile_texts_stay_text(
    world: World, server: Running, browser: Any, zoo: list[str]
) -> None:
    """Walk through all of them; `visitor` fails on an error, a violation of the policy, or a foreign request."""
    world.user("zoe", "zoo")
    seen = 0
    with visitor(browser, server.url, "zoe") as page:
        page.add_init_script(
            "addEventListener('securitypolicyviolation', e => console.error('policy: ' + e.blockedURI))"
        )
        open_work(page, "zoo")
        while page.locator("#submit").count():
            bad = page.evaluate(HURTFUL)
            assert bad == []
            assert page.evaluate("window.hurt") is None
            if seen % 10 == 0:
                page.keyboard.press("v")
                page.keyboard.press("d")
                assert page.evaluate("document.querySelectorAll('#stage script, #stage img').length") == 0
            seen += 1
            before = page.locator("#announce").inner_text()
            page.keyboard.press("4")
            ready(page)
            page.keyboard.press("Enter")
            page.wait_for_function(
                "old => document.querySelector('.empty') || (document.querySelector('#announce').innerText.startsWith('Item')"
                " && document.querySelector('#announce').innerText !== old)",
                arg=before,
            )
            if page.locator(".empty").count():
                break
    assert seen == 100


@pytest.mark.slow
def test_they_stay_text_on_the_other_pages(
    world: World, server: Running, browser: Any, zoo: list[str]
) -> None:
    member = world.member("zoo")
    projects.set_guideline(world.database, member, "\n\n".join(SEEDS))
    rows = browsing.find(world.database, member, browsing.Query(limit=30)).items
    with visitor(browser, server.url, "ann") as page:
        paths = ["/p/zoo/data", "/p/zoo/guidelines", "/p/zoo/manage", "/p/zoo/insights", "/p/zoo/export"]
        for path in [*paths, *(f"/p/zoo/data/{row.item_id}" for row in rows)]:
            page.goto(path)
            assert page.evaluate("window.hurt") is None, path
            assert (
                page.evaluate(
                    "document.querySelectorAll('main script, main img, main iframe, main object').length"
                )
                == 0
            )


def test_the_policy_alone_would_hold(server: Running, browser: Any) -> None:
    """Without any sanitising, what is inserted into a page neither runs nor loads: the second lock is shut."""
    with visitor(browser, server.url, "ann") as page:
        refused = page.evaluate(
            """async (texts) => {
                const policy = [];
                addEventListener('securitypolicyviolation', event => policy.push(event.effectiveDirective));
                let thrown = 0;
                for (const text of texts) { try { document.body.innerHTML = text; } catch { thrown++; } }
                const image = new Image();
                image.src = 'http://evil.example/x.png';
                document.body.append(image);
                const script = document.createElement('script');
                try { script.textContent = 'window.hurt = 1'; } catch { thrown++; }
                await new Promise(done => setTimeout(done, 300));
                return {policy, thrown, hurt: window.hurt ?? 0};
            }""",
            SEEDS,
        )
        page.faults.clear()
    assert refused["hurt"] == 0
    assert refused["thrown"] == len(SEEDS) + 1
    assert "img-src" in refused["policy"]
