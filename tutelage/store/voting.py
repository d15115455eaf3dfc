"""Writing and reading votes, that is, answers to pairs.  They are append-only: nothing here (or anywhere) changes one.

Programs vote in bulk through `insert_votes`; people's answers to pairs come through `feedback.answers` into the same
table, and everybody's are read by `read_votes`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, select

from tutelage.records import Help, Vote
from tutelage.store.counting import recount
from tutelage.store.current import IS_CURRENT, IS_VOTE
from tutelage.store.rows import NewVote, StoredVote
from tutelage.store.schema import Annotation, Annotator, Item, now
from tutelage.store.schema_feedback import CriterionPreference, SoftVote, VoteHelp
from tutelage.store.sql import chunks, insert_one, insert_rows

CONTENT = ("item_id", "annotator_id", "preference", "first_shown", "supersedes_id")


def insert_votes(connection: Connection, project_id: int, votes: Sequence[NewVote]) -> int:
    """Insert the votes whose key is not there, all or none; see `Store.add_votes`."""
    items = sorted({new.item_id for new in votes})
    _check_items(connection, project_id, items)
    annotators = _annotator_ids(connection, sorted({new.vote.annotator for new in votes}))
    known = _contents(connection, [new.client_key for new in votes])
    latest = _latest(connection, items)
    at, rows = now(), []
    for new in votes:
        _check_range(new)
        who = annotators[new.vote.annotator]
        content = (new.item_id, who, new.vote.preference, new.vote.first_shown, new.supersedes)
        soft = (new.vote.share, new.vote.margin)
        if new.client_key in known:  # sent twice, stored once
            if known[new.client_key] != content + soft:
                raise ValueError(
                    f"client_key '{new.client_key}' is that of another vote: a new vote needs a new key."
                )
            continue
        if latest.get((new.item_id, who)) != new.supersedes:
            raise ValueError(_out_of_turn(new, latest.get((new.item_id, who))))
        known[new.client_key] = content + soft
        latest[new.item_id, who] = -1  # it has no id yet, so that nothing in this call can revise it
        rows.append(
            dict(zip(CONTENT, content, strict=True)) | {"client_key": new.client_key, "submitted_at": at}
        )
    insert_rows(connection, Annotation, rows)
    _insert_below(connection, [new for new in votes if new.client_key in {row["client_key"] for row in rows}])
    recount(connection, items)
    return len(rows)


def _insert_below(connection: Connection, votes: Sequence[NewVote]) -> None:
    """What the votes, just inserted, say beyond their steps, and by criteria."""
    more = {
        new.client_key: new.vote
        for new in votes
        if new.vote.margin is not None or new.vote.criteria or new.vote.help
    }
    criteria: list[dict[str, Any]] = []
    for some in chunks(list(more)):
        keys = select(Annotation.client_key, Annotation.id).where(Annotation.client_key.in_(some))
        for key, annotation_id in connection.execute(keys).all():
            insert_soft_vote(connection, annotation_id, more[key].share, more[key].margin)
            insert_help(connection, annotation_id, more[key].help)
            criteria += [
                {"annotation_id": annotation_id, "criterion": name, "preference": preference}
                for name, preference in more[key].criteria
            ]
    insert_rows(connection, CriterionPreference, criteria)


def insert_soft_vote(
    connection: Connection, annotation_id: int, share: float | None, margin: float | None
) -> None:
    """Keep what a vote says beyond its steps, where it does (see `records.Vote`)."""
    if share is not None or margin is not None:
        insert_one(connection, SoftVote, annotation_id=annotation_id, share=share, margin=margin or 0.0)


def insert_help(connection: Connection, annotation_id: int, help: Help | None) -> None:
    """Keep what an assistant had told whoever voted, where there was one."""
    if help is not None:
        first, second = help.said
        said = {"first": first, "second": second, "argues": help.argues, "template": help.template}
        insert_one(
            connection, VoteHelp, annotation_id=annotation_id, arm=help.arm, assistant=help.assistant, **said
        )


def help_of(row: Any) -> Help | None:
    """From a row with the columns of `HELP`; None where the vote had none."""
    if row.arm is None:
        return None
    return Help(row.arm, row.assistant, (row.first, row.second), row.argues, row.template)


HELP = (
    VoteHelp.arm,
    VoteHelp.assistant,
    VoteHelp.first,
    VoteHelp.second,
    VoteHelp.argues,
    VoteHelp.template,
)


def read_votes(connection: Connection, project_id: int, revisions: bool) -> list[StoredVote]:
    """The votes of a project in the order of their ids; see `Store.votes`."""
    query = _voted().add_columns(Annotation.client_key, Annotation.submitted_at, Annotation.supersedes_id)
    query = query.join(Item, Item.id == Annotation.item_id).where(Item.project_id == project_id)
    if not revisions:
        query = query.where(IS_CURRENT)
    of_project = select(Annotation.id).join(Item, Item.id == Annotation.item_id)
    criteria = _criteria(connection, Annotation.id.in_(of_project.where(Item.project_id == project_id)))
    return [
        StoredVote(
            id=row.id,
            item_id=row.item_id,
            vote=_vote(row, criteria),
            client_key=row.client_key,
            submitted_at=row.submitted_at,
            supersedes=row.supersedes_id,
        )
        for row in connection.execute(query)
    ]


def votes_on(connection: Connection, items: Sequence[int]) -> list[tuple[int, Vote]]:
    """The current votes on some items (few enough for one list), each with its item, in the order of their ids."""
    rows = connection.execute(_voted().where(Annotation.item_id.in_(items), IS_CURRENT)).all()
    criteria = _criteria(connection, Annotation.item_id.in_(items)) if rows else {}
    return [(row.item_id, _vote(row, criteria)) for row in rows]


def _voted() -> Select[Any]:
    """Counted answers to pairs, and what they say."""
    said: tuple[Any, ...] = (
        Annotation.id,
        Annotation.item_id,
        Annotator.name,
        Annotation.preference,
        Annotation.first_shown,
        SoftVote.share,
        SoftVote.margin,
        *HELP,
    )
    return (
        select(*said)
        .join(Annotator, Annotator.id == Annotation.annotator_id)
        .outerjoin(SoftVote, SoftVote.annotation_id == Annotation.id)
        .outerjoin(VoteHelp, VoteHelp.annotation_id == Annotation.id)
        .where(Annotation.role == "answer", Annotation.preference.is_not(None))
        .order_by(Annotation.id)
    )


def _vote(row: Any, criteria: Mapping[int, Sequence[tuple[str, int]]]) -> Vote:
    """A row of `_voted` with the criteria of the answers."""
    return Vote(
        row.name,
        row.preference,
        row.first_shown,
        row.share,
        row.margin,
        criteria=tuple(criteria.get(row.id, ())),
        help=help_of(row),
    )


def _criteria(connection: Connection, which: ColumnElement[bool]) -> dict[int, list[tuple[str, int]]]:
    """Annotation -> (criterion, preference), by name, of those annotations."""
    query = select(
        CriterionPreference.annotation_id, CriterionPreference.criterion, CriterionPreference.preference
    )
    query = query.join(Annotation, Annotation.id == CriterionPreference.annotation_id).where(which)
    found: dict[int, list[tuple[str, int]]] = defaultdict(list)
    for row in connection.execute(query.order_by(CriterionPreference.criterion)):
        found[row.annotation_id].append((row.criterion, row.preference))
    return found


def _check_range(new: NewVote) -> None:
    if not -3 <= new.vote.preference <= 3 or new.vote.first_shown not in (0, 1):
        raise ValueError(
            f"vote '{new.client_key}': preference {new.vote.preference} must be -3 to 3 and first_shown "
            f"{new.vote.first_shown} must be 0 or 1."
        )
    for name, preference in new.vote.criteria:
        if not -3 <= preference <= 3:
            raise ValueError(f"vote '{new.client_key}': preference {preference} by {name} must be -3 to 3.")
    if new.vote.share is not None and (new.vote.share == 0.5) != (new.vote.preference == 0):
        raise ValueError(
            f"vote '{new.client_key}': a share of {new.vote.share} does not go with preference {new.vote.preference}."
        )


def _out_of_turn(new: NewVote, latest: int | None) -> str:
    who, item = new.vote.annotator, new.item_id
    if new.supersedes is None:
        return (
            f"'{who}' has already voted on pair {item}: to revise, name the vote that the new one supersedes."
        )
    return f"vote {new.supersedes} is not the latest of '{who}' on pair {item} ({latest or 'none'} is): reload it."


def _check_items(connection: Connection, project_id: int, items: Sequence[int]) -> None:
    there: set[int] = set()
    for some in chunks(items):
        there |= set(
            connection.scalars(
                select(Item.id).where(Item.project_id == project_id, Item.type == "pair", Item.id.in_(some))
            )
        )
    for item in items:
        if item not in there:
            raise ValueError(
                f"pair {item} is not in this project: nothing was stored, ask for its pairs again."
            )


def _annotator_ids(connection: Connection, names: Sequence[str]) -> dict[str, int]:
    query = select(Annotator.name, Annotator.id).where(Annotator.name.in_(names))
    ids = {row.name: row.id for row in connection.execute(query)}
    for name in names:
        if name not in ids:
            raise ValueError(f"there is no annotator '{name}': nothing was stored, add the annotator first.")
    return ids


def _contents(connection: Connection, keys: Sequence[str]) -> dict[str, tuple[float | None, ...]]:
    """What is stored under those of the keys that are there: CONTENT, share and margin."""
    contents: dict[str, tuple[float | None, ...]] = {}
    columns = [getattr(Annotation, name) for name in CONTENT]
    query = select(Annotation.client_key, *columns, SoftVote.share, SoftVote.margin)
    query = query.outerjoin(SoftVote, SoftVote.annotation_id == Annotation.id)
    for some in chunks(keys):
        for key, *content in connection.execute(query.where(Annotation.client_key.in_(some))):
            contents[key] = tuple(content)
    return contents


def _latest(connection: Connection, items: Sequence[int]) -> dict[tuple[int, int], int | None]:
    """(item, annotator) -> the id of the current vote."""
    latest: dict[tuple[int, int], int | None] = {}
    for some in chunks(items):
        query = select(Annotation.id, Annotation.item_id, Annotation.annotator_id).where(
            Annotation.item_id.in_(some), IS_VOTE, IS_CURRENT
        )
        for row in connection.execute(query):
            latest[row.item_id, row.annotator_id] = row.id
    return latest
