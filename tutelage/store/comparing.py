"""What has been compared, whatever the question was: pairs, ranks two at a time, rewrites with their originals."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Sequence
from typing import Any, NamedTuple

from sqlalchemy import Connection, select

from tutelage.records import Demonstration, Finish, Prompt, Vote
from tutelage.store.current import IS_CURRENT
from tutelage.store.pairing import pair_query
from tutelage.store.rows import VotedPair, finish_of
from tutelage.store.schema import Annotation, Annotator, Item, ItemResponse, PromptRow, ResponseRow, digest
from tutelage.store.schema_feedback import Assignment, RankEntry, Rewrite, SchemaVersion
from tutelage.store.voting import read_votes

LONGEST_SCALE = 3  # steps to each side: how far a preference goes


class ItemContent(NamedTuple):
    """An item with its prompt, the texts in its slots, and how each of them ended."""

    item_id: int
    type: str
    digest: str
    prompt: Prompt
    texts: tuple[str, ...]
    finishes: tuple[Finish, ...]


class _Written(NamedTuple):
    """A current rewrite or demonstration.  What people write is complete; the original may have been cut."""

    item_id: int
    item_digest: str
    prompt: Prompt
    original: str | None
    original_finish: Finish
    text: str
    annotator: str
    makes_pair: bool


def read_voted_pairs(connection: Connection, project_id: int) -> list[VotedPair]:
    """See `Store.voted_pairs`."""
    found = {
        **_pairs(connection, project_id),
        **_ranked(connection, project_id),
        **_rewritten(connection, project_id),
    }
    return [found[key] for key in sorted(found)]


def read_demonstrations(connection: Connection, project_id: int) -> list[Demonstration]:
    """See `Store.demonstrations`."""
    rows = sorted(_written(connection, project_id), key=lambda row: (row.item_digest, row.text))
    return [Demonstration(row.prompt, row.text) for row in rows]


def _pairs(connection: Connection, project_id: int) -> dict[str, VotedPair]:
    by_item: dict[int, list[Vote]] = defaultdict(list)
    for stored in read_votes(connection, project_id, revisions=False):
        by_item[stored.item_id].append(stored.vote)
    settled = {row.item_id: row.preference for row in _settled(connection, project_id)}
    scales = _scales(connection, project_id)
    return {
        row.digest: VotedPair(
            row.digest,
            row.id,
            Prompt.from_json(row.content, row.task, row.reference),
            (row.first, row.second),
            tuple(by_item[row.id]),
            settled.get(row.id),
            scales.get(row.id, LONGEST_SCALE),
            (finish_of(row.first_finish), finish_of(row.second_finish)),
        )
        for row in connection.execute(pair_query(project_id))
        if row.id in by_item
    }


def _ranked(connection: Connection, project_id: int) -> dict[str, VotedPair]:
    """Every two responses that somebody has ranked: a rank says which is better, not by how much."""
    answers = _current(connection, project_id, "rank", "answer")
    if not answers:
        return {}
    ranks: dict[int, dict[int, int]] = defaultdict(dict)  # annotation -> slot -> rank
    query = select(RankEntry.annotation_id, RankEntry.slot, RankEntry.rank)
    query = query.join(Annotation, Annotation.id == RankEntry.annotation_id)
    query = query.join(Item, Item.id == Annotation.item_id).where(Item.project_id == project_id)
    for row in connection.execute(query):
        ranks[row.annotation_id][row.slot] = row.rank
    settled = {row.item_id: row.id for row in _current(connection, project_id, "rank", "adjudication")}
    by_item: dict[int, list[Any]] = defaultdict(list)
    for row in answers:
        by_item[row.item_id].append(row)
    found = {}
    for item_id, _, item_digest, prompt, texts, ends in read_items(connection, project_id, "rank"):
        for i, j in itertools.combinations(range(len(texts)), 2):
            votes = tuple(
                Vote(row.name, _sign(ranks[row.id], i, j), _first_shown(row.presented_order, i, j))
                for row in by_item[item_id]
            )
            said = _sign(ranks[settled[item_id]], i, j) if item_id in settled else None
            if votes:
                key = digest("ranked", item_digest, i, j)
                pair, finishes = (texts[i], texts[j]), (ends[i], ends[j])
                found[key] = VotedPair(item_digest, item_id, prompt, pair, votes, said, 1, finishes)
    return found


def _rewritten(connection: Connection, project_id: int) -> dict[str, VotedPair]:
    """Each rewrite with its original; its writers (two may write the same) prefer it, having seen the original first."""
    found: dict[str, VotedPair] = {}
    for row in _written(connection, project_id):
        if row.original is None or not row.makes_pair:
            continue
        key = digest("rewritten", row.item_digest, row.text)
        votes = (*(found[key].votes if key in found else ()), Vote(row.annotator, -1, 1))
        pair: tuple[str, str] = (row.text, row.original)
        finishes: tuple[Finish, Finish] = ("eos", row.original_finish)
        found[key] = VotedPair(row.item_digest, row.item_id, row.prompt, pair, votes, None, 1, finishes)
    return found


def _written(connection: Connection, project_id: int) -> list[_Written]:
    answers = _current(connection, project_id, "rewrite", "answer")
    if not answers:
        return []
    texts = {
        row.annotation_id: row.text for row in connection.execute(select(Rewrite.annotation_id, Rewrite.text))
    }
    schemas = select(SchemaVersion.id, SchemaVersion.content).where(SchemaVersion.project_id == project_id)
    pairs = {row.id: bool(row.content["rewrite_makes_pair"]) for row in connection.execute(schemas)}
    items = {item.item_id: item for item in read_items(connection, project_id, "rewrite")}
    written = []
    for row in answers:
        item = items[row.item_id]
        written.append(
            _Written(
                item.item_id,
                item.digest,
                item.prompt,
                original=item.texts[0] if item.texts else None,
                original_finish=item.finishes[0] if item.finishes else "eos",
                text=texts[row.id],
                annotator=row.name,
                makes_pair=pairs[row.schema_version_id],
            )
        )
    return written


def _scales(connection: Connection, project_id: int) -> dict[int, int]:
    """item -> steps to each side of the (longest) scale that people answered it on; programs use them all."""
    versions = select(SchemaVersion.id, SchemaVersion.content).where(SchemaVersion.project_id == project_id)
    steps = {row.id: int(row.content["strength"]) for row in connection.execute(versions)}
    if set(steps.values()) <= {LONGEST_SCALE}:
        return {}
    answered = (
        select(Annotation.item_id, Assignment.schema_version_id)
        .join(Assignment, Assignment.id == Annotation.assignment_id)
        .join(Item, Item.id == Annotation.item_id)
        .where(Item.project_id == project_id, Item.type == "pair")
        .distinct()
    )
    scales: dict[int, int] = {}
    for row in connection.execute(answered):
        scales[row.item_id] = max(scales.get(row.item_id, 1), steps[row.schema_version_id])
    return scales


def _settled(connection: Connection, project_id: int) -> Sequence[Any]:
    return _current(connection, project_id, "pair", "adjudication")


def _current(connection: Connection, project_id: int, type: str, role: str) -> Sequence[Any]:
    """The answers to items of one type that nobody has revised since, in the order of their ids."""
    query = (
        select(
            Annotation.id,
            Annotation.item_id,
            Annotation.preference,
            Annotator.name,
            Assignment.presented_order,
            Assignment.schema_version_id,
        )
        .join(Item, Item.id == Annotation.item_id)
        .join(Annotator, Annotator.id == Annotation.annotator_id)
        .outerjoin(Assignment, Assignment.id == Annotation.assignment_id)
        .where(Item.project_id == project_id, Item.type == type, Annotation.role == role)
        .where(IS_CURRENT)
        .order_by(Annotation.id)
    )
    return connection.execute(query).all()


def read_items(connection: Connection, project_id: int, *types: str) -> list[ItemContent]:
    """The items of some types with their contents, ordered by content."""
    of_type = (Item.project_id == project_id, Item.type.in_(types))
    responses: dict[int, list[tuple[str, Finish]]] = defaultdict(list)
    shown = (
        select(ItemResponse.item_id, ResponseRow.text, ResponseRow.finish_reason)
        .join(ResponseRow, ResponseRow.id == ItemResponse.response_id)
        .join(Item, Item.id == ItemResponse.item_id)
        .where(*of_type)
        .order_by(ItemResponse.item_id, ItemResponse.slot)
    )
    for item_id, text, reason in connection.execute(shown):
        responses[item_id].append((text, finish_of(reason)))
    prompts = (
        select(Item.id, Item.type, Item.digest, PromptRow.content, PromptRow.task, PromptRow.reference)
        .join(PromptRow, PromptRow.id == Item.prompt_id)
        .where(*of_type)
        .order_by(Item.digest)
    )
    return [
        ItemContent(
            row.id,
            row.type,
            row.digest,
            Prompt.from_json(row.content, row.task, row.reference),
            tuple(text for text, _ in responses[row.id]),
            tuple(finish for _, finish in responses[row.id]),
        )
        for row in connection.execute(prompts)
    ]


def _sign(ranks: dict[int, int], first: int, second: int) -> int:
    """Below 0 where the first has the better (smaller) rank."""
    return (ranks[first] > ranks[second]) - (ranks[first] < ranks[second])


def _first_shown(order: list[int] | None, first: int, second: int) -> int:
    return 0 if order is None else int(order.index(second) < order.index(first))
