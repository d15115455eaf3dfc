"""Items: building them from stored responses, gold, priority, and looking through them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from tutelage.feedback.access import Member
from tutelage.feedback.payloads import Answer, ItemType, Shown, Strategy, Turn
from tutelage.store.database import Database


@dataclass(frozen=True)
class Built:
    """What a build did: new items, items that were there already, prompts with too few different responses."""

    new: int
    there: int
    short: int


@dataclass(frozen=True)
class ItemRow:
    """One line of the data browser."""

    item_id: int
    type: ItemType
    prompt: str  # readable text
    task: str
    responses: tuple[str, ...]  # in canonical slots
    models: tuple[str, ...]
    answers: int
    extra: int
    overlap: int
    skips: int
    flags: int
    gold: bool
    conflict: bool
    settled: bool
    closed: bool
    priority: float


@dataclass(frozen=True)
class AnswerRow:
    """One stored answer in the data browser: positions here are canonical slots."""

    annotation_id: int
    annotator: str
    kind: str
    role: Literal["answer", "extra", "adjudication"]
    answer: Answer
    shown_order: tuple[int, ...]
    submitted_at: datetime
    active_ms: int
    schema_version: int | None
    current: bool  # not revised since


@dataclass(frozen=True)
class ItemDetail:
    """Everything about one item."""

    row: ItemRow
    thread: tuple[Turn, ...]
    responses: tuple[Shown, ...]
    answers: tuple[AnswerRow, ...]
    flags: tuple[dict[str, Any], ...]  # {code, text, by, at}
    gold_answer: Answer | None  # in canonical slots


@dataclass(frozen=True)
class Query:
    """What to look for in the data browser; None = anything."""

    text: str = ""  # in the prompt or a response
    type: ItemType | None = None
    state: Literal["any", "unanswered", "partial", "complete", "conflict", "flagged", "gold", "closed"] = (
        "any"
    )
    model: str = ""
    after: int = 0  # item id of the last line of the page before
    limit: int = 50


def build(
    database: Database,
    who: Member,
    type: ItemType,
    strategy: Strategy = "random",
    per_prompt: int = 1,
    size: int = 2,
    across_runs: bool = True,
) -> Built:
    """Make items from the project's responses; repeating it makes none twice.  Needs manage.

    `per_prompt` items per prompt (0 = all there can be), of `size` responses (pair: 2, step and rewrite: 1).
    random: by content hash; all; round-robin: responses of different models meet equally often; best-worst: the
    extremes by reward score; uncertainty: the closest reward scores first.  The last two need scores
    (`tutelage feedback import kind=scores`).  rewrite with size=0 makes demonstrations (a prompt, nothing shown);
    chat needs only prompts.
    """
    raise NotImplementedError


def set_gold(database: Database, who: Member, item_id: int, answer: Answer | None) -> None:
    """Make an item gold with its right answer (positions = canonical slots), or an ordinary one (None).  Needs manage."""
    raise NotImplementedError


def set_priority(
    database: Database, who: Member, by: Literal["none", "uncertainty", "disagreement"] | Mapping[int, float]
) -> int:
    """Set every item's priority (high comes first) by rule, or some explicitly; returns how many.  Needs manage."""
    raise NotImplementedError


def set_closed(database: Database, who: Member, item_id: int, closed: bool) -> None:
    """Take an item out of the queue, or back in.  Needs manage."""
    raise NotImplementedError


def browse(database: Database, who: Member, query: Query) -> list[ItemRow]:
    """A page of items.  Needs view."""
    raise NotImplementedError


def detail(database: Database, who: Member, item_id: int) -> ItemDetail:
    """One item with its answers, revisions included.  Needs view."""
    raise NotImplementedError


def models_of(database: Database, who: Member) -> Sequence[str]:
    """Names of the models that wrote the project's responses.  Needs view."""
    raise NotImplementedError
