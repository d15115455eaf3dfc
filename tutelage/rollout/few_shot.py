"""A model that is shown how it is done: examples stand in front of every prompt, and nothing is trained.

The examples are the same for all prompts, drawn once by seed; where one of them asks what the prompt asks, the next one
that was drawn stands in its place.  They are put there in one of two forms:

template: as earlier turns of the conversation, in the model's own chat template.
text: as plain text, for models that have not learnt a template.  A conversation becomes "user: ...", "assistant: ...",
    its turns apart by a blank line, and a response ends where the next "user:" begins; of plain prompts each example is the
    prompt and its response as they are, with a blank line between examples, and a response ends at the first blank line.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from transformers import PreTrainedTokenizerBase

from tutelage.data.reading.formats import read_demonstrations
from tutelage.data.reading.sources import Source, shown
from tutelage.models.loading import load_tokenizer
from tutelage.records import Conversation, Demonstration, Message, Prompt, Response
from tutelage.rollout.behind import Behind
from tutelage.rollout.generator import Sampling
from tutelage.rollout.writer import Writer
from tutelage.seeds import rng
from tutelage.settings.groups import FewShotForm
from tutelage.settings.ways import way_of

APART = "\n\n"  # between turns, or between examples
NEXT_USER = f"{APART}user:"
ANSWER = f"{APART}assistant:"
Turns = tuple[Message, ...]


@dataclass(frozen=True)
class Shots:
    """Examples in front of prompts.

    examples: conversations (each ends with an answer), one more than are shown, in the order in which they were drawn.
    text: whether they are plain text.
    """

    examples: Sequence[Turns]
    count: int
    text: bool = False

    @property
    def sha256(self) -> str:
        """What the examples are, in this order and form: others have another (64 hex digits)."""
        said = [[[message.role, message.content] for message in turns] for turns in self.examples]
        return hashlib.sha256(json.dumps([self.count, self.text, said]).encode()).hexdigest()

    def before(self, prompt: Prompt) -> Prompt:
        """The prompt behind the examples.  What it asks is never among them."""
        asked = _asked(_turns(prompt))
        chosen = [turns for turns in self.examples if _asked(turns[:-1]) != asked][: self.count]
        if isinstance(prompt.content, str):
            texts = ["".join(message.content for message in turns) for turns in chosen]
            return replace(prompt, content=APART.join([*texts, prompt.content]))
        system = tuple(message for message in prompt.content if message.role == "system")
        others = tuple(message for message in prompt.content if message.role != "system")
        whole = replace(prompt, content=(*system, *(turn for turns in chosen for turn in turns), *others))
        return replace(whole, content=whole.text() + ANSWER, tools=()) if self.text else whole

    def end_of(self, prompt: Prompt) -> str:
        """The text at which a response to this prompt ends; "": only its end token ends it."""
        if isinstance(prompt.content, str):
            return APART
        return NEXT_USER if self.text else ""


class FewShot(Behind):
    """A generator that shows its model examples.

    A response that reaches the text at which it ends (`Shots.end_of`) has ended
    by itself: it is cut there, and that text counts among its tokens as an end token does.
    """

    def __init__(self, shots: Shots, generator: Writer) -> None:
        super().__init__(shots, generator)
        self.shots = shots

    def _responses(
        self,
        prompts: Sequence[Prompt],
        names: Sequence[str],
        ids: Sequence[list[int]],
        limits: Sequence[int],
        sampling: Sampling,
    ) -> list[Response]:
        found = super()._responses(prompts, names, ids, limits, sampling)
        return [self._ended(response, self.shots.end_of(response.prompt)) for response in found]

    def _ended(self, response: Response, end: str) -> Response:
        """The response up to the text that ends it."""
        if not end:
            return response
        text, marker, _ = response.text.partition(end)
        if self.shots.text and response.prompt.is_chat:
            text = text.strip()
        if not marker:
            return replace(response, text=text)
        length = self._reach(response.ids, end)
        ids, logprobs = response.ids[:length], response.logprobs[:length]
        return replace(response, text=text, finish="eos", ids=ids, logprobs=logprobs)

    def _reach(self, ids: Sequence[int], end: str) -> int:
        """How many tokens there are until the text has `end` in it: the fewest, found by halving."""
        low, high = 1, len(ids)
        while low < high:
            middle = (low + high) // 2
            written = self.tokenizer.decode(
                list(ids[:middle]), skip_special_tokens=True, clean_up_tokenization_spaces=False
            )
            low, high = (low, middle) if end in written else (middle + 1, high)
        return low


class Shown(Protocol):
    """What of a command's settings says which examples are shown."""

    @property
    def demonstrations(self) -> Source: ...
    @property
    def columns(self) -> dict[str, str]: ...
    @property
    def few_shot_form(self) -> FewShotForm: ...
    @property
    def seed(self) -> int: ...


def shots_of(settings: Shown, models: Mapping[str, str]) -> dict[str, Shots]:
    """Name -> the examples of every model (name -> path, with how it answers before it) that is shown any."""
    ways = {name: way_of(given) for name, given in models.items()}
    return {
        name: draw_shots(settings, way.shots, load_tokenizer(way.path))
        for name, way in ways.items()
        if way.shots
    }


def draw_shots(settings: Shown, count: int, tokenizer: PreTrainedTokenizerBase) -> Shots:
    """So many examples of the settings' demonstrations, by seed.  Raises ValueError where too few can be shown.

    Shown are whole answers to prompts, each prompt once; tool calls and responses that were cut are not, and of a
    conversation a system turn is not, for the prompt has its own.
    """
    form, source = settings.few_shot_form, settings.demonstrations
    if form == "template" and not tokenizer.chat_template:
        raise ValueError(
            "few_shot_form=template, and the tokenizer has no chat template: leave few_shot_form out, or set text."
        )
    found: dict[object, Turns] = {}
    for row in read_demonstrations(source, settings.columns):
        if turns := _example(row):
            found.setdefault(_asked(turns[:-1]), turns)
    if len(found) <= count:
        raise ValueError(
            f"{shown(source)} has {len(found)} examples that can be shown (whole answers to different prompts), and "
            f"few-shot-{count} takes {count + 1}, one of them in the place of one that asks what the prompt asks: give more, "
            "or show fewer."
        )
    several = list(found.values())
    drawn = rng(settings.seed, "few-shot examples").permutation(len(several))[: count + 1]
    text = form == "text" or (form == "auto" and not tokenizer.chat_template)
    return Shots([several[i] for i in drawn], count, text)


def _example(row: Demonstration | Conversation) -> Turns | None:
    """The turns of an example without a system's; None for what cannot be shown."""
    turns: Turns
    if isinstance(row, Demonstration):
        if row.finish != "eos" or row.prompt.tools:
            return None
        turns = (*_turns(row.prompt), Message("assistant", row.response))
    else:
        last = max((i for i, message in enumerate(row.messages) if message.role == "assistant"), default=-1)
        turns = () if row.tools else row.messages[: last + 1]
    turns = tuple(message for message in turns if message.role != "system")
    known = all(message.role in ("user", "assistant") and message.said for message in turns)
    calls = any(message.tool_calls for message in turns)
    return turns if len(turns) > 1 and turns[0].role == "user" and known and not calls else None


def _turns(prompt: Prompt) -> Turns:
    return (Message("user", prompt.content),) if isinstance(prompt.content, str) else prompt.content


def _asked(turns: Turns) -> tuple[tuple[str, str], ...]:
    """What is asked, to tell whether two ask the same."""
    return tuple((message.role, message.content.strip()) for message in turns if message.role != "system")
