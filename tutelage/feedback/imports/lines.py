"""Rows of files that are imported: what each kind takes from one.

What was asked and answered is read by THE reader (`data.reading`), as trainers read it; beside it stand columns of the
store's own: where a response comes from, who voted.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, Field, TypeAdapter, ValidationError, field_validator

from tutelage.data.reading.cells import Cells, Skip, blank, parsed
from tutelage.data.reading.formats import read_row
from tutelage.data.reading.rows import Row
from tutelage.data.reading.spellings import LABELS, SIDES, check_columns, renamed, respell
from tutelage.data.reading.steps import published
from tutelage.feedback.asking.payloads import Answer, Model, Schema
from tutelage.feedback.imports.refinements import RefinementColumns, RefinementLine
from tutelage.records import Arm, Comparison, Conversation, Demonstration, Finish, Help, Prompt

Kind = Literal["prompts", "responses", "preference", "scores", "suggestions", "refinements", "raw"]
AnnotatorKind = Literal["human", "simulated", "judge", "rule"]

LONGEST = 4_000_000  # characters in one row
DEEPEST = 100  # lists and objects within each other: databases have limits of their own
MOST = 2**31 - 1  # of a whole number that all databases take
FURTHEST = 1e300  # of a number that nothing else bounds: in references, parameters and the like
MOST_LINES = 1_000  # that one row makes
MOST_COLUMNS = 1_000
MOST_SLOTS = 100  # responses of an item
MOST_OVERLAP = 10_000  # annotators
Name = Annotated[str, Field(max_length=2_000)]
Count = Annotated[int, Field(ge=0, le=MOST)]
Sample = Annotated[int, Field(ge=0, le=1_000_000_000)]
Tokens = Annotated[int, Field(ge=0, le=100_000_000)]
Number = Annotated[float, Field(ge=-1e9, le=1e9)]


# columns of the store's own ---------------------------------------------------------------------------------------------


class PromptColumns(Model):
    """What every row may say of its prompt; `item` stands in our exports and says which rows belong together."""

    split: Annotated[str, Field(min_length=1, max_length=200)] = "train"
    item: Any = None


class ResponseColumns(PromptColumns):
    """Where a response comes from, as far as that is known."""

    model: Name = "imported"
    model_sha256: Name = ""
    engine: Name = "imported"
    params: dict[str, Any] = Field(default_factory=dict)
    sample_index: Sample | None = None
    finish: Any = None  # as the reader takes it
    n_tokens: Tokens = 0
    logprob: Number | None = None


class VoteColumns(PromptColumns):
    """Whose vote a comparison is.  Nobody named: a vote of the file."""

    annotator: Annotated[str, Field(max_length=200)] = ""
    annotator_kind: AnnotatorKind = "rule"

    @field_validator("annotator", mode="before")
    @classmethod
    def _number(cls, value: Any) -> Any:
        """Annotators are often numbers."""
        return str(value) if isinstance(value, int) else value.strip() if isinstance(value, str) else value


class ScoreColumns(Model):
    """What a reward model says of a response that is in the project."""

    score: Number
    source: Name = "imported"
    split: Any = None
    item: Any = None


class SuggestionColumns(Model):
    """What a program proposes to answer: about an item, or about responses to a prompt (in the order of `responses`)."""

    answer: dict[str, Any]
    source: Annotated[str, Field(min_length=1, max_length=200)] = "imported"
    score: Number | None = None
    item: Annotated[str, Field(max_length=200)] = ""
    responses: Annotated[list[Any], Field(max_length=MOST_SLOTS)] | None = None
    split: Any = None


OWN: dict[Kind, type[Model]] = {
    "prompts": PromptColumns,
    "responses": ResponseColumns,
    "preference": VoteColumns,
    "scores": ScoreColumns,
    "suggestions": SuggestionColumns,
    "refinements": RefinementColumns,
}


# what is stored ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class PromptLine:
    """kind=prompts."""

    prompt: Prompt
    split: str

    def parts(self) -> dict[str, str]:
        return {"prompt": self.prompt.text(), "split": self.split}


@dataclass(frozen=True)
class ResponseLine:
    """kind=responses: a response to a prompt, with its provenance."""

    prompt: Prompt
    text: str
    finish: Finish
    said: ResponseColumns

    def parts(self) -> dict[str, str]:
        who = {"model": self.said.model, "split": self.said.split}
        return {"prompt": self.prompt.text(), "response": self.text, **who}


@dataclass(frozen=True)
class PreferenceLine:
    """kind=preference: a vote on a pair.

    counted: the row has a share of votes (`p_chosen`), which were counted before.  ends: how the chosen and the rejected
    response ended, None where the row does not say it.
    """

    comparison: Comparison
    counted: bool
    ends: tuple[Finish | None, Finish | None]
    said: VoteColumns

    def parts(self) -> dict[str, str]:
        pair = self.comparison
        texts = {"prompt": pair.prompt.text(), "chosen": pair.chosen, "rejected": pair.rejected}
        share = {"p_chosen": f"{pair.p_chosen:g}"} if self.counted else {}
        return {**texts, **share, "annotator": self.said.annotator, "split": self.said.split}


@dataclass(frozen=True)
class ScoreLine:
    """kind=scores."""

    prompt: Prompt
    text: str
    said: ScoreColumns

    def parts(self) -> dict[str, str]:
        score = {"score": f"{self.said.score:g}", "source": self.said.source}
        return {"prompt": self.prompt.text(), "response": self.text, **score}


@dataclass(frozen=True)
class SuggestionLine:
    """kind=suggestions: about the item of this digest, or about these responses to a prompt."""

    prompt: Prompt | None
    texts: tuple[str, ...] | None
    said: SuggestionColumns

    def parts(self) -> dict[str, str]:
        about = {"prompt": self.prompt.text()} if self.prompt else {"item": self.said.item}
        return {**about, "answer": str(self.said.answer), "source": self.said.source}


class RawResponse(Model):
    text: str
    sample_index: Sample
    finish: Finish
    n_tokens: Tokens
    logprob: Number | None = None
    model: Name
    model_sha256: Name
    engine: Name
    params: dict[str, Any]


class _RawVersion(Model):
    kind: str
    n: Count

    def parts(self) -> dict[str, str]:
        return {"version": f"{self.kind} {self.n}"}


class RawQuestions(_RawVersion):
    kind: Literal["questions"]
    content: Schema


class RawGuidelines(_RawVersion):
    kind: Literal["guidelines"]
    markdown: str


class RawHelp(Model):
    """As in `records.Help`."""

    arm: Arm
    assistant: str
    said: tuple[str, str]
    argues: Literal[0, 1] | None = None
    template: str = ""

    def to_help(self) -> Help:
        return Help(**dict(self))


class RawAnswer(Model):
    kind: Literal["answer"]
    store: Annotated[str, Field(pattern=r"^[0-9a-f]{8,64}$")] | None = None  # whose annotators these are
    item: Name
    type: str
    overlap: int = Field(ge=1, le=MOST_OVERLAP)
    prompt: str | list[dict[str, Any]] | dict[str, Any]
    task: str = ""
    reference: dict[str, Any] | None = None
    split: Annotated[str, Field(min_length=1, max_length=200)] = "train"
    responses: Annotated[list[RawResponse], Field(max_length=MOST_SLOTS)]
    annotator: str = Field(min_length=1, max_length=200)
    annotator_kind: AnnotatorKind
    role: Literal["answer", "extra", "adjudication"]
    answer: Answer
    share: float | None = Field(None, ge=0.5, le=1)
    margin: Number | None = None
    help: RawHelp | None = None  # what an assistant had said
    shown_order: Annotated[list[Count], Field(max_length=MOST_SLOTS)]
    key: str = Field(min_length=8, max_length=200)
    supersedes: str | None = Field(None, max_length=200)
    withdrawn: bool | None = False
    submitted_at: AwareDatetime
    active_ms: Annotated[int, Field(ge=0, le=86_400_000)] | None = None
    questions: Count | None = None
    guidelines: Count | None = None

    @field_validator("submitted_at")
    @classmethod
    def _in_our_time(cls, value: AwareDatetime) -> AwareDatetime:
        if not 1970 <= value.year <= 9000:
            raise ValueError(f"the year {value.year} is out of reach")
        return value

    def to_prompt(self) -> Prompt:
        """The prompt, exactly as it was exported.  Raises ValueError where it is none."""
        try:
            return Prompt.from_json(self.prompt, self.task, self.reference)
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError("prompt must be text, or messages with role and content") from error

    def parts(self) -> dict[str, str]:
        prompt = ""
        with suppress(ValueError):
            prompt = self.to_prompt().text()
        return {"prompt": prompt, "type": self.type, "annotator": self.annotator, "answer": str(self.answer)}


Raw = RawQuestions | RawGuidelines | RawAnswer
# What a row holds; `parts` is that for people: {name: text}.
Line = PromptLine | ResponseLine | PreferenceLine | ScoreLine | SuggestionLine | RefinementLine | Raw
RAW: TypeAdapter[Raw] = TypeAdapter(Annotated[Raw, Field(discriminator="kind")])
INSIDE = {
    "params",
    "answer",
    "help",
    "responses",
    "rounds",
    "checks",
}  # of our own columns: objects and lists, in CSV as JSON
AS_JSON = (
    "content",
    "prompt",
    "reference",
    "responses",
    "answer",
    "help",
)  # raw: so they stand in Parquet and CSV


# one row ----------------------------------------------------------------------------------------------------------------


def check_names(kind: Kind, columns: Mapping[str, str]) -> None:
    """Raises ValueError where the setting `columns` names what this kind does not know."""
    if kind == "raw" and columns:
        raise ValueError("columns= is not for kind=raw, whose columns are our own: leave it out")
    own = OWN[kind].model_fields if kind in OWN else {}
    check_columns({name: theirs for name, theirs in columns.items() if name not in own})


def parse_row(kind: Kind, row: Row, columns: Mapping[str, str]) -> tuple[list[Line], list[str]]:
    """What a row holds (several answers to one question are several lines), and its columns that nobody used.

    Raises ValueError, one sentence, for a row that holds nothing of this kind, or what no database can keep.
    """
    refuse_unstorable(row.columns)
    found = renamed(row.columns, columns) if columns else row.columns
    if kind == "raw":
        cells = {name: parsed(cell, "[", "{") if name in AS_JSON else cell for name, cell in found.items()}
        return [RAW.validate_python(cells)], []
    own, rest = dict[str, Any](), dict[str, Any]()
    for name, cell in found.items():
        if name not in OWN[kind].model_fields:
            rest[name] = cell
        elif not blank(cell):
            own[name] = parsed(cell, "{", "[") if name in INSIDE else cell
    lines, unused = _lines(kind, Row(row.place, rest), OWN[kind].model_validate(own))
    if len(lines) > MOST_LINES:
        raise ValueError(
            f"the row holds {len(lines):,} records, but may hold {MOST_LINES:,}: write several rows"
        )
    for name, cell in found.items():
        if name not in unused and isinstance(cell, Mapping | list | tuple):
            _refuse_unwritable(name, cell)
    return lines, unused


def _lines(kind: Kind, row: Row, said: Any) -> tuple[list[Line], list[str]]:
    if kind == "prompts":
        prompts, unused = read_row(row, "prompts")
        return [PromptLine(prompt, said.split) for prompt in prompts if isinstance(prompt, Prompt)], unused
    if kind == "preference":
        pairs, unused = read_row(row, "comparisons")
        return [_preference(row, pair, said) for pair in pairs if isinstance(pair, Comparison)], unused
    if kind == "suggestions":
        return _suggestion(row, said)
    if kind == "refinements":
        asked, unused = read_row(row, "prompts")
        return [RefinementLine(one, said) for one in asked if isinstance(one, Prompt)], unused
    answers, unused = _answers(row)
    if kind == "scores":
        return [ScoreLine(prompt, text, said) for prompt, text, _ in answers], unused
    if said.sample_index is not None and len(answers) > 1:
        raise Skip("with several responses and one sample_index: leave sample_index out")
    if said.finish is not None:
        end = Cells({"finish": said.finish}).finish("finish")
        answers = [(prompt, text, end) for prompt, text, _ in answers]
    return [ResponseLine(*answer, said) for answer in answers], unused


def _suggestion(row: Row, said: SuggestionColumns) -> tuple[list[Line], list[str]]:
    if said.item:
        unused = [name for name, cell in row.columns.items() if not blank(cell)]
        return [SuggestionLine(None, None, said)], unused
    if said.responses is None:
        raise ValueError("a suggestion names its item, or the prompt and its responses")
    prompts, unused = read_row(row, "prompts")
    texts = tuple(map(_said_text, said.responses))
    return [SuggestionLine(one, texts, said) for one in prompts if isinstance(one, Prompt)], unused


def _said_text(value: Any) -> str:
    """A response: text, or one assistant message."""
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    text = value.get("content") if isinstance(value, dict) else value
    if not isinstance(text, str):
        raise ValueError("responses must be texts")
    return text


def _preference(row: Row, pair: Comparison, said: VoteColumns) -> PreferenceLine:
    if not -1e9 <= pair.margin <= 1e9:
        raise Skip(f"whose margin is {pair.margin:g}, out of reach")
    counted = "p_chosen" in row.columns or pair.p_chosen not in (0.0, 0.5, 1.0)
    chosen = pair.chosen_finish if "chosen_finish" in row.columns else None
    rejected = pair.rejected_finish if "rejected_finish" in row.columns else None
    return PreferenceLine(pair, counted, (chosen, rejected), said)


def _answers(row: Row) -> tuple[list[tuple[Prompt, str, Finish]], list[str]]:
    """Responses in any layout of demonstrations.  A label does not matter here: bad responses are responses, too."""
    labels = () if published(row.columns) else LABELS  # of published step marks the label says what they are
    columns = {name: cell for name, cell in row.columns.items() if name not in labels}
    if all(name in respell(columns) for name in SIDES):
        raise Skip("that compares two responses: import it with kind=preference")
    records, unused = read_row(Row(row.place, columns), "demonstrations")
    found = [_answer(record) for record in records if isinstance(record, Demonstration | Conversation)]
    return found, [*unused, *(name for name in LABELS if not blank(row.columns.get(name)))]


def _answer(record: Demonstration | Conversation) -> tuple[Prompt, str, Finish]:
    """A conversation is a response with the turns before it as its prompt."""
    if isinstance(record, Demonstration):
        return record.prompt, record.response, record.finish
    *context, last = record.messages
    if last.role != "assistant" or not context:
        raise Skip("whose conversation does not end with an assistant's turn that answers something")
    if last.tool_calls:
        raise Skip("whose response calls a tool: responses in the store are words only")
    if context[-1].role == "assistant":
        raise Skip("whose prompt ends with an assistant's turn, not with what is to be answered")
    asked = tuple(replace(turn, trained=True) for turn in context)
    return Prompt(asked, tools=record.tools), last.content, "eos"


# what no database can keep ----------------------------------------------------------------------------------------------

_HALF = re.compile("[\ud800-\udfff]")


def refuse_unstorable(columns: Mapping[str, Any]) -> None:
    """Raises ValueError for texts that some database cannot keep (NUL, half characters), and for rows without measure."""
    if len(columns) > MOST_COLUMNS:
        raise ValueError(f"the row has {len(columns):,} columns, but may have {MOST_COLUMNS:,}")
    length = 0
    for name, cell in columns.items():
        for value in _leaves(cell, DEEPEST):
            text = value if isinstance(value, str) else ""
            length += len(text) + 1
            if "\0" in text or "\0" in name:
                shown = name.replace("\0", "\\0")
                raise ValueError(
                    f"a NUL character (\\u0000) in {shown}, which no database keeps: take it out"
                )
            if _HALF.search(text):
                raise ValueError(f"half a character in {name} (a lone surrogate), which is no text")
            if isinstance(value, int | float) and not -FURTHEST <= value <= FURTHEST:
                raise ValueError("a number that is out of reach: leave it out, or write it as text")
    if length > LONGEST:
        raise ValueError(f"the row is longer than {LONGEST:,} characters")


def _leaves(value: Any, depth: int) -> Iterator[Any]:
    """All that stands in a cell, also in JSON that it holds as text; keys, too."""
    if not isinstance(value, Mapping | list | tuple):
        yield value
        value = parsed(value, "[", "{") if isinstance(value, str) and "\\u" in value else None
        if not isinstance(value, Mapping | list | tuple):
            return
    if depth == 0:
        raise ValueError(f"lists and objects nested more than {DEEPEST} deep")
    for item in [*value, *value.values()] if isinstance(value, Mapping) else value:
        yield from _leaves(item, depth - 1)


def _refuse_unwritable(name: str, cell: Any) -> None:
    """Raises ValueError for what nests in a cell and is no JSON: dates and bytes of Parquet."""
    for value in _leaves(cell, DEEPEST):
        if not isinstance(value, str | int | float | None):
            raise ValueError(f"{name} holds a {type(value).__name__}, which is no JSON: write it as text")


# reasons ----------------------------------------------------------------------------------------------------------------


def why_not(error: Exception, place: object = "") -> str:
    """One sentence for a person about a row, whose place stands beside it."""
    if isinstance(error, ValidationError):
        problem = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in problem["loc"] if not str(part).startswith("_"))
        return f"{where}: {problem['msg']}" if where else str(problem["msg"])
    if isinstance(error, Skip):
        return f"a row {error}"
    return str(error).removeprefix(f"{place}: ")
