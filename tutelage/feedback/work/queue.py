"""The queue: which item an annotator gets next, for how long, and how it is given back.

A lease is a row with an expiry that the claim itself compares with the clock; nothing sweeps.  An item is handed out
while answers plus other people's live leases are fewer than its overlap, decided under a lock on the item's row.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    and_,
    bindparam,
    func,
    literal,
    literal_column,
    not_,
    select,
    union_all,
    update,
)

from tutelage.feedback.asking.answer_rows import read_answers
from tutelage.feedback.asking.payloads import MAX_TEXT, About, Answer, FlagCode, SkipReason, Task
from tutelage.feedback.asking.slots import to_positions
from tutelage.feedback.errors import Refused
from tutelage.feedback.insights.own import gold_counts
from tutelage.feedback.items.contents import newest_note, thread_of
from tutelage.feedback.people.access import Member
from tutelage.feedback.projects.projects import settings_of, standing
from tutelage.feedback.work.leases import (
    IS_FOR_ME,
    IS_GOLD,
    LEASES_OF_OTHERS,
    Held,
    give_back_turns,
    has_room,
    hold,
    lease,
    own_assignment,
    read_task,
)
from tutelage.seeds import rng
from tutelage.store.current import IS_CURRENT, IS_FIRST, IS_VOTE
from tutelage.store.database import Database
from tutelage.store.schema import Annotation, Item, PromptRow, now
from tutelage.store.schema_feedback import Assignment, Draft, Flag, Gold, ItemReserved, SentBack
from tutelage.store.sql import insert_one, takes_turns

IN_HAND = 10  # live leases that one annotator may hold in a project
DRAFT_BYTES = 300_000
SHOWN = 10  # of one's own answers and skips
BEGINNING = 140  # characters of their prompts


@dataclass(frozen=True)
class Past:
    """An item that the annotator has answered or skipped; `answer` in positions, as they saw it (None: skipped).

    `sent_back`: the note with which the answer came back for correction.
    """

    assignment_id: int
    item_id: int
    type: str
    prompt: str  # how it begins
    at: datetime
    answer: Answer | None = None
    annotation_id: int | None = None
    sent_back: str | None = None


@dataclass(frozen=True)
class Progress:
    """What an annotator's home shows.

    `left`: items this annotator could still get, corrections included; `gold_right` of `gold_answered` (None when
    the project hides it); `last` and `skips`: the latest, newest first; `sent_back`: all, oldest first.
    """

    answered: int
    skipped: int
    left: int
    project_items: int
    project_complete: int
    gold_right: int | None
    gold_answered: int | None
    last: list[Past]
    skips: list[Past]
    sent_back: list[Past]


def next_task(database: Database, who: Member, besides: Sequence[int] = ()) -> Task | None:
    """The next item, leased to this annotator; None when nothing is left.  Needs label.

    First come answers sent back for correction, then own live leases (a reload loses nothing), then steps that a
    model has written again for this annotator.  `besides` are assignment ids in hand (to prefetch: pass the one on
    screen).  Nobody gets an item that they answered or skipped.  Refused: conflict (ten in hand already).
    """
    who.require_account("label")
    at = now()
    with database.write() as connection:
        rules = standing(connection, who.project_id)  # before any item is locked: it may make questions
        waiting = connection.execute(_WAITING, _claiming(who, at, ())).all()
        for row in waiting:
            if row.id not in besides:
                return read_task(connection, who, hold(connection, who, row.id).id)
        leases = sum(row.kind == _LEASE for row in waiting)
        if leases >= IN_HAND:
            raise Refused("conflict", f"you hold {leases} items already: answer or release some first.")
        gold = _is_gold_turn(connection, who, rules.settings.gold_rate)
        item_id = _claim(connection, who, at, besides, gold=True) if gold else None
        item_id = item_id or _claim(connection, who, at, besides, gold=False)
        if item_id is None:
            return None
        return read_task(connection, who, lease(connection, who, item_id, rules=rules))


def task(database: Database, who: Member, assignment_id: int) -> Task:
    """An own assignment again: open, or answered (for revision, with the answer).  Refused: not-found."""
    who.require_account("label")
    with database.write() as connection:
        return read_task(connection, who, hold(connection, who, assignment_id).id)


def heartbeat(database: Database, who: Member, assignment_id: int) -> datetime:
    """Extend an own lease to now + lease_seconds; returns when it ends.

    Revives an expired lease if the item still has room.  Refused: not-found; conflict (answered or skipped); gone
    (others have filled the item: a submit is still taken, as extra if it is full).
    """
    who.require_account("label")
    with database.write() as connection:
        held = hold(connection, who, assignment_id)
        if held.status not in ("leased", "released"):
            raise Refused("conflict", f"this item is {held.status} already: ask for the next one.")
        if not _extend(connection, who, held):
            raise Refused(
                "gone", "your time for this item ran out and others have taken it: submit, or go on."
            )
        return own_assignment(connection, who, assignment_id).lease_expires_at


def save_draft(
    database: Database, who: Member, assignment_id: int, draft: dict[str, Any], about: About | None = None
) -> None:
    """Keep what is typed so far (at most 300 kB of JSON), and extend the lease if it can be.

    Refused: not-found; invalid (too large); conflict (skipped: there is nothing left to draft; about another item).
    A draft for a revision is kept as well (status done).
    """
    who.require_account("label")
    if len(json.dumps(draft)) > DRAFT_BYTES:
        raise Refused("invalid", f"a draft has at most {DRAFT_BYTES:,} bytes.")
    with database.write() as connection:
        held = hold(connection, who, assignment_id, about)
        if held.status == "skipped":
            raise Refused("conflict", "this item was skipped: ask for the next one.")
        there = connection.scalar(select(Draft.assignment_id).where(Draft.assignment_id == held.id))
        if there is None:
            insert_one(connection, Draft, assignment_id=held.id, content=draft)
        else:
            values = {"content": draft, "saved_at": now()}
            connection.execute(update(Draft).where(Draft.assignment_id == held.id).values(values))
        if held.status in ("leased", "released"):
            _extend(connection, who, held)


def skip(
    database: Database,
    who: Member,
    assignment_id: int,
    reason: SkipReason,
    text: str = "",
    about: About | None = None,
) -> None:
    """Give the item back; it does not come again by itself (`unskip` takes it back).  Again: nothing happens.

    Refused: not-found; conflict (answered; about another item).
    """
    who.require_account("label")
    with database.write() as connection:
        held = hold(connection, who, assignment_id, about)
        if held.status == "skipped":
            return
        if held.status not in ("leased", "released"):
            raise Refused("conflict", "this item is answered already: revise the answer instead.")
        values = {"status": "skipped", "skip_reason": reason, "skip_text": text[:MAX_TEXT]}
        connection.execute(update(Assignment).where(Assignment.id == held.id).values(values))
        give_back_turns(connection, held)


def unskip(database: Database, who: Member, assignment_id: int) -> Task:
    """Take a skip back: the item is in the annotator's hands again, with what was typed before.

    Where others have filled the item meanwhile an answer is stored as extra.  Not skipped: it is only read.
    Refused: not-found.
    """
    who.require_account("label")
    with database.write() as connection:
        held = hold(connection, who, assignment_id)
        if held.status == "skipped":
            room = has_room(connection, held.item_id, who.annotator_id, now())
            lease(connection, who, held.item_id, "leased" if room else "released")
            nothing = {"skip_reason": None, "skip_text": None}
            connection.execute(update(Assignment).where(Assignment.id == held.id).values(nothing))
        return read_task(connection, who, assignment_id)


def release(database: Database, who: Member, assignment_id: int) -> None:
    """Give the item back without saying no: it may come again.  Not leased any more: nothing happens.  Refused: not-found."""
    who.require_account("label")
    with database.write() as connection:
        held = hold(connection, who, assignment_id)
        leased = (Assignment.id == held.id, Assignment.status == "leased")
        connection.execute(update(Assignment).where(*leased).values(status="released"))


def flag(database: Database, who: Member, assignment_id: int, code: FlagCode, text: str = "") -> int:
    """Tell the managers about an item, without giving it back; returns the flag's id."""
    who.require_account("label")
    with database.write() as connection:
        held = hold(connection, who, assignment_id)
        return insert_one(
            connection,
            Flag,
            item_id=held.item_id,
            annotator_id=who.annotator_id,
            code=code,
            text=text[:MAX_TEXT],
        )


