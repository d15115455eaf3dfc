"""Answers on their way in: checked against the questions, turned into slots, stored append-only, in one transaction."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, bindparam, delete, insert, select, update
from sqlalchemy.orm import aliased

from tutelage.feedback.asking.answer_rows import normal, read_answers, write_answer
from tutelage.feedback.asking.checking import check_answer
from tutelage.feedback.asking.payloads import Answer, PairAnswer, RankAnswer, Receipt, Submission, Task
from tutelage.feedback.asking.slots import to_positions, to_slots
from tutelage.feedback.errors import Refused
from tutelage.feedback.items.conflicts import next_unsettled, settlements
from tutelage.feedback.items.contents import lock_item, steps_shown, texts_of
from tutelage.feedback.people.access import Member, note
from tutelage.feedback.projects.projects import schema_at, standing
from tutelage.feedback.work.events import tell_of_answer
from tutelage.feedback.work.leases import (
    Held,
    check_store,
    give_back_turns,
    hold,
    is_counted,
    latest_answer,
    lease,
    read_task,
    turns_of,
)
from tutelage.feedback.work.telling import help_at
from tutelage.records import Prompt
from tutelage.seeds import rng
from tutelage.store.counting import recount
from tutelage.store.current import IS_CURRENT
from tutelage.store.database import Database
from tutelage.store.schema import Annotation, Annotator, Item
from tutelage.store.schema_feedback import Assignment, ChatTurn, Draft, Withdrawal
from tutelage.store.schema_refining import RefinementRound
from tutelage.store.voting import insert_help

LISTED = 200  # settled conflicts, at most
GONE_ON = "the solution has gone on from these marks: they can no longer be changed."
KIND_ORDER = ("human", "simulated", "rule", "judge")  # judges last: an adjudicator should think first


@dataclass(frozen=True)
class Opinion:
    """One answer to an item in conflict, names hidden: they are numbered from 1, in a shuffled order."""

    number: int
    kind: str  # human, simulated, judge or rule; judges come last
    answer: Answer
    submitted_at: datetime


@dataclass(frozen=True)
class Settlement:
    """How a conflict was settled; settling again would be a revision of it."""

    annotation_id: int
    by: str
    at: datetime
    answer: Answer


@dataclass(frozen=True)
class Conflict:
    """An item whose annotators do not agree, as an adjudicator sees it; `task` fixes the order on the screen.

    `left`: how many nobody has settled, this one included (0 where one item was asked for).
    """

    task: Task
    opinions: list[Opinion]
    settled: Settlement | None
    left: int = 0


@dataclass(frozen=True)
class Settled:
    """A settled item in the list of them."""

    item_id: int
    by: str
    at: datetime
    prompt: str


def submit(database: Database, who: Member, assignment_id: int, submission: Submission) -> Receipt:
    """Store an answer; it is on disk when this returns.  The same `client_key` again returns the same receipt.

    Works after the lease has expired, too: counted if the item still has room, else stored as `extra`.
    Refused: not-found; invalid (the answer does not fit the questions: the sentence says where); conflict (already
    answered under another key: revise; the key belongs to another answer; skipped; about another item).
    """
    who.require("label")
    with database.write() as connection:
        return submit_in(connection, who, hold(connection, who, assignment_id, submission), submission)


def submit_in(
    connection: Connection, who: Member, held: Held, submission: Submission, position: int | None = None
) -> Receipt:
    """`submit` inside a transaction that holds the item; `position` as in `live.choose`."""
    known = _known(connection, who, held, submission)
    if known is not None:
        return known
    if held.status in ("done", "review", "skipped"):
        said = {
            "done": "you have answered this item already: revise that answer instead.",
            "review": "you have seen the others' answers to this item: settle it instead.",
            "skipped": "you have skipped this item: take the skip back first, or ask for the next one.",
        }
        raise Refused("conflict", said[held.status])
    role = "answer" if is_counted(connection, held.item_id) else "extra"
    key = _store(connection, who, held, submission, role, None, position)
    connection.execute(_DONE, {"assignment": held.id})
    tell_of_answer(connection, who, held, key)
    return Receipt(annotation_id=key, assignment_id=held.id, extra=role == "extra")


def revise(database: Database, who: Member, annotation_id: int, submission: Submission) -> Receipt:
    """Store a revision of one's own latest answer: what undo does.

    Refused: not-found (also somebody else's); conflict (not the latest: reload); invalid.
    """
    who.require("label")
    with database.write() as connection:
        return revise_in(connection, who, annotation_id, submission)


def revise_in(
    connection: Connection,
    who: Member,
    annotation_id: int,
    submission: Submission,
    position: int | None = None,
) -> Receipt:
    """`revise` inside a transaction; `position` as in `live.choose`."""
    check_store(connection, submission)
    own = (Annotation.id == annotation_id, Annotation.annotator_id == who.annotator_id)
    columns = (Annotation.assignment_id, Annotation.role)
    row = connection.execute(select(*columns).where(*own)).one_or_none()
    if row is None or row.assignment_id is None or row.role == "adjudication":
        raise Refused("not-found", f"answer {annotation_id} is not yours: there is nothing to revise.")
    held = hold(connection, who, row.assignment_id, submission)
    known = _known(connection, who, held, submission)
    if known is not None:
        return known
    if latest_answer(connection, held.item_id, who.annotator_id) != annotation_id:
        raise Refused("conflict", "this answer was revised meanwhile (in another tab?): reload it.")
    if following_round(connection, held.item_id) is not None:
        raise Refused("conflict", GONE_ON)
    key = _store(connection, who, held, submission, row.role, annotation_id, position)
    return Receipt(annotation_id=key, assignment_id=held.id, extra=row.role == "extra")


# conflicts ------------------------------------------------------------------------------------------------------------


def next_conflict(database: Database, who: Member, after_item: int = 0) -> Conflict | None:
    """The next unsettled conflict, most disputed first; `after_item`: the one that comes after it.  Needs adjudicate.

    Items with all the answers they want, at least two of them, that differ: pairs with answers on both sides, or
    ties against a side; ranks in another order; a step marked differently; ratings that lie half the scale or more
    apart.  Rewrites and chats have no conflicts.
    """
    who.require_account("adjudicate")
    with database.read() as connection:  # of a large project it takes a while, and nobody waits for it
        found = next_unsettled(connection, who.project_id, after_item)
    if found is None:
        return None
    with database.write() as connection:
        standing(connection, who.project_id)  # before any item is locked: it may make questions
        return _open(connection, who, found.item_id, found.left)


def conflict(database: Database, who: Member, item_id: int) -> Conflict:
    """One item for settling (or settling again), in conflict or not.  Needs adjudicate.  Refused: not-found."""
    who.require_account("adjudicate")
    with database.write() as connection:
        standing(connection, who.project_id)  # before any item is locked: it may make questions
        own = (Item.id == item_id, Item.project_id == who.project_id, Item.type.not_in(("rewrite", "chat")))
        if connection.scalar(select(Item.id).where(*own)) is None:
            raise Refused("not-found", f"there is no item {item_id} to settle in this project.")
        return _open(connection, who, item_id)


def adjudicate(database: Database, who: Member, assignment_id: int, submission: Submission) -> Receipt:
    """Settle a conflict with a new annotation that is not counted as a vote; again: a revision.  Needs adjudicate."""
    who.require_account("adjudicate")
    with database.write() as connection:
        return settle_in(connection, who, hold(connection, who, assignment_id, submission), submission)


def settle_in(connection: Connection, who: Member, held: Held, submission: Submission) -> Receipt:
    """`adjudicate` inside a transaction that holds the item."""
    known = _known(connection, who, held, submission)
    if known is not None:
        return known
    if held.status not in ("review", "done"):
        raise Refused("conflict", "open the conflict first: it may have been settled meanwhile.")
    key = _store(connection, who, held, submission, "adjudication", _last_adjudication(connection, held))
    return Receipt(annotation_id=key, assignment_id=held.id)


def reopen(database: Database, who: Member, item_id: int) -> None:
    """Let a settled item be in conflict again: its adjudication stays, but holds no longer.  Needs adjudicate.

    Refused: not-found when nobody has settled the item.
    """
    who.require_account("adjudicate")
    with database.write() as connection:
        lock_item(connection, item_id)
        row = _settlement(connection, who.project_id, item_id)
        if row is None:
            raise Refused("not-found", f"item {item_id} is not settled: there is nothing to reopen.")
        withdrawal = insert(Withdrawal).values(annotation_id=row.annotation_id, by_id=who.user.account_id)
        connection.execute(withdrawal)
        note(connection, who.user, "reopen", str(item_id), who.project_id)


def settled(database: Database, who: Member) -> list[Settled]:
    """What was settled last, by whom and when, newest first: at most 200.  Needs adjudicate."""
    who.require("adjudicate")
    with database.read() as connection:
        rows = settlements(connection, who.project_id, limit=LISTED)
    return [Settled(row.item_id, row.by, row.at, Prompt.from_json(row.content).text()) for row in rows]


# inside ---------------------------------------------------------------------------------------------------------------


def _key(who: Member, submission: Submission) -> str:
    """Keys belong to their user: nobody can take or guess another's."""
    return f"user {who.user.id}/{submission.client_key}"


def _known(connection: Connection, who: Member, held: Held, submission: Submission) -> Receipt | None:
    """The receipt of a submission that is there already.  Refused: conflict when its key stands for another answer."""
    row = connection.execute(_KNOWN, {"key": _key(who, submission)}).one_or_none()
    if row is None:
        return None
    same = row.assignment_id == held.id and read_answers(connection, [row.id])[row.id] == normal(
        to_slots(submission.answer, held.order)
    )
    if not same:
        raise Refused("conflict", "this key belongs to another answer: a new answer needs a new key.")
    return Receipt(annotation_id=row.id, assignment_id=held.id, extra=row.role == "extra", repeated=True)


def _store(
    connection: Connection,
    who: Member,
    held: Held,
    submission: Submission,
    role: str,
    supersedes: int | None,
    position: int | None = None,
) -> int:
    _, schema = schema_at(connection, held.schema_version_id)
    texts = texts_of(connection, held.item_id)
    steps = steps_shown(held.type, schema, texts[0]) if texts else ()
    check_answer(submission.answer, held.type, schema, texts, len(steps))
    answer = to_slots(submission.answer, held.order)
    if held.type == "chat":
        _check_talked(connection, held)
        give_back_turns(connection, held)
    _continue_with(connection, held, answer, position)
    connection.execute(_NO_DRAFT, {"assignment": held.id})
    annotation_id = write_answer(
        connection,
        answer,
        steps,
        first_shown=held.order[0] if held.order else 0,
        item_id=held.item_id,
        annotator_id=who.annotator_id,
        assignment_id=held.id,
        role=role,
        client_key=_key(who, submission),
        supersedes_id=supersedes,
        active_ms=submission.active_ms,
        ui_version=submission.ui_version,
    )
    if held.type == "pair" and role != "adjudication":
        insert_help(connection, annotation_id, help_at(connection, held.id))
    recount(connection, [held.item_id])
    return annotation_id


def _check_talked(connection: Connection, held: Held) -> None:
    turns = turns_of(held.item_id, held.annotator_id)
    if connection.scalar(turns.where(ChatTurn.chosen_slot.is_not(None)).limit(1)) is None:
        raise Refused("invalid", "nothing was said in this chat yet: choose a response, or skip the item.")


def _continue_with(connection: Connection, held: Held, answer: Answer, position: int | None) -> None:
    """In a turn of a chat the best response goes on with the conversation; among equals the one at `position`.

    Refused: conflict once a later turn builds on it; invalid when `position` is not (one of) the best.
    """
    if held.parent_id is None:
        return
    turn = (ChatTurn.item_id == held.item_id,)
    n = connection.scalar(select(ChatTurn.n).where(*turn))
    if n is None:
        return
    later = turns_of(held.parent_id, held.annotator_id).where(ChatTurn.n > n)
    if connection.scalar(later.limit(1)) is not None:
        raise Refused("conflict", "the conversation has gone on from this turn: it can no longer be changed.")
    best = best_slots(answer)
    wanted = next(slot for slot in held.order if slot in best)  # the first shown of the best
    if position is not None:
        if not 0 <= position < len(held.order) or held.order[position] not in best:
            raise Refused("invalid", "the conversation goes on with the best response: choose that one.")
        wanted = held.order[position]
    connection.execute(update(ChatTurn).where(*turn).values(chosen_slot=wanted))


def following_round(connection: Connection, item_id: int) -> int | None:
    """The item of the round that a refinement has gone on with from this one."""
    return connection.scalar(_FOLLOWING, {"item": item_id})


def best_slots(answer: Answer) -> set[int]:
    """The slots of the best responses by a pair or rank answer (in slots)."""
    if isinstance(answer, PairAnswer):
        return {0, 1} if answer.preference == 0 else {int(answer.preference > 0)}
    assert isinstance(answer, RankAnswer)
    return {slot for slot, rank in enumerate(answer.ranks) if rank == min(answer.ranks)}


def _open(connection: Connection, who: Member, item_id: int, left: int = 0) -> Conflict:
    lock_item(connection, item_id)
    place = (Assignment.item_id == item_id, Assignment.annotator_id == who.annotator_id)
    row = connection.execute(select(Assignment.id, Assignment.status).where(*place)).one_or_none()
    if row is not None and row.status == "done":
        assignment_id = row.id  # they answered it themselves: the same order, and the answer stays an answer
    else:
        assignment_id = lease(connection, who, item_id, status="review")
    held = hold(connection, who, assignment_id)
    task = read_task(connection, who, held.id, blank=True)
    return Conflict(task, _opinions(connection, held), _settled_as(connection, who, held), left)


def _settlement(connection: Connection, project_id: int, item_id: int) -> Row[Any] | None:
    return next(iter(settlements(connection, project_id, Item.id == item_id)), None)


def _settled_as(connection: Connection, who: Member, held: Held) -> Settlement | None:
    row = _settlement(connection, who.project_id, held.item_id)
    if row is None:
        return None
    answer = to_positions(read_answers(connection, [row.annotation_id])[row.annotation_id], held.order)
    return Settlement(row.annotation_id, row.by, row.at, answer)


def _last_adjudication(connection: Connection, held: Held) -> int | None:
    """What the next adjudication supersedes: the last one, whether it holds or the item was reopened since."""
    last = (Annotation.item_id == held.item_id, Annotation.role == "adjudication", IS_CURRENT)
    return connection.scalar(select(Annotation.id).where(*last))


def _opinions(connection: Connection, held: Held) -> list[Opinion]:
    rows = connection.execute(
        select(Annotation.id, Annotator.kind, Annotation.submitted_at)
        .join(Annotator, Annotator.id == Annotation.annotator_id)
        .where(Annotation.item_id == held.item_id, Annotation.role == "answer", IS_CURRENT)
        .order_by(Annotation.id)
    ).all()
    order = rng(held.id, "opinions").permutation(len(rows))
    shuffled = sorted((rows[place] for place in order), key=lambda row: KIND_ORDER.index(row.kind))
    stored = read_answers(connection, [row.id for row in shuffled])
    return [
        Opinion(number, row.kind, to_positions(stored[row.id], held.order), row.submitted_at)
        for number, row in enumerate(shuffled, start=1)
    ]


# statements of every answer: built once (see leases.py) ---------------------------------------------------------------

_KNOWN = select(Annotation.id, Annotation.assignment_id, Annotation.role).where(
    Annotation.client_key == bindparam("key")
)
_NO_DRAFT = delete(Draft).where(Draft.assignment_id == bindparam("assignment"))
_DONE = update(Assignment).where(Assignment.id == bindparam("assignment")).values(status="done")
_here = aliased(RefinementRound)
_FOLLOWING = (
    select(RefinementRound.item_id)
    .join(_here, (_here.root_id == RefinementRound.root_id) & (RefinementRound.n == _here.n + 1))
    .where(_here.item_id == bindparam("item"))
)
