"""What managers do to items: one, some, or all that fit a search, always in one transaction."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import Field
from sqlalchemy import Connection, delete, insert, literal, select, update

from tutelage.feedback.asking.payloads import LARGEST_ID, MOST_ANNOTATORS, Model
from tutelage.feedback.errors import Refused
from tutelage.feedback.items.contents import own_item
from tutelage.feedback.items.searching import OPEN_FLAG, Query, ids_of
from tutelage.feedback.people.access import Member, note
from tutelage.store.database import Database
from tutelage.store.schema import Item, now
from tutelage.store.schema_feedback import Account, Flag, ItemNote, ItemReserved, ItemTag, Membership
from tutelage.store.sql import chunks, insert_one, lock_project

MOST_NAMED = 10_000  # items that a change names one by one
LISTED = 100  # of them, in the audit
Tag = Annotated[str, Field(min_length=1, max_length=60, pattern=r"^\S(.*\S)?$")]
Word = Annotated[str, Field(min_length=1, max_length=500)]


class Close(Model):
    """Out of the queue (`closed`), or back into it."""

    what: Literal["close"]
    closed: bool


class Prioritise(Model):
    """High comes first."""

    what: Literal["priority"]
    priority: Annotated[float, Field(ge=-1e6, le=1e6)]


class Overlap(Model):
    """How many annotators are wanted."""

    what: Literal["overlap"]
    overlap: Annotated[int, Field(ge=1, le=MOST_ANNOTATORS)]


class Label(Model):
    """Add a tag, or take it away."""

    what: Literal["tag"]
    tag: Tag
    on: bool = True


class Reserve(Model):
    """For these people, teams, and experts (and whoever may do more) only; for nobody in particular = for everybody."""

    what: Literal["reserve"]
    people: tuple[Word, ...] = ()
    teams: tuple[Word, ...] = ()
    experts: bool = False


class Resolve(Model):
    """Settle the open flags (only `flag`, if given), saying what came of it."""

    what: Literal["resolve"]
    word: Word
    flag: Annotated[int, Field(ge=1, le=LARGEST_ID)] | None = None


Change = Annotated[Close | Prioritise | Overlap | Label | Reserve | Resolve, Field(discriminator="what")]


def change_items(
    database: Database, who: Member, which: Sequence[int] | Query, change: Change, count: int | None = None
) -> int:
    """Change some items, or all that fit a search, all or none; returns how many items that is.  Needs manage.

    `count` is how many whoever asks has seen.  Refused: not-found (an item of another project, nobody of that name);
    conflict (another number fits by now); invalid.
    """
    who.require("manage")
    with database.write() as connection:
        lock_project(connection, who.project, database.place)
        ids = _chosen(connection, who, which)
        if count is not None and count != len(ids):
            raise Refused(
                "conflict", f"{len(ids)} items fit by now, not {count}: look again. Nothing was changed."
            )
        people = _people(connection, who, change) if isinstance(change, Reserve) else []
        for some in chunks(ids):
            _apply(connection, who, some, change, people)
        said = change.model_dump(mode="json", exclude={"what", "word"})
        which_items = {"items": ids[:LISTED], "count": len(ids)}
        note(
            connection, who.user, f"items-{change.what}", str(len(ids)), who.project_id, **which_items, **said
        )
        return len(ids)


def add_note(database: Database, who: Member, item_id: int, text: str) -> int:
    """A remark about an item, for those who view the data; returns its id.  Needs adjudicate.  Refused: not-found, invalid."""
    who.require("adjudicate")
    if not text.strip() or len(text) > 10_000:
        raise Refused("invalid", "a note has 1 to 10,000 characters.")
    with database.write() as connection:
        own_item(connection, who, item_id)
        by = who.user.account_id
        return insert_one(connection, ItemNote, item_id=item_id, by_id=by, text=text.strip())


def remove_note(database: Database, who: Member, item_id: int, note_id: int) -> None:
    """Take a note away: its author may, and whoever manages.  Refused: not-found, forbidden."""
    who.require("adjudicate")
    with database.write() as connection:
        own_item(connection, who, item_id)
        own = (ItemNote.id == note_id, ItemNote.item_id == item_id)
        row = connection.execute(select(ItemNote.by_id).where(*own)).one_or_none()
        if row is None:
            raise Refused("not-found", f"item {item_id} has no note {note_id}.")
        if row.by_id != who.user.account_id:
            who.require("manage")
        connection.execute(delete(ItemNote).where(*own))


def _chosen(connection: Connection, who: Member, which: Sequence[int] | Query) -> list[int]:
    if isinstance(which, Query):
        return ids_of(connection, who.project_id, which)
    if len(which) > MOST_NAMED:
        raise Refused("invalid", f"name at most {MOST_NAMED:,} items, or change all that fit a search.")
    wanted = sorted(set(which))
    there: set[int] = set()
    for some in chunks(wanted):
        own = select(Item.id).where(Item.id.in_(some), Item.project_id == who.project_id)
        there.update(connection.scalars(own))
    strangers = [item for item in wanted if item not in there]
    if strangers:
        raise Refused("not-found", f"there is no item {strangers[0]} in this project: nothing was changed.")
    return wanted


def _people(connection: Connection, who: Member, change: Reserve) -> list[dict[str, Any]]:
    """Whom the items are for, as columns of `ItemReserved`.  Refused: not-found."""
    members = connection.execute(
        select(Account.name, Account.annotator_id, Membership.team)
        .join(Membership)
        .where(Membership.project_id == who.project_id)
    ).all()
    annotators = {row.name: row.annotator_id for row in members}
    teams = {row.team for row in members}
    for name in change.people:
        if name not in annotators:
            raise Refused("not-found", f"'{name}' is not in this project: add them first.")
    for team in change.teams:
        if team not in teams:
            raise Refused("not-found", f"nobody is in a team '{team}': give its members that team first.")
    nobody = {"annotator_id": None, "team": None, "role": None}
    return [
        *(nobody | {"annotator_id": annotators[name]} for name in dict.fromkeys(change.people)),
        *(nobody | {"team": team} for team in dict.fromkeys(change.teams)),
        *([nobody | {"role": "expert"}] if change.experts else []),
    ]


def _apply(
    connection: Connection, who: Member, ids: Sequence[int], change: Any, people: list[dict[str, Any]]
) -> None:
    items = update(Item).where(Item.id.in_(ids))
    if isinstance(change, Close):
        connection.execute(items.values(closed=change.closed))
    elif isinstance(change, Prioritise):
        connection.execute(items.values(priority=change.priority))
    elif isinstance(change, Overlap):
        connection.execute(items.where(Item.owner_id.is_(None)).values(overlap=change.overlap))
    elif isinstance(change, Label):
        _tag(connection, who, ids, change)
    elif isinstance(change, Resolve):
        flags = update(Flag).where(Flag.item_id.in_(ids), OPEN_FLAG)
        flags = flags if change.flag is None else flags.where(Flag.id == change.flag)
        by = who.user.account_id
        connection.execute(flags.values(resolved_at=now(), resolved_by_id=by, resolution=change.word))
    else:
        connection.execute(items.values(reserved=bool(people)))  # first: it locks the items
        connection.execute(delete(ItemReserved).where(ItemReserved.item_id.in_(ids)))
        rows = [{"item_id": item, **person} for item in ids for person in people]
        if rows:
            connection.execute(insert(ItemReserved), rows)


def _tag(connection: Connection, who: Member, ids: Sequence[int], change: Label) -> None:
    if not change.on:
        connection.execute(delete(ItemTag).where(ItemTag.item_id.in_(ids), ItemTag.tag == change.tag))
        return
    has = select(ItemTag.tag).where(ItemTag.item_id == Item.id, ItemTag.tag == change.tag)
    columns = ("item_id", "tag", "by_id", "created_at")
    values = (literal(change.tag), literal(who.user.account_id, Item.id.type), literal(now()))
    lacking = select(Item.id, *values).where(Item.id.in_(ids), ~has.correlate(Item).exists())
    connection.execute(insert(ItemTag).from_select(columns, lacking))
