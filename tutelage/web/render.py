"""Model output as HTML that can do nothing: text as it was written, or sanitised Markdown with mathematics.

What a model writes is hostile until shown otherwise.  `plain` escapes everything; `markdown` parses with raw HTML off,
turns TeX into MathML, and passes the result through an allow-list (nh3).  Characters that one cannot see or that
reorder the line (controls, bidirectional overrides, zero-width ones) are drawn as visible marks in both, and words in
which letters of another script pass for Latin ones are marked.  Only these
two functions make `Markup` that templates print unescaped.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import nh3
from latex2mathml.converter import convert
from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markdown_it.rules_inline import StateInline
from markdown_it.token import Token
from markupsafe import Markup, escape

LONGEST_MARKDOWN = 100_000  # characters; a longer text is shown as written
LONGEST_FORMULA = 2_000  # characters of TeX; a longer formula is shown as its source
MOST_FORMULAS = 200  # per text

# Controls but tab and newline; soft hyphen; fillers; zero-width and bidirectional characters; separators; tags.
_UNSEEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180e\u200b\u200e\u200f"
    "\u2028-\u202e\u2060-\u206f\u3164\ufeff\uffa0\ufff9-\ufffb\U000e0000-\U000e0fff]"
    # Joiners belong into some scripts and into emoji; beside ASCII, or at an end, they only hide.
    "|(?<![^\x00-\x7f])[\u200c\u200d]|[\u200c\u200d](?![^\x00-\x7f])"
)
# Cyrillic and Greek letters that cannot be told from Latin ones: a word that has both is hardly written by accident.
_LOOK_ALIKE = (
    "\u0430\u0435\u043e\u0440\u0441\u0443\u0445\u0456\u0458\u0455\u0501\u04bb\u0410\u0412\u0415\u041a\u041c\u041d\u041e\u0420"
    "\u0421\u0422\u0425\u0406\u0408\u0405\u03bf\u0391\u0392\u0395\u0396\u0397\u0399\u039a\u039c\u039d\u039f\u03a1\u03a4\u03a7"
)
_BORROWED = re.compile(rf"(?<!\w)(?=\w*[A-Za-z])(?=\w*[{_LOOK_ALIKE}])\w+")
_ABSOLUTE = re.compile(r"(https?://|mailto:)", re.IGNORECASE)
_SURROGATES = re.compile("[\ud800-\udfff]")

_HTML_TAGS = {
    "a", "blockquote", "br", "code", "del", "em", "h1", "h2", "h3", "h4", "h5", "h6", "hr", "li", "ol", "p", "pre",
    "s", "span", "strong", "table", "tbody", "td", "th", "thead", "tr", "ul",
}  # fmt: skip
_MATH_TAGS = {
    "math", "mfrac", "mi", "mn", "mo", "mover", "mpadded", "mphantom", "mroot", "mrow", "mspace", "msqrt", "msub",
    "msubsup", "msup", "mtable", "mtd", "mtext", "mtr", "munder", "munderover",
}  # fmt: skip
_MATH_ATTRIBUTES = {
    "math": {"display"},
    "mo": {
        "stretchy",
        "fence",
        "form",
        "separator",
        "lspace",
        "rspace",
        "minsize",
        "maxsize",
        "movablelimits",
    },
    "mi": {"mathvariant"},
    "mfrac": {"linethickness"},
    "mover": {"accent"},
    "munder": {"accentunder"},
    "mspace": {"width"},
    "mtable": {"columnalign", "rowspacing"},
    "mtd": {"columnalign"},
}
_HTML_ATTRIBUTES = {"a": {"href"}, "span": {"title"}, "ol": {"start"}}
_CLASSES = {"span": {"unseen", "mixed"}, "code": {"formula"}, "a": {"outside"}}


def plain(text: str) -> Markup:
    """The text as it was written, escaped, its unseen characters marked."""
    return Markup(_marked(text))


@lru_cache(maxsize=2_000)
def markdown(text: str) -> Markup:
    """The text as Markdown with TeX between `$ $`, `$$ $$`, `\\( \\)` or `\\[ \\]`; nothing in it can run or load."""
    if len(text) > LONGEST_MARKDOWN:
        return Markup("<pre>{}</pre>").format(plain(text))
    return Markup(_sanitised(_parser().render(_whole(text))))


def _marked(text: str) -> str:
    """HTML: the escaped text, every unseen character and every word with borrowed letters marked visibly."""
    return _replaced(
        _BORROWED, _mark_word, _whole(text), lambda rest: _replaced(_UNSEEN, _mark, rest, escape)
    )


def _replaced(
    pattern: re.Pattern[str], mark: Callable[[str], str], text: str, between: Callable[[str], str]
) -> str:
    """What fits the pattern through `mark`, what is between through `between`."""
    found, done = [], 0
    for match in pattern.finditer(text):
        found += [str(between(text[done : match.start()])), mark(match.group())]
        done = match.end()
    return "".join([*found, str(between(text[done:]))])


def _mark_word(word: str) -> str:
    foreign = sorted(
        {unicodedata.name(letter).split()[0].title() for letter in word if letter in _LOOK_ALIKE}
    )
    why = f"Latin letters mixed with {' and '.join(foreign)} ones that look like them"
    return f'<span class="mixed" title="{why}">{_replaced(_UNSEEN, _mark, word, escape)}</span>'


def _mark(character: str) -> str:
    name = unicodedata.name(character, "control character")
    return f'<span class="unseen" title="{escape(name)}">U+{ord(character):04X}</span>'


def _whole(text: str) -> str:
    """Half characters (lone surrogates) cannot be sent; they become the replacement character. Newlines are `\\n`."""
    return _SURROGATES.sub("\ufffd", text.replace("\r\n", "\n"))


def _sanitised(html: str) -> str:
    return nh3.clean(
        html,
        tags=_HTML_TAGS | _MATH_TAGS,
        attributes={**_HTML_ATTRIBUTES, **_MATH_ATTRIBUTES},
        allowed_classes=_CLASSES,
        url_schemes={"http", "https", "mailto"},
        attribute_filter=_outward,
        link_rel="noopener noreferrer nofollow",
        set_tag_attribute_values={"a": {"target": "_blank"}},
    )


def _outward(_tag: str, attribute: str, value: str) -> str | None:
    """Links lead away, never into this server: a relative one is dropped."""
    return None if attribute == "href" and not _ABSOLUTE.match(value) else value


def _formula(tex: str, display: bool) -> str:
    """MathML of a formula, cleaned on its own of everything that is not mathematics; its source where that fails."""
    source = f'<code class="formula">{_marked(tex)}</code>'
    if len(tex) > LONGEST_FORMULA:
        return source
    try:
        mathml = convert(tex, display="block" if display else "inline")
    except Exception:  # the converter raises whatever it stumbles on
        return source
    cleaned = nh3.clean(mathml, tags=_MATH_TAGS, attributes=_MATH_ATTRIBUTES, clean_content_tags=set())
    return _UNSEEN.sub(lambda match: "\ufffd", cleaned)


class _Renderer(RendererHTML):
    """markdown-it's renderer, but every text goes through `_marked`, and formulas are MathML."""

    def text(self, tokens: Sequence[Token], idx: int, options: Any, env: Any) -> str:
        return _marked(tokens[idx].content)

    def code_inline(self, tokens: Sequence[Token], idx: int, options: Any, env: Any) -> str:
        return f"<code>{_marked(tokens[idx].content)}</code>"

    def code_block(self, tokens: Sequence[Token], idx: int, options: Any, env: Any) -> str:
        return f"<pre><code>{_marked(tokens[idx].content)}</code></pre>\n"

    def fence(self, tokens: Sequence[Token], idx: int, options: Any, env: Any) -> str:
        return self.code_block(tokens, idx, options, env)

    def formula(self, tokens: Sequence[Token], idx: int, options: Any, env: Any) -> str:
        env["formulas"] = env.get("formulas", 0) + 1
        if env["formulas"] > MOST_FORMULAS:
            return f'<code class="formula">{_marked(tokens[idx].content)}</code>'
        return _formula(tokens[idx].content, display=tokens[idx].markup in ("$$", "\\["))


