"""What a language model is asked: templates in files, each with a hash of its content, and the fences around what is judged.

A template is a YAML mapping: `asks` (pair: which of two responses is better; rating: how good one is; ranking: several in order;
steps: which steps of one are right; finding: where a judge should look, and how good one is; critique: what is wrong with one;
revision: a better one), `scale` of a rating, `criteria` by which the responses of a pair are scored on that scale, too, `system`
and `user` (Jinja2; `system` may be left out), and `how`, the last words of `user` by `mode`.  What people and models have written
stands in a message only between marks with an id that it cannot know, and never opens or closes them.
"""

from __future__ import annotations

import hashlib
import json
import re
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
    "pair": ("prompt", "first", "second", "reference", "principle", "criteria", "fence", "how"),
    "rating": ("prompt", "response", "reference", "principle", "criteria", "fence", "how"),
    "ranking": ("prompt", "responses", "count", "reference", "principle", "criteria", "fence", "how"),
    "steps": ("prompt", "steps", "count", "reference", "principle", "fence", "how"),
    "finding": ("prompt", "response", "fence", "how"),
    "critique": ("prompt", "draft", "principle", "fence", "how"),
    "revision": ("prompt", "draft", "critique", "principle", "fence", "how"),
}
NEEDED = {
    "pair": ("prompt", "first", "second", "how"),
    "rating": ("prompt", "response", "how"),
    "ranking": ("prompt", "responses", "how"),
    "steps": ("prompt", "steps", "how"),
    "finding": ("prompt", "response", "how"),
    "critique": ("prompt", "draft", "principle", "how"),
    "revision": ("prompt", "draft", "critique", "how"),
}
KEYS = ("asks", "scale", "criteria", "system", "user", "how")
SCORES = (
    ' The same object has "scores" before "rank": {{{shown}}}, where a and b are whole numbers from {low} to {high} that say how '
    "good the first and the second response are by this criterion."
)
JUDGING = ("pair", "rating", "ranking", "steps")
Asks = Literal["pair", "rating", "ranking", "steps", "finding", "critique", "revision"]
HELP = (
    "An assistant has looked at this before you. It may be wrong, and it may argue for what is worse: check what it says, and "
    "judge for yourself. What it says stands between marks, too.\n\n{said}"
)
BETTER = "\n\nIt finds response {number} better."
HELPED = f"help-{hashlib.sha256((HELP + BETTER).encode()).hexdigest()[:8]}"
"""In which words help is put before a judge, by name and version."""
Message = Mapping[str, str]


@dataclass(frozen=True)
class Template:
    """A template as it was read; `sha` (8 hex digits) is of its bytes."""

    name: str
    sha: str
    asks: Asks
    scale: tuple[int, int]
    system: str
    user: str
    how: Mapping[str, str]
    criteria: tuple[str, ...] = ()

    @cached_property
    def wants_reference(self) -> bool:
        """Whether it shows a reference, so that what has none cannot be judged."""
        return "reference" in _variables(self.name, self.user) | _variables(self.name, self.system)

    @cached_property
    def wants_principle(self) -> bool:
        """Whether it judges by a principle."""
        return "principle" in _variables(self.name, self.user) | _variables(self.name, self.system)

    def messages(
        self,
        mode: Mode,
        principle: str = "",
        several: Sequence[str] = (),
        help: Sequence[str] = (),
        better: int | None = None,
        **texts: str,
    ) -> list[Message]:
        """The messages about some texts by their names in the template (`prompt`, `first`, ...), and by a principle.  `several`:
        what a template shows as `responses` or `steps`, numbered from 1.  help: what an assistant has said of the responses as
        they are shown, and which of them (from 1) it finds `better`; it stands before the last words."""
        fence = fence_for([*texts.values(), *several, *help])
        values: dict[str, Any] = {name: fenced(_TITLES[name], text, fence) for name, text in texts.items()}
        if several:
            one = "step" if self.asks == "steps" else "response"
            parts = [fenced(f"{one}-{number}", text, fence) for number, text in enumerate(several, 1)]
            values |= {
                "count": len(several),
                "steps" if self.asks == "steps" else "responses": "\n\n".join(parts),
            }
        values |= {
            "criteria": self.criteria or CRITERIA,
            "fence": fence,
            "how": _helped(help, better, fence)
            + self.how[mode]
            + (self._asks_scores if mode == "text" else ""),
            "principle": principle,
        }
        said = [("system", self.system), ("user", self.user)]
        return [
            {"role": role, "content": _compiled(text).render(values).strip()} for role, text in said if text
        ]

    @property
    def _asks_scores(self) -> str:
        """The words that ask for a score of both responses by each criterion."""
        shown = ", ".join(f"{json.dumps(name, ensure_ascii=False)}: [a, b]" for name in self.criteria)
        low, high = self.scale
        return SCORES.format(shown=shown, low=low, high=high) if self.criteria else ""