def progress(database: Database, who: Member) -> Progress:
    """The annotator's own numbers.  Needs label."""
    who.require_account("label")
    at = now()
    with database.read() as connection:
        own = (Annotation.annotator_id == who.annotator_id, Item.project_id == who.project_id)
        skipped = (Assignment.annotator_id == who.annotator_id, Assignment.status == "skipped")
        back = _answers(connection, who, None, Annotation.id.in_(select(SentBack.annotation_id)))
        waiting = connection.execute(_WAITING, _claiming(who, at, ())).all()
        items, still_open, not_for_me = (
            connection.scalar(one, _claiming(who, at, ())) or 0 for one in _COUNTS
        )
        shown = settings_of(connection, who.project_id).show_gold_accuracy
        right, gold = gold_counts(connection, who) if shown else (None, None)
        return Progress(
            answered=_count(connection, Annotation.id, *own, IS_FIRST, Item.owner_id.is_(None)),
            skipped=_count(connection, Assignment.id, *skipped, Item.project_id == who.project_id),
            left=still_open - not_for_me + len(back) + sum(row.kind == _AGAIN for row in waiting),
            project_items=items,
            project_complete=items - still_open,
            gold_right=right,
            gold_answered=gold,
            last=_answers(connection, who, SHOWN),
            skips=_skips(connection, who),
            sent_back=back[::-1],
        )


