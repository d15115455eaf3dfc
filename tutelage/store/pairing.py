"""Which responses are compared with which: choosing pairs, writing them, reading them."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Select, select, update
from sqlalchemy.orm import aliased

from tutelage.records import Prompt
from tutelage.store.current import IS_FIRST
from tutelage.store.rows import LIVE as LIVE
from tutelage.store.rows import Pair, finish_of
from tutelage.store.schema import Annotation, Annotator, Item, ItemResponse, PromptRow, ResponseRow, digest
from tutelage.store.sql import chunks, insert_rows


@dataclass(frozen=True)
class Candidate:
    """A response that may be compared; digests identify the contents."""

    response_id: int
    prompt_id: int
    run_id: int
    prompt_digest: str
    digest: str


def choose_pairs(candidates: Iterable[Candidate], per_prompt: int) -> dict[str, tuple[Candidate, Candidate]]:
    """Pairs within one prompt and generation run, by the digest of their content; `per_prompt` of them, 0 = all.

    The digest is as good as random and belongs to the content: taking the smallest ones is a random choice that is
    the same everywhere, and asking for more keeps those there are.  Slots are ordered by digest too, so a slot
    says nothing about when or by whom a response was written.
    """
    groups: dict[tuple[int, int], dict[str, Candidate]] = defaultdict(dict)
    for candidate in candidates:
        groups[candidate.run_id, candidate.prompt_id].setdefault(candidate.digest, candidate)
    chosen: dict[str, tuple[Candidate, Candidate]] = {}
    for group in groups.values():
        distinct = [group[key] for key in sorted(group)]
        pairs = {
            digest("pair", first.prompt_digest, first.digest, second.digest): (first, second)
            for first, second in itertools.combinations(distinct, 2)
        }
        for key in sorted(pairs)[: per_prompt or None]:
            chosen.setdefault(key, pairs[key])
    return chosen


def insert_pairs(connection: Connection, project_id: int, per_prompt: int, overlap: int) -> int:
    """Insert the chosen pairs that are not there; see `Store.build_pairs`."""
    in_project = Item.project_id == project_id
    there = set(connection.scalars(select(Item.digest).where(in_project)))
    chosen = choose_pairs(_candidates(connection, project_id), per_prompt)
    new = {key: pair for key, pair in chosen.items() if key not in there}
    common: dict[str, Any] = {"project_id": project_id, "type": "pair", "overlap": overlap}
    items = [common | {"prompt_id": pair[0].prompt_id, "digest": key} for key, pair in new.items()]
    insert_rows(connection, Item, items)
    ids = {row.digest: row.id for row in connection.execute(select(Item.id, Item.digest).where(in_project))}
    slots = [
        {"item_id": ids[key], "slot": slot, "response_id": candidate.response_id}
        for key, pair in new.items()
        for slot, candidate in enumerate(pair)
    ]
    insert_rows(connection, ItemResponse, slots)
    plain = (in_project, Item.type == "pair", Item.owner_id.is_(None))
    connection.execute(update(Item).where(*plain, Item.overlap != overlap).values(overlap=overlap))
    return len(new)


def pair_query(project_id: int) -> Select[Any]:
    """The pairs of a project, ordered by content; `read_pairs` reads them."""
    slots = [aliased(ItemResponse), aliased(ItemResponse)]
    responses = [aliased(ResponseRow), aliased(ResponseRow)]
    query = select(
        Item.id,
        Item.digest,
        PromptRow.content,
        PromptRow.task,
        PromptRow.reference,
        responses[0].text.label("first"),
        responses[1].text.label("second"),
        responses[0].finish_reason.label("first_finish"),
        responses[1].finish_reason.label("second_finish"),
    ).join(PromptRow, PromptRow.id == Item.prompt_id)
    for number, (slot, response) in enumerate(zip(slots, responses, strict=True)):
        query = query.join(slot, (slot.item_id == Item.id) & (slot.slot == number))
        query = query.join(response, response.id == slot.response_id)
    return query.where(Item.project_id == project_id, Item.type == "pair").order_by(Item.digest)


def read_pairs(connection: Connection, query: Select[Any]) -> list[Pair]:
    """Run a `pair_query` and add who has voted."""
    rows = connection.execute(query).all()
    voters: dict[int, list[str]] = defaultdict(list)
    for some in chunks([row.id for row in rows]):
        voted = (
            select(Annotation.item_id, Annotator.name)
            .join(Annotator, Annotator.id == Annotation.annotator_id)
            .where(
                Annotation.item_id.in_(some),
                Annotation.role == "answer",
                IS_FIRST,
            )
        )
        for item_id, name in connection.execute(voted):
            voters[item_id].append(name)
    return [
        Pair(
            row.id,
            row.digest,
            Prompt.from_json(row.content, row.task, row.reference),
            (row.first, row.second),
            tuple(sorted(voters[row.id])),
            (finish_of(row.first_finish), finish_of(row.second_finish)),
        )
        for row in rows
    ]


def _candidates(connection: Connection, project_id: int) -> list[Candidate]:
    query = (
        select(
            ResponseRow.id,
            ResponseRow.prompt_id,
            ResponseRow.generation_run_id,
            PromptRow.digest.label("prompt_digest"),
            ResponseRow.digest,
        )
        .join(PromptRow, PromptRow.id == ResponseRow.prompt_id)
        .where(PromptRow.project_id == project_id, PromptRow.split != LIVE)
        .order_by(ResponseRow.generation_run_id, ResponseRow.prompt_id, ResponseRow.sample_index)
    )
    return [Candidate(*row) for row in connection.execute(query)]
