"""Which answers the insights page is made of: all, or where they are very many those about some prompts drawn at random.

Prompts are drawn with everything about them, so that agreement, circles and other ways of asking are there as they are in the
whole; intervals are over prompts anyway.  A prompt's digest is as good as random: those with the smallest digests are a sample,
the same on every server.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, func, select

from tutelage.feedback.asking.payloads import Model
from tutelage.store.schema import Annotation, Item, PromptRow
from tutelage.store.schema_feedback import AuditEvent, Gold

LARGEST = 50_000  # answers that are all read; a page of so many takes some seconds
NEWS = LARGEST // 20  # answers (to whatever project) after which the numbers of a larger one are made anew
PROMPTS = 500  # that are looked at together
State = tuple[object, ...]


class Sample(Model):
    """What was drawn: `prompts` with `answers`; `share`: of all prompts, from 0 to 1."""

    prompts: int
    answers: int
    share: float


@dataclass(frozen=True)
class Drawn:
    """The prompts (their rows) that are read, and the sample that they are; None: all."""

    prompts: tuple[int, ...] | None = None
    sample: Sample | None = None


def is_large(connection: Connection, project_id: int) -> bool:
    """Whether a project has more answers than are all read; looks at no more than that."""
    some = select(Annotation.id).join(Item).where(Item.project_id == project_id).limit(LARGEST + 1)
    return (connection.scalar(select(func.count()).select_from(some.subquery())) or 0) > LARGEST


def state_of(connection: Connection, project_id: int) -> State:
    """What the numbers follow from: answers are only ever added (purging takes whole projects); settings, gold items and
    redactions are audited."""
    gold = select(func.count()).select_from(Gold).join(Item).where(Item.project_id == project_id)
    events = select(func.max(AuditEvent.id)).where(AuditEvent.project_id == project_id)
    if is_large(connection, project_id):  # to count them all would take longer than the page
        latest = connection.scalar(select(func.max(Annotation.id))) or 0
        answers: State = (True, latest // NEWS)
    else:
        own = select(func.max(Annotation.id), func.count()).join(Item).where(Item.project_id == project_id)
        answers = (False, *connection.execute(own).one())
    return (*answers, connection.scalar(gold), connection.scalar(events))


def draw(connection: Connection, project_id: int) -> Drawn:
    """Prompts until they have as many answers as are read; all where there are no more."""
    if not is_large(connection, project_id):
        return Drawn()
    prompts: list[int] = []
    answers, last = 0, ""
    while answers < LARGEST:
        query = select(PromptRow.id, PromptRow.digest).where(PromptRow.project_id == project_id)
        query = query.where(PromptRow.digest > last).order_by(PromptRow.digest).limit(PROMPTS)
        rows = connection.execute(query).all()
        if not rows:
            return Drawn()
        prompts += [row.id for row in rows]
        last = rows[-1].digest
        given = select(func.count()).select_from(Annotation).join(Item)
        answers += connection.scalar(given.where(Item.prompt_id.in_([row.id for row in rows]))) or 0
    share = (int(last, 16) + 1) / 16 ** len(last)
    return Drawn(tuple(prompts), Sample(prompts=len(prompts), answers=answers, share=share))
