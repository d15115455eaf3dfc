"""The nouns: plain, frozen, JSON-able. Text lives here and can be stored; tensors live in `data/batch.py`."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal, NamedTuple

Finish = Literal["eos", "length"]
"""How a response ended: by itself ("eos"), or cut at a length limit ("length"), which says nothing about its end."""


class Place(NamedTuple):
    """Where a record was read: the `number`-th line (row, document) of a file, from 1.

    It is no part of what a record says: two that say the same are equal wherever they stand.  `copy`: how many times
    it was read before, in a file that counts several times.
    """

    file: str
    number: int
    unit: str = "line"
    copy: int = 0

    def __str__(self) -> str:
        return f"{self.file} {self.unit} {self.number}"

    def to_json(self) -> dict[str, Any]:
        """{"file", and "line" (row, document)}"""
        return {"file": self.file, self.unit: self.number}


def place_json(record: Any) -> dict[str, Any]:
    """Where a record stands, to be put beside what it says; {} where it comes from no file."""
    return record.place.to_json() if record.place else {}


@dataclass(frozen=True)
class ToolCall:
    """An assistant's call of a tool: its name, and the arguments (a JSON object)."""

    name: str
    arguments: Mapping[str, Any] = field(default_factory=dict, hash=False)
    id: str = ""

    def to_json(self) -> dict[str, Any]:
        """OpenAI's form, with the arguments as an object, as chat templates want them."""
        identity = {"id": self.id} if self.id else {}
        function = {"name": self.name, "arguments": dict(self.arguments)}
        return identity | {"type": "function", "function": function}


@dataclass(frozen=True)
class Message:
    """One turn of a conversation.  Example: `Message("user", "How far is the moon?")`.

    `role` is system, user, assistant or tool.  An assistant may call tools, with words or without; a tool's answer may
    name its call (`tool_call_id`) and its tool (`name`).  `trained`: False for an assistant's turn that is context only
    (weight 0).
    """

    role: str
    content: str
    tool_calls: tuple[ToolCall, ...] = ()
    name: str = ""
    tool_call_id: str = ""
    trained: bool = True

    @property
    def said(self) -> bool:
        """Whether there is anything in it: words, or a call."""
        return bool(self.tool_calls or self.content.strip())

    def to_json(self) -> dict[str, Any]:
        """OpenAI's form: {"role", "content"}, and beside them only what there is."""
        found: dict[str, Any] = {"role": self.role, "content": self.content}
        if self.tool_calls:
            found["tool_calls"] = [call.to_json() for call in self.tool_calls]
        if self.name:
            found["name"] = self.name
        if self.tool_call_id:
            found["tool_call_id"] = self.tool_call_id
        return found if self.trained else found | {"weight": 0}

    @staticmethod
    def from_json(value: Mapping[str, Any]) -> Message:
        """The inverse of `to_json`."""
        calls = tuple(
            ToolCall(call["function"]["name"], call["function"]["arguments"], call.get("id", ""))
            for call in value.get("tool_calls", ())
        )
        names = (value.get("name", ""), value.get("tool_call_id", ""))
        return Message(value["role"], value["content"], calls, *names, value.get("weight", 1) != 0)

    def text(self) -> str:
        """For people: the words, and the calls behind them."""
        calls = [
            f"{call.name}({json.dumps(dict(call.arguments), ensure_ascii=False)})" for call in self.tool_calls
        ]
        return "\n".join(part for part in (self.content, *calls) if part)


Tool = Mapping[str, Any]
"""A tool that may be called: its JSON schema in OpenAI's form ({"type": "function", "function": {"name", ...}})."""


@dataclass(frozen=True)
class Prompt:
    """What a response answers: plain text, or the conversation so far (which ends with a user's turn, or a tool's).

    `reference` is whatever a gold standard needs in order to grade a response (JSON).  `tools` may be called in a
    response.  `id` is a hash of the content, the tools and the reference, so that the same prompt has the same id in
    every file, store and run.
    """

    content: str | tuple[Message, ...]
    task: str = ""
    reference: Mapping[str, Any] | None = field(default=None, hash=False)
    tools: tuple[Tool, ...] = field(default=(), hash=False)
    place: Place | None = field(default=None, compare=False, repr=False)

    @property
    def is_chat(self) -> bool:
        return not isinstance(self.content, str)

    @cached_property
    def id(self) -> str:
        text = json.dumps([self.content_json(), self.reference], sort_keys=True, ensure_ascii=False)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def content_json(self) -> PromptJson:
        """The content in TRL's form: a string, or a list of {"role", "content"}; with tools {"messages", "tools"}."""
        if isinstance(self.content, str):
            return self.content
        messages = [message.to_json() for message in self.content]
        return (
            {"messages": messages, "tools": [dict(tool) for tool in self.tools]} if self.tools else messages
        )

    @staticmethod
    def from_json(content: PromptJson, task: str = "", reference: Mapping[str, Any] | None = None) -> Prompt:
        """The inverse of `content_json`."""
        if isinstance(content, str):
            return Prompt(content, task, reference)
        messages, tools = (
            (content["messages"], content["tools"]) if isinstance(content, dict) else (content, ())
        )
        return Prompt(tuple(map(Message.from_json, messages)), task, reference, tuple(tools))

    def text(self) -> str:
        """For people: the prompt as readable text."""
        if isinstance(self.content, str):
            return self.content
        return "\n\n".join(f"{message.role}: {message.text()}" for message in self.content)


