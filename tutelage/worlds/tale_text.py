"""Text, demonstrations and prompts of tales: another world than that of the tasks that stand together."""

from __future__ import annotations

from collections.abc import Iterator

from tutelage.records import Demonstration, Document, Message, Prompt
from tutelage.seeds import rng

from .tale import requests
from .words import shuffled
from .world import is_heldout, write_response

CARELESS = 0.25  # share of flawed tales in the text


def prompts(seed: int, name: str, count: int, *, heldout: bool = False) -> list[Prompt]:
    """`count` different prompts of one side of the split, in any order (all that there are, where these are fewer)."""
    found = [(text, reference) for text, reference in requests() if is_heldout(text) == heldout]
    order = shuffled(rng(seed, "world", "tales", name), found)
    return [Prompt((Message("user", text),), "tale", reference) for text, reference in order[:count]]


def demonstrations(seed: int, count: int, careless: float, each: int = 1) -> Iterator[Demonstration]:
    """`count` tales by people of uneven care, `each` to a prompt; where prompts are too few they come again."""
    for prompt, text in _told(seed, "demonstrations", count, careless, each):
        yield Demonstration(prompt, text)


def documents(seed: int, count: int) -> Iterator[Document]:
    """`count` requests with a tale behind each."""
    for prompt, text in _told(seed, "documents", count, CARELESS):
        yield Document(f"{prompt.text().removeprefix('user: ')}\n{text}")


def _told(seed: int, name: str, count: int, careless: float, each: int = 1) -> Iterator[tuple[Prompt, str]]:
    asked = prompts(seed, name, len(requests()))
    for index in range(count):
        generator = rng(seed, "world", "tale", name, index)
        prompt = asked[index // each % len(asked)]
        yield prompt, write_response(prompt, generator, careless).text