# inside ---------------------------------------------------------------------------------------------------------------


def _is_gold_turn(connection: Connection, who: Member, rate: float) -> bool:
    """Whether this claim is one of the share `rate` of gold items; drawn by the last item that the annotator has had."""
    if rate == 0:
        return False
    last = connection.scalar(_LAST, {"annotator": who.annotator_id}) or 0
    return bool(rng(0, "gold", who.project, who.user.name, last).random() < rate)


def _claim(
    connection: Connection, who: Member, at: datetime, besides: Sequence[int], gold: bool
) -> int | None:
    """An item, locked, that really has room.

    Under PostgreSQL others may be faster between looking and locking: what turns out to be full is let go again (so
    that nobody ever waits while holding a second item).  Items that others hold at this moment are passed over, and
    waited for only when there is nothing else.  SQLite has one writer: what was found is still so.
    """
    taken: list[int] = []
    values = _claiming(who, at, besides) | {"taken": taken}
    alone = takes_turns(connection)
    if not alone:
        connection.execute(_IN_ORDER)
    for patient in (True,) if alone else (False, True):
        while True:
            savepoint = None if alone else connection.begin_nested()
            found = connection.scalar(_CLAIMS[gold, patient], values)
            if found is not None and (alone or has_room(connection, found, who.annotator_id, at)):
                if savepoint is not None:
                    savepoint.commit()
                return found
            if savepoint is not None:
                savepoint.rollback()
            if found is None:
                break
            taken.append(found)
    return None


def _claiming(who: Member, at: datetime, besides: Sequence[int]) -> dict[str, Any]:
    """Values of the statements that look for items."""
    return {
        "project": who.project_id,
        "annotator": who.annotator_id,
        "at": at,
        "besides": list(besides),
    }


def _extend(connection: Connection, who: Member, held: Held) -> bool:
    """Renew a lease if it lives or the item has room; whether it was."""
    at = now()
    alive = held.status == "leased" and held.lease_expires_at > at
    if not alive and not has_room(connection, held.item_id, who.annotator_id, at):
        return False
    lease(connection, who, held.item_id)
    return True


