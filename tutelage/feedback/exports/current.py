"""What exports are made of: the responses of each item, with the answers about them as they are now.

The one table that all formats are written from (`answered_items`), and the one place that leaves out what is gold,
redacted or of another split than was asked for.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeVar

from sqlalchemy import Connection, func, or_, select
from sqlalchemy.orm import aliased

from tutelage.feedback.asking.answer_rows import read_answers
from tutelage.feedback.asking.payloads import Answer, Schema
from tutelage.feedback.exports.spec import ExportSpec
from tutelage.feedback.items.conflicts import conflicts
from tutelage.feedback.training.source import REDACTED, Settled, chosen_aggregation
from tutelage.store.comparing import ItemContent, read_weights, stream_items
from tutelage.store.current import IS_CURRENT, IS_SETTLING, any_settled
from tutelage.store.origins import pseudonyms
from tutelage.store.schema import Annotation, Annotator, Item
from tutelage.store.schema_feedback import Assignment, Gold, Rewrite, SchemaVersion

RowDict = dict[str, Any]  # one row of a file
T = TypeVar("T")
JUDGED = ("rank", "step")  # types that judges answer in full; of a pair they say only which is better


class LookedEnough(Exception):
    """Raised out of rows that are only looked at."""


@dataclass
class Look:
    """A look at the rows: only so many items (responses, answers) are read for it."""

    left: int

    def at_one(self) -> None:
        if self.left == 0:
            raise LookedEnough
        self.left -= 1


@dataclass(frozen=True)
class Source:
    """Where rows come from: an open transaction and the project in it; `left_out` counts, by reason, what gives no row:
    of pairs, ranked or stepwise items each one, where single responses are rows each response, in raw each answer.  `look`:
    after so many of these LookedEnough is raised."""

    connection: Connection
    project_id: int
    spec: ExportSpec
    left_out: Counter[str]
    look: Look | None = None

    @cached_property
    def gold_items(self) -> set[int]:
        """Items to leave out because they are gold."""
        if self.spec.gold:
            return set()
        query = select(Gold.item_id).join(Item)
        return set(self.connection.scalars(query.where(Item.project_id == self.project_id)))

    @cached_property
    def aggregation(self) -> Settled:
        """How several answers become one row."""
        return chosen_aggregation(self.spec.aggregation, any_settled(self.connection, self.project_id))

    def wanted(self, rows: Iterable[tuple[int, str, bool, T]]) -> Iterator[T]:
        """What is to be written of (item, split, redacted, row); the rest is counted."""
        for item_id, split, redacted, row in rows:
            if self.look is not None:
                self.look.at_one()
            reason = self._why_not(item_id, split, redacted)
            if reason:
                self.left_out[reason] += 1
            else:
                yield row

    def _why_not(self, item_id: int, split: str, redacted: bool) -> str:
        if item_id in self.gold_items:
            return "gold"
        if not self.spec.wants(split):
            return f"split '{split}'"
        return REDACTED if redacted else ""


@dataclass(frozen=True)
class CurrentAnswer:
    """A current answer (in slots) of a person; `weight`: how many times it counts."""

    annotation_id: int
    annotator: str
    answer: Answer
    questions: dict[str, Any]  # the questions it answers
    weight: float = 1.0


@dataclass(frozen=True)
class AnsweredItem:
    """An item's responses with the answers about them, in the order of their making, and what settled it."""

    content: ItemContent
    votes: list[CurrentAnswer] = field(default_factory=list)
    settled: CurrentAnswer | None = None
    in_conflict: bool = False

    @property
    def answers(self) -> list[CurrentAnswer]:
        """The votes, and behind them what settled it."""
        return [*self.votes, *([self.settled] if self.settled else [])]


def aliases(source: Source) -> dict[str, str]:
    """What to call annotators: their names if the specification says so, else `pseudonyms`."""
    query = select(Annotator.id, Annotator.name).order_by(Annotator.id)
    names = [row.name for row in source.connection.execute(query)]
    return dict(zip(names, names, strict=True)) if source.spec.names else pseudonyms(names)


def answered_items(source: Source, *types: str) -> Iterator[AnsweredItem]:
    """The items of some types that somebody has answered, ordered by content; some hundred are in memory at a time."""
    found = _answered(source, *types)
    return source.wanted((one.content.item_id, one.content.split, one.content.redacted, one) for one in found)


def answered_responses(source: Source, *types: str) -> Iterator[tuple[AnsweredItem, int]]:
    """The same by response: each item with each of its slots."""
    return source.wanted(
        (one.content.item_id, one.content.split, one.content.redacted, (one, slot))
        for one in _answered(source, *types)
        for slot in range(len(one.content.texts))
    )


def _answered(source: Source, *types: str) -> Iterator[AnsweredItem]:
    weights = read_weights(source.connection, source.project_id)
    for items in stream_items(source.connection, source.project_id, *types):
        ids = [item.item_id for item in items]
        votes, settled = _answers(source, ids, weights)
        disputed = conflicts(source.connection, source.project_id, among=ids)
        for item in items:
            key = item.item_id
            if key in votes or key in settled:
                yield AnsweredItem(item, votes[key], settled.get(key), key in disputed)


def _answers(
    source: Source, items: Sequence[int], weights: Mapping[str, float]
) -> tuple[dict[int, list[CurrentAnswer]], dict[int, CurrentAnswer]]:
    """item -> current answers, and item -> the adjudication that holds, of some items.

    What a judge ranked or marked was never handed out: it goes by the questions that were asked at that time.
    """
    earlier = aliased(SchemaVersion)
    at_that_time = (
        select(func.max(earlier.id))
        .where(earlier.project_id == Item.project_id, earlier.created_at <= Annotation.submitted_at)
        .correlate(Item, Annotation)
        .scalar_subquery()
    )
    rows = source.connection.execute(
        select(Annotation.id, Annotation.item_id, Annotator.name, Annotation.role, SchemaVersion.content)
        .select_from(Annotation)
        .join(Item)
        .join(Annotator, Annotator.id == Annotation.annotator_id)  # an item has an owner, too
        .outerjoin(Assignment, Assignment.id == Annotation.assignment_id)
        .outerjoin(
            SchemaVersion, SchemaVersion.id == func.coalesce(Assignment.schema_version_id, at_that_time)
        )
        .where(
            Annotation.item_id.in_(items),
            or_(Assignment.id.is_not(None), Item.type.in_(JUDGED)),
            or_(Annotation.role == "answer", IS_SETTLING),
            IS_CURRENT,
            Annotation.id.not_in(EMPTIED),
        )
        .order_by(Annotation.id)
    ).all()
    stored = read_answers(source.connection, [row.id for row in rows])
    votes: dict[int, list[CurrentAnswer]] = defaultdict(list)
    settled: dict[int, CurrentAnswer] = {}
    for row in rows:
        weight = weights.get(row.name, 1.0)
        questions = row.content or Schema().model_dump(mode="json")  # of a project that nobody has set up
        answer = CurrentAnswer(row.id, row.name, stored[row.id], questions, weight)
        if row.role == "adjudication":
            settled[row.item_id] = answer
        else:
            votes[row.item_id].append(answer)
    return votes, settled


EMPTIED = select(Rewrite.annotation_id).where(Rewrite.text == "")
"""The annotations whose text was redacted: there is no answer to read any more."""
