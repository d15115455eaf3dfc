"""Model output as HTML that can do nothing: text as it was written, or sanitised Markdown with mathematics.

What a model writes is hostile until shown otherwise.  `plain` escapes everything; `markdown` parses with raw HTML off,
turns TeX into MathML, and passes the result through an allow-list (nh3).  Characters that one cannot see or that
reorder the line (controls, bidirectional overrides, zero-width ones) are drawn as visible marks in both, and words in
which letters of another script pass for Latin ones are marked.  Only the functions here make `Markup` that templates
print unescaped.

People judge what was written, so rendering must not change it: line breaks and gaps stay, and a text of which Markdown
would drop or alter anything is shown as written.
"""

from __future__ import annotations

import itertools
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from html import unescape
from typing import Any

import nh3
from latex2mathml.converter import convert
from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markdown_it.rules_inline import StateInline
from markdown_it.token import Token
from markupsafe import Markup, escape

AS_WRITTEN = "Shown as written: laid out as Markdown, some of it would be lost."
UNDRAWN = "A formula that cannot be drawn is shown as its source."
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
    "math": {"display"}, "mi": {"mathvariant"}, "mfrac": {"linethickness"}, "mover": {"accent"}, "munder": {"accentunder"},
    "mo": {"stretchy", "fence", "form", "separator", "lspace", "rspace", "minsize", "maxsize", "movablelimits"},
    "mspace": {"width"}, "mtable": {"columnalign", "rowspacing"}, "mtd": {"columnalign"},
}  # fmt: skip
_HTML_ATTRIBUTES = {"a": {"href"}, "span": {"title"}, "ol": {"start"}, "li": {"value"}}
_CLASSES = {"span": {"unseen", "mixed", "gap", "fence"}, "code": {"formula"}, "a": {"outside"}}


def plain(text: str) -> Markup:
    """The text as it was written, escaped, its unseen characters marked."""
    return Markup(_marked(text))


def markdown(text: str, as_written: str = AS_WRITTEN, undrawn: str = UNDRAWN) -> Markup:
    """The text as `laid_out` has it, or as written, with a note that says so."""
    shown = laid_out(text)
    if shown.html is None:
        return Markup('<div class="asis">{}</div><p class="as-written">{}</p>').format(
            plain(text), as_written
        )
    return shown.html + (Markup('<p class="as-written">{}</p>').format(undrawn) if shown.undrawn else "")


@dataclass(frozen=True)
class LaidOut:
    """`html`: None where Markdown would lose or alter something; `undrawn`: formulas in it stand as their source."""

    html: Markup | None
    undrawn: bool = False


@lru_cache(maxsize=500)
def laid_out(text: str) -> LaidOut:
    """The text as Markdown with TeX between `$ $`, `$$ $$`, `\\( \\)` or `\\[ \\]`; nothing in it can run or load."""
    if len(text) > LONGEST_MARKDOWN:
        return LaidOut(None)
    text = _whole(text)
    parser = _parser()
    known: dict[str, Any] = {"absent": set()}  # what the rules find out about this text
    tokens = parser.parse(text, known)
    if _substance(text) != _substance("".join(_shown(tokens))) or _alters(tokens, text):
        return LaidOut(None)
    html = _sanitised(parser.renderer.render(tokens, parser.options, known))
    return LaidOut(Markup(html), "undrawn" in known)


# what a text says -----------------------------------------------------------------------------------------------------

_LAYOUT = str.maketrans("", "", "*_#>`~|-+=:[]()!<\\.\ufeff")  # what may be markup, and vanish as such


def _substance(text: str) -> str:
    """A text without white space and without what may be markup: it must come out as it went in."""
    return "".join(text.replace("\0", "\ufffd").replace("\r", "\n").split()).translate(_LAYOUT)


