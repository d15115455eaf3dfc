"""One look at any record: what was asked, what was answered, who said what."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from tutelage.data.reading.formats import Record
from tutelage.inspect.languages import language_of
from tutelage.inspect.plain import normalised
from tutelage.records import (
    Comparison,
    Conversation,
    Demonstration,
    Document,
    Message,
    Place,
    Prompt,
    StepMarks,
)

Kind = Literal["comparison", "demonstration", "conversation", "prompt", "text"]
PART = "\n\n"  # between turns in one text


@dataclass(frozen=True)
class View:
    """A record as people read it.

    responses: what is trained (of a comparison: chosen, rejected).  asked: what the (last) response answers.  prompt:
    all words before it but the system's.  question: what the user says first.  turns: who said what, without the
    rejected side; empty for plain text.
    """

    place: Place
    kind: Kind
    record: Record
    system: str
    question: str
    asked: str
    prompt: str
    responses: tuple[str, ...]
    turns: tuple[Message, ...]

    @cached_property
    def texts(self) -> tuple[str, ...]:
        """Everything that is said, each text once."""
        if not self.turns:
            return tuple(text for text in (self.prompt, *self.responses) if text)
        last = self.responses[-1:] if self.kind == "comparison" else ()
        return tuple(text for text in (*(turn.content for turn in self.turns), *last) if text)

    @property
    def answer(self) -> str:
        """The response that is imitated: the chosen, the last of a conversation; "" where there is none."""
        if not self.responses:
            return ""
        return self.responses[0] if self.kind == "comparison" else self.responses[-1]

    @cached_property
    def languages(self) -> tuple[str, str]:
        """A guess at the languages of what is asked and of the answer, "" where nothing can be said."""
        return language_of(self.asked), language_of(self.answer)

    @property
    def language(self) -> str:
        """A guess at the language: the answer's, or else that of what is asked."""
        return self.languages[1] or self.languages[0]

    @cached_property
    def plain(self) -> str:
        """The prompt without regard to case, punctuation and white space."""
        return normalised(self.prompt)

    @cached_property
    def plain_responses(self) -> tuple[str, ...]:
        return tuple(map(normalised, self.responses))


def view_of(record: Record) -> View:
    place = record.place or Place("", 0)
    if isinstance(record, Document):
        return View(place, "text", record, "", record.text, record.text, record.text, (), ())
    if isinstance(record, Conversation):
        return _conversation(record, place)
    if isinstance(record, Prompt):
        return _prompted(record, place, "prompt", record, ())
    if isinstance(record, Comparison):
        return _prompted(record, place, "comparison", record.prompt, (record.chosen, record.rejected))
    response = "\n".join(record.steps) if isinstance(record, StepMarks) else record.response
    return _prompted(record, place, "demonstration", record.prompt, (response,))


def _prompted(record: Record, place: Place, kind: Kind, prompt: Prompt, responses: tuple[str, ...]) -> View:
    if isinstance(prompt.content, str):
        text = prompt.content
        return View(place, kind, record, "", text, text, text, responses, ())
    turns = (*prompt.content, *(Message("assistant", text) for text in responses[:1]))
    return View(place, kind, record, *_asked(prompt.content), responses, turns)


def _conversation(record: Conversation, place: Place) -> View:
    turns = record.messages
    trained = [i for i, turn in enumerate(turns) if turn.role == "assistant" and turn.trained]
    before = turns[: trained[-1]] if trained else turns
    responses = tuple(turns[i].content for i in trained if turns[i].content.strip())
    return View(place, "conversation", record, *_asked(before), responses, turns)


def _asked(before: Sequence[Message]) -> tuple[str, str, str, str]:
    """(system, question, asked, prompt) of the turns before an answer."""
    system = PART.join(turn.content for turn in before if turn.role == "system")
    said = [turn for turn in before if turn.role != "system"]
    question = next((turn.content for turn in said if turn.role == "user"), "")
    asked = said[-1].content if said else ""
    return system, question, asked, PART.join(turn.content for turn in said)


def is_answered(record: Record) -> bool:
    """Whether somebody answers in it."""
    return isinstance(record, Comparison | Demonstration | Conversation | StepMarks)
