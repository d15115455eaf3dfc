"""What the statistics read: flat tables of current answers, in canonical slots, without text."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from tutelage.feedback.access import Member
from tutelage.store.database import Database


@dataclass(frozen=True)
class PairLabel:
    """One current, counted pair answer.  Lengths are characters, models may be the same."""

    item_id: int
    prompt_id: int
    annotator: str
    kind: str
    preference: int  # canonical: negative = slot 0 is better
    first_shown: int
    lengths: tuple[int, int]
    models: tuple[str, str]
    response_ids: tuple[int, int]
    active_ms: int
    submitted_at: datetime
    gold: int | None  # the gold preference of a gold item


@dataclass(frozen=True)
class ValueLabel:
    """One current, counted value: a rank, rating, acceptance or step mark.

    `unit` is what several annotators judge: (item, slot) for ranks and acceptance, with criterion for ratings, with
    the step for marks.
    """

    unit: tuple[int, int, str]
    annotator: str
    kind: str
    question: str  # rank, rating:CRITERION, acceptable, step
    value: int


@dataclass(frozen=True)
class Totals:
    """The project in numbers."""

    items: int
    complete: int
    answers: int
    extra: int
    revisions: int
    skips: int
    flags: int
    gold_items: int
    conflicts: int
    settled: int
    annotators: int


def totals(database: Database, who: Member) -> Totals:
    """Needs view."""
    raise NotImplementedError


def pair_labels(database: Database, who: Member) -> list[PairLabel]:
    """All of them, ordered by annotation.  Needs view (annotators get their own agreement from `own_agreement`)."""
    raise NotImplementedError


def value_labels(database: Database, who: Member) -> list[ValueLabel]:
    """All of them, ordered by annotation.  Needs view."""
    raise NotImplementedError


@dataclass(frozen=True)
class OwnAgreement:
    """How often an annotator took the side of the others' majority: `agreed` of `compared`, and per kind of the others."""

    agreed: int
    compared: int
    by_kind: dict[str, tuple[int, int]]  # kind -> (agreed, compared)


def own_agreement(database: Database, who: Member) -> OwnAgreement | None:
    """The annotator's own pair answers against the others'; None when the project does not show it.  Needs label."""
    raise NotImplementedError
