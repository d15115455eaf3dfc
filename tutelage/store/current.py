"""The current answer: of one annotator's revisions of an answer the last, which nothing supersedes."""

from __future__ import annotations

from sqlalchemy import select
from sqlalchemy.orm import aliased

from tutelage.store.schema import Annotation
from tutelage.store.schema_feedback import Withdrawal

_later = aliased(Annotation)
# Conditions on `Annotation`.
IS_CURRENT = ~select(_later.id).where(_later.supersedes_id == Annotation.id).correlate(Annotation).exists()
IS_VOTE = Annotation.role != "adjudication"  # an annotator's own answer, counted or extra
IS_FIRST = (
    Annotation.supersedes_id.is_(None) & IS_VOTE
)  # what each answer began with: one row per annotator and item
_withdrawn = select(Withdrawal.annotation_id).where(Withdrawal.annotation_id == Annotation.id)
IS_SETTLING = (
    (Annotation.role == "adjudication") & IS_CURRENT & ~_withdrawn.correlate(Annotation).exists()
)  # the adjudication that holds
