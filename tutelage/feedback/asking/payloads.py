"""What goes to annotators and comes back from them: frozen pydantic models, the same for pages, API and client.

Everything here speaks of *positions*: the order in which one annotator sees the responses, 0 first.  The services
turn positions into the canonical slots of the store (and back), so a page never knows which slot it shows.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from tutelage.records import ErrorKind

ItemType = Literal["pair", "rank", "rate", "step", "rewrite", "chat"]
Role = Literal["owner", "manager", "adjudicator", "expert", "annotator", "viewer"]
FlagCode = Literal["bad-prompt", "unsafe", "personal-data", "unsure", "broken"]
SkipReason = Literal["too-hard", "not-my-field", "unclear", "broken", "other"]
Splitter = Literal["numbered", "paragraphs", "lines", "sentences"]

MAX_TEXT = 100_000  # characters of anything that a person writes
LARGEST_ID = 2**31 - 1  # of a row: a PostgreSQL integer
MOST_ANNOTATORS = 100  # of one item
Text = Annotated[str, Field(max_length=MAX_TEXT)]
Short = Annotated[str, Field(max_length=2_000)]


class Model(BaseModel):
    """Frozen, closed to unknown fields, no infinities."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


# what is asked: the schema (versioned, immutable) and the settings (changeable) -----------------------------------


class Criterion(Model):
    """One thing to rate or compare by; `low` and `high` say in words what the ends of the scale mean."""

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]{0,39}$")]
    title: Short
    description: Short = ""
    low: Short = "very bad"
    high: Short = "very good"


DEFAULT_CRITERIA = (
    Criterion(
        name="overall", title="Overall", description="All things considered, how good is the response?"
    ),
    Criterion(name="accuracy", title="Accuracy", description="Is everything that the response says true?"),
    Criterion(name="coverage", title="Coverage", description="Does the response say everything important?"),
    Criterion(
        name="coherence", title="Coherence", description="Is the response clear and well put on its own?"
    ),
)


class Schema(Model):
    """The questions of a project.  Answers point at the version that they were given under."""

    type: ItemType = "pair"
    question: Short = "Which response is better?"  # types that compare nothing have defaults of their own
    instruction: Short = ""  # what to mind, in a sentence or two below the question
    strength: Literal[1, 2, 3] = 3  # pair: steps per side beside the tie; 3 makes the 7-step scale
    ties: bool = True  # pair and rank: may responses be equal?
    acceptable: bool = True  # also ask of each response whether it is acceptable on its own
    criteria: tuple[Criterion, ...] = DEFAULT_CRITERIA  # rate: the rows of the matrix
    compare_criteria: bool = False  # pair: also ask which is better by each criterion
    scale: Annotated[int, Field(ge=2, le=10)] = 7  # rate: values run from 1 to this
    confidence: bool = False  # ask how sure the annotator is, 1 to 9
    reason: Literal["off", "optional", "required"] = "optional"
    splitter: Splitter = "paragraphs"  # step: how a response is cut into steps
    first_error: bool = False  # step: marking ends at the first wrong step
    rewrite_makes_pair: bool = True  # rewrite: the new text also counts as better than the original


class ProjectSettings(Model):
    """What a manager may change at any time without changing what an answer means."""

    title: Short = ""
    overlap: Annotated[int, Field(ge=1, le=MOST_ANNOTATORS)] = 1  # annotators wanted per new item
    lease_seconds: Annotated[int, Field(ge=10, le=86_400)] = 900  # that an item is kept for whoever has it
    dwell_seconds: Annotated[float, Field(ge=0, le=60)] = 2.0  # submit is off for so long
    gold_rate: Annotated[float, Field(ge=0, le=1)] = 0.0  # share of what is handed out that is gold
    show_agreement: bool = False  # annotators see their agreement with the others
    show_gold_accuracy: bool = False  # annotators see how they did on gold items
    show_word_counts: bool = False
    require_scroll: bool = True  # submit is off until every response was scrolled into view
    candidates: Annotated[int, Field(ge=2, le=9)] = 2  # chat: responses per turn
    markdown: bool = True  # show responses as sanitised Markdown (else as written)
    show_suggestions: bool = False  # annotators see what a model suggests, where there is a suggestion
    show_help: bool = False  # annotators see what an assistant says of two responses, where it says something
    help_control: Annotated[float, Field(ge=0, le=1)] = 0.2  # share of them, by item, to whom it is not shown
    expert_weight: Annotated[float, Field(ge=1, le=100)] = 3.0  # votes that one vote of an expert counts for
    refine_rounds: Annotated[int, Field(ge=1, le=100)] = 4  # corrections of a solution, then experts get it
    refine_checks: Annotated[int, Field(ge=0, le=9)] = (
        2  # times in a row that a model must be right without help
    )


# what an annotator gets -------------------------------------------------------------------------------------------


class Shown(Model):
    """A response as one annotator sees it.  `steps` only for items of type step; joined, they are the text."""

    position: int
    text: str
    steps: tuple[str, ...] = ()


class Turn(Model):
    """One message of the conversation that the prompt is."""

    role: str
    content: str


class Suggested(Model):
    """What a program suggests as the answer to an item, in positions."""

    source: str
    answer: Answer
    score: float | None = None


class Told(Model):
    """What an assistant says of each response, in positions."""

    assistant: str
    said: tuple[str, ...]


