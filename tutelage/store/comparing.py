"""What has been compared, whatever the question was: pairs, ranks two at a time, rewrites with their originals."""

from __future__ import annotations

import heapq
import itertools
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from operator import itemgetter
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Connection, select

from tutelage.records import Demonstration, Vote
from tutelage.store.contents import ItemContent as ItemContent
from tutelage.store.contents import read_items as read_items
from tutelage.store.contents import stream_items as stream_items
from tutelage.store.current import IS_CURRENT, IS_SETTLING, any_settled
from tutelage.store.rows import VotedPair
from tutelage.store.schema import Annotation, Annotator, Project, digest
from tutelage.store.schema_feedback import (
    Account,
    Assignment,
    Membership,
    RankEntry,
    Rewrite,
    SchemaVersion,
)
from tutelage.store.sorting import sorted_apart
from tutelage.store.sql import chunks
from tutelage.store.voting import votes_on

LONGEST_SCALE = 3  # steps to each side: how far a preference goes
# Where a project's settings do not say it: what `ProjectSettings.expert_weight` begins with.
EXPERT_WEIGHT = 3.0
COUNTED = Annotation.role == "answer"


class Written(NamedTuple):
    """A current rewrite or demonstration; its text is empty once it is redacted.

    What people write is complete; the original may have been cut.
    """

    item: ItemContent
    text: str
    annotator: str
    makes_pair: bool

    @property
    def redacted(self) -> bool:
        return self.item.redacted or not self.text

    @property
    def demonstration(self) -> Demonstration:
        return Demonstration(self.item.prompt, self.text)


def read_voted_pairs(connection: Connection, project_id: int) -> list[VotedPair]:
    """See `Store.voted_pairs`."""
    return list(stream_voted_pairs(connection, project_id))


def stream_voted_pairs(connection: Connection, project_id: int, ranked: bool = True) -> Iterator[VotedPair]:
    """The same, one after the other: memory holds some hundred items, whatever the store holds.  `ranked`: also the responses
    of rankings."""
    # Pairs lie in the store in this order; what is told apart by a hash of its own is sorted first.
    parts = (
        _pairs(connection, project_id),
        sorted_apart(_ranked(connection, project_id) if ranked else ()),
        sorted_apart(_rewritten(connection, project_id)),
    )
    yield from (pair for _, pair in heapq.merge(*parts, key=itemgetter(0)))


def read_written(connection: Connection, project_id: int) -> list[Written]:
    """What people have rewritten or written, ordered by content."""
    return list(stream_written(connection, project_id))


def stream_written(connection: Connection, project_id: int) -> Iterator[Written]:
    """The same, one after the other."""
    for _, rows in _written(connection, project_id):
        yield from sorted(rows, key=lambda row: row.text)


def read_weights(connection: Connection, project_id: int) -> dict[str, float]:
    """annotator -> how many votes one of theirs counts for, for those whose votes count more than once."""
    settings = connection.scalar(select(Project.settings).where(Project.id == project_id)) or {}
    weight = float(settings.get("expert_weight", EXPERT_WEIGHT))
    experts = (
        select(Annotator.name)
        .join(Account, Account.annotator_id == Annotator.id)
        .join(Membership, Membership.account_id == Account.id)
        .where(Membership.project_id == project_id, Membership.role == "expert")
    )
    return dict.fromkeys(connection.scalars(experts), weight)


def _pairs(connection: Connection, project_id: int) -> Iterator[tuple[str, VotedPair]]:
    weights, steps = read_weights(connection, project_id), _steps(connection, project_id)
    disputes = any_settled(connection, project_id)
    for items in stream_items(connection, project_id, "pair"):
        ids = [item.item_id for item in items]
        by_item: dict[int, list[Vote]] = defaultdict(list)
        for item_id, vote in votes_on(connection, ids):
            by_item[item_id].append(replace(vote, weight=weights.get(vote.annotator, 1.0)))
        settling = _answers(connection, ids, IS_SETTLING) if disputes else ()
        settled = {row.item_id: row.preference for row in settling}
        scales = _scales(connection, ids, steps)
        for item in items:
            if item.item_id in by_item:
                scale = scales.get(item.item_id, LONGEST_SCALE)
                votes = tuple(by_item[item.item_id])
                yield item.digest, _voted(item, (0, 1), votes, settled.get(item.item_id), scale)


def _voted(
    item: ItemContent, slots: tuple[int, int], votes: tuple[Vote, ...], settled: int | None, scale: int
) -> VotedPair:
    """Two of an item's responses, with the votes on them."""
    i, j = slots
    return VotedPair(
        item.digest,
        item.item_id,
        item.prompt,
        (item.texts[i], item.texts[j]),
        votes,
        settled,
        scale,
        (item.finishes[i], item.finishes[j]),
        item.split,
        (item.responses[i], item.responses[j]),
        item.redacted,
    )


def _ranked(connection: Connection, project_id: int) -> Iterator[tuple[str, VotedPair]]:
    """Every two responses that somebody has ranked: a rank says which is better, not by how much."""
    weights = read_weights(connection, project_id)
    for items in stream_items(connection, project_id, "rank"):
        ids = [item.item_id for item in items]
        by_item: dict[int, list[Any]] = defaultdict(list)
        for row in _answers(connection, ids, COUNTED):
            by_item[row.item_id].append(row)
        ranks = _ranks(connection, ids)
        settled = {row.item_id: row.id for row in _answers(connection, ids, IS_SETTLING)}
        for item in items:
            rows = by_item.get(item.item_id)
            settling = ranks[settled[item.item_id]] if item.item_id in settled else None
            for i, j in itertools.combinations(range(len(item.texts)), 2) if rows else ():
                votes = tuple(_ranked_vote(row, ranks[row.id], weights, i, j) for row in rows or ())
                said = None if settling is None else _sign(settling, i, j)
                yield digest("ranked", item.digest, i, j), _voted(item, (i, j), votes, said, 1)


