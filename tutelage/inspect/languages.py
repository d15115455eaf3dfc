"""A guess at the language of a text: by its script, and for the Latin one by common words.  No more than a guess."""

from __future__ import annotations

import re
from collections import Counter

LOOKED_AT = 400  # characters of a text
LETTERS = 12  # fewer say nothing
SCRIPTS = {
    "Cyrillic": r"[\u0400-\u052f]",
    "Greek": r"[\u0370-\u03ff]",
    "Arabic": r"[\u0600-\u06ff\u0750-\u077f]",
    "Hebrew": r"[\u0590-\u05ff]",
    "Devanagari": r"[\u0900-\u097f]",
    "Thai": r"[\u0e00-\u0e7f]",
    "Korean": r"[\uac00-\ud7af\u1100-\u11ff]",
    "Japanese": r"[\u3040-\u30ff]",
    "Chinese": r"[\u4e00-\u9fff]",
}
_SCRIPTS = {name: re.compile(pattern) for name, pattern in SCRIPTS.items()}
_WORD = re.compile(r"[^\W\d_]+")
COMMON = {
    "English": "the and of to in is that it for was on are with as you this be have not or by from what which how they we can "
    "i a an he she his her my your me do no so if did does there many much each would will had has all at but about them him",
    "German": "der die das und ist nicht ein eine zu den mit von auf für sich dem auch es wird im wie ich sie des wir oder",
    "French": "le la les des et est une un dans que qui pour pas sur au avec ce il sont vous nous je du par plus en",
    "Spanish": "el la los las de y que en es un una por con para se del al lo como más su pero este está son",
    "Italian": "il di che è la e un una per non sono con del della si gli le da come più ma anche nel questo",
    "Portuguese": "o os de que e da em um uma para é com não por mais se na como ao são foi você dos das pelo",
    "Dutch": "de het een en van dat niet op te zijn met voor die er aan ook maar als naar dan bij wordt",
    "Polish": "w z się nie że jest jak po co ale dla tym od czy przez być są jego który oraz może będzie tylko",
    "Swedish": "och att det som en på är av för med den till inte om ett har de var jag kan från vid så",
    "Turkish": "ve bir bu da için ile çok olarak ne gibi daha olan kadar sonra mi ama en sen değil",
}
_LANGUAGES: dict[str, tuple[str, ...]] = {}  # word -> languages in which it is common
for _name, _words in COMMON.items():
    for _word in _words.split():
        _LANGUAGES[_word] = (*_LANGUAGES.get(_word, ()), _name)
ENOUGH = 0.12  # share of the words that are common ones
AHEAD = 1.4  # times as many common words as in the next language


def language_of(text: str) -> str:
    """The language, "" where nothing can be said."""
    text = text[:LOOKED_AT]
    if not text.isascii() and (script := _script(text)):
        return script
    words = _WORD.findall(text.casefold())
    if len(words) < 4:
        return ""
    found = Counter(name for word in words for name in _LANGUAGES.get(word, ()))
    (first, most), (_, next_most) = [*found.most_common(2), ("", 0), ("", 0)][:2]
    enough = most >= 2 and most >= ENOUGH * len(words) and most >= AHEAD * next_most
    return first if enough else ""


def _script(text: str) -> str:
    """The script of most letters, where that is not the Latin one.  Japanese is written with Chinese characters, too."""
    letters = sum(map(str.isalpha, text))
    found = {name: len(pattern.findall(text)) for name, pattern in _SCRIPTS.items()}
    if found["Japanese"] and found["Japanese"] >= 0.1 * found["Chinese"]:
        found["Japanese"] += found.pop("Chinese")
    name = max(found, key=lambda one: found[one])
    return name if letters and found[name] > 0.5 * letters and found[name] >= LETTERS / 3 else ""