@dataclass(frozen=True)
class WeighedPrompt(Prompt):
    """A prompt that begins with what counts how much in a response: `weights` of a reward's parts, by name.  `plain` is the
    prompt without them, which is what judges are shown."""

    plain: Prompt = field(default=Prompt(""), compare=False)
    weights: tuple[tuple[str, float], ...] = ()


PromptJson = str | list[dict[str, Any]] | dict[str, Any]


@dataclass(frozen=True)
class Document:
    """Text for language modelling: every token is trained; its end too, unless the text was cut."""

    text: str
    finish: Finish = "eos"
    place: Place | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True)
class Conversation:
    """Several turns; every assistant turn is trained that is not context only.  `tools` may be called in it."""

    messages: tuple[Message, ...]
    tools: tuple[Tool, ...] = field(default=(), hash=False)
    place: Place | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True)
class Demonstration:
    """A response that somebody showed to be good: the response is trained, the prompt is not.

    `finish`: a response that was cut is trained without an end.
    """

    prompt: Prompt
    response: str
    finish: Finish = "eos"
    place: Place | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True)
class Comparison:
    """Two responses to one prompt, and how strongly the first is preferred.

    `p_chosen` is the probability (share of votes) that `chosen` is better: 1.0 for a plain preference, 0.5 for a
    tie.  `margin` says by how much it is better, 0 (not said) to 1 (as much as can be said) where people voted; the
    reward model can be trained to keep it (`margin_coef`).  `chosen_finish` and `rejected_finish` say how each ended.
    `weight` is how much it counts beside others (1 for a plain one); `group` names the annotators whose taste it is.
    """

    prompt: Prompt
    chosen: str
    rejected: str
    p_chosen: float = 1.0
    margin: float = 0.0
    chosen_finish: Finish = "eos"
    rejected_finish: Finish = "eos"
    place: Place | None = field(default=None, compare=False, repr=False)
    weight: float = 1.0
    group: str = ""

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
            **({"weight": self.weight} if self.weight != 1.0 else {}),
            **({"group": self.group} if self.group else {}),
        }

    @staticmethod
    def from_json(row: Mapping[str, Any], place: Place | None = None) -> Comparison:
        """The inverse of `to_json`."""
        prompt = Prompt.from_json(row["prompt"], row["task"], row["reference"])
        sides = (row["chosen"], row["rejected"])
        chosen, rejected = (side[0]["content"] for side in sides) if prompt.is_chat else sides
        numbers, ends = (row["p_chosen"], row["margin"]), (row["chosen_finish"], row["rejected_finish"])
        more = row.get("weight", 1.0), row.get("group", "")
        return Comparison(prompt, chosen, rejected, *numbers, *ends, place, *more)


@dataclass(frozen=True)
class Labelled:
    """A response that somebody called good, or not good: unpaired feedback."""

    prompt: Prompt
    response: str
    good: bool
    finish: Finish = "eos"
    place: Place | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True)
class Rating:
    """How good a response is by one annotator, or by several together: criterion -> value, on whatever scale they used."""

    prompt: Prompt
    response: str
    values: Mapping[str, float] = field(hash=False)
    annotator: str = ""
    finish: Finish = "eos"
    place: Place | None = field(default=None, compare=False, repr=False)

    def to_json(self) -> dict[str, Any]:
        """A row of a file of ratings, readable as `data=`."""
        prompt = self.prompt
        return {
            "prompt": prompt.content_json(),
            "task": prompt.task,
            "reference": prompt.reference,
            "response": [Message("assistant", self.response).to_json()] if prompt.is_chat else self.response,
            "response_finish": self.finish,
            "annotator": self.annotator,
            "values": dict(self.values),
        }


