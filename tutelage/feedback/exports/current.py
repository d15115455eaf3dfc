"""What exports are made of: the answers of a project as they are now, with the items that they are about."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import Any, NamedTuple

from sqlalchemy import Connection, select

from tutelage.feedback.asking.answer_rows import read_answers
from tutelage.feedback.asking.payloads import Answer
from tutelage.feedback.exports.spec import ExportSpec
from tutelage.store.comparing import ItemContent, read_items
from tutelage.store.current import IS_CURRENT
from tutelage.store.schema import Annotation, Annotator, Item
from tutelage.store.schema_feedback import Assignment, Gold, SchemaVersion

RowDict = dict[str, Any]  # one row of a file


class Source(NamedTuple):
    """Where rows come from: an open transaction and the project in it."""

    connection: Connection
    project_id: int
    spec: ExportSpec
    left_out: Counter[str]

    def gold_items(self) -> set[int]:
        """Items to leave out because they are gold."""
        if self.spec.gold:
            return set()
        query = select(Gold.item_id).join(Item, Item.id == Gold.item_id)
        return set(self.connection.scalars(query.where(Item.project_id == self.project_id)))


@dataclass(frozen=True)
class CurrentAnswer:
    """A current answer (in slots) of a person, or an adjudication."""

    annotation_id: int
    item_id: int
    annotator: str
    role: str
    answer: Answer
    questions: dict[str, Any]  # the questions it answers


def aliases(source: Source) -> dict[str, str]:
    """What to call annotators: their names if the specification says so, else numbers in the order of their making."""
    query = select(Annotator.id, Annotator.name).order_by(Annotator.id)
    names = [row.name for row in source.connection.execute(query)]
    return {name: name if source.spec.names else f"annotator-{n}" for n, name in enumerate(names, start=1)}


def items_of(source: Source, *types: str) -> list[ItemContent]:
    gold = source.gold_items()
    items = read_items(source.connection, source.project_id, *types)
    source.left_out["gold"] += sum(item.item_id in gold for item in items)
    return [item for item in items if item.item_id not in gold]


def given_to(source: Source, *types: str) -> dict[int, list[CurrentAnswer]]:
    """item -> people's current answers and the adjudication, in the order of their making."""
    rows = source.connection.execute(
        select(Annotation.id, Annotation.item_id, Annotator.name, Annotation.role, SchemaVersion.content)
        .join(Item, Item.id == Annotation.item_id)
        .join(Annotator, Annotator.id == Annotation.annotator_id)
        .join(Assignment, Assignment.id == Annotation.assignment_id)
        .join(SchemaVersion, SchemaVersion.id == Assignment.schema_version_id)
        .where(
            Item.project_id == source.project_id,
            Item.type.in_(types),
            Annotation.role.in_(("answer", "adjudication")),
            IS_CURRENT,
        )
        .order_by(Annotation.id)
    ).all()
    stored = read_answers(source.connection, [row.id for row in rows])
    found: dict[int, list[CurrentAnswer]] = defaultdict(list)
    for row in rows:
        found[row.item_id].append(
            CurrentAnswer(row.id, row.item_id, row.name, row.role, stored[row.id], row.content)
        )
    return found