def _shown(tokens: Sequence[Token]) -> Iterator[str]:
    """What one sees of parsed Markdown, in order; formulas as their source, links with where they lead."""
    leads = []
    for token in tokens:
        if token.type == "inline":
            yield from _shown(token.children or ())
        elif token.type == "formula":
            yield token.markup + token.content + token.markup
        elif token.type == "link_open":
            leads.append("" if token.markup == "autolink" else str(token.attrs["href"]))
        elif token.type == "link_close":
            href = leads.pop()
            yield href if _ABSOLUTE.match(href) else ""
        elif token.type in ("fence", "list_item_open"):
            yield token.info + token.content
        else:
            yield token.content


def _alters(tokens: Sequence[Token], text: str) -> bool:
    """Whether markup was found where probably none was meant: products like 2*3*4, sums with a + before each line,
    and stanzas whose first line stands further in.
    """
    lines = text.split("\n")
    for token, following in itertools.pairwise([*tokens, Token("", "", 0)]):
        if token.type == "bullet_list_open" and token.markup == "+":
            return True
        if token.type == "paragraph_open" and token.level == 0 and token.map:
            first, end = token.map
            if end - first > 1 and lines[first][:1] == " ":
                return True
        if following.type == "inline" and _PRODUCT.search(following.content):
            for before, opening in itertools.pairwise(following.children or ()):
                last = before.content[-1:]
                if opening.nesting == 1 and opening.markup[:1] == "*" and last.isascii() and last.isalnum():
                    return True
    return False


_PRODUCT = re.compile(r"[0-9A-Za-z]\*")


# text -----------------------------------------------------------------------------------------------------------------


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


def _formula(tex: str, display: bool) -> str | None:
    """MathML of a formula, cleaned on its own of everything that is not mathematics; None where it cannot be drawn."""
    if len(tex) > LONGEST_FORMULA:
        return None
    try:
        mathml = convert(tex, display="block" if display else "inline")
    except Exception:  # the converter raises whatever it stumbles on
        return None
    cleaned = nh3.clean(mathml, tags=_MATH_TAGS, attributes=_MATH_ATTRIBUTES, clean_content_tags=set())
    return _UNSEEN.sub(lambda match: "\ufffd", cleaned) if _is_drawn(tex, cleaned) else None


_COMMANDS = re.compile(
    r"\\(?:begin|end)\s*\{[^}]*\}(?:\{[clr|\s]*\})?|\\[hv]space\*?\{[^}]*\}|\\\\\[[^\]]*\]|\\[A-Za-z]+\*?"
)
_SIGNS = "+=<>/!(),;:"


def _is_drawn(tex: str, mathml: str) -> bool:
    """Whether every letter, digit and sign of the source is in the drawing, and no command or & of the source is left."""
    drawn = unicodedata.normalize("NFKC", unescape(_TAG.sub("", mathml)))
    if "\\" in drawn or "&" in drawn:
        return False
    source = unicodedata.normalize("NFKC", _COMMANDS.sub(" ", tex))
    wanted = Counter(c for c in source if c.isalnum() or c in _SIGNS)
    return not wanted - Counter(drawn)


_TAG = re.compile(r"<[^>]*>")
_GAPS = re.compile(r"( {2,}|\t+)")


def _below_the_pages(heading: str) -> str:
    """The page has an h1, and an h2 for each response: headings of a text begin at h3."""
    return f"h{min(6, int(heading[1]) + 2)}"