@dataclass(frozen=True)
class StepMarks:
    """A response in steps, and what was said of each: the data of a process reward model.

    `labels` has one entry per step: 1 right, 0 neutral, -1 wrong; None where nobody marked it.  `soft`: the labels are
    probabilities (0 to 1) that a step is right instead.  `finish` "length": the response may go on after the last step.
    `outcome`: whether its final answer is right, where that is known.
    """

    prompt: Prompt
    steps: tuple[str, ...]
    labels: tuple[float | None, ...]
    soft: bool = False
    finish: Finish = "eos"
    outcome: bool | None = None
    place: Place | None = field(default=None, compare=False, repr=False)

    @property
    def first_error(self) -> int | None:
        """The number (from 0) of the first wrong step; None where no marked step is wrong."""
        wrong = 0 if self.soft else -1
        return next((i for i, label in enumerate(self.labels) if label == wrong), None)

    def to_json(self) -> dict[str, Any]:
        """A row that `process` reads: TRL's columns where labels are probabilities, `marks` where they are not."""
        return {
            "prompt": self.prompt.content_json(),
            "completions": list(self.steps),
            "labels" if self.soft else "marks": list(self.labels),
            "task": self.prompt.task,
            "reference": self.prompt.reference,
            "completion_finish": self.finish,
            "outcome": self.outcome,
        }

    @staticmethod
    def from_json(row: Mapping[str, Any], place: Place | None = None) -> StepMarks:
        """The inverse of `to_json`."""
        prompt, soft = Prompt.from_json(row["prompt"], row["task"], row["reference"]), "labels" in row
        labels = tuple(row["labels" if soft else "marks"])
        ends = (row["completion_finish"], row["outcome"])
        return StepMarks(prompt, tuple(row["completions"]), labels, soft, *ends, place)


ErrorKind = Literal["reasoning", "calculation", "misreading", "approach"]
"""What kind of error a wrong step is: a false inference, a slip in the sums, the problem read wrongly, a poor way to go."""

Role = Literal["expert", "crowd", "verifier", "process-model", "judge"]
"""In what role somebody marked steps: a person (one who knows, or one of many), or a program."""

How = Literal["first", "rewritten", "explained", "regenerated", "written"]
"""How a round's solution came about: the model's first one; gone on from a step that somebody rewrote, that the model wrote
again from an explanation, or that it just wrote again; or written whole by a person."""

Outcome = Literal["accepted", "sound", "handed-up", "written", "broken"]
"""How the refinement of a problem ended: with a sound solution, and the model is right again without help (accepted) or not
yet (sound); given up to an expert (handed-up), or solved by one (written); or the problem itself is broken."""


@dataclass(frozen=True)
class MarkedStep:
    """One step of a solution, and what was said of it.

    `text` is the step as it was written, with the white space that ends it: joined, the steps are the solution.  `label`: 1
    right, 0 neutral, -1 wrong, None not marked.  Of a wrong one: `explanation` says what is wrong, `rewrite` is the step as it
    should be, `error` the kind of error, `caused_by` the number (from 0) of the earlier wrong step that this one follows from.
    """

    text: str
    label: int | None = None
    explanation: str = ""
    rewrite: str | None = None
    caused_by: int | None = None
    error: ErrorKind | None = None

    @property
    def is_root(self) -> bool:
        """Whether it is wrong by itself, not because a step before it is."""
        return self.label == -1 and self.caused_by is None

    def to_json(self) -> dict[str, Any]:
        """What there is to say."""
        said: dict[str, Any] = {"text": self.text, "label": self.label}
        more = {name: getattr(self, name) for name in ("explanation", "rewrite", "caused_by", "error")}
        return said | {name: value for name, value in more.items() if value not in (None, "")}

    @staticmethod
    def from_json(row: Mapping[str, Any]) -> MarkedStep:
        """The inverse of `to_json`."""
        return MarkedStep(**row)


@dataclass(frozen=True)
class Round:
    """One solution on the way to a sound one: its steps, as marked by `by` in a `role` ("" and None: nobody has yet).

    `how` it came about, and from which step (`since`, from 0) on it differs from the round before; `right`: whether its
    answer is, None where nobody knows.  `calls`: looks, marks and rewrites it took; `minutes`: somebody's time for them.
    """

    steps: tuple[MarkedStep, ...]
    how: How = "first"
    since: int = 0
    right: bool | None = None
    finish: Finish = "eos"
    by: str = ""
    role: Role | None = None
    calls: int = 0
    minutes: float = 0.0

    @property
    def text(self) -> str:
        """The solution."""
        return "".join(step.text for step in self.steps)

    @property
    def root(self) -> int | None:
        """The number (from 0) of the first step that is wrong by itself; None where there is none."""
        return next((number for number, step in enumerate(self.steps) if step.is_root), None)

    @property
    def sound(self) -> bool:
        """Whether every step was marked, and none is wrong."""
        return bool(self.steps) and all(step.label is not None and step.label >= 0 for step in self.steps)

    def to_json(self) -> dict[str, Any]:
        """A row, with the steps as rows."""
        names = ("how", "since", "right", "finish", "by", "role", "calls", "minutes")
        return {"steps": [step.to_json() for step in self.steps]} | {
            name: getattr(self, name) for name in names
        }

    @staticmethod
    def from_json(row: Mapping[str, Any]) -> Round:
        """The inverse of `to_json`."""
        return Round(**{**row, "steps": tuple(map(MarkedStep.from_json, row["steps"]))})


