"""The interface in other languages: every text can be said in another language, and every language says all of them."""

from __future__ import annotations

import json
import re
from pathlib import Path

import jinja2
import jinja2.nodes
import pytest
from fastapi.testclient import TestClient

from tutelage.web import languages
from tutelage.web.app import build_app
from tutelage.web.site import Site

WEB = Path(languages.__file__).parent.parent
# what stands between tags and is no language: names, signs, code
UNSAID = re.compile(r"^(\W*Tutelage|A|B|UTC|https://\S+|tutelage .*|prompt = .*|[\W\d_]*)$", re.DOTALL)
# what is no language in scripts: keys, and names that browsers, the API and the store give to things
UNSAID_IN_SCRIPTS = re.compile(
    r"^(Enter|Escape|DOMContentLoaded|GET|PUT|POST|DELETE|[A-Z]\w+-\w+|ab|sha256 |\w or \w|/.*"
    r"|Which response is better\?|not UTF-8 text)$"
)
NO_TEXT = re.compile(
    r"(class: [^,}]*|css: |className = |querySelector(All)?\(|closest\(|import |from |OWN_ENTER = |\[type=|cookie = )$"
)
SENTENCE = re.compile(r"^[A-Z][a-z]+|[a-z] [a-z]|[a-z][.?!…:]$", re.MULTILINE)
# where a word is seen or heard, whatever it is: children of elements, labels, announcements, questions
SEEN = re.compile(
    r"(\}, |\} \? |textContent = |announce\(|note\(|confirm\(|alert\(|said\(\w+, "
    r'|"aria-label": |\b(title|placeholder|legend|label|intro|action|question|done|about): )$'
)


def said_by_templates() -> dict[str, str]:
    """English sentence -> template, from every `_("...")`."""
    environment = jinja2.Environment()
    found = {}
    for file in sorted((WEB / "templates").rglob("*.html")):
        tree = environment.parse(file.read_text(encoding="utf-8"))
        for call in tree.find_all(jinja2.nodes.Call):
            if isinstance(call.node, jinja2.nodes.Name) and call.node.name == "_":
                for text in _constants(call.args[0]):
                    found[text] = file.name
    return found


def _constants(node: jinja2.nodes.Node) -> list[str]:
    if isinstance(node, jinja2.nodes.Const):
        return [node.value]
    return [found.value for found in node.find_all(jinja2.nodes.Const) if isinstance(found.value, str)]


def said_by_scripts() -> dict[str, str]:
    """English sentence -> script, from every `t("...")`."""
    found = {}
    for file, text in scripts():
        for quoted in re.findall(r'\bt\(\s*("(?:[^"\\]|\\.)*")', text):
            found[json.loads(quoted)] = file.name
    return found


def scripts() -> list[tuple[Path, str]]:
    """Every script, without its comments."""
    comments = re.compile(r"/\*.*?\*/|^\s*//[^\n]*|\s// [^\n]*", re.DOTALL | re.MULTILINE)
    files = sorted((WEB / "static").rglob("*.js"))
    return [(file, comments.sub("", file.read_text(encoding="utf-8"))) for file in files]


def keys() -> dict[str, str]:
    return said_by_templates() | said_by_scripts()


@pytest.mark.parametrize("code", sorted(set(languages.languages()) - {"en"}))
def test_a_language_says_everything_and_nothing_else(code: str) -> None:
    texts = languages.languages()[code].texts
    assert not (missing := sorted(keys().keys() - texts.keys())), f"{code}.json lacks {missing[:3]}"
    assert not (gone := sorted(texts.keys() - keys().keys())), f"nothing says {gone[:3]} of {code}.json"


@pytest.mark.parametrize("code", sorted(set(languages.languages()) - {"en"}))
def test_a_language_keeps_the_names_in_braces(code: str) -> None:
    for english, said in languages.languages()[code].texts.items():
        names = [sorted(re.findall(r"\{\w+\}", text)) for text in (english, said)]
        assert names[0] == names[1], english


