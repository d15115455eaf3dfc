"""Lines of files that are imported: what each kind holds, and how one is read."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime
from typing import Any, Literal

from pydantic import Field, TypeAdapter, ValidationError

from tutelage.feedback.payloads import Answer, Model, Schema
from tutelage.records import Finish, Prompt

Kind = Literal["prompts", "responses", "preference", "scores", "raw"]
LONGEST = 4_000_000  # characters in one line


class PromptColumns(Model):
    """What every row about a prompt has."""

    prompt: str | list[dict[str, str]]
    task: str = ""
    reference: dict[str, Any] | None = None
    split: str = "train"

    def to_prompt(self) -> Prompt:
        if isinstance(self.prompt, list):
            if not self.prompt or self.prompt[-1].get("role") == "assistant":
                raise ValueError("prompt must be messages that end with what is to be answered")
            if any(set(message) != {"role", "content"} for message in self.prompt):
                raise ValueError("each message of prompt must have role and content")
        return Prompt.from_json(self.prompt, self.task, self.reference)


class PromptLine(PromptColumns):
    """kind=prompts."""


class ResponseLine(PromptColumns):
    """kind=responses: a response with as much of its provenance as is known."""

    response: str
    model: str = "imported"
    model_sha256: str = ""
    engine: str = "imported"
    params: dict[str, Any] = Field(default_factory=dict)
    sample_index: int | None = Field(None, ge=0)
    finish: Finish = "eos"
    n_tokens: int = Field(0, ge=0)
    logprob: float | None = None


class PreferenceLine(PromptColumns):
    """kind=preference: TRL's columns, ours beside them; a tie has p_chosen 0.5."""

    chosen: Any
    rejected: Any
    p_chosen: float = Field(1.0, ge=0, le=1)
    margin: float = 0.0
    chosen_finish: Finish = "eos"
    rejected_finish: Finish = "eos"
    item: str = ""


class ScoreLine(PromptColumns):
    """kind=scores: what a reward model says of a response that is in the project."""

    response: str
    score: float
    source: str = "imported"


class RawResponse(Model):
    text: str
    sample_index: int
    finish: Finish
    n_tokens: int
    logprob: float | None
    model: str
    model_sha256: str
    engine: str
    params: dict[str, Any]


class RawQuestions(Model):
    kind: Literal["questions"]
    n: int
    content: Schema


class RawGuidelines(Model):
    kind: Literal["guidelines"]
    n: int
    markdown: str


class RawAnswer(PromptColumns):
    kind: Literal["answer"]
    item: str
    type: str
    overlap: int = Field(ge=1)
    responses: list[RawResponse]
    annotator: str = Field(min_length=1, max_length=200)
    annotator_kind: Literal["human", "simulated", "judge", "rule"]
    role: Literal["answer", "extra", "adjudication"]
    answer: Answer
    shown_order: list[int]
    key: str = Field(min_length=8, max_length=200)
    supersedes: str | None
    submitted_at: datetime
    active_ms: int | None
    questions: int | None
    guidelines: int | None


RawLine: TypeAdapter[RawQuestions | RawGuidelines | RawAnswer] = TypeAdapter(
    RawQuestions | RawGuidelines | RawAnswer
)


def parse_line(kind: Kind, line: str | bytes) -> Any:
    if len(line) > LONGEST:
        raise ValueError(f"the line is longer than {LONGEST:,} characters")
    text = line.decode("utf-8") if isinstance(line, bytes) else line
    value = json.loads(text, parse_constant=_no_constant)
    if not isinstance(value, dict):
        raise ValueError("a line must be a JSON object")
    if kind == "raw":
        return RawLine.validate_python(value)
    if kind == "preference":
        value = {name: value[name] for name in value if name in PreferenceLine.model_fields}
        return PreferenceLine.model_validate(_explicit(value))
    cls: Callable[..., Any] = {"prompts": PromptLine, "responses": ResponseLine, "scores": ScoreLine}[kind]
    return cls(**value)


def _explicit(value: dict[str, Any]) -> dict[str, Any]:
    """Preference rows of full conversations without a prompt: the turns before the last are the prompt."""
    chosen, rejected = value.get("chosen"), value.get("rejected")
    if "prompt" in value or not isinstance(chosen, list) or not isinstance(rejected, list):
        return value
    if chosen[:-1] != rejected[:-1]:
        raise ValueError("chosen and rejected differ in more than the last turn")
    return {**value, "prompt": chosen[:-1], "chosen": chosen[-1:], "rejected": rejected[-1:]}


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is no number that JSON knows")


def why_not(error: ValueError) -> str:
    """One sentence for a person."""
    if isinstance(error, ValidationError):
        problem = error.errors(include_url=False)[0]
        place = ".".join(str(part) for part in problem["loc"] if not str(part).startswith("_"))
        return f"{place}: {problem['msg']}" if place else str(problem["msg"])
    if isinstance(error, json.JSONDecodeError):
        return f"not JSON: {error.msg} at character {error.pos + 1}"
    if isinstance(error, UnicodeDecodeError):
        return "not UTF-8 text"
    return str(error)
