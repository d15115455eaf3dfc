"""API: the work itself: the next item, drafts, answers, revisions, and settling conflicts."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from pydantic import Field

from tutelage.feedback.asking.payloads import (
    LARGEST_ID,
    About,
    FlagCode,
    Model,
    Receipt,
    Short,
    SkipReason,
    Submission,
    SubmittedAnswer,
)
from tutelage.feedback.insights import own
from tutelage.feedback.insights.own import OwnAgreement
from tutelage.feedback.refining import working
from tutelage.feedback.work import answers, corrections, guidelines, queue
from tutelage.feedback.work.answers import Settled
from tutelage.feedback.work.queue import Progress
from tutelage.web.access import Adjudicator, Annotator, TheSite
from tutelage.web.fields import BodyId, Id, Key, strict_router
from tutelage.web.views import ConflictView, TaskView, conflict_view, task_view

router = strict_router("work")


class Next(Model):
    """`besides`: assignments that the caller has in hand, so that another one comes (for fetching ahead)."""

    besides: Annotated[tuple[BodyId, ...], Field(max_length=10)] = ()


class Handed(Model):
    """The next item, or null when nothing is left."""

    view: TaskView | None


class Draft(About):
    """What is typed so far, as the page likes to keep it."""

    draft: dict[str, Any]


class Lease(Model):
    """Until when the item is kept for the caller."""

    lease_expires_at: datetime


class Skip(About):
    """Why an item is given back."""

    reason: SkipReason
    text: Short = ""


class Flag(Model):
    """What is wrong with an item."""

    code: FlagCode
    text: Short = ""


class Flagged(Model):
    """The flag as stored."""

    flag_id: int


class SendBack(Model):
    """What is to be corrected, for the annotator to read."""

    note: Short


class SentBack(Model):
    """The request for a correction as stored."""

    sent_back_id: int


class NextConflict(Model):
    """`after_item`: the conflict that was seen last."""

    after_item: Annotated[int, Field(ge=0, le=LARGEST_ID)] = 0


class Conflicts(Model):
    """The next unsettled conflict, and how many there are."""

    conflict: ConflictView | None
    left: int


@router.post("/projects/{project}/next")
def next_task(site: TheSite, who: Annotator, body: Next) -> Handed:
    """The next item, leased to the caller; one already in hand comes again unless it is in `besides`."""
    task = queue.next_task(site.database, who, body.besides)
    return Handed(view=None if task is None else task_view(task))


@router.get("/projects/{project}/progress")
def progress(site: TheSite, who: Annotator) -> Progress:
    """The caller's own numbers."""
    return queue.progress(site.database, who)


@router.get("/projects/{project}/agreement")
def agreement(site: TheSite, who: Annotator) -> OwnAgreement | None:
    """The caller's agreement with the others, where the project shows it."""
    return own.own_agreement(site.database, who)


@router.get("/projects/{project}/assignments/{assignment_id}")
def read_task(site: TheSite, who: Annotator, assignment_id: Id) -> TaskView:
    """An own assignment again, with the answer when there is one."""
    return task_view(queue.task(site.database, who, assignment_id))


@router.put("/projects/{project}/assignments/{assignment_id}/draft", status_code=204)
def save_draft(site: TheSite, who: Annotator, assignment_id: Id, body: Draft) -> None:
    """Keep what is typed so far, and the item for longer."""
    queue.save_draft(site.database, who, assignment_id, body.draft, body)


@router.post("/projects/{project}/assignments/{assignment_id}/heartbeat")
def heartbeat(site: TheSite, who: Annotator, assignment_id: Id) -> Lease:
    """Keep the item for longer."""
    return Lease(lease_expires_at=queue.heartbeat(site.database, who, assignment_id))


@router.post("/projects/{project}/assignments/{assignment_id}/submit")
def submit(site: TheSite, who: Annotator, assignment_id: Id, body: SubmittedAnswer, key: Key) -> Receipt:
    """Store an answer; it is on disk when this returns.  The same key again gives the same receipt."""
    receipt = answers.submit(site.database, who, assignment_id, submission(body, key))
    if body.answer.type == "step":
        working.settle(site.database, who, assignment_id)
    return receipt


