"""What has been compared, whatever the question was: pairs, ranks two at a time, rewrites with their originals."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Connection, select, true
from sqlalchemy.orm import aliased

from tutelage.records import Demonstration, Finish, Prompt, Vote
from tutelage.store.current import IS_CURRENT, IS_SETTLING
from tutelage.store.rows import VotedPair, finish_of, is_held_out
from tutelage.store.schema import (
    Annotation,
    Annotator,
    Item,
    ItemResponse,
    Project,
    PromptRow,
    ResponseRow,
    digest,
)
from tutelage.store.schema_feedback import (
    Account,
    Assignment,
    Membership,
    RankEntry,
    Rewrite,
    SchemaVersion,
)
from tutelage.store.voting import read_votes

LONGEST_SCALE = 3  # steps to each side: how far a preference goes
# Where a project's settings do not say it: what `ProjectSettings.expert_weight` begins with.
EXPERT_WEIGHT = 3.0
COUNTED = Annotation.role == "answer"


class ItemContent(NamedTuple):
    """An item with its prompt, the texts in its slots, how each of them ended, and their rows.

    `split` is the prompt's; what arose in a chat about a held-out prompt is held out with it.  `redacted`: the text of
    the prompt or of a response is gone.
    """

    item_id: int
    type: str
    digest: str
    prompt: Prompt
    texts: tuple[str, ...]
    finishes: tuple[Finish, ...]
    responses: tuple[int, ...]
    split: str
    redacted: bool


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
    found = {
        **_pairs(connection, project_id),
        **_ranked(connection, project_id),
        **_rewritten(connection, project_id),
    }
    return [found[key] for key in sorted(found)]


def read_written(connection: Connection, project_id: int) -> list[Written]:
    """What people have rewritten or written, ordered by content."""
    return sorted(_written(connection, project_id), key=lambda row: (row.item.digest, row.text))


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


def _pairs(connection: Connection, project_id: int) -> dict[str, VotedPair]:
    weights = read_weights(connection, project_id)
    by_item: dict[int, list[Vote]] = defaultdict(list)
    for stored in read_votes(connection, project_id, revisions=False):
        weight = weights.get(stored.vote.annotator, 1.0)
        by_item[stored.item_id].append(replace(stored.vote, weight=weight))
    settled = {row.item_id: row.preference for row in _answers(connection, project_id, "pair", IS_SETTLING)}
    scales = _scales(connection, project_id)
    return {
        item.digest: _voted(
            item,
            (0, 1),
            tuple(by_item[item.item_id]),
            settled.get(item.item_id),
            scales.get(item.item_id, LONGEST_SCALE),
        )
        for item in read_items(connection, project_id, "pair")
        if item.item_id in by_item
    }


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


def _ranked(connection: Connection, project_id: int) -> dict[str, VotedPair]:
    """Every two responses that somebody has ranked: a rank says which is better, not by how much."""
    answers = _answers(connection, project_id, "rank", COUNTED)
    if not answers:
        return {}
    weights = read_weights(connection, project_id)
    ranks: dict[int, dict[int, int]] = defaultdict(dict)  # annotation -> slot -> rank
    query = select(RankEntry.annotation_id, RankEntry.slot, RankEntry.rank)
    query = query.join(Annotation, Annotation.id == RankEntry.annotation_id)
    query = query.join(Item, Item.id == Annotation.item_id).where(Item.project_id == project_id)
    for row in connection.execute(query):
        ranks[row.annotation_id][row.slot] = row.rank
    settled = {row.item_id: row.id for row in _answers(connection, project_id, "rank", IS_SETTLING)}
    by_item: dict[int, list[Any]] = defaultdict(list)
    for row in answers:
        by_item[row.item_id].append(row)
    found = {}
    for item in read_items(connection, project_id, "rank"):
        settling = ranks[settled[item.item_id]] if item.item_id in settled else None
        for i, j in itertools.combinations(range(len(item.texts)), 2):
            votes = tuple(
                Vote(
                    row.name,
                    _sign(ranks[row.id], i, j),
                    _first_shown(row.presented_order, i, j),
                    weight=weights.get(row.name, 1.0),
                )
                for row in by_item[item.item_id]
            )
            if votes:
                said = None if settling is None else _sign(settling, i, j)
                found[digest("ranked", item.digest, i, j)] = _voted(item, (i, j), votes, said, 1)
    return found


def _rewritten(connection: Connection, project_id: int) -> dict[str, VotedPair]:
    """Each rewrite with its original; its writers (two may write the same) prefer it, having seen the original first."""
    found: dict[str, VotedPair] = {}
    for row in _written(connection, project_id):
        item = row.item
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
    return found


def _written(connection: Connection, project_id: int) -> list[Written]:
    answers = _answers(connection, project_id, "rewrite", COUNTED)
    if not answers:
        return []
    texts = {
        row.annotation_id: row.text for row in connection.execute(select(Rewrite.annotation_id, Rewrite.text))
    }
    schemas = select(SchemaVersion.id, SchemaVersion.content).where(SchemaVersion.project_id == project_id)
    pairs = {row.id: bool(row.content["rewrite_makes_pair"]) for row in connection.execute(schemas)}
    items = {item.item_id: item for item in read_items(connection, project_id, "rewrite")}
    return [
        Written(items[row.item_id], texts[row.id], row.name, pairs.get(row.schema_version_id, True))
        for row in answers
    ]


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


def _answers(connection: Connection, project_id: int, type: str, which: ColumnElement[bool]) -> Sequence[Any]:
    """Current answers to items of one type, in the order of their ids."""
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
        .where(Item.project_id == project_id, Item.type == type, which, IS_CURRENT)
        .order_by(Annotation.id)
    )
    return connection.execute(query).all()


def read_items(
    connection: Connection, project_id: int, *types: str, only: Collection[int] | None = None
) -> list[ItemContent]:
    """The items of some types (or those of them that are named) with their contents, ordered by content."""
    named = true() if only is None else Item.id.in_(only)
    of_type = (Item.project_id == project_id, Item.type.in_(types), named)
    responses: dict[int, list[Any]] = defaultdict(list)
    shown = (
        select(
            ItemResponse.item_id,
            ResponseRow.id,
            ResponseRow.text,
            ResponseRow.finish_reason,
            ResponseRow.redacted_at,
        )
        .join(ResponseRow, ResponseRow.id == ItemResponse.response_id)
        .join(Item, Item.id == ItemResponse.item_id)
        .where(*of_type)
        .order_by(ItemResponse.item_id, ItemResponse.slot)
    )
    for row in connection.execute(shown):
        responses[row.item_id].append(row)
    parent, began_with = aliased(Item), aliased(PromptRow)
    prompts = (
        select(
            Item.id,
            Item.type,
            Item.digest,
            PromptRow.content,
            PromptRow.task,
            PromptRow.reference,
            PromptRow.split,
            PromptRow.redacted_at,
            began_with.split.label("began_with"),
        )
        .join(PromptRow, PromptRow.id == Item.prompt_id)
        .outerjoin(parent, parent.id == Item.parent_id)
        .outerjoin(began_with, began_with.id == parent.prompt_id)
        .where(*of_type)
        .order_by(Item.digest)
    )
    return [
        ItemContent(
            row.id,
            row.type,
            row.digest,
            Prompt.from_json(row.content, row.task, row.reference),
            tuple(one.text for one in responses[row.id]),
            tuple(finish_of(one.finish_reason) for one in responses[row.id]),
            tuple(one.id for one in responses[row.id]),
            row.began_with if row.began_with and is_held_out(row.began_with) else row.split,
            any(part.redacted_at is not None for part in (row, *responses[row.id])),
        )
        for row in connection.execute(prompts)
    ]


def _sign(ranks: dict[int, int], first: int, second: int) -> int:
    """Below 0 where the first has the better (smaller) rank."""
    return (ranks[first] > ranks[second]) - (ranks[first] < ranks[second])


def _first_shown(order: list[int] | None, first: int, second: int) -> int:
    return 0 if order is None else int(order.index(second) < order.index(first))
