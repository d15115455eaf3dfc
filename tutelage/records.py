"""The nouns: plain, frozen, JSON-able. Text lives here and can be stored; tensors live in `data/batch.py`."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

Finish = Literal["eos", "length"]
"""How a response ended: by itself ("eos"), or cut at a length limit ("length"), which says nothing about its end."""


@dataclass(frozen=True)
class Message:
    """One turn of a conversation.  Example: `Message("user", "How far is the moon?")`."""

    role: str
    content: str

    def to_json(self) -> dict[str, str]:
        return {"role": self.role, "content": self.content}


@dataclass(frozen=True)
class Prompt:
    """What a response answers: plain text, or the conversation so far (which ends with a user's turn).

    `reference` is whatever a gold standard needs in order to grade a response (JSON).  `id` is a hash of the
    content and the reference, so that the same prompt has the same id in every file, store and run.
    """

    content: str | tuple[Message, ...]
    task: str = ""
    reference: Mapping[str, Any] | None = field(default=None, hash=False)

    @property
    def is_chat(self) -> bool:
        return not isinstance(self.content, str)

    @cached_property
    def id(self) -> str:
        text = json.dumps([self.content_json(), self.reference], sort_keys=True, ensure_ascii=False)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def content_json(self) -> str | list[dict[str, str]]:
        """The content in TRL's form: a string, or a list of {"role", "content"}."""
        if isinstance(self.content, str):
            return self.content
        return [message.to_json() for message in self.content]

    @staticmethod
    def from_json(
        content: str | list[dict[str, str]], task: str = "", reference: Mapping[str, Any] | None = None
    ) -> Prompt:
        """The inverse of `content_json`."""
        if isinstance(content, str):
            return Prompt(content, task, reference)
        return Prompt(tuple(Message(m["role"], m["content"]) for m in content), task, reference)

    def text(self) -> str:
        """For people: the prompt as readable text."""
        if isinstance(self.content, str):
            return self.content
        return "\n\n".join(f"{message.role}: {message.content}" for message in self.content)


@dataclass(frozen=True)
class Document:
    """Text for language modelling: every token is trained; its end too, unless the text was cut."""

    text: str
    finish: Finish = "eos"


@dataclass(frozen=True)
class Conversation:
    """Several turns; every assistant turn is trained."""

    messages: tuple[Message, ...]


@dataclass(frozen=True)
class Demonstration:
    """A response that somebody showed to be good: the response is trained, the prompt is not.

    `finish`: a response that was cut is trained without an end.
    """

    prompt: Prompt
    response: str
    finish: Finish = "eos"


@dataclass(frozen=True)
class Comparison:
    """Two responses to one prompt, and how strongly the first is preferred.

    `p_chosen` is the probability (share of votes) that `chosen` is better: 1.0 for a plain preference, 0.5 for a
    tie.  `margin` says by how much it is better, 0 (not said) to 1 (as much as can be said) where people voted; the
    reward model can be trained to keep it (`margin_coef`).  `chosen_finish` and `rejected_finish` say how each ended.
    """

    prompt: Prompt
    chosen: str
    rejected: str
    p_chosen: float = 1.0
    margin: float = 0.0
    chosen_finish: Finish = "eos"
    rejected_finish: Finish = "eos"

    def to_json(self) -> dict[str, Any]:
        """A row of a preference file, readable as `data=` (TRL's columns, and ours beside them)."""
        prompt = self.prompt
        sides = {"chosen": self.chosen, "rejected": self.rejected}
        if prompt.is_chat:
            turns = {name: [Message("assistant", text).to_json()] for name, text in sides.items()}
        return {
            "prompt": prompt.content_json(),
            **(turns if prompt.is_chat else sides),
            "task": prompt.task,
            "reference": prompt.reference,
            "p_chosen": self.p_chosen,
            "margin": self.margin,
            "chosen_finish": self.chosen_finish,
            "rejected_finish": self.rejected_finish,
        }

    @staticmethod
    def from_json(row: Mapping[str, Any]) -> Comparison:
        """The inverse of `to_json`."""
        prompt = Prompt.from_json(row["prompt"], row["task"], row["reference"])
        sides = (row["chosen"], row["rejected"])
        chosen, rejected = (side[0]["content"] for side in sides) if prompt.is_chat else sides
        numbers, ends = (row["p_chosen"], row["margin"]), (row["chosen_finish"], row["rejected_finish"])
        return Comparison(prompt, chosen, rejected, *numbers, *ends)


@dataclass(frozen=True)
class Response:
    """What a generator wrote.

    `prompt_ids` and `ids` are token ids (`ids` ends with the end-of-sequence token if one was produced), `logprobs`
    (nats) belong to `ids` at the sampling temperature, `version` says which weights wrote it.
    """

    prompt: Prompt
    text: str
    prompt_ids: tuple[int, ...]
    ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    finish: Finish
    sample_index: int = 0
    version: int = 0

    @staticmethod
    def written(prompt: Prompt, text: str, finish: Finish = "eos") -> Response:
        """A response of which only the text is known, and how it ended."""
        return Response(prompt, text, (), (), (), finish)


@dataclass(frozen=True)
class Score:
    """What a judge says of one response: a value, and the named parts that it is made of.

    `at`: (token of the response, value) for judges that score places in it, such as the ends of steps.
    """

    value: float
    parts: Mapping[str, float] = field(default_factory=dict, hash=False)
    at: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True)
class Vote:
    """One annotator's comparison of two responses, in canonical order (never in screen order).

    `preference` runs from -3 (the first is much better) over 0 (a tie) to 3 (the second is much better);
    `first_shown` is the response (0 or 1) that the annotator saw first.
    """

    annotator: str
    preference: int
    first_shown: int