def _ranks(connection: Connection, items: Sequence[int]) -> dict[int, dict[int, int]]:
    """annotation -> slot -> rank, of everything that was ever said of some items."""
    ranks: dict[int, dict[int, int]] = defaultdict(dict)
    query = select(RankEntry.annotation_id, RankEntry.slot, RankEntry.rank)
    query = query.join(Annotation, Annotation.id == RankEntry.annotation_id)
    for row in connection.execute(query.where(Annotation.item_id.in_(items))):
        ranks[row.annotation_id][row.slot] = row.rank
    return ranks


def _ranked_vote(row: Any, ranks: dict[int, int], weights: Mapping[str, float], i: int, j: int) -> Vote:
    """What an answer with ranks says of two slots."""
    shown = _first_shown(row.presented_order, i, j)
    return Vote(row.name, _sign(ranks, i, j), shown, weight=weights.get(row.name, 1.0))


def _rewritten(connection: Connection, project_id: int) -> Iterator[tuple[str, VotedPair]]:
    """Each rewrite with its original; its writers (two may write the same) prefer it, having seen the original first."""
    for item, rows in _written(connection, project_id):
        found: dict[str, VotedPair] = {}
        for row in rows:
            if not item.texts or not row.makes_pair:
                continue
            key = digest("rewritten", item.digest, row.text)
            votes = (*(found[key].votes if key in found else ()), Vote(row.annotator, -1, 1))
            found[key] = VotedPair(
                item.digest,
                item.item_id,
                item.prompt,
                (row.text, item.texts[0]),
                votes,
                scale=1,
                finishes=("eos", item.finishes[0]),
                split=item.split,
                responses=(None, item.responses[0]),
                redacted=row.redacted,
            )
        yield from found.items()


def _written(connection: Connection, project_id: int) -> Iterator[tuple[ItemContent, list[Written]]]:
    """The items that somebody has rewritten or written for, with what was written, in the order of its coming."""
    schemas = select(SchemaVersion.id, SchemaVersion.content).where(SchemaVersion.project_id == project_id)
    pairs = {row.id: bool(row.content["rewrite_makes_pair"]) for row in connection.execute(schemas)}
    for items in stream_items(connection, project_id, "rewrite"):
        answers = _answers(connection, [item.item_id for item in items], COUNTED)
        texts: dict[int, str] = {}
        for some in chunks([row.id for row in answers]):
            query = select(Rewrite.annotation_id, Rewrite.text).where(Rewrite.annotation_id.in_(some))
            texts |= {row.annotation_id: row.text for row in connection.execute(query)}
        by_item: dict[int, list[Any]] = defaultdict(list)
        for row in answers:
            by_item[row.item_id].append(row)
        for item in items:
            if item.item_id in by_item:
                yield (
                    item,
                    [
                        Written(item, texts[row.id], row.name, pairs.get(row.schema_version_id, True))
                        for row in by_item[item.item_id]
                    ],
                )


def _steps(connection: Connection, project_id: int) -> dict[int, int]:
    """Version of the questions -> steps to each side of its scale; empty where all are the longest."""
    versions = select(SchemaVersion.id, SchemaVersion.content).where(SchemaVersion.project_id == project_id)
    steps = {row.id: int(row.content["strength"]) for row in connection.execute(versions)}
    return {} if set(steps.values()) <= {LONGEST_SCALE} else steps


def _scales(connection: Connection, items: Sequence[int], steps: Mapping[int, int]) -> dict[int, int]:
    """item -> steps to each side of the (longest) scale that people answered it on; programs use them all."""
    if not steps:
        return {}
    answered = (
        select(Annotation.item_id, Assignment.schema_version_id)
        .join(Assignment, Assignment.id == Annotation.assignment_id)
        .where(Annotation.item_id.in_(items))
        .distinct()
    )
    scales: dict[int, int] = {}
    for row in connection.execute(answered):
        scales[row.item_id] = max(scales.get(row.item_id, 1), steps[row.schema_version_id])
    return scales


def _answers(connection: Connection, items: Sequence[int], which: ColumnElement[bool]) -> Sequence[Any]:
    """Current answers to some items, in the order of their ids."""
    query = (
        select(
            Annotation.id,
            Annotation.item_id,
            Annotation.preference,
            Annotator.name,
            Assignment.presented_order,
            Assignment.schema_version_id,
        )
        .join(Annotator, Annotator.id == Annotation.annotator_id)
        .outerjoin(Assignment, Assignment.id == Annotation.assignment_id)
        .where(Annotation.item_id.in_(items), which, IS_CURRENT)
        .order_by(Annotation.id)
    )
    return connection.execute(query).all()


def _sign(ranks: dict[int, int], first: int, second: int) -> int:
    """Below 0 where the first has the better (smaller) rank."""
    return (ranks[first] > ranks[second]) - (ranks[first] < ranks[second])


def _first_shown(order: list[int] | None, first: int, second: int) -> int:
    return 0 if order is None else int(order.index(second) < order.index(first))