_PAIRS = (("$$", "$$"), ("\\[", "\\]"), ("\\(", "\\)"), ("$", "$"))


def _formula_rule(state: StateInline, silent: bool) -> bool:
    """Inline rule of markdown-it: a formula between its delimiters, or False."""
    for opening, closing in _PAIRS:
        if not state.src.startswith(opening, state.pos):
            continue
        start = state.pos + len(opening)
        end = state.src.find(closing, start, state.posMax)
        if end <= start or (opening == "$" and not _dollars(state.src, start, end)):
            return False
        if not silent:
            token = state.push("formula", "", 0)
            token.content, token.markup = state.src[start:end], opening
        state.pos = end + len(closing)
        return True
    return False


def _dollars(text: str, start: int, end: int) -> bool:
    """Whether `$...$` is a formula and not two prices: no space inside the dollars, no digit after, one line."""
    inside = text[start:end]
    after = text[end + 1 : end + 2]
    return not (inside[0].isspace() or inside[-1].isspace() or after.isdigit() or "\n" in inside)


@lru_cache(maxsize=1)
def _parser() -> MarkdownIt:
    parser = MarkdownIt("commonmark", {"html": False}, renderer_cls=_Renderer)
    parser.enable(["table", "strikethrough"]).disable(["image", "html_block", "html_inline"])
    parser.inline.ruler.before("escape", "formula", _formula_rule)
    return parser