class _Renderer(RendererHTML):
    """markdown-it's renderer, but every text goes through `_marked`, and formulas are MathML."""

    def text(self, tokens: Sequence[Token], idx: int, options: Any, env: Any) -> str:
        text = tokens[idx].content
        inset = len(text) - len(text.lstrip(" \t")) if idx and tokens[idx - 1].type == "hardbreak" else 0
        pieces = [text[:inset], *_GAPS.split(text[inset:])]
        return "".join(
            f'<span class="gap">{piece}</span>' if piece.isspace() and n % 2 == 0 else _marked(piece)
            for n, piece in enumerate(pieces)
        )

    def heading_open(self, tokens: Sequence[Token], idx: int, options: Any, env: Any) -> str:
        return f"<{_below_the_pages(tokens[idx].tag)}>"

    def heading_close(self, tokens: Sequence[Token], idx: int, options: Any, env: Any) -> str:
        return f"</{_below_the_pages(tokens[idx].tag)}>\n"

    def list_item_open(self, tokens: Sequence[Token], idx: int, options: Any, env: Any) -> str:
        return f'<li value="{int(tokens[idx].info)}">' if tokens[idx].info else "<li>"  # as it was written

    def code_inline(self, tokens: Sequence[Token], idx: int, options: Any, env: Any) -> str:
        return f"<code>{_marked(tokens[idx].content)}</code>"

    def code_block(self, tokens: Sequence[Token], idx: int, options: Any, env: Any) -> str:
        return f"<pre><code>{_marked(tokens[idx].content)}</code></pre>\n"

    def fence(self, tokens: Sequence[Token], idx: int, options: Any, env: Any) -> str:
        info = _marked(tokens[idx].info.strip())
        named = f'<span class="fence">{info}</span>\n' if info else ""
        return f"<pre>{named}<code>{_marked(tokens[idx].content)}</code></pre>\n"

    def formula(self, tokens: Sequence[Token], idx: int, options: Any, env: Any) -> str:
        token, env["formulas"] = tokens[idx], env.get("formulas", 0) + 1
        drawn = None
        if env["formulas"] <= MOST_FORMULAS:
            drawn = _formula(token.content, display=token.markup in ("$$", "\\["))
        if drawn is None:
            env["undrawn"] = True
            return f'<code class="formula">{_marked(token.markup + token.content + token.info)}</code>'
        return drawn


_PAIRS = (("$$", "$$"), ("\\[", "\\]"), ("\\(", "\\)"), ("$", "$"))


def _formula_rule(state: StateInline, silent: bool) -> bool:
    """Inline rule of markdown-it: a formula between its delimiters, or False."""
    for opening, closing in _PAIRS:
        if not state.src.startswith(opening, state.pos):
            continue
        start = state.pos + len(opening)
        end = _find(state, closing, start)
        if end <= start or (opening == "$" and not _dollars(state.src, start, end)):
            return False
        if not silent:
            token = state.push("formula", "", 0)
            token.content, token.markup, token.info = state.src[start:end], opening, closing
        state.pos = end + len(closing)
        return True
    return False


def _find(state: StateInline, closing: str, start: int) -> int:
    """Where a formula ends, -1 for nowhere; that it ends nowhere is found out once per text, not at every opening."""
    absent: set[tuple[str, str, int]] = state.env["absent"]
    here = (closing, state.src, state.posMax)
    if here in absent:
        return -1
    end = state.src.find(closing, start, state.posMax)
    if end < 0:
        absent.add(here)
    return end


def _line_end(state: StateInline, silent: bool) -> bool:
    """Inline rule of markdown-it: every line ends where it was ended, and the next keeps its distance from the edge."""
    if state.src[state.pos] != "\n":
        return False
    if not silent:
        state.push("hardbreak", "br", 0)
    state.pos += 1
    return True


def _dollars(text: str, start: int, end: int) -> bool:
    """Whether `$...$` is a formula and not two prices: no space inside the dollars, no digit after, one line."""
    inside = text[start:end]
    after = text[end + 1 : end + 2]
    return not (inside[0].isspace() or inside[-1].isspace() or after.isdigit() or "\n" in inside)


@lru_cache(maxsize=1)
def _parser() -> MarkdownIt:
    parser = MarkdownIt("commonmark", {"html": False}, renderer_cls=_Renderer)
    parser.enable(["table", "strikethrough"]).disable(["image", "html_block", "html_inline", "entity"])
    parser.inline.ruler.before("escape", "formula", _formula_rule)
    parser.inline.ruler.at("newline", _line_end)
    return parser
