"""The interface in other languages: every text can be said in another language, and every language says all of them."""

from __future__ import annotations

import json
import re
from pathlib import Path

import jinja2
import jinja2.nodes
import pytest

from tutelage.web import languages

WEB = Path(languages.__file__).parent.parent
# what stands between tags and is no language: names, signs, code
UNSAID = re.compile(r"^(Tutelage|A|B|tutelage .*|[\W\d_]*)$")


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
    for file in sorted((WEB / "static").rglob("*.js")):
        for quoted in re.findall(r'\bt\(\s*("(?:[^"\\]|\\.)*")', file.read_text(encoding="utf-8")):
            found[json.loads(quoted)] = file.name
    return found


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


def test_the_visitor_s_choice_comes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    german = languages.Language("de", "Deutsch", "ltr", {"{n} items": "{n} Aufgaben"})
    monkeypatch.setattr(languages, "languages", lambda: {"en": languages.ENGLISH, "de": german})
    assert languages.chosen("", "") is languages.ENGLISH
    assert languages.chosen("", "fr-CH, de-AT;q=0.8, en;q=0.5") is german
    assert languages.chosen("en", "de") is languages.ENGLISH
    assert languages.chosen("xx", "de") is german
    assert german.say("{n} items", n=3) == "3 Aufgaben"
    assert german.say("Search") == "Search"