@router.post("/projects/{project}/annotations/{annotation_id}/revise")
def revise(site: TheSite, who: Annotator, annotation_id: Id, body: SubmittedAnswer, key: Key) -> Receipt:
    """Store a revision of one's own latest answer; what was answered before is kept beside it."""
    return answers.revise(site.database, who, annotation_id, submission(body, key))


@router.post("/projects/{project}/assignments/{assignment_id}/skip", status_code=204)
def skip(site: TheSite, who: Annotator, assignment_id: Id, body: Skip) -> None:
    """Give the item back for good."""
    queue.skip(site.database, who, assignment_id, body.reason, body.text, body)


@router.post("/projects/{project}/assignments/{assignment_id}/unskip")
def unskip(site: TheSite, who: Annotator, assignment_id: Id) -> TaskView:
    """Take a skip back: the item as it was left."""
    return task_view(queue.unskip(site.database, who, assignment_id))


@router.post("/projects/{project}/assignments/{assignment_id}/release", status_code=204)
def release(site: TheSite, who: Annotator, assignment_id: Id) -> None:
    """Give the item back; it may come again."""
    queue.release(site.database, who, assignment_id)


@router.post("/projects/{project}/assignments/{assignment_id}/flag", status_code=201)
def flag(site: TheSite, who: Annotator, assignment_id: Id, body: Flag) -> Flagged:
    """Tell the managers about an item."""
    return Flagged(flag_id=queue.flag(site.database, who, assignment_id, body.code, body.text))


@router.post("/projects/{project}/guidelines/{n}/seen", status_code=204)
def guidelines_seen(site: TheSite, who: Annotator, n: Id) -> None:
    """The caller has had this version of the guidelines on screen: the next answers are given under it."""
    guidelines.mark_seen(site.database, who, n)


@router.post("/projects/{project}/annotations/{annotation_id}/send-back", status_code=201)
def send_back(site: TheSite, who: Adjudicator, annotation_id: Id, body: SendBack) -> SentBack:
    """Ask the annotator of an answer to correct it."""
    return SentBack(sent_back_id=corrections.send_back(site.database, who, annotation_id, body.note))


@router.get("/projects/{project}/settled")
def settled(site: TheSite, who: Adjudicator) -> list[Settled]:
    """What was settled, newest first."""
    return answers.settled(site.database, who)


@router.post("/projects/{project}/conflicts/{item_id}/open")
def open_conflict(site: TheSite, who: Adjudicator, item_id: Id) -> ConflictView:
    """One item for settling, or for settling again."""
    return conflict_view(answers.conflict(site.database, who, item_id))


@router.post("/projects/{project}/conflicts/{item_id}/reopen", status_code=204)
def reopen_conflict(site: TheSite, who: Adjudicator, item_id: Id) -> None:
    """Let a settled item be in conflict again."""
    answers.reopen(site.database, who, item_id)


@router.post("/projects/{project}/conflicts/next")
def next_conflict(site: TheSite, who: Adjudicator, body: NextConflict) -> Conflicts:
    """The next item that its annotators do not agree on."""
    found = answers.next_conflict(site.database, who, body.after_item)
    return Conflicts(conflict=found and conflict_view(found), left=found.left if found else 0)


@router.post("/projects/{project}/assignments/{assignment_id}/adjudicate")
def adjudicate(
    site: TheSite, who: Adjudicator, assignment_id: Id, body: SubmittedAnswer, key: Key
) -> Receipt:
    """Settle a conflict with an answer that is not a vote."""
    return answers.adjudicate(site.database, who, assignment_id, submission(body, key))


def submission(given: SubmittedAnswer, key: str) -> Submission:
    """What the services take: the answer under its key."""
    return Submission(client_key=key, **{name: getattr(given, name) for name in SubmittedAnswer.model_fields})
