"""The interface's texts in other languages: one file per language, English sentence -> sentence.

English is the key, as in gettext: templates say `_("Search")`, scripts say `t("Search")`.  Names stand in braces
(`_("{n} items", n=3)`).  What a file lacks is shown in English; a test finds what is missing, and what is gone.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal

FOLDER = Path(__file__).parent
COOKIE = "tutelage_language"
_NAME = re.compile(r"\{(\w+)\}")


@dataclass(frozen=True)
class Language:
    """`code` as in HTML's lang; `name` in the language itself; `direction` of its script."""

    code: str
    name: str
    direction: Literal["ltr", "rtl"]
    texts: dict[str, str]

    def say(self, text: str, **names: object) -> str:
        """The text in this language, with its names filled in."""
        said = self.texts.get(text, text)
        return _NAME.sub(lambda found: str(names.get(found[1], found[0])), said) if names else said


ENGLISH = Language("en", "English", "ltr", {})


@lru_cache(maxsize=1)
def languages(folder: Path = FOLDER) -> dict[str, Language]:
    """All languages by code, English first."""
    found = {"en": ENGLISH}
    for file in sorted(folder.glob("*.json")):
        content = json.loads(file.read_text(encoding="utf-8"))
        found[file.stem] = Language(file.stem, content["name"], content["direction"], content["texts"])
    return found


def chosen(cookie: str, accepted: str) -> Language:
    """The language that the visitor chose, else the first that the browser asks for and that is there, else English."""
    known = languages()
    wanted = [cookie, *(part.partition(";")[0].strip() for part in accepted.split(","))]
    for code in wanted:
        found = known.get(code) or known.get(code.partition("-")[0])
        if found is not None:
            return found
    return ENGLISH
