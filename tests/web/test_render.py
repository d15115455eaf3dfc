"""Text of a model as HTML: what people should see is there, and nothing that could act."""

from __future__ import annotations

import html
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import tutelage.web
from tutelage.web.render import LONGEST_FORMULA, markdown, plain

HARMLESS = re.compile(
    r"</?(a|blockquote|br|code|del|div|em|h[1-6]|hr|li|ol|p|pre|s|span|strong|table|tbody|td|th|thead|tr|ul|math|m[a-z]+)"
    r"( (href|title|class|target|rel|start|value|display|stretchy|fence|form|separator|lspace|rspace|minsize|maxsize|"
    r"movablelimits|mathvariant|linethickness|accent|accentunder|width|columnalign|rowspacing)=\"[^\"<>]*\")*>"
)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("**bold** and `code`", "<strong>bold</strong> and <code>code</code>"),
        ("1. one\n2. two", '<ol>\n<li value="1">one</li>\n<li value="2">two</li>\n</ol>'),
        ("| a | b |\n|---|---|\n| 1 | 2 |", "<td>1</td>"),
        ("$\\frac{1}{2}$", "<mfrac><mrow><mn>1</mn></mrow><mrow><mn>2</mn></mrow></mfrac>"),
        ("\\(x^2\\)", "<msup><mi>x</mi><mn>2</mn></msup>"),
        ("$$\\sum_i i$$", '<math display="block">'),
        ("It costs $5, then $6.", "It costs $5, then $6."),
        ("a < b && c > d", "a &lt; b &amp;&amp; c &gt; d"),
        ("<b>not bold</b>", "&lt;b&gt;not bold&lt;/b&gt;"),
    ],
)
def test_markdown_shows(text: str, wanted: str) -> None:
    assert wanted in markdown(text)


@pytest.mark.parametrize(
    ("text", "mark"),
    [
        ("a\u202eb", "U+202E"),
        ("a\x1bb", "U+001B"),
        ("a\u200bb", "U+200B"),
        ("\u2066a", "U+2066"),
        ("a\u00adb", "U+00AD"),
        ("a\U000e0041", "U+E0041"),
        ("a\u200db", "U+200D"),
    ],
)
def test_unseen_characters_are_seen(text: str, mark: str) -> None:
    for shown in (plain(text), markdown(text), markdown(f"`{text}`"), markdown(f"```\n{text}\n```")):
        assert f">{mark}<" in shown
        assert not any(character in shown for character in "\u202e\x1b\u200b\u2066\u00ad\U000e0041\u200d")


def test_letters_of_another_script_that_pass_for_latin_ones_are_seen() -> None:
    for text, script in (("p\u0430ypal", "Cyrillic"), ("\u0391pple", "Greek")):
        for shown in (plain(f"See {text}, now."), markdown(f"See {text}, now.")):
            assert (
                f'title="Latin letters mixed with {script} ones that look like them">{text}</span>, now.'
                in shown
            )
    for fine in ("\u0430\u0440\u0435\u0430", "\u0394x", "x\u03b1", "na\u00efve", "\u03bf and o"):
        assert "mixed" not in plain(fine)
    assert ">U+3164<" in plain("p\u0430\u3164y")  # a filler counts as a letter, and is marked all the same
    assert (
        len(plain("a" * 100_000 + " " + "\u0430" * 100_000)) == 200_001
    )  # and no time is lost on long words


def test_joiners_stay_where_a_script_or_an_emoji_needs_them() -> None:
    assert "\u200c" in plain("می\u200cخواهم")
    assert "\u200d" in plain("👩\u200d💻")


@pytest.mark.parametrize(
    "tex",
    [
        r"\href{javascript:alert(1)}{x}",
        r"\text{<img src=x onerror=alert(1)>}",
        r"\text{</math><script>alert(1)</script>}",
        r"\style{x:expression(1)}{y}",
        r"\class{a}{b}",
    ],
)
def test_formulas_bring_nothing_along(tex: str) -> None:
    shown = markdown(f"${tex}$")
    assert not re.search(r"<(script|img)|javascript:[^<]*\"|onerror=\"|style=", shown)


@pytest.mark.parametrize("tex", ["{" * 500, "x" * (LONGEST_FORMULA + 1), "\\frac{", "\\left(", "^^^"])
def test_a_formula_that_is_none_shows_its_source(tex: str) -> None:
    shown = markdown(f"before ${tex}$ after")
    assert "before" in shown and "after" in shown


@given(st.text(max_size=300))
def test_plain_text_is_text(text: str) -> None:
    """Without the marks, and unescaped, it is what was written."""
    shown = re.sub(
        r'<span class="unseen" title="[^"]*">U\+([0-9A-F]+)</span>', lambda m: chr(int(m[1], 16)), plain(text)
    )
    assert "<" not in shown
    assert html.unescape(shown) == re.sub("[\ud800-\udfff]", "\ufffd", text.replace("\r\n", "\n"))


@given(
    st.text(
        alphabet=st.sampled_from(list("<>\"'&/\\[](){}$*_`#!-|=:;^~\n \tabx1javscriptonerhfm")), max_size=200
    )
)
def test_markdown_holds_nothing_but_harmless_tags(text: str) -> None:
    left = HARMLESS.sub("", markdown(text))
    assert "<" not in left, left
    for link in re.findall(r'href="([^"]*)"', markdown(text)):
        assert re.match(r"https?://|mailto:", link, re.IGNORECASE)


def test_templates_mark_nothing_as_safe() -> None:
    """Only `render.py` makes markup, so only it decides what is printed unescaped."""
    folder = Path(tutelage.web.__file__).parent
    for template in (folder / "templates").glob("*.html"):
        text = template.read_text(encoding="utf-8")
        assert "|safe" not in text.replace(" ", "") and "autoescape" not in text, template.name
        assert not re.search(r"\son[a-z]+=|\sstyle=|javascript:|https?://", text), template.name
    for script in (folder / "static").rglob("*.js"):
        text = script.read_text(encoding="utf-8")
        assert not re.search(r"\beval\(|new Function|document\.write|outerHTML|insertAdjacentHTML", text), (
            script.name
        )
        assert ("innerHTML" in text) == (script.name == "dom.js"), script.name
    makers = [path.name for path in folder.glob("*.py") if "Markup(" in path.read_text(encoding="utf-8")]
    assert makers == ["render.py"]
