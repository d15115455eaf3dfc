"""Text of a model as HTML: what people should see is there, and nothing that could act."""

from __future__ import annotations

import html
import re
import timeit
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import tutelage.web
from tutelage.web.render import AS_WRITTEN, LONGEST_FORMULA, UNDRAWN, laid_out, markdown, plain

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


def visible(shown: str) -> str:
    """What one reads of rendered HTML: text, numbers of lists, where links lead, formulas by their letters; unseen
    characters as themselves.
    """
    shown = re.sub(
        r'<span class="unseen" title="[^"]*">U\+([0-9A-F]+)</span>', lambda m: chr(int(m[1], 16)), shown
    )
    shown = re.sub(r'<li value="(\d+)">', r" \1 ", shown)
    shown = re.sub(
        r'<a href="([^"]*)"[^>]*>(.*?)</a>', lambda m: m[2] + ("" if m[1] == m[2] else f" {m[1]}"), shown
    )
    return html.unescape(re.sub("<[^>]*>", "", shown))


def letters(text: str) -> str:
    return "".join(character for character in text if character.isalnum())


TEXTS = st.one_of(
    st.text(max_size=200),
    st.lists(
        st.sampled_from(
            [
                "word",
                "zwei",
                "3",
                "*",
                "**",
                "_",
                "`",
                "```",
                "# ",
                "- ",
                "1. ",
                "2) ",
                "> ",
                "+ ",
                "| ",
                "\n",
                "\n\n",
                "  ",
                "    ",
                "\t",
                "[a](",
                "http://x.de",
                "/y",
                ")",
                "[b]: ",
                "<http://z.de>",
                "<b>",
                "&amp;",
                "&#65;",
                "\\",
                "~~",
                "---",
                "|---|",
                "===",
            ]
        ),
        max_size=40,
    ).map("".join),
)


@given(TEXTS.filter(lambda text: not re.search(r"\$|\\[(\[]", text)))
def test_rendering_keeps_every_letter_or_shows_the_source(text: str) -> None:
    """In order; formulas, which have letters of their own, are tried below."""
    shown = laid_out(text)
    written = re.sub("[\ud800-\udfff\0]", "\ufffd", text)
    if shown.html is not None:
        assert letters(visible(shown.html)) == letters(written)
    else:
        assert letters(visible(markdown(text, "", ""))) == letters(written)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("".join(f"{'  ' * n}- level {n}\n" for n in range(12)), "lists nested too deep"),
        (">" * 25 + " deep", "quotes nested too deep"),
        ("| a | b |\n|---|---|\n| 1 | 2 | lost |", "more cells than columns"),
        ("[home](/page)", "a link to nowhere"),
        ('[x](http://y.de "told")', "the title of a link"),
        ("[x]: http://y.de\n\nhello", "a definition that nothing refers to"),
        ("2*3*4", "a product"),
        ("  12\n+ 30\n+ 4", "a sum"),
        ("   Roses are red\nViolets are blue", "a first line that stands further in"),
        ("word " * 20_001, "too long"),
    ],
)
def test_what_markdown_would_lose_is_shown_as_written(text: str, why: str) -> None:
    shown = markdown(text)
    assert laid_out(text).html is None, why
    assert '<div class="asis">' in shown and AS_WRITTEN in shown
    assert visible(shown).startswith(text)


def test_a_poem_is_a_poem() -> None:
    shown = markdown("Soft rain\n  on the  roof\nof `a` house  \nand on.\n\n- one\n  two")
    assert shown.count("<br>") == 4
    assert '<span class="gap">  </span>on the<span class="gap">  </span>roof' in shown


def test_numbers_and_languages_that_were_written_are_shown() -> None:
    assert '<li value="3">c</li>\n<li value="3">d</li>' in markdown("3. c\n3. d")
    assert '<span class="fence">python</span>' in markdown("```python\nx\n```")
    assert "&amp;amp; and &lt;b&gt;" in markdown("&amp; and <b>")


@pytest.mark.parametrize(
    "tex",
    [
        r"\begin{aligned} a &= b \\ c &= d \end{aligned}",
        r"\foo{x}",
        r"a % all gone",
        r"\color{red}{x}",
        r"x \label{eq}",
    ],
)
def test_formulas_that_cannot_be_drawn_are_shown_as_their_source(tex: str) -> None:
    shown = markdown(f"so $${tex}$$ it is")
    assert html.escape(f"$${tex}$$") in shown and "<math" not in shown and UNDRAWN in shown


@pytest.mark.parametrize(
    "tex",
    [
        r"\frac{a+b}{2}",
        r"\sum_{i=1}^{n} x_i^2",
        r"\begin{pmatrix} 1 & 2 \\ 3 & 4 \end{pmatrix}",
        r"\mathbb{R} \le \sqrt[3]{x}",
        r"\text{if } x > 0",
    ],
)
def test_common_formulas_are_drawn(tex: str) -> None:
    shown = markdown(f"${tex}$")
    assert "<math" in shown and UNDRAWN not in shown


@pytest.mark.parametrize("opening", [r"\(", r"\[", r"\( \[ $$ "])
def test_formulas_that_never_end_cost_little(opening: str) -> None:
    """Linear: four times the text takes about four times as long, not sixteen times."""

    def seconds(size: int) -> float:
        text = f"{size}" + opening * (size // len(opening))
        return min(timeit.repeat(lambda: (laid_out.cache_clear(), laid_out(text)), number=1, repeat=5))

    assert seconds(40_000) < 10 * seconds(10_000)


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


def test_headings_stand_below_those_of_the_page() -> None:
    assert [markdown(f"{'#' * n} One").strip() for n in (1, 2, 6)] == [
        "<h3>One</h3>",
        "<h4>One</h4>",
        "<h6>One</h6>",
    ]