class Task(Model):
    """An item in an annotator's hands: what the page shows and what a submit refers to.

    `store` and `item_digest` say which item this is, whatever stands under its numbers later (`About`).
    `thread` is the prompt as turns (a plain prompt is one user's turn).  `answer` is the annotator's own latest
    answer in positions when the item is opened for revision, `annotation_id` its id; `sent_back`: the note with which
    it came back for correction.  `draft` is what was autosaved; `skipped`: it was given back for good.
    `guideline_version` is the newest that the annotator had on screen for this item, `newest_guideline` the
    project's; 0 = none.  `markdown`: the project shows texts as Markdown, not as they were written.
    """

    store: str
    item_digest: str
    assignment_id: int
    item_id: int
    project: str
    type: ItemType
    thread: tuple[Turn, ...]
    plain_prompt: bool
    task: str
    responses: tuple[Shown, ...]
    schema_version: int
    guideline_version: int
    newest_guideline: int
    questions: Schema
    markdown: bool
    lease_expires_at: datetime
    draft: dict[str, Any] | None = None
    answer: Answer | None = None
    annotation_id: int | None = None
    parent_item_id: int | None = None
    skipped: bool = False
    sent_back: str | None = None
    suggestion: Suggested | None = None
    help: Told | None = None


# what comes back --------------------------------------------------------------------------------------------------


class _Given(Model):
    confidence: Annotated[int, Field(ge=1, le=9)] | None = None
    reason: Text = ""


class _Compared(_Given):
    acceptable: tuple[bool | None, ...] = ()  # by position; None = not said


class PairAnswer(_Compared):
    """Compare two.  `preference`: -3 (the first shown is much better) to 3 (the second shown is much better)."""

    type: Literal["pair"] = "pair"
    preference: Annotated[int, Field(ge=-3, le=3)]
    criteria: dict[str, Annotated[int, Field(ge=-3, le=3)]] = {}  # like `preference`, by criterion


class RankAnswer(_Compared):
    """Order K.  `ranks[position]`: 1 = best; equal numbers are ties; gaps are closed when stored."""

    type: Literal["rank"] = "rank"
    ranks: Annotated[tuple[Annotated[int, Field(ge=1, le=9)], ...], Field(min_length=2, max_length=9)]


class RateAnswer(_Compared):
    """Rate by criteria.  `ratings[criterion][position]`: 1 to `Schema.scale`, None = not applicable."""

    type: Literal["rate"] = "rate"
    ratings: dict[str, tuple[Annotated[int, Field(ge=1, le=10)] | None, ...]]


class StepMark(Model):
    """One step marked: 1 correct, 0 neutral, -1 wrong; a wrong one may have a better text and an earlier cause.

    `caused_by`: the earlier wrong step that this wrong one only follows from.  `error`: what kind of error it is.
    """

    step: Annotated[int, Field(ge=0)]
    label: Literal[-1, 0, 1]
    reason: Text = ""
    rewrite: Text | None = None
    flagged: bool = False
    caused_by: Annotated[int, Field(ge=0)] | None = None
    error: ErrorKind | None = None


class StepAnswer(_Given):
    """Mark steps: every step in order from 0, or up to and with the first wrong one (`Schema.first_error`)."""

    type: Literal["step"] = "step"
    marks: tuple[StepMark, ...]
    finish: Literal["solution", "found-error", "bad-problem", "give-up"] = "solution"


class RewriteAnswer(_Given):
    """A better text.  With a response shown it is a rewrite of it, without one it is a demonstration."""

    type: Literal["rewrite"] = "rewrite"
    text: Annotated[str, Field(min_length=1, max_length=MAX_TEXT)]


class ChatAnswer(_Given):
    """The end of a chat; what was compared on the way is stored turn by turn (`live.choose`)."""

    type: Literal["chat"] = "chat"
    satisfied: bool | None = None


Answer = Annotated[
    PairAnswer | RankAnswer | RateAnswer | StepAnswer | RewriteAnswer | ChatAnswer,
    Field(discriminator="type"),
]
ANSWER: TypeAdapter[Answer] = TypeAdapter(Answer)


class About(Model):
    """Which item something is about, as its `Task` says.  Checked where given: numbers mean other items in another
    store at the same address, and after a restore.
    """

    store: Annotated[str, Field(max_length=100)] | None = None
    item_digest: Annotated[str, Field(max_length=100)] | None = None


class SubmittedAnswer(About):
    """An answer as it is given, and how."""

    answer: Answer
    active_ms: Annotated[int, Field(ge=0, le=86_400_000)] = 0
    ui_version: Annotated[str, Field(max_length=40)] = ""


class Submission(SubmittedAnswer):
    """An answer on its way in.  `client_key` is the sender's own name for it: sent twice, it is stored once."""

    client_key: Annotated[str, Field(min_length=8, max_length=200)]


class Receipt(Model):
    """What a submit returns, once it is on disk.

    `extra`: stored, but not counted, because the lease had run out and others had filled the item's overlap.
    `repeated`: an answer under this key was there already.
    """

    annotation_id: int
    assignment_id: int
    extra: bool = False
    repeated: bool = False


class LiveResponse(Model):
    """A response written on the spot by a model (chat, regenerate) with where it came from."""

    text: Text
    model: str
    model_sha256: str = ""
    engine: str = "local"
    params: dict[str, Any] = {}
    finish: Literal["eos", "length"] = "eos"
    n_tokens: int = 0
    logprob: float | None = None


Suggested.model_rebuild()
Task.model_rebuild()