def _helped(said: Sequence[str], better: int | None, fence: str) -> str:
    """What an assistant has said, before the question is put; "" where nothing is."""
    if not said:
        return ""
    parts = "\n\n".join(fenced(f"assistant-{number}", text, fence) for number, text in enumerate(said, 1))
    found = HELP.format(said=parts) + (BETTER.format(number=better) if better else "")
    return f"{found}\n\n"


_TITLES = {
    "prompt": "prompt",
    "first": "response-1",
    "second": "response-2",
    "response": "response",
    "reference": "reference",
    "draft": "draft",
    "critique": "critique",
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


def unfenced(text: str) -> dict[str, str]:
    """Title -> text, of all that stands between marks."""
    return {title: inner for title, _, inner in _FENCED.findall(text)}


_FENCED = re.compile(
    rf"<({'|'.join(_TITLES.values())}|response-\d|assistant-\d|step-\d+)-([0-9a-f]{{8}})>\n(.*?)\n</\1-\2>",
    re.DOTALL,
)


def read_constitution(given: str) -> list[str]:
    """Principles, one in each line of a file that is not empty and does not begin with #; "": our own.  Raises ValueError
    where there are none."""
    path = Path(given) if given else HERE.parent / "constitution.txt"
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"the constitution {path} cannot be read ({error}): give a text file.") from None
    found = [line for line in lines if line and not line.startswith("#")]
    if not found:
        raise ValueError(f"the constitution {path} has no principle: write one in each line.")
    return found


def principle_for(constitution: Sequence[str], *content: str) -> str:
    """The principle that some content goes by: always the same one, and each for about as much."""
    drawn = hashlib.sha256("\0".join(content).encode("utf-8", "surrogatepass")).digest()
    return constitution[int.from_bytes(drawn[:8], "big") % len(constitution)]


def read_template(given: str, asks: Sequence[str] = JUDGING) -> Template:
    """A template by its name, or by the path of a file.  Raises ValueError naming the file and what is wrong in it, or that it
    asks for something else than one of `asks`."""
    own = HERE / f"{given}.yaml"
    path = own if "/" not in given and own.is_file() else Path(given)
    if not path.is_file():
        raise ValueError(
            f"there is no template {given}: take one of {', '.join(TEMPLATES)}, or the path of a file."
        )
    content = path.read_bytes()
    try:
        found = parse_yaml(content.decode("utf-8"), str(path))
    except UnicodeDecodeError:
        raise ValueError(f"{path} is not UTF-8: write the template as UTF-8.") from None
    template = _checked(path.stem, hashlib.sha256(content).hexdigest()[:8], found, str(path))
    if template.asks not in asks:
        raise ValueError(
            f"the template {given} asks for {template.asks}, and here it must be for {' or '.join(asks)}."
        )
    return template


def _checked(name: str, sha: str, found: Any, path: str) -> Template:
    if not isinstance(found, Mapping):
        raise ValueError(f"{path} is no template: it must be a mapping with {', '.join(KEYS)}.")
    if unknown := [key for key in found if key not in KEYS]:
        raise ValueError(f"{path} has the unknown key {unknown[0]!r}: known are {', '.join(KEYS)}.")
    asks, user, system = found.get("asks"), found.get("user"), found.get("system", "")
    if asks not in GIVEN:
        raise ValueError(f"{path} has asks: {asks}, but a template asks for one of {', '.join(GIVEN)}.")
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
    scale, criteria = _scale(found.get("scale", [1, 10]), path), _criteria(found, asks, path)
    return Template(name, sha, asks, scale, system, user, dict(how), criteria)


def _criteria(found: Mapping[str, Any], asks: str, path: str) -> tuple[str, ...]:
    names = found.get("criteria", [])
    if "criteria" in found and asks != "pair":
        raise ValueError(
            f"{path} has criteria and asks for a {asks}, but only the responses of a pair are scored by them: leave criteria out."
        )
    texts = isinstance(names, list) and all(isinstance(name, str) and name.strip() for name in names)
    if not texts or len({name.strip().casefold() for name in names}) < len(names):
        raise ValueError(f"{path}: criteria is {names}, but it is a list of different names.")
    return tuple(name.strip() for name in names)


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
