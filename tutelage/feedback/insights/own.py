"""What an annotator is told of their own answers: agreement with the others, and right answers to gold items."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, case, func, select

from tutelage.feedback.asking.answer_rows import read_answers
from tutelage.feedback.asking.payloads import Answer, PairAnswer, RankAnswer, RateAnswer, StepAnswer
from tutelage.feedback.people.access import Member
from tutelage.feedback.projects.projects import settings_of
from tutelage.store.current import IS_CURRENT, IS_VOTE
from tutelage.store.database import Database
from tutelage.store.schema import Annotation, Annotator, Item
from tutelage.store.schema_feedback import Gold


@dataclass(frozen=True)
class OwnAgreement:
    """How often an annotator took the side of the others' majority: `agreed` of `compared`, and per kind of the others."""

    agreed: int
    compared: int
    by_kind: dict[str, tuple[int, int]]  # kind -> (agreed, compared)


def own_agreement(database: Database, who: Member) -> OwnAgreement | None:
    """The annotator's own pair answers against the others'; None when the project does not show it.  Needs label.

    The others' majority is the sign of their summed sides; ties, theirs or one's own, are not compared.
    """
    who.require("label")
    side = case((Annotation.preference < 0, -1), (Annotation.preference > 0, 1), else_=0)
    counted = (Item.project_id == who.project_id, Annotation.role == "answer", IS_CURRENT)
    compared = (*counted, Annotation.preference.is_not(None))
    mine = Annotation.annotator_id == who.annotator_id
    votes = select(Annotation.item_id, side.label("side")).join(Item).where(*compared, mine).subquery()
    others = (
        select(Annotation.item_id, votes.c.side, Annotator.kind, func.sum(side))
        .join(votes, votes.c.item_id == Annotation.item_id)
        .join(Item, Item.id == Annotation.item_id)
        .join(Annotator, Annotator.id == Annotation.annotator_id)  # an item has an owner, too
        .where(*compared, ~mine)
        .group_by(Annotation.item_id, votes.c.side, Annotator.kind)
    )
    with database.read() as connection:
        if not settings_of(connection, who.project_id).show_agreement:
            return None
        rows = connection.execute(others).all()
    total: dict[int, int] = defaultdict(int)  # item -> sum of the others' sides, turned so that mine is 1
    by_kind: dict[str, list[int]] = defaultdict(list)
    for item, mine, kind, theirs in rows:
        total[item] += mine * theirs
        by_kind[kind].append(mine * theirs)
    kinds = {kind: _agreed(sides) for kind, sides in sorted(by_kind.items())}
    return OwnAgreement(*_agreed(total.values()), by_kind=kinds)


def gold_counts(connection: Connection, who: Member) -> tuple[int, int]:
    """(right, answered) of one annotator's current answers to gold items."""
    mine = (Item.project_id == who.project_id, Annotation.annotator_id == who.annotator_id)
    query = select(Annotation.id, Gold.answer).select_from(Annotation).join(Item).join(Gold)
    golds = {row.id: row.answer for row in connection.execute(query.where(*mine, IS_CURRENT, IS_VOTE))}
    stored = read_answers(connection, list(golds))
    right = [is_right(stored[key], golds[key]) for key in golds]
    return sum(right), len(right)


def is_right(answer: Answer, gold: dict[str, Any]) -> bool:
    """Whether an answer (in slots) says what gold (JSON of an answer in slots) says.

    Pairs: the same side, however strongly; ranks and steps: the same; ratings: each within one point.  Others have
    no right answer and count as right.
    """
    if isinstance(answer, PairAnswer):
        return _sign(answer.preference) == _sign(gold["preference"])
    if isinstance(answer, RankAnswer):
        return list(answer.ranks) == list(gold["ranks"])
    if isinstance(answer, StepAnswer):
        return [mark.label for mark in answer.marks] == [mark["label"] for mark in gold["marks"]]
    if isinstance(answer, RateAnswer):
        return all(
            (mine is None) == (right is None) and (mine is None or abs(mine - right) <= 1)
            for name, values in gold["ratings"].items()
            for mine, right in zip(answer.ratings.get(name, [None] * len(values)), values, strict=True)
        )
    return True


def _agreed(sides: Iterable[int]) -> tuple[int, int]:
    """(agreed, compared) of the others' summed sides, seen from one's own: above 0 is agreement, 0 is a tie."""
    decided = [side for side in sides if side]
    return sum(side > 0 for side in decided), len(decided)


def _sign(value: int) -> int:
    return (value > 0) - (value < 0)