def test_no_text_of_a_template_is_in_one_language_only() -> None:
    """What is left of a template without its tags and expressions is no sentence."""
    bare = []
    for file in sorted((WEB / "templates").rglob("*.html")):
        text = file.read_text(encoding="utf-8")
        text = re.sub(r"<(style|script|svg|code|kbd|pre)\b.*?</\1>|\{#.*?#\}", "\0", text, flags=re.DOTALL)
        text = re.sub(r"\{% block main_class %\}\w+", "\0", text)
        text = re.sub(r"\{%.*?%\}|\{\{.*?\}\}", "\0", text, flags=re.DOTALL)
        said = re.findall(r'(?:aria-label|title|placeholder|alt)="([^"]*)"', text)
        text = re.sub(r"<[^>]*>", "\0", text)
        for piece in (piece.strip() for piece in "\0".join([text, *said]).split("\0")):
            if not UNSAID.match(piece):
                bare.append(f"{file.name}: {piece[:60]}")
    assert not bare, "\n".join(bare)


def bare_words(script: str) -> list[str]:
    """The literals of a script that a person reads and that are not given to `t`."""
    literal = re.compile(r'"(?:[^"\\\n]|\\.)*"|`(?:[^`\\]|\\.)*`')
    script = re.sub(r'\bt\(\s*"(?:[^"\\]|\\.)*"', "t(0", script)
    found = []
    for match in literal.finditer(script):
        before = script[max(0, match.start() - 60) : match.start()]
        text = re.sub(r"\$\{.*?\}+", "", match.group()[1:-1], flags=re.DOTALL)
        names_a_property = script[match.end() :].startswith(":") and re.search(r"[{,]\s*$", before)
        if names_a_property or NO_TEXT.search(before):
            continue
        seen = SEEN.search(before) and re.search(r"[a-zA-Z]{2}", text)
        if (seen or SENTENCE.search(text)) and not UNSAID_IN_SCRIPTS.match(text):
            found.append(text)
    return found


def test_no_word_of_a_script_is_in_one_language_only() -> None:
    bare = [f"{file.name}: {word[:60]}" for file, text in scripts() for word in bare_words(text)]
    assert not bare, "\n".join(bare)


@pytest.mark.parametrize(
    "script",
    [
        'h("p", {}, "done")',
        'h("p", { class: "soft" }, n ? t("Yes") : "No way")',
        'h("button", { "aria-label": "close" })',
        "said(form, `${n} rows`)",
        'place.textContent = "saving"',
        'const words = ["Too hard to tell"];',
        'announce("gone")',
    ],
)
def test_a_bare_word_in_a_script_is_found(script: str) -> None:
    assert bare_words(script)
    assert not bare_words('h("p", { class: "soft small" }, t("Yes, {n}", { n }), h("kbd", {}, "Enter"))')


def test_every_key_is_a_literal() -> None:
    """Else nothing could tell what a language lacks."""
    for file, text in scripts():
        calls = re.sub(r"function t\(", "", text)
        assert not re.findall(r'\bt\((?!\s*")', calls), file.name
    environment = jinja2.Environment()
    for file in sorted((WEB / "templates").rglob("*.html")):
        tree = environment.parse(file.read_text(encoding="utf-8"))
        for call in tree.find_all(jinja2.nodes.Call):
            if isinstance(call.node, jinja2.nodes.Name) and call.node.name == "_":
                assert isinstance(call.args[0], jinja2.nodes.Const), f"{file.name}:{call.lineno}"


def test_the_visitor_s_choice_comes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    german = languages.Language("de", "Deutsch", "ltr", {"{n} items": "{n} Aufgaben"})
    monkeypatch.setattr(languages, "languages", lambda: {"en": languages.ENGLISH, "de": german})
    assert languages.chosen("", "") is languages.ENGLISH
    assert languages.chosen("", "fr-CH, de-AT;q=0.8, en;q=0.5") is german
    assert languages.chosen("en", "de") is languages.ENGLISH
    assert languages.chosen("xx", "de") is german
    assert german.say("{n} items", n=3) == "3 Aufgaben"
    assert german.say("Search") == "Search"
    assert german.say("{a} and {b}", a="{b}", b=1) == "{b} and 1", "what fills a place is not looked into"


def test_a_page_is_in_the_visitor_s_language(site: Site) -> None:
    """By what the browser asks for, before anybody has logged in; by the choice on the account page once there is one."""
    with TestClient(build_app(site)) as client:
        asked = {"Accept-Language": "de-CH,de;q=0.9,en;q=0.5"}
        german = client.get("/login", headers=asked).text
        assert '<html lang="de" dir="ltr">' in german and ">Anmelden<" in german
        client.cookies.set(languages.COOKIE, "en")
        english = client.get("/login", headers=asked).text
        assert '<html lang="en" dir="ltr">' in english and ">Log in<" in english
