"""What a language model is asked: templates in files, each with a hash of its content, and the fences around what is judged.

A template is a YAML mapping: `asks` (pair: which of two responses is better; rating: how good one is), `scale` of a rating,
`system` and `user` (Jinja2; `system` may be left out), and `how`, the last words of `user` by `mode`.  What people and models
have written stands in a message only between marks with an id that it cannot know, and never opens or closes them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, Literal

from jinja2 import StrictUndefined, TemplateSyntaxError, meta
from jinja2 import Template as JinjaTemplate
from jinja2.sandbox import SandboxedEnvironment

from tutelage.settings.judges import TEMPLATES, Mode
from tutelage.settings.yaml12 import parse_yaml

HERE = Path(__file__).parent / "templates"
CRITERIA = ("coherence", "accuracy", "coverage", "overall")
GIVEN = {
    "pair": ("prompt", "first", "second", "reference", "criteria", "fence", "how"),
    "rating": ("prompt", "response", "reference", "criteria", "fence", "how"),
}
NEEDED = {"pair": ("prompt", "first", "second", "how"), "rating": ("prompt", "response", "how")}
KEYS = ("asks", "scale", "system", "user", "how")
Message = Mapping[str, str]


@dataclass(frozen=True)
class Template:
    """A template as it was read; `sha` (8 hex digits) is of its bytes."""

    name: str
    sha: str
    asks: Literal["pair", "rating"]
    scale: tuple[int, int]
    system: str
    user: str
    how: Mapping[str, str]

    @cached_property
    def wants_reference(self) -> bool:
        """Whether it shows a reference, so that what has none cannot be judged."""
        return "reference" in _variables(self.name, self.user) | _variables(self.name, self.system)

    def messages(self, mode: Mode, **texts: str) -> list[Message]:
        """The messages about some texts by their names in the template (`prompt`, `first`, ...)."""
        fence = fence_for(list(texts.values()))
        values: dict[str, Any] = {name: fenced(_TITLES[name], text, fence) for name, text in texts.items()}
        values |= {"criteria": CRITERIA, "fence": fence, "how": self.how[mode]}
        said = [("system", self.system), ("user", self.user)]
        return [
            {"role": role, "content": _compiled(text).render(values).strip()} for role, text in said if text
        ]


_TITLES = {
    "prompt": "prompt",
    "first": "response-1",
    "second": "response-2",
    "response": "response",
    "reference": "reference",
}


def fence_for(texts: Sequence[str]) -> str:
    """Eight hex digits that none of the texts holds, the same for the same texts: they depend on every letter of them."""
    content = json.dumps(list(texts)).encode("utf-8", "surrogatepass")
    while True:
        fence = hashlib.sha256(content).hexdigest()[:8]
        if not any(fence in text for text in texts):
            return fence
        content += fence.encode()


def fenced(title: str, text: str, fence: str) -> str:
    """A text between its marks."""
    return f"<{title}-{fence}>\n{text}\n</{title}-{fence}>"


def read_template(given: str) -> Template:
    """A template by its name, or by the path of a file.  Raises ValueError naming the file and what is wrong in it."""
    path = HERE / f"{given}.yaml" if given in TEMPLATES else Path(given)
    if not path.is_file():
        raise ValueError(
            f"there is no template {given}: take one of {', '.join(TEMPLATES)}, or the path of a file."
        )
    content = path.read_bytes()
    try:
        found = parse_yaml(content.decode("utf-8"), str(path))
    except UnicodeDecodeError:
        raise ValueError(f"{path} is not UTF-8: write the template as UTF-8.") from None
    return _checked(path.stem, hashlib.sha256(content).hexdigest()[:8], found, str(path))


def _checked(name: str, sha: str, found: Any, path: str) -> Template:
    if not isinstance(found, Mapping):
        raise ValueError(f"{path} is no template: it must be a mapping with {', '.join(KEYS)}.")
    if unknown := [key for key in found if key not in KEYS]:
        raise ValueError(f"{path} has the unknown key {unknown[0]!r}: known are {', '.join(KEYS)}.")
    asks, user, system = found.get("asks"), found.get("user"), found.get("system", "")
    if asks not in GIVEN:
        raise ValueError(f"{path} has asks: {asks}, but a template asks for a pair or a rating.")
    if not isinstance(user, str) or not isinstance(system, str):
        raise ValueError(f"{path}: user must be a text, and system a text or left out.")
    how = found.get("how")
    if not isinstance(how, Mapping) or not how or not all(isinstance(text, str) for text in how.values()):
        raise ValueError(f"{path}: how must have a text for text, for logits, or for both.")
    used = _variables(path, user) | _variables(path, system)
    if strange := sorted(used - set(GIVEN[asks])):
        raise ValueError(
            f"{path} uses the unknown variable {strange[0]!r}: known are {', '.join(GIVEN[asks])}."
        )
    if missing := [need for need in NEEDED[asks] if need not in _variables(path, user)]:
        raise ValueError(
            f"{path} never shows {{{{ {missing[0]} }}}} in user: nothing could be judged without it."
        )
    return Template(name, sha, asks, _scale(found.get("scale", [1, 10]), path), system, user, dict(how))


def _scale(found: Any, path: str) -> tuple[int, int]:
    whole = isinstance(found, list) and len(found) == 2 and all(type(end) is int for end in found)
    if not whole or not 0 <= found[0] < found[1] <= 100:
        raise ValueError(
            f"{path}: scale is {found}, but it is two whole numbers from 0 to 100, the lower one first."
        )
    return found[0], found[1]


def _variables(path: str, text: str) -> set[str]:
    try:
        return meta.find_undeclared_variables(_environment().parse(text))
    except TemplateSyntaxError as error:
        raise ValueError(
            f"{path} is no Jinja2 template: {error.message} in line {error.lineno} of its text."
        ) from None


@lru_cache(maxsize=64)
def _compiled(text: str) -> JinjaTemplate:
    return _environment().from_string(text)


@lru_cache(maxsize=1)
def _environment() -> SandboxedEnvironment:
    """Nothing is escaped, for no browser shows it; what is unknown is an error and not an empty place."""
    return SandboxedEnvironment(undefined=StrictUndefined, autoescape=False, keep_trailing_newline=True)
