"""The current answer: of one annotator's revisions of an answer the last, which nothing supersedes."""

from __future__ import annotations

from sqlalchemy import Connection, literal_column, select
from sqlalchemy.orm import aliased

from tutelage.store.schema import Annotation, Item
from tutelage.store.schema_feedback import Withdrawal

_later = aliased(Annotation)
# Written out, not as parameters, and in the index's own words: only then `ix_annotation_uncounted` can answer.
IS_UNCOUNTED = Annotation.role != literal_column("'answer'")
IS_ADJUDICATION = IS_UNCOUNTED & (Annotation.role == literal_column("'adjudication'"))
IS_EXTRA = IS_UNCOUNTED & (Annotation.role == literal_column("'extra'"))
# Conditions on `Annotation`.
IS_CURRENT = ~select(_later.id).where(_later.supersedes_id == Annotation.id).correlate(Annotation).exists()
IS_VOTE = Annotation.role != "adjudication"  # an annotator's own answer, counted or extra
IS_FIRST = (
    Annotation.supersedes_id.is_(None) & IS_VOTE
)  # what each answer began with: one row per annotator and item
_withdrawn = select(Withdrawal.annotation_id).where(Withdrawal.annotation_id == Annotation.id)
IS_SETTLING = (
    IS_ADJUDICATION & IS_CURRENT & ~_withdrawn.correlate(Annotation).exists()
)  # the adjudication that holds


def any_settled(connection: Connection, project_id: int) -> bool:
    """Whether somebody has settled an item of the project: then `auto` aggregates as `adjudicated`."""
    of_project = select(Item.id).where(Item.id == Annotation.item_id, Item.project_id == project_id)
    settled = select(Annotation.id).where(IS_SETTLING, of_project.exists()).limit(1)
    return connection.scalar(settled) is not None