def _answers(
    connection: Connection, who: Member, limit: int | None, *conditions: ColumnElement[bool]
) -> list[Past]:
    """The annotator's own answers to what everybody is asked, newest first, each as it is now."""
    query = (
        _PAST.add_columns(Annotation.id.label("annotation"), Annotation.submitted_at, _NOTE.label("note"))
        .join(Annotation, Annotation.assignment_id == Assignment.id)
        .where(_HERE, Annotation.annotator_id == bindparam("annotator"), IS_VOTE, IS_CURRENT, *conditions)
        .order_by(Annotation.id.desc())
        .limit(limit)
    )
    rows = connection.execute(query, _claiming(who, now(), ())).all()
    stored = read_answers(connection, [row.annotation for row in rows])
    return [
        Past(
            *_item_of(row),
            row.submitted_at,
            to_positions(stored[row.annotation], row.presented_order),
            row.annotation,
            row.note,
        )
        for row in rows
    ]


def _skips(connection: Connection, who: Member) -> list[Past]:
    """What the annotator skipped, newest first."""
    query = _PAST.where(*_OF_MINE, Assignment.status == "skipped").order_by(Assignment.id.desc()).limit(SHOWN)
    rows = connection.execute(query, _claiming(who, now(), ()))
    return [Past(*_item_of(row), row.assigned_at) for row in rows]


def _item_of(row: Any) -> tuple[int, int, str, str]:
    said = " ".join(thread_of(row.content)[-1].content.split())
    beginning = said if len(said) <= BEGINNING else said[: BEGINNING - 1] + "…"
    return row.id, row.item_id, row.type, beginning


def _count(connection: Connection, column: Any, *conditions: ColumnElement[bool]) -> int:
    """How many rows of an item's table fit (joined to `Item`)."""
    table = column.class_
    query = select(func.count(column)).join(Item, Item.id == table.item_id).where(*conditions)
    return connection.scalar(query) or 0


# statements: built once (see tasks.py) ------------------------------------------------------------------------------