@dataclass(frozen=True)
class Refinement:
    """A problem's way from the model's first solution to a sound one (Iterative Refinement with Explanations).

    `checks`: whether the model, asked anew and told nothing, was right, in the order of asking.  `outcome`: None while it goes
    on; `why` says more of it.
    """

    prompt: Prompt
    rounds: tuple[Round, ...]
    checks: tuple[bool, ...] = ()
    outcome: Outcome | None = None
    why: str = ""
    place: Place | None = field(default=None, compare=False, repr=False)

    @property
    def solution(self) -> str | None:
        """What is to be learnt: the last round's solution where it was accepted, sound or written."""
        return self.rounds[-1].text if self.outcome in ("accepted", "sound", "written") else None

    def to_json(self) -> dict[str, Any]:
        """A row of a file of refinements."""
        return {
            "prompt": self.prompt.content_json(),
            "task": self.prompt.task,
            "reference": self.prompt.reference,
            "rounds": [one.to_json() for one in self.rounds],
            "checks": list(self.checks),
            "outcome": self.outcome,
            "why": self.why,
        }

    @staticmethod
    def from_json(row: Mapping[str, Any], place: Place | None = None) -> Refinement:
        """The inverse of `to_json`."""
        prompt = Prompt.from_json(row["prompt"], row["task"], row["reference"])
        rounds = tuple(map(Round.from_json, row["rounds"]))
        return Refinement(prompt, rounds, tuple(row["checks"]), row["outcome"], row["why"], place)


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

    @property
    def judged(self) -> Response:
        """The response as judges are shown it: to the prompt as it was asked, without weights in front."""
        if not isinstance(self.prompt, WeighedPrompt):
            return self
        return replace(self, prompt=self.prompt.plain, prompt_ids=())


@dataclass(frozen=True)
class Score:
    """What a judge says of one response: a value, and the named parts that it is made of.

    `at`: (token of the response, value) for judges that score places in it, such as the ends of steps.
    """

    value: float
    parts: Mapping[str, float] = field(default_factory=dict, hash=False)
    at: tuple[tuple[int, float], ...] = ()


Arm = Literal["none", "honest", "adversarial"]
"""What an assistant was for a voter: kept away, as a control; of help; or arguing for the worse response."""


@dataclass(frozen=True)
class Help:
    """What an assistant had said of two responses before somebody voted on them, in canonical order.

    `assistant` is its name.  `said`: of the first and the second response ("" where nothing was shown).  `argues`: the response
    (0 or 1) that it argues for; None: for neither.  `template`: in which words it was put, by name and version ("": nowhere).
    """

    arm: Arm
    assistant: str
    said: tuple[str, str] = ("", "")
    argues: int | None = None
    template: str = ""


@dataclass(frozen=True)
class Vote:
    """One annotator's comparison of two responses, in canonical order (never in screen order).

    `preference` runs from -3 (the first is much better) over 0 (a tie) to 3 (the second is much better);
    `first_shown` is the response (0 or 1) that the annotator saw first.

    What comes from a file may say more than seven steps can: `share` is the probability that the side which `preference`
    names is the better one (0.5 to 1; 0.5 for a tie), where votes were counted before; `margin` is by how much it is
    better (0: not said).  None: `preference` says it all.  `weight`: how many times it counts (an expert's more than once).
    `criteria`: (name, which is better by this criterion, like `preference`), of those that were answered.  `help`: what an
    assistant had told the annotator; None: there was none.
    """

    annotator: str
    preference: int
    first_shown: int
    share: float | None = None
    margin: float | None = None
    weight: float = 1.0
    criteria: tuple[tuple[str, int], ...] = ()
    help: Help | None = None

    @property
    def for_first(self) -> float:
        """The probability that the first response is better, by this vote."""
        share = 1.0 if self.share is None else self.share
        return 0.5 if self.preference == 0 else share if self.preference < 0 else 1.0 - share