# Plus 0: to begin with the assignments (or answers), not with all items of the project.
_HERE = Item.project_id + 0 == bindparam("project")
_OF_MINE = (Assignment.annotator_id == bindparam("annotator"), _HERE)
# What comes before anything new, in this order: answers sent back; own live leases; steps that a model wrote again, for
# as long as they are not answered.
_BACK, _LEASE, _AGAIN = range(3)
_HAD = select(Assignment.id, literal(_LEASE).label("kind"), Assignment.id.label("nth"))
_HAD = _HAD.join(Item, Item.id == Assignment.item_id).where(*_OF_MINE)
# Looked up from the few that were ever sent back, not from all answers: so it is said in this way.
_SENT = select(
    SentBack.id.label("nth"),
    select(Annotation.assignment_id)
    .join(Item, Item.id == Annotation.item_id)
    .where(
        Annotation.id == SentBack.annotation_id,
        Annotation.annotator_id == bindparam("annotator"),
        Item.project_id == bindparam("project"),
        IS_CURRENT,
    )
    .correlate(SentBack)
    .scalar_subquery()
    .label("id"),
).subquery()
_WAITING: Any = union_all(
    select(_SENT.c.id, literal(_BACK).label("kind"), _SENT.c.nth).where(_SENT.c.id.is_not(None)),
    _HAD.where(
        Assignment.status == "leased",
        Assignment.lease_expires_at > bindparam("at"),
        Item.owner_id.is_(None),
    ),
    _HAD.with_only_columns(Assignment.id, literal(_AGAIN), Assignment.id).where(
        Assignment.status.in_(("leased", "released")),
        Item.owner_id == bindparam("annotator"),
        Item.type == "step",
    ),
).order_by("kind", "nth")
_NOTE = newest_note(Annotation.id, Annotation)
_PAST = (
    select(
        Assignment.id,
        Assignment.item_id,
        Item.type,
        PromptRow.content,
        Assignment.presented_order,
        Assignment.assigned_at,
    )
    .join(Item, Item.id == Assignment.item_id)
    .join(PromptRow, PromptRow.id == Item.prompt_id)
    .where(Item.owner_id.is_(None))
)
# Counted, not NOT EXISTS: PostgreSQL would join those, and read all that the annotator ever did for each open item.
_MINE = (
    select(func.count(Assignment.id))
    .where(
        Assignment.item_id == Item.id,
        Assignment.annotator_id == bindparam("annotator"),
        Assignment.status.in_(("done", "skipped", "review"))
        | Assignment.id.in_(bindparam("besides", expanding=True)),
    )
    .scalar_subquery()
)
_ANSWERED = (
    select(func.count(Annotation.id))
    .where(
        Annotation.item_id == Item.id,
        Annotation.annotator_id == bindparam("annotator"),
        IS_VOTE,
    )
    .scalar_subquery()
)
# What the indexes `ix_item_shared` and `ix_item_open` hold, in their words.
_SHARED = (Item.project_id == bindparam("project"), Item.owner_id.is_(None), Item.closed.is_(False))
_WANTED = (*_SHARED, Item.n_done < Item.overlap)
_MAY_HAVE = (
    IS_FOR_ME,
    _MINE == 0,
    _ANSWERED == 0,
)  # not answered, not declined, not in hand by this annotator
_WITH_ROOM = (*_MAY_HAVE, ~IS_GOLD, Item.n_done + LEASES_OF_OTHERS < Item.overlap)
_OPEN = (*_WANTED, *_WITH_ROOM)
_GOLD = (  # plus 0: to look through the few gold items, not through the whole queue for them
    Item.project_id + 0 == bindparam("project"),
    *_SHARED[1:],
    Item.id.in_(select(Gold.item_id)),
    *_MAY_HAVE,
)
_STATUSES = ("leased", "done", "skipped", "released", "review")
_LAST = select(  # of every status the last: the index has them at its ends
    func.max(
        union_all(
            *(
                select(func.max(Assignment.id).label("id")).where(
                    Assignment.annotator_id == bindparam("annotator"), Assignment.status == status
                )
                for status in _STATUSES
            )
        )
        .subquery()
        .c.id
    )
)
# PostgreSQL guesses that next to nothing is open, and would rather look at all items than walk the queue to the first;
# or, where it walks, that the way is so long that machine code pays.  Both for the rest of the transaction only.
_IN_ORDER = select(func.set_config("enable_sort", "off", True), func.set_config("jit", "off", True))
# How much of what is wanted is not for this annotator: only few items can be such, and only they are looked at.
_PERHAPS_NOT = union_all(
    select(Assignment.item_id).where(Assignment.annotator_id == bindparam("annotator")),
    select(Annotation.item_id).where(Annotation.annotator_id == bindparam("annotator")),
    select(Assignment.item_id).where(
        Assignment.status == literal_column("'leased'"), Assignment.lease_expires_at > bindparam("at")
    ),
    select(Gold.item_id),
    select(ItemReserved.item_id),
)
_COUNTS = (
    select(func.count(Item.id)).where(*_SHARED),
    select(func.count(Item.id)).where(*_WANTED),
    select(func.count(Item.id)).where(*_WANTED, Item.id.in_(_PERHAPS_NOT), not_(and_(*_WITH_ROOM))),
)
_CLAIMS = {
    (gold, patient): select(Item.id)
    .where(*(_GOLD if gold else _OPEN))
    .where(Item.id.not_in(bindparam("taken", expanding=True)))
    .order_by(Item.priority.desc(), Item.digest.desc())
    .limit(1)
    .with_for_update(of=Item, key_share=True, skip_locked=not patient)
    for gold in (False, True)
    for patient in (False, True)
}
